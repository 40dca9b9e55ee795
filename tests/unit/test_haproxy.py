# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The checks of the role haproxy's variables, its pattern for paths, and what is made of HAProxy's answers."""

from __future__ import annotations

import re
import socket
import threading
import types
from pathlib import Path

import pytest
import yaml
from ansible_collections.web2py.deployment.plugins.module_utils import haproxy
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {
    name.removeprefix("haproxy_"): value
    for name, value in yaml.safe_load((ROOT / "roles/haproxy/defaults/main.yml").read_text()).items()
}
CERTIFICATE = {"name": "www", "certificate_file": "/etc/ssl/www/fullchain.pem", "key_file": "/etc/ssl/www/privkey.pem"}
SERVER = {"name": "web1", "address": "192.0.2.11", "port": 80}
ROLE = {**DEFAULTS, "certificates": [CERTIFICATE], "servers": [SERVER]}
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
    assert haproxy.errors(role) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mode": "udp"}, ["haproxy_mode", "'udp'", "http and tcp"]),
        ({"balance": "source"}, ["haproxy_balance", "'source'", "roundrobin and leastconn"]),
        ({"addresses": ["*"]}, ["haproxy_addresses", "'*'", "IP addresses"]),
        (
            {"addresses": ["192.0.2.9"], "keepalived": KEEPALIVED},
            ["haproxy_addresses", "'192.0.2.9'", "virtual", "leave the list empty"],
        ),
        ({"http_port": 65536}, ["haproxy_http_port", "65536", "0 to 65535"]),
        ({"http_port": "many"}, ["haproxy_http_port", "'many'", "0 to 65535"]),
        ({"http_port": 443}, ["haproxy_http_port and haproxy_https_port", "443", "different"]),
        ({"statistics_port": 80}, ["haproxy_http_port and haproxy_statistics_port", "80", "different"]),
        ({"http_port": 0, "https_port": 0}, ["haproxy_http_port, haproxy_https_port", "both are 0"]),
        *(
            ({"statistics_address": text}, ["haproxy_statistics_address", repr(text), "loopback"])
            for text in ("0.0.0.0", "::", "192.0.2.1", "localhost", "")
        ),
        ({"server_names": ["www.example.org:443"]}, ["haproxy_server_names", "'www.example.org:443'"]),
        ({"server_names": ["a b"]}, ["haproxy_server_names", "'a b'"]),
        ({"server_names": ["*.example.org"]}, ["haproxy_server_names", "'*.example.org'"]),
        ({"health_host": "x\ny"}, ["haproxy_server_names", "'x\\ny'"]),
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
        ({"denied_paths": ["/admin"], "strict_paths": False}, ["haproxy_strict_paths", "False", "set it to true"]),
        ({"https_port": 0, "redirect_to_https": True}, ["haproxy_redirect_to_https", "haproxy_https_port is 0"]),
        ({"https_port": 0, "hsts_max_age": 60}, ["haproxy_hsts_max_age", "60", "haproxy_https_port is 0"]),
        ({"send_proxy": True}, ["haproxy_send_proxy", "haproxy_mode: tcp"]),
        ({"certificates": []}, ["haproxy_certificates", "none", "443"]),
        ({"certificates": [{**CERTIFICATE, "state": "absent"}]}, ["haproxy_certificates", "none", "443"]),
        ({"certificates": [CERTIFICATE, CERTIFICATE]}, ["haproxy_certificates", "'www'", "twice"]),
        ({"certificates": [{**CERTIFICATE, "name": "../www"}]}, ["haproxy_certificates", "'../www'"]),
        ({"certificates": [{**CERTIFICATE, "key_file": "k.pem"}]}, ["key_file", "'www'", "'k.pem'", "absolute"]),
        ({"certificates": [{"name": "x", "key_file": "/k"}]}, ["certificate_file", "'x'", "None", "absolute"]),
        ({"servers": []}, ["haproxy_servers", "none", "at least one"]),
        ({"servers": [{**SERVER, "state": "absent"}]}, ["haproxy_servers", "none", "at least one"]),
        ({"servers": [{**SERVER, "backup": True}]}, ["haproxy_servers", "no backup", "at least one"]),
        ({"servers": [SERVER, SERVER]}, ["haproxy_servers", "'web1'", "twice"]),
        ({"servers": [{**SERVER, "name": "web.1"}]}, ["haproxy_servers", "'web.1'"]),
        ({"servers": [{**SERVER, "address": "10.0.0"}]}, ["'web1'", "address", "'10.0.0'"]),
        ({"servers": [{"name": "web1", "port": 80}]}, ["'web1'", "address", "None"]),
        ({"servers": [{**SERVER, "port": 0}]}, ["'web1'", "port", "found 0,", "1 to 65535"]),
        ({"servers": [{"name": "web1", "address": "::1"}]}, ["'web1'", "port", "None", "1 to 65535"]),
        ({"servers": [{**SERVER, "weight": 257}]}, ["'web1'", "weight", "257", "0 to 256"]),
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
        ({"timeout_request": 0}, ["haproxy_timeout_request", "found 0,", "1 to 300"]),
        ({"max_header_size": 1024}, ["haproxy_max_header_size", "1024", "4096 to 131072"]),
        ({"keepalived": {**KEEPALIVED, "interface": ""}}, ["haproxy_keepalived", "interface is missing"]),
        ({"keepalived": {**KEEPALIVED, "interface": "e t"}}, ["haproxy_keepalived", "interface", "'e t'"]),
        ({"keepalived": {**KEEPALIVED, "router_id": 256}}, ["haproxy_keepalived, router_id", "256", "1 to 255"]),
        ({"keepalived": {**KEEPALIVED, "priority": 255}}, ["haproxy_keepalived, priority", "255", "1 to 254"]),
        ({"keepalived": {**KEEPALIVED, "peers": ["lb2"]}}, ["haproxy_keepalived", "peers", "'lb2'", "IPv4"]),
        ({"keepalived": {**KEEPALIVED, "source_address": "::1"}}, ["haproxy_keepalived", "source_address", "'::1'"]),
        ({"keepalived": {**KEEPALIVED, "virtual_addresses": ["x"]}}, ["haproxy_keepalived", "'x'", "192.0.2.9/24"]),
        ({"keepalived": {**KEEPALIVED, "virtual_addresses": ["2001:db8::9"]}}, ["haproxy_keepalived", "IPv6 only"]),
        ({"keepalived": {**KEEPALIVED, "password": "much too long"}}, ["haproxy_keepalived", "password", "1 to 8"]),
    ],
)
def test_a_fault_names_the_variable_what_was_found_and_what_is_allowed(changes, words):
    errors = haproxy.errors({**ROLE, **changes})
    assert len(errors) == 1, errors
    assert [word for word in words if word not in errors[0]] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"https_port": 0}, ["haproxy_https_port", "found 0", "tcp"]),
        ({"redirect_to_https": False}, ["haproxy_http_port", "80", "haproxy_redirect_to_https: true"]),
        ({"denied_paths": ["/admin"]}, ["haproxy_denied_paths", "cannot look into"]),
        ({"hsts_max_age": 60}, ["haproxy_hsts_max_age", "60", "cannot look into"]),
        ({"servers": [SERVER]}, ["'web1'", "tls_name", "host name"]),
    ],
)
def test_what_cannot_be_done_to_connections_that_are_passed_on(changes, words):
    errors = haproxy.errors({**TCP, **changes})
    assert len(errors) == 1, errors
    assert [word for word in words if word not in errors[0]] == []


