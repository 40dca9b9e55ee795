# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of the role haproxy."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import haproxy
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
CERTIFICATE = {"name": "www", "certificate_file": "/etc/ssl/www/fullchain.pem", "key_file": "/etc/ssl/www/privkey.pem"}
SERVER = {"name": "web1", "address": "192.0.2.11", "port": 80}
ROLE = {"certificates": [CERTIFICATE], "servers": [SERVER]}
FACTS = {"all_ipv6_addresses": ["2001:db8::1"]}
TCP = {
    **ROLE,
    "mode": "tcp",
    "certificates": [],
    "redirect_to_https": True,
    "servers": [{**SERVER, "tls_name": "www.example.org"}],
}
KEEPALIVED = {
    "interface": "eth0",
    "router_id": 51,
    "virtual_addresses": ["192.0.2.9/24"],
    "peers": ["192.0.2.3"],
    "password": "s3cret+",
}


def plan(role: dict[str, Any], **facts: Any) -> tuple[dict[str, Any], list[str]]:
    variables = {f"haproxy_{name}": value for name, value in role.items()}
    return action.plan("haproxy", variables, Host({**FACTS, **facts}, open, datetime.now(timezone.utc)))


def problems_of(role: dict[str, Any], **facts: Any) -> list[str]:
    return plan(role, **facts)[1]


