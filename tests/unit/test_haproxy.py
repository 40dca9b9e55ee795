# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is made of a running HAProxy's answers, and the program that keeps the servers' state."""

from __future__ import annotations

import re
import socket
import threading
import types
from pathlib import Path

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import haproxy_socket

ROOT = Path(__file__).resolve().parents[2]
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
        return haproxy_socket.set_state(self.ask, options.pop("backend", "servers"), servers, state, **clock, **options)

    def changes(self) -> list[str]:
        return [command for command in self.commands if command.startswith("set")]


def test_a_drained_server_is_waited_for():
    fake = FakeHAProxy(web1={"requests": 3}, web2={})
    result = fake.set("web1", "drain")
    server = {"name": "web1", "before": "ready", "requests": 0, "status": "UP", "up": True, "check": "L7OK/200"}
    assert result["changed"] and result["servers"] == [server]
    assert (result["up"], result["summary"]) == (["web1"], "web1 is UP L7OK/200")
    assert fake.changes() == ["set server servers/web1 state drain"] and fake.now > 0.25


def test_a_state_that_is_there_is_no_change_and_still_waited_for():
    fake = FakeHAProxy(web1={"flags": 8, "requests": 2})
    assert fake.set("web1", "drain")["changed"] is False
    assert fake.changes() == [] and fake.now > 0


def test_who_does_not_wait_hears_what_is_left():
    fake = FakeHAProxy(web1={"requests": 3})
    assert fake.set("web1", "maint", wait=False)["servers"][0]["requests"] == 3
    assert fake.now == 0


@pytest.mark.parametrize("state", haproxy_socket.STATES)
def test_check_mode_changes_nothing_and_waits_for_nothing(state):
    fake = FakeHAProxy(web1={"flags": 8, "requests": 99, "status": "DOWN"})
    assert fake.set("web1", state, check=True)["changed"] is (state != "drain")
    assert fake.changes() == [] and fake.now == 0


def test_all_other_servers():
    fake = FakeHAProxy(web1={"requests": 9000}, web2={"requests": 3}, web3={"flags": 8})
    result = fake.set(["web1", "not there"], "drain", others=True)
    assert [server["name"] for server in result["servers"]] == ["web2", "web3"] and result["changed"]
    assert fake.changes() == ["set server servers/web2 state drain"]
    nothing = {"changed": False, "servers": [], "up": [], "healthy": [], "summary": ""}
    assert fake.set(["web1", "web2", "web3"], "drain", others=True) == nothing


def test_a_server_in_another_state_is_left_alone():
    fake = FakeHAProxy(web1={"flags": 8}, web2={"flags": 1, "status": "MAINT"}, web3={})
    result = fake.set(["web1", "web2", "web3"], "ready", former=["drain"])
    assert [server["name"] for server in result["servers"]] == ["web1", "web3"]
    assert fake.changes() == ["set server servers/web1 state ready"]


def test_a_wait_ends_with_an_error_that_says_what_is_left():
    with pytest.raises(
        haproxy_socket.RuntimeFault, match=r"'web1' is set to drain, but after 5 seconds it has [0-9]+ requests"
    ) as fault:
        FakeHAProxy(web1={"requests": 10000}).set("web1", "drain", timeout=5)
    (server,) = fault.value.result["servers"]
    assert fault.value.result["changed"] and server["before"] == "ready" and server["requests"] > 0
    with pytest.raises(
        haproxy_socket.RuntimeFault, match="'web1' is set to ready, but after 5 seconds its status is DOWN"
    ):
        FakeHAProxy(web1={"flags": 8, "status": "DOWN"}).set("web1", "ready", timeout=5)


def test_a_server_that_is_going_down_is_not_ready():
    with pytest.raises(haproxy_socket.RuntimeFault, match="UP 1/3"):
        FakeHAProxy(web1={"status": "UP 1/3"}).set("web1", "ready", timeout=1)
    assert FakeHAProxy(web1={"status": "no check"}).set("web1", "ready")["changed"] is False


def test_an_unknown_server_is_named_with_those_that_there_are():
    with pytest.raises(haproxy_socket.RuntimeFault, match="'web3'; it must be a server of 'servers': web1, web2"):
        FakeHAProxy(web1={}, web2={}).set("web3", "drain")
    with pytest.raises(haproxy_socket.RuntimeFault, match="no backend 'others'"):
        FakeHAProxy(web1={}).set("web1", "drain", backend="others")


def test_what_haproxy_refuses_is_an_error():
    fake = FakeHAProxy(web1={})
    answer = fake.ask
    fake.ask = lambda command: "Permission denied\n" if command.startswith("set") else answer(command)
    with pytest.raises(haproxy_socket.RuntimeFault, match="Permission denied"):
        fake.set("web1", "drain")


@pytest.mark.parametrize(
    ("flags", "state"),
    [(0, "ready"), (1, "maint"), (4, "maint"), (8, "drain"), (9, "maint"), (32, "ready"), (64, "ready")],
)
def test_administrative_states(flags, state):
    assert haproxy_socket.administrative_state(flags) == state


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
        assert haproxy_socket.talk(path, "show info") == "you said show info\n"
        thread.join()
    with pytest.raises(haproxy_socket.RuntimeFault, match="is HAProxy running"):
        haproxy_socket.talk(path, "show info")


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