def test_keepalived_needs_an_interface_of_the_host():
    role = {**ROLE, "keepalived": KEEPALIVED}
    assert haproxy.errors(role, ["lo", "eth0"]) == []
    assert haproxy.errors(role, ["lo", "ens3"]) == [
        "haproxy_keepalived: interface is 'eth0', allowed are those of this host: ens3, lo"
    ]


def test_no_message_repeats_the_password():
    errors = haproxy.errors({**ROLE, "keepalived": {**KEEPALIVED, "password": "p#ssw0rd", "peers": []}})
    assert len(errors) == 2 and "p#ssw0rd" not in "".join(errors)


def test_all_faults_at_once():
    role = {**ROLE, "mode": "x", "addresses": ["x"], "servers": [], "health_path": "x", "retries": -1}
    assert len(haproxy.errors(role)) == 5


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
        if not haproxy.errors({**ROLE, **changes}):
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
    one, two = haproxy.certificates([CERTIFICATE, {**CERTIFICATE, "key_file": "/other"}])
    assert one["path"] != two["path"] and one["key_path"] == one["path"] + ".key"
    assert re.fullmatch(r"/etc/haproxy/certificates/www-[0-9a-f]{12}\.pem", one["path"])
    assert one["certificate_file"] == CERTIFICATE["certificate_file"]
    assert haproxy.certificates([{**CERTIFICATE, "state": "absent"}]) == []


HEAD = (
    "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight "
    "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state "
    "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr "
    "srv_agent_addr srv_agent_port\n"
)
LINE = "3 {backend} 1 {name} 192.0.2.11 2 {flags} 100 100 7 15 3 4 6 0 0 0 - 8001 - 0 0 - - 0\n"