@pytest.mark.parametrize(
    "role",
    [
        ROLE,
        TCP,
        {**TCP, "send_proxy": True, "redirect_to_https": "yes", "http_port": "80", "server_names": ["www.example.org"]},
        {**ROLE, "certificates": [], "https_port": 0},
        {**ROLE, "certificates": [CERTIFICATE, {"name": "old", "state": "absent"}], "hsts_max_age": 31536000},
        {**ROLE, "addresses": ["192.0.2.1", "2001:db8::1"], "server_names": ["www.example.org", "2001:db8::1"]},
        {**ROLE, "denied_paths": ["/admin", "/*/appadmin", "/a_b/c-d.e"], "health_path": "/ok?a=b%20c"},
        {**ROLE, "servers": [SERVER, {"name": "web2", "state": "absent"}, {**SERVER, "name": "b", "backup": True}]},
        {**ROLE, "servers": [{**SERVER, "tls": True, "tls_name": "web1.example.org", "ca_file": "/etc/ssl/ca.pem"}]},
        {**ROLE, "servers": [{**SERVER, "address": "web1.example.org", "port": "443", "tls": "yes"}]},
        {**ROLE, "statistics_address": "::1", "statistics_port": 8404, "health_status": "200-399"},
        {**ROLE, "keepalived": {**KEEPALIVED, "virtual_addresses": ["192.0.2.9", "2001:db8::9/64"], "priority": 150}},
    ],
)
def test_a_role_without_a_fault(role):
    assert problems_of(role) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "udp"}, ["haproxy_mode", "'udp'", "http or tcp"]),
        ({"balance": "source"}, ["haproxy_balance", "'source'", "roundrobin or leastconn"]),
        ({"addresses": ["*"]}, ["haproxy_addresses", "'*'", "IP addresses"]),
        (
            {"addresses": ["192.0.2.9"], "keepalived": KEEPALIVED},
            ["haproxy_addresses", "'192.0.2.9'", "virtual", "leave the list empty"],
        ),
        ({"http_port": 65536}, ["haproxy_http_port", "65536", "between 0 and 65535"]),
        ({"http_port": "many"}, ["haproxy_http_port", "'many'", "a whole number"]),
        ({"http_port": 443}, ["haproxy_http_port and haproxy_https_port", "443", "different"]),
        ({"statistics_port": 80}, ["haproxy_http_port and haproxy_statistics_port", "80", "different"]),
        ({"http_port": 0, "https_port": 0}, ["haproxy_http_port and haproxy_https_port", "are 0"]),
        *(
            ({"statistics_address": text}, ["haproxy_statistics_address", repr(text), "loopback"])
            for text in ("0.0.0.0", "::", "192.0.2.1", "localhost", "")
        ),
        ({"server_names": ["www.example.org:443"]}, ["haproxy_server_names", "'www.example.org:443'"]),
        ({"server_names": ["a b"]}, ["haproxy_server_names", "'a b'"]),
        ({"server_names": ["*.example.org"]}, ["haproxy_server_names", "'*.example.org'"]),
        ({"health_host": "x\ny"}, ["haproxy_health_host", "'x\\ny'"]),
        *(
            ({"denied_paths": [text]}, ["haproxy_denied_paths", repr(text)])
            for text in (
                "admin",
                "/",
                "",
                "/admin/",
                "/a//b",
                "/../x",
                "/.hidden",
                "/a'b",
                "/a b",
                "/a\n",
                "/%61",
                "/x*",
            )
        ),
        ({"denied_paths": ["/admin"], "strict_paths": False}, ["haproxy_strict_paths", "is false", "must be true"]),
        ({"https_port": 0, "redirect_to_https": True}, ["haproxy_redirect_to_https", "haproxy_https_port is 0"]),
        ({"https_port": 0, "hsts_max_age": 60}, ["haproxy_hsts_max_age", "60", "haproxy_https_port is 0"]),
        ({"send_proxy": True}, ["haproxy_send_proxy", "haproxy_mode is tcp"]),
        ({"certificates": []}, ["haproxy_certificates", "no certificate", "443"]),
        ({"certificates": [{**CERTIFICATE, "state": "absent"}]}, ["haproxy_certificates", "no certificate", "443"]),
        ({"certificates": [CERTIFICATE, CERTIFICATE]}, ["haproxy_certificates", "2 entries named 'www'"]),
        ({"certificates": [{**CERTIFICATE, "name": "../www"}]}, ["haproxy_certificates", "'../www'"]),
        ({"certificates": [{**CERTIFICATE, "key_file": "k.pem"}]}, ["key_file", "'www'", "'k.pem'", "absolute"]),
        ({"certificates": [{"name": "x", "key_file": "/k"}]}, ["certificate_file", "'x'", "not set", "absolute"]),
        ({"servers": []}, ["haproxy_servers", "no server", "at least one"]),
        ({"servers": [{**SERVER, "state": "absent"}]}, ["haproxy_servers", "no server", "at least one"]),
        ({"servers": [{**SERVER, "backup": True}]}, ["haproxy_servers", "no backup", "at least one"]),
        ({"servers": [SERVER, SERVER]}, ["haproxy_servers", "2 entries named 'web1'"]),
        ({"servers": [{**SERVER, "name": "web.1"}]}, ["haproxy_servers", "'web.1'"]),
        ({"servers": [{**SERVER, "address": "10.0.0"}]}, ["'web1'", "address", "'10.0.0'"]),
        ({"servers": [{"name": "web1", "port": 80}]}, ["'web1'", "address", "not set"]),
        ({"servers": [{**SERVER, "port": 0}]}, ["'web1'", "port", "is 0;", "between 1 and 65535"]),
        ({"servers": [{"name": "web1", "address": "::1"}]}, ["'web1'", "port", "not set", "between 1 and 65535"]),
        ({"servers": [{**SERVER, "weight": 257}]}, ["'web1'", "weight", "257", "between 0 and 256"]),
        ({"servers": [{**SERVER, "max_connections": -1}]}, ["'web1'", "max_connections", "-1"]),
        ({"servers": [{**SERVER, "tls": True}]}, ["'web1'", "tls_name", "'192.0.2.11'", "host name"]),
        (
            {"servers": [{**SERVER, "tls": True, "tls_name": "a.b", "ca_file": "ca.pem"}]},
            ["'web1'", "ca_file", "'ca.pem'", "absolute"],
        ),
        ({"health_path": "healthz"}, ["haproxy_health_path", "'healthz'"]),
        ({"health_path": '/"'}, ["haproxy_health_path", "'/\"'"]),
        ({"health_status": "OK"}, ["haproxy_health_status", "'OK'"]),
        ({"socket_group": "a b"}, ["haproxy_socket_group", "'a b'"]),
        ({"timeout_request": 0}, ["haproxy_timeout_request", "is 0;", "between 1 and 300"]),
        ({"max_header_size": 1024}, ["haproxy_max_header_size", "1024", "between 4096 and 131072"]),
        ({"keepalived": {**KEEPALIVED, "interface": ""}}, ["haproxy_keepalived", "interface is not set"]),
        ({"keepalived": {**KEEPALIVED, "interface": "e t"}}, ["haproxy_keepalived", "interface", "'e t'"]),
        (
            {"keepalived": {**KEEPALIVED, "router_id": 256}},
            ["haproxy_keepalived: router_id", "256", "between 1 and 255"],
        ),
        ({"keepalived": {**KEEPALIVED, "priority": 255}}, ["haproxy_keepalived: priority", "255", "between 1 and 254"]),
        ({"keepalived": {**KEEPALIVED, "peers": ["lb2"]}}, ["haproxy_keepalived", "peers", "'lb2'", "IPv4"]),
        ({"keepalived": {**KEEPALIVED, "source_address": "::1"}}, ["haproxy_keepalived", "source_address", "'::1'"]),
        ({"keepalived": {**KEEPALIVED, "virtual_addresses": ["x"]}}, ["haproxy_keepalived", "'x'", "192.0.2.9/24"]),
        ({"keepalived": {**KEEPALIVED, "virtual_addresses": ["2001:db8::9"]}}, ["haproxy_keepalived", "IPv6 only"]),
        ({"keepalived": {**KEEPALIVED, "password": "much too long"}}, ["haproxy_keepalived", "password", "1 to 8"]),
    ],
)
def test_a_fault_names_the_variable_what_was_found_and_what_is_allowed(changes, words):
    errors = problems_of({**ROLE, **changes})
    assert len(errors) == 1, errors
    assert [word for word in words if word not in errors[0]] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"https_port": 0}, ["haproxy_https_port", "is 0", "tcp"]),
        ({"redirect_to_https": False}, ["haproxy_http_port", "80", "haproxy_redirect_to_https: true"]),
        ({"denied_paths": ["/admin"]}, ["haproxy_denied_paths", "cannot look into"]),
        ({"hsts_max_age": 60}, ["haproxy_hsts_max_age", "60", "cannot look into"]),
        ({"servers": [SERVER]}, ["'web1'", "tls_name", "host name"]),
    ],
)
def test_what_cannot_be_done_to_connections_that_are_passed_on(changes, words):
    errors = problems_of({**TCP, **changes})
    assert len(errors) == 1, errors
    assert [word for word in words if word not in errors[0]] == []


