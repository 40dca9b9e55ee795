# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of the role web2py_daemon."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import web2py_daemon

APPLICATIONS = [{"name": "shop"}, {"name": "gone", "state": "absent"}, {"name": "batch", "exposed": False}]
ADMIN = {"name": "admin", "port": 8001, "administration": True, "password": "long enough"}
TLS = {"certificate_file": "/etc/cert.pem", "key_file": "/etc/key.pem"}
SOURCE = {"path": "/web2py"}
SITE = {
    "http_port": 80,
    "https_port": 443,
    "public_http_port": 80,
    "public_https_port": 8443,
    "server_names": ["www.example.org", "2001:db8::1"],
    "trusted_proxies": ["192.0.2.1", "unix"],
    "max_request_body": 0,
}
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


def plan(
    *instances: dict[str, Any], site: dict[str, Any] | None = None, found: Any = None, **options: Any
) -> tuple[dict[str, Any], list[str]]:
    given = {"applications": APPLICATIONS, "framework_source": SOURCE, "health_path": "/healthz"}
    given |= {"user": "web2py", "group": "web2py", "instances": list(instances), **options}
    variables = {f"web2py_daemon_{name}": value for name, value in given.items()}
    host = Host({}, open, datetime.now(timezone.utc), lambda _role: site or {}, found)
    return action.plan("web2py_daemon", variables, host)


def errors(*instances: dict[str, Any], **more: Any) -> list[str]:
    return plan(*instances, **more)[1]