class FakeHAProxy:
    """Servers that lose one request each time they are asked about."""

    def __init__(self, **servers: dict[str, object]) -> None:
        self.servers = {
            name: {"flags": 0, "requests": 0, "status": "UP", "check": "* L7OK", **values}
            for name, values in servers.items()
        }
        self.commands: list[str] = []
        self.now = 0.0

    def ask(self, command: str) -> str:
        self.commands.append(command)
        if command == "show servers state":
            return HEAD + "".join(
                LINE.format(backend="servers", name=name, flags=server["flags"])
                for name, server in self.servers.items()
            )
        if command == "show stat":
            rows = "# pxname,svname,qcur,scur,status,check_status,check_code,\nsite,FRONTEND,,9,OPEN,,,\n"
            for name, server in self.servers.items():
                rows += f"servers,{name},0,{server['requests']},{server['status']},{server['check']},200,\n"
                server["requests"] = max(0, server["requests"] - 1)
            return rows
        name, state = re.fullmatch(r"set server servers/(\w+) state (\w+)", command).groups()
        self.servers[name]["flags"] = {"ready": 0, "drain": 8, "maint": 1}[state]
        return "\n"

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def set(self, server: str | list[str], state: str, **options: object) -> dict[str, object]:
        clock = {"clock": lambda: self.now, "sleep": self.sleep}
        servers = [server] if isinstance(server, str) else server
        return haproxy.set_state(self.ask, options.pop("backend", "servers"), servers, state, **clock, **options)

    def changes(self) -> list[str]:
        return [command for command in self.commands if command.startswith("set")]


def test_a_drained_server_is_waited_for():
    fake = FakeHAProxy(web1={"requests": 3}, web2={})
    result = fake.set("web1", "drain")
    server = {"name": "web1", "before": "ready", "requests": 0, "status": "UP", "up": True, "check": "L7OK/200"}
    assert result == {"changed": True, "servers": [server]}
    assert fake.changes() == ["set server servers/web1 state drain"] and fake.now > 0.25


def test_a_state_that_is_there_is_no_change_and_still_waited_for():
    fake = FakeHAProxy(web1={"flags": 8, "requests": 2})
    assert fake.set("web1", "drain")["changed"] is False
    assert fake.changes() == [] and fake.now > 0


def test_who_does_not_wait_hears_what_is_left():
    fake = FakeHAProxy(web1={"requests": 3})
    assert fake.set("web1", "maint", wait=False)["servers"][0]["requests"] == 3
    assert fake.now == 0


@pytest.mark.parametrize("state", haproxy.STATES)
def test_check_mode_changes_nothing_and_waits_for_nothing(state):
    fake = FakeHAProxy(web1={"flags": 8, "requests": 99, "status": "DOWN"})
    assert fake.set("web1", state, check=True)["changed"] is (state != "drain")
    assert fake.changes() == [] and fake.now == 0


def test_all_other_servers():
    fake = FakeHAProxy(web1={"requests": 9000}, web2={"requests": 3}, web3={"flags": 8})
    result = fake.set(["web1", "not there"], "drain", others=True)
    assert [server["name"] for server in result["servers"]] == ["web2", "web3"] and result["changed"]
    assert fake.changes() == ["set server servers/web2 state drain"]
    assert fake.set(["web1", "web2", "web3"], "drain", others=True) == {"changed": False, "servers": []}


def test_a_server_in_another_state_is_left_alone():
    fake = FakeHAProxy(web1={"flags": 8}, web2={"flags": 1, "status": "MAINT"}, web3={})
    result = fake.set(["web1", "web2", "web3"], "ready", former=["drain"])
    assert [server["name"] for server in result["servers"]] == ["web1", "web3"]
    assert fake.changes() == ["set server servers/web1 state ready"]


def test_a_wait_ends_with_an_error_that_says_what_is_left():
    with pytest.raises(
        haproxy.RuntimeFault, match=r"'web1' is set to drain, but after 5 seconds it has [0-9]+ requests"
    ) as fault:
        FakeHAProxy(web1={"requests": 10000}).set("web1", "drain", timeout=5)
    (server,) = fault.value.result["servers"]
    assert fault.value.result["changed"] and server["before"] == "ready" and server["requests"] > 0
    with pytest.raises(haproxy.RuntimeFault, match="'web1' is set to ready, but after 5 seconds its status is DOWN"):
        FakeHAProxy(web1={"flags": 8, "status": "DOWN"}).set("web1", "ready", timeout=5)