def test_keepalived_needs_an_interface_of_the_host():
    role = {**ROLE, "keepalived": KEEPALIVED}
    assert problems_of(role, interfaces=["lo", "eth0"]) == []
    assert problems_of(role, interfaces=["lo", "ens3"]) == [
        "haproxy_keepalived: interface is 'eth0'; it must be one of this host: ens3, lo."
    ]


def test_no_message_repeats_the_password():
    errors = problems_of({**ROLE, "keepalived": {**KEEPALIVED, "password": "p#ssw0rd", "peers": []}})
    assert len(errors) == 2 and "p#ssw0rd" not in "".join(errors)


def test_an_empty_dictionary_is_no_second_balancer():
    values, problems = plan({**ROLE, "keepalived": {}})
    assert problems == [] and values["keepalived"] == {} and values["has_keepalived"] is False


def test_all_faults_at_once():
    role = {**ROLE, "addresses": ["x"], "servers": [], "health_path": "x", "retries": -1}
    assert len(problems_of(role)) == 4


@given(st.text(min_size=1))
def test_what_is_accepted_cannot_leave_its_place_in_the_configuration(text):
    """Every text that gets into haproxy.cfg: no blank, no quote, no comment, no line of its own."""
    for changes in (
        {"server_names": [text]},
        {"health_host": text},
        {"denied_paths": [text]},
        {"health_path": text},
        {"health_status": text},
        {"socket_group": text},
        {"certificates": [{**CERTIFICATE, "name": text}]},
        {"certificates": [{**CERTIFICATE, "certificate_file": text}]},
        {"servers": [{**SERVER, "name": text}]},
        {"servers": [{**SERVER, "address": text}]},
        {"servers": [{**SERVER, "tls": True, "tls_name": text}]},
    ):
        if not problems_of({**ROLE, **changes}):
            assert not re.search(r"[\s'\"#\\{}]", text), changes


SPELLINGS = (ROOT / "molecule/shared/frontend/administration_paths.txt").read_text().splitlines()


@pytest.mark.parametrize("path", [path for path in SPELLINGS if not re.search(r"[%\\]|\.\./", path)])
def test_every_decoded_spelling_is_found(path):
    patterns = map(haproxy.path_pattern, ["/admin", "/*/appadmin"])
    assert any(re.search(pattern, path) for pattern in patterns)


@pytest.mark.parametrize("path", ["/", "/welcome", "/adminx", "/x/admin", "/welcome/default/appadmin", "/a/appadmins"])
def test_other_paths_are_not(path):
    patterns = map(haproxy.path_pattern, ["/admin", "/*/appadmin"])
    assert not any(re.search(pattern, path) for pattern in patterns)