def instance(*instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    values, problems = plan(*instances, **more)
    assert problems == []
    return values["instances"][0]


def test_instances_without_a_fault():
    assert (
        errors(
            {"name": "public", "socket": True, "processes": "2", "memory_max": "1G", "applications": ["shop"]},
            {"name": "plain", "address": "0.0.0.0", "port": 8000, "trusted_proxies": ["10.0.0.0/8", "unix"]},
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
        ({"name": "a"}, "port is not set; it must be between 1 and 65535."),
        ({"name": "a", "port": 65536}, "port is 65536; it must be between 1 and 65535."),
        ({"name": "a", "port": 80, "address": "localhost"}, "address is 'localhost'; it must be an IP address."),
        ({"name": "a", "port": 80, "socket": True}, "port is 80; it must be left out where socket is true."),
        ({"name": "a", "tls": TLS, "socket": True}, "tls is {'certificate_file': '/etc/cert.pem', "),
        ({"name": "a", "port": 80, "applications": ["gone"]}, "applications is 'gone'; it must be of the site's"),
        ({"name": "a", "port": 80, "applications": ["admin"]}, "applications: batch, shop."),
        ({"name": "a", "port": 80, "processes": 0}, "processes is 0; it must be a whole number from 1."),
        ({"name": "a", "port": 80, "memory_max": "lots"}, "memory_max is 'lots'; it must be a size such as 512M"),
        ({"name": "a", "port": 80, "applications": None}, "applications is not set; it must be a list."),
        ({"name": "a", "port": 80, "trusted_proxies": None}, "trusted_proxies is not set; it must be a list."),
        ({"name": "a", "port": 80, "tls": None}, "tls is not set; it must be a dictionary."),
        ({"name": "a", "port": 80, "tls": {"key_file": "/k"}}, "certificate_file is not set"),
        ({"name": "a", "port": 80, "timeouts": None}, "timeouts is not set; it must be a dictionary."),
        ({"name": "a", "port": 80, "limits": {"process_memory": "400MB"}}, "limits: process_memory is '400MB'"),
        ({"name": "a", "port": 80, "limits": {"process_memory": "50%"}}, "limits: process_memory is '50%'"),
        ({"name": "a", "port": 80, "limits": {"connections": 0}}, "limits: connections is 0; it must be a whole"),
        ({"name": "a", "port": 80, "limits": {"requests": -1}}, "limits: requests is -1; it must be a whole"),
        ({"name": "a", "port": 80, "timeouts": {"graceful": 0}}, "timeouts: graceful is 0"),
        ({"name": "a", "socket": True, "timeouts": {"keep_alive": 5}}, "it must be more than proxy_reuse (5)."),
        ({"name": "a", "port": 80, "timeouts": {"proxy_reuse": 60}}, "keep_alive is 30; it must be more"),
        ({"name": "a", "port": 80, "trusted_proxies": ["10.0.0.1/8"]}, "trusted_proxies[0] is '10.0.0.1/8' ("),
        ({"name": "a", "port": 80, "tls": {**TLS, "key_file": "/a b"}}, "tls: key_file is '/a b'"),
        ({"name": "a", "port": 80, "password": "long enough"}, "password is given; it must be left out unless"),
        ({"name": "a", "port": 80, "administration_through_proxy": True}, "false unless socket is true"),
        ({**ADMIN, "address": "0.0.0.0"}, "address is '0.0.0.0'; it must be a loopback address"),
        ({**ADMIN, "address": "::"}, "address is '::'; it must be a loopback address"),
        ({**ADMIN, "password": "seven77"}, "password is not shown; it must have 8 to 1024 characters."),
        ({**ADMIN, "password_hash": "x"}, "are both given"),
        ({**ADMIN, "password": None}, "are not given"),
        ({**ADMIN, "password": ["long enough"]}, "password is a value that is not shown; it must be text."),
        ({**ADMIN, "password": None, "password_hash": "x"}, "password_hash is not shown; it must be pbkdf2("),
        ({"name": "a", "socket": True, "administration": True, "password": "long enough"}, "socket is true; it must"),
    ],
)
def test_a_fault_names_the_variable_its_value_and_what_is_allowed(instance, words):
    (problem,) = errors(instance)
    assert problem.startswith(f"web2py_daemon_instances[0] ({instance['name']!r}): ") and words in problem
    assert "long enough" not in problem and "seven77" not in problem


def test_instances_in_each_others_way():
    one = {"name": "one", "port": 8000}
    assert "2 entries named 'one'" in errors(one, {**one, "port": 8001})[0]
    for address in ("127.0.0.1", "0.0.0.0", "::"):
        (problem,) = errors(one, {"name": "two", "address": address, "port": 8000})
        assert "[1] ('two'): port is 8000; it must be another than that of instance 'one'" in problem
    for address in ("127.0.0.2", "::1"):
        assert errors(one, {"name": "two", "address": address, "port": 8000}) == []
    assert errors(one, {"name": "two", "port": 8000, "state": "absent"}) == []


def test_a_port_that_another_program_has():
    assert web2py_daemon.listeners(PROC_NET_TCP) == {("127.0.0.1", 8000), ("0.0.0.0", 22), ("::1", 8002)}
    assert web2py_daemon.own_listeners(LIST_SOCKETS) == {("127.0.0.1", 8000)}
    found = {"listening": PROC_NET_TCP + LIST_SOCKETS, "play_roles": []}
    public = {"name": "public", "port": 8000}
    assert errors(public, found=found) == []
    (problem,) = errors(public, found={**found, "listening": PROC_NET_TCP})
    assert "port is 8000; it must be a free port. Another program listens on 127.0.0.1" in problem
    assert "port is 22; it must be a free port" in errors({"name": "a", "port": 22}, found=found)[0]
    assert errors({"name": "a", "port": 8001}, found=found) == [], "connections are no listeners"
    assert "port is 8002" in errors({"name": "a", "address": "::", "port": 8002}, found=found)[0]


@pytest.mark.parametrize("found", [None, {"listening": "", "play_roles": ["web2py.deployment.apache_proxy"]}])
def test_a_port_of_a_front_end_that_is_not_there_yet(found):
    (problem,) = errors({"name": "a", "port": 443}, site=SITE, found=found)
    assert "port is 443; it must be another than web2py_https_port, on which the front end listens." in problem
    assert errors({"name": "a", "port": 8000}, {"name": "b", "socket": True}, site=SITE, found=found) == []


def test_without_a_front_end_its_ports_are_free():
    """In a play of the user's own."""
    assert (
        errors({"name": "a", "port": 80}, site=SITE, found={"listening": "", "play_roles": ["web2py", "common"]}) == []
    )


@pytest.mark.parametrize(
    ("workers", "words"),
    [
        ([{"application": "nowhere"}], "[0] ('nowhere'): application is 'nowhere'; it must be one of the site's"),
        ([{"application": "gone"}], "applications: shop, batch."),
        ([{"application": "shop", "workers": 0}], "[0] ('shop'): workers is 0; it must be between 1 and 99."),
        ([{"application": "shop", "groups": ["a b"]}], "groups is 'a b'; it must be letters, digits"),
        ([{"application": "shop", "groups": None}], "groups is not set; it must be a list."),
        ([{"application": "shop"}, {"application": "shop"}], "has 2 entries named 'shop'"),
    ],
)
def test_scheduler_workers(workers, words):
    (problem,) = errors(scheduler_workers=workers)
    assert problem.startswith("web2py_daemon_scheduler_workers") and words in problem


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"scheduler_memory_max": "1.5G"}, "scheduler_memory_max is '1.5G'; it must be a size such as 512M"),
        ({"scheduler_tasks_max": 7}, "scheduler_tasks_max is 7; it must be between 8 and 65536."),
        ({"scheduler_stop_timeout": -1}, "scheduler_stop_timeout is -1; it must be a whole number from 0."),
        ({"user": "web2py\nUser=root"}, "user is 'web2py\\nUser=root'; it must be the name of a user or group."),
        ({"health_path": "healthz"}, "health_path is 'healthz'; it must be a URL path"),
        ({"applications": [{"name": "a/b"}]}, "applications: name is 'a/b'; it must be letters, digits"),
        ({"applications": [{}]}, "applications: name is ''; it must be letters, digits"),
        ({"framework_source": {}, "instances": [ADMIN]}, "framework_source is {}; it must be given where"),
    ],
)
def test_other_variables(options, problem):
    (found,) = errors(**options)
    assert found.startswith(f"web2py_daemon_{problem}")