def test_a_server_that_is_going_down_is_not_ready():
    with pytest.raises(haproxy.RuntimeFault, match="UP 1/3"):
        FakeHAProxy(web1={"status": "UP 1/3"}).set("web1", "ready", timeout=1)
    assert FakeHAProxy(web1={"status": "no check"}).set("web1", "ready")["changed"] is False


def test_an_unknown_server_is_named_with_those_that_there_are():
    with pytest.raises(haproxy.RuntimeFault, match="'web3', allowed are the servers of 'servers': web1, web2"):
        FakeHAProxy(web1={}, web2={}).set("web3", "drain")
    with pytest.raises(haproxy.RuntimeFault, match="no backend 'others'"):
        FakeHAProxy(web1={}).set("web1", "drain", backend="others")


def test_what_haproxy_refuses_is_an_error():
    fake = FakeHAProxy(web1={})
    answer = fake.ask
    fake.ask = lambda command: "Permission denied\n" if command.startswith("set") else answer(command)
    with pytest.raises(haproxy.RuntimeFault, match="Permission denied"):
        fake.set("web1", "drain")


@pytest.mark.parametrize(
    ("flags", "state"),
    [(0, "ready"), (1, "maint"), (4, "maint"), (8, "drain"), (9, "maint"), (32, "ready"), (64, "ready")],
)
def test_administrative_states(flags, state):
    assert haproxy.administrative_state(flags) == state


def test_talking_over_a_real_socket(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"you said " + connection.recv(100))

        thread = threading.Thread(target=answer)
        thread.start()
        assert haproxy.talk(path, "show info") == "you said show info\n"
        thread.join()
    with pytest.raises(haproxy.RuntimeFault, match="is HAProxy running"):
        haproxy.talk(path, "show info")


class TestState:
    """The program that keeps the servers' state."""

    CONFIGURATION = (
        "backend servers\n    server web1 [::1]:9001 weight 100 ssl sni str(x)\n    server web2 x:9002 weight 1\n"
    )

    @pytest.fixture
    def program(self, tmp_path):
        path = ROOT / "roles/haproxy/files/haproxy-state"
        module = types.ModuleType("haproxy_state")
        exec(compile(path.read_text(), path, "exec"), module.__dict__)  # noqa: S102
        module.CONFIGURATION = str(tmp_path / "haproxy.cfg")
        module.STATE = str(tmp_path / "state" / "servers")
        module.SOCKET = str(tmp_path / "socket")
        (tmp_path / "haproxy.cfg").write_text(self.CONFIGURATION)
        return module

    def test_ports_and_tls_are_those_of_the_configuration(self, program):
        servers = program.configured(self.CONFIGURATION)
        assert servers == {"web1": ("9001", "1"), "web2": ("9002", "0")}
        state = HEAD + "".join(LINE.format(backend="servers", name=name, flags=8) for name in ("web1", "web2", "gone"))
        first, second, one, two = program.adapted(state + "\n", servers).splitlines()
        assert f"{first}\n{second}\n" == HEAD
        assert one == "3 servers 1 web1 - 2 8 100 100 7 15 3 4 6 0 0 0 - 9001 - 1 0 - - 0"
        assert two == "3 servers 1 web2 - 2 8 100 100 7 15 3 4 6 0 0 0 - 9002 - 0 0 - - 0"

    def test_an_old_state_is_forgotten_when_haproxy_cannot_be_asked(self, program):
        program.write(HEAD + LINE.format(backend="servers", name="web1", flags=8))
        assert " web1 " in Path(program.STATE).read_text()
        program.save()
        assert Path(program.STATE).read_text() == "1\n"

    def test_a_reload_that_works_or_not_leaves_no_state(self, program, monkeypatch):
        monkeypatch.setattr(program.os, "kill", lambda *_: None)
        for workers, failures, works in ((["1", "1", "", "2"], [0, 0, 0], True), (["1", "1", "1"], [1, 1, 2], False)):
            monkeypatch.setattr(program, "worker", lambda workers=iter(workers): next(workers))
            monkeypatch.setattr(program, "failed_reloads", lambda _, failures=iter(failures): next(failures))
            saved = HEAD + LINE.format(backend="servers", name="web1", flags=8)
            monkeypatch.setattr(program, "save", lambda saved=saved: program.write(saved))
            if works:
                program.reload(1)
            else:
                with pytest.raises(SystemExit, match="did not start"):
                    program.reload(1)
            assert Path(program.STATE).read_text() == "1\n"

    def test_a_first_start_knows_of_nothing(self, program):
        program.prepare()
        assert Path(program.STATE).read_text() == "1\n"

    def test_it_does_not_answer(self, program):
        with pytest.raises(SystemExit):
            program.answers()
