# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The checks of web2py_daemon's variables."""

from __future__ import annotations

import pytest
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import web2py_daemon

APPLICATIONS = [{"name": "shop"}, {"name": "gone", "state": "absent"}, {"name": "batch", "exposed": False}]
ADMIN = {"name": "admin", "port": 8001, "administration": True, "password": "long enough"}
TLS = {"certificate_file": "/etc/cert.pem", "key_file": "/etc/key.pem"}
PROC_NET_TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0100007F:1F41 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 3 1
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000001000000:1F42 00000000000000000000000000000000:0000 0A 00000000:00000000
"""
LIST_SOCKETS = """\
/run/web2py/behind.sock web2py@behind.socket web2py@behind.service
127.0.0.1:8000 web2py@public.socket web2py@public.service
[::1]:8002 other.socket other.service
"""


def errors(*instances, **more):
    return web2py_daemon.daemon_errors(list(instances), APPLICATIONS, **more)


def test_instances_without_a_fault():
    assert (
        errors(
            {"name": "public", "socket": True, "processes": "2", "memory_max": "1G", "applications": ["shop"]},
            {"name": "plain", "address": "0.0.0.0", "port": 8000, "trusted_proxies": ["10.0.0.0/8"]},
            ADMIN,
            {**ADMIN, "name": "remote", "address": "192.0.2.1", "port": 8443, "tls": TLS},
            {"name": "old", "state": "absent"},
            {"name": "six", "address": "::1", "port": 8000},
            {
                "name": "limited",
                "port": 8005,
                "limits": {"process_memory": "512M", "requests": 0, "request_body": "0", "connections": 10},
                "timeouts": {"keep_alive": 61, "proxy_reuse": 60},
            },
            {"name": "no_proxy", "port": 8006, "timeouts": {"keep_alive": 2}},
        )
        == []
    )


@pytest.mark.parametrize(
    ("instance", "words"),
    [
        ({"name": "Public", "port": 1}, "lowercase"),
        ({"name": "a-b", "port": 1}, "lowercase"),
        ({"name": "a/../b", "port": 1}, "lowercase"),
        ({"name": "a"}, "found None, allowed are the ports"),
        ({"name": "a", "port": 65536}, "65536"),
        ({"name": "a", "port": 80, "address": "localhost"}, "IP addresses"),
        ({"name": "a", "port": 80, "socket": True}, "port cannot be given together with socket"),
        ({"name": "a", "port": 80, "applications": ["gone"]}, "'gone'"),
        ({"name": "a", "port": 80, "applications": ["admin"]}, "'admin'"),
        ({"name": "a", "port": 80, "processes": 0}, "whole numbers from 1"),
        ({"name": "a", "port": 80, "threads": "many"}, "whole numbers from 1"),
        ({"name": "a", "port": 80, "memory_max": "lots"}, "512M"),
        ({"name": "a", "port": 80, "applications": None}, "applications is empty"),
        ({"name": "a", "port": 80, "trusted_proxies": None}, "trusted_proxies is empty"),
        ({"name": "a", "port": 80, "tls": None}, "tls is empty"),
        ({"name": "a", "port": 80, "timeouts": None}, "timeouts is empty"),
        ({"name": "a", "port": 80, "limits": {"process_memory": "400MB"}}, "limits.process_memory is '400MB'"),
        ({"name": "a", "port": 80, "limits": {"process_memory": "50%"}}, "limits.process_memory is '50%'"),
        ({"name": "a", "port": 80, "limits": {"connections": 0}}, "limits.connections is 0, allowed are whole"),
        ({"name": "a", "port": 80, "limits": {"requests": -1}}, "limits.requests is -1"),
        ({"name": "a", "port": 80, "timeouts": {"graceful": "soon"}}, "timeouts.graceful is 'soon'"),
        ({"name": "a", "socket": True, "timeouts": {"keep_alive": 5}}, "more than timeouts.proxy_reuse (5)"),
        ({"name": "a", "port": 80, "timeouts": {"proxy_reuse": 60}}, "keep_alive is 30, allowed is more"),
        ({"name": "a", "port": 80, "trusted_proxies": ["10.0.0.1/8"]}, "instance 'a': trusted_proxies"),
        ({"name": "a", "port": 80, "tls": {**TLS, "key_file": "/a b"}}, "tls.key_file"),
        ({"name": "a", "port": 80, "password": "long enough"}, "administration is not true"),
        ({**ADMIN, "address": "0.0.0.0"}, "administration asked for on a plain public listener"),
        ({**ADMIN, "address": "::"}, "administration asked for on a plain public listener"),
        ({**ADMIN, "password": "seven77"}, "8 to 1024"),
        ({**ADMIN, "password_hash": "x"}, "exactly one"),
        ({**ADMIN, "password": None}, "exactly one"),
        ({**ADMIN, "password": None, "password_hash": "x"}, "filter web2py_password_hash"),
        ({"name": "a", "socket": True, "administration": True, "password": "long enough"}, "not a socket"),
    ],
)
def test_a_fault(instance, words):
    found = errors(instance)
    assert len(found) == 1 and words in found[0]
    assert str(instance.get("password") or "no password") not in found[0]


def test_instances_in_each_others_way():
    one = {"name": "one", "port": 8000}
    assert "twice" in errors(one, {**one, "port": 8001})[0]
    for address in ("127.0.0.1", "0.0.0.0", "::"):
        assert "used by instance 'one'" in errors(one, {"name": "two", "address": address, "port": 8000})[0]
    for address in ("127.0.0.2", "::1"):
        assert errors(one, {"name": "two", "address": address, "port": 8000}) == []


def test_a_port_that_another_program_has():
    assert web2py_daemon.listeners(PROC_NET_TCP) == {("127.0.0.1", 8000), ("0.0.0.0", 22), ("::1", 8002)}
    assert web2py_daemon.own_listeners(LIST_SOCKETS) == {("127.0.0.1", 8000)}
    host = {"proc_net_tcp": PROC_NET_TCP, "list_sockets": LIST_SOCKETS}
    assert errors({"name": "public", "port": 8000}, **host) == []
    assert "8000 is taken" in errors({"name": "public", "port": 8000}, proc_net_tcp=PROC_NET_TCP)[0]
    assert "22 is taken" in errors({"name": "a", "port": 22}, **host)[0]
    assert errors({"name": "a", "port": 8001}, **host) == [], "connections are no listeners"
    assert "8002 is taken" in errors({"name": "a", "address": "::", "port": 8002}, **host)[0]


def test_a_port_of_the_front_end_that_is_not_there_yet():
    ports = {"web2py_http_port": 80, "web2py_https_port": "443"}
    assert "443 is web2py_https_port" in errors({"name": "a", "port": 443}, frontend_ports=ports)[0]
    assert errors({"name": "a", "port": 8000}, {"name": "b", "socket": True}, frontend_ports=ports) == []
    assert errors({"name": "a", "port": 80}) == [], "without a front end"


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        ([{"application": "nowhere"}], "'nowhere' is not deployed"),
        ([{"application": "shop", "workers": 0}], "1 to 99"),
        ([{"application": "shop", "groups": ["a b"]}], "'a b'"),
        ([{"application": "shop"}, {"application": "shop"}], "twice"),
    ],
)
def test_scheduler_workers(workers, words):
    assert words in errors(scheduler_workers=workers)[0]
    assert errors(scheduler_workers=[{"application": "batch", "workers": 2, "groups": ["main"]}]) == []


@pytest.mark.parametrize("value", ["public", ["public"], None, 5, {"name": "public"}])
def test_mistaken_types_are_left_to_the_argument_specs(value):
    assert web2py_daemon.daemon_errors(value) == []