def test_what_the_handler_of_the_runtime_package_reads():
    assert instance({"name": "public", "port": 8000}, site=SITE)["settings"] == {
        "root": "/var/lib/web2py",
        "framework": "/opt/web2py/current",
        "health_path": "/healthz",
        "names": ["www.example.org", "[2001:db8::1]"],
        "ports": {},
        "trusted_proxies": [],
        "applications": ["shop"],
        "administration": "off",
    }
    behind = instance({"name": "public", "socket": True, "administration_through_proxy": True}, site=SITE)["settings"]
    assert behind["ports"] == {"80": 80, "443": 8443}
    assert behind["trusted_proxies"] == ["unix", "192.0.2.1"] and behind["administration"] == "https"
    admin = instance(ADMIN, site=SITE)["settings"]
    assert (admin["root"], admin["administration"]) == ("/var/lib/web2py/instances/admin", "loopback")
    assert admin["applications"] == ["admin", "shop", "batch"]
    assert instance({**ADMIN, "tls": TLS})["settings"]["administration"] == "https"
    given = instance({"name": "a", "socket": True, "applications": ["batch"], "trusted_proxies": []}, site=SITE)
    assert (given["settings"]["applications"], given["settings"]["trusted_proxies"]) == (["batch"], [])
    alone = instance({"name": "a", "socket": True})["settings"]
    assert (alone["names"], alone["ports"], alone["trusted_proxies"]) == ([], {}, ["unix"])


def test_where_an_instance_listens_and_what_it_writes_to_the_journal():
    assert instance({"name": "a", "address": "::1", "port": "8000"})["listen"] == "[::1]:8000"
    assert [instance(item)["access_log"] for item in ({"name": "a", "port": 1}, {"name": "a", "socket": True})] == [
        True,
        False,
    ]


def test_the_size_of_a_body_is_that_of_the_site_unless_given():
    public = {"name": "public", "port": 8000, "limits": {}}
    assert instance(public)["limits"]["request_body"] == 268435456
    assert instance(public, site=SITE)["limits"]["request_body"] == 0
    assert instance({**public, "limits": {"request_body": 5}}, site=SITE)["limits"]["request_body"] == 5
    assert instance(public)["limits"]["requests"] == 5000 and instance(public)["timeouts"]["head"] == 20


def test_administration_has_a_root_of_its_own_which_others_do_not_see():
    values, problems = plan({**ADMIN, "name": "zoo", "port": 8002}, {"name": "public", "port": 8000}, ADMIN)
    assert problems == []
    roots = ["/var/lib/web2py/instances/admin", "/var/lib/web2py/instances/zoo"]
    assert values["names"] == ["admin", "public", "zoo"]
    assert [item["hidden"] for item in values["instances"]] == [roots[1:], ["/var/lib/web2py/instances"], roots[:1]]
    assert values["administered"] == [
        {"name": name, "number": number, "root": root, "password_file": f"{root}/parameters_{port}.py"}
        for name, number, root, port in (("zoo", 0, roots[1], 8002), ("admin", 2, roots[0], 8001))
    ]
    assert [link["path"].removeprefix(roots[0]) for link in values["links"][:3]] == [
        "/routes.py",
        "/applications/shop",
        "/applications/batch",
    ]
    assert values["links"][1]["target"] == "/var/lib/web2py/applications/shop"
    assert values["folders"][-2:] == ["/opt/web2py/instances/admin", "/opt/web2py/instances/zoo"]


def test_workers_of_the_scheduler_have_a_unit_and_a_file_each():
    values, problems = plan(
        scheduler_workers=[
            {"application": "shop", "workers": "2", "groups": ["main", "mail"]},
            {"application": "nowhere", "state": "absent"},
            {"application": "batch"},
        ]
    )
    assert problems == []
    assert values["scheduler_files"] == ["scheduler-shop-1", "scheduler-shop-2", "scheduler-batch-1"]
    assert values["scheduler_units"][1] == "web2py-scheduler@shop-2.service"
    assert [item["queue"] for item in values["schedulers"]] == ["shop:main:mail", "shop:main:mail", "batch"]


def test_nothing_secret_of_an_application_is_returned():
    values, _problems = plan(applications=[{"name": "shop", "database": {"password": "right horse"}}])
    assert values["applications"] == ["shop"] and "right horse" not in repr(values)