def test_a_dot_in_a_denied_path_is_a_dot():
    assert re.search(haproxy.path_pattern("/a.b"), "/a.b/c")
    assert not re.search(haproxy.path_pattern("/a.b"), "/axb")


def test_certificates_have_names_of_their_files():
    one, two = map(haproxy.certificate_of, (CERTIFICATE, {**CERTIFICATE, "key_file": "/other"}))
    assert one["path"] != two["path"] and one["key_path"] == one["path"] + ".key"
    assert re.fullmatch(r"/etc/haproxy/certificates/www-[0-9a-f]{12}\.pem", one["path"])
    assert one["certificate_file"] == CERTIFICATE["certificate_file"]


def test_what_the_configuration_is_made_from():
    absent = {**CERTIFICATE, "name": "old", "state": "absent"}
    over_tls = {**SERVER, "name": "web2", "address": "::1", "tls": True, "tls_name": "www.example.org"}
    own_authority = {**over_tls, "name": "web3", "ca_file": "/etc/ssl/ca.pem"}
    unverified = {**own_authority, "name": "web4", "ca_file": "/etc/ssl/other.pem", "verify": False}
    servers = [SERVER, {"name": "gone", "state": "absent"}, over_tls, own_authority, unverified]
    names = ["www.example.org", "2001:db8::1"]
    role = {"certificates": [CERTIFICATE, absent], "servers": servers, "server_names": names}
    values, problems = plan({**role, "denied_paths": ["/admin"], "https_port": 8443})
    assert problems == []
    one, two, three, _four = values["servers"]
    assert one == {
        **SERVER,
        "state": "present",
        "weight": 100,
        "max_connections": 0,
        "backup": False,
        "tls": False,
        "verify": True,
        "host": "192.0.2.11",
        "tls_name": "192.0.2.11",
        "ca_file": None,
    }
    assert (two["host"], two["tls"], two["ca_file"], three["ca_file"]) == ("[::1]", True, None, "/etc/ssl/ca.pem")
    (certificate,) = values["certificates"]
    assert values["links"] == {
        certificate["path"]: CERTIFICATE["certificate_file"],
        certificate["key_path"]: CERTIFICATE["key_file"],
    }
    assert values["read_files"] == [
        CERTIFICATE["certificate_file"],
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/ssl/ca.pem",
    ]
    assert values["known_hosts"] == ["www.example.org", "[2001:db8::1]"]
    assert values["health_host"] == "www.example.org"
    assert values["https_location"].endswith("host_only]:8443")
    assert values["denied_patterns"] == [haproxy.path_pattern("/admin")]
    assert values["binds"] == [{"host": "0.0.0.0", "options": ""}, {"host": "[::]", "options": " v6only"}]
    assert [bind["host"] for bind in plan(ROLE, all_ipv6_addresses=[])[0]["binds"]] == ["0.0.0.0"]
    assert plan(ROLE)[0]["health_host"] == "" and plan(ROLE)[0]["https_location"].endswith("host_only]")


def test_servers_to_which_tls_is_passed_through_are_checked_over_tls():
    values, problems = plan(TCP)
    assert problems == [] and values["certificates"] == [] and values["links"] == {}
    assert [server["tls"] for server in values["servers"]] == [True]
    assert values["read_files"] == ["/etc/ssl/certs/ca-certificates.crt"]


def test_the_second_balancer_without_its_password():
    keepalived = {**KEEPALIVED, "interface": "br-lan", "virtual_addresses": ["192.0.2.9/24", "2001:db8::9/64"]}
    facts = {"interfaces": ["br-lan"], "br_lan": {"ipv4": {"address": "192.0.2.2"}}}
    values, problems = plan({**ROLE, "keepalived": keepalived}, **facts)
    assert problems == []
    assert values["keepalived"] == {
        "interface": "br-lan",
        "router_id": 51,
        "priority": 100,
        "peers": ["192.0.2.3"],
        "virtual_addresses": ["192.0.2.9/24"],
        "virtual_addresses_ipv6": ["2001:db8::9/64"],
        "source_address": "192.0.2.2",
        "has_password": True,
    }
    own = {**ROLE, "keepalived": {**keepalived, "source_address": "192.0.2.4"}}
    assert plan(own, **facts)[0]["keepalived"]["source_address"] == "192.0.2.4"
    assert plan(own, interfaces=["br-lan"])[1] == []
