# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What clients on the network and on the machine find, and what an operator does who runs the play again."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import socket
import subprocess

import browser
import pytest
import testinfra
from browser import address_of, machines, wait_for

play = functools.partial(browser.play, playbook=pathlib.Path(__file__).parents[1] / "converge.yml")
PORT = 11211


@pytest.fixture
def machine(host) -> str:
    return host.backend.host


def talk(address: str, data: bytes, end: bytes, port: int = PORT) -> bytes:
    with socket.create_connection((address, port), timeout=10) as connection:
        connection.sendall(data)
        received = b""
        while not received.endswith(end):
            part = connection.recv(65536)
            assert part, received
            received += part
        return received


def stats(address: str, kind: bytes = b"stats settings") -> dict[str, str]:
    lines = talk(address, kind + b"\r\n", b"END\r\n").decode().splitlines()
    return dict(line.split(" ", 2)[1:] for line in lines if line.startswith("STAT "))


def answers(address: str) -> bool:
    with contextlib.suppress(OSError):
        return talk(address, b"version\r\n", b"\r\n").startswith(b"VERSION")
    return False


def test_it_stores_values_up_to_the_given_size(machine):
    address = address_of(machine)
    value = b"x" * 3_000_000
    assert talk(address, b"set big 0 60 %d\r\n%s\r\n" % (len(value), value), b"\r\n") == b"STORED\r\n"
    assert value in talk(address, b"get big\r\n", b"END\r\n")
    assert b"too large" in talk(address, b"set huge 0 60 5000000\r\n%s\r\n" % (b"x" * 5_000_000), b"\r\n")


def test_limits_are_as_declared(machine):
    settings = stats(address_of(machine))
    wanted = {"maxbytes": str(32 << 20), "maxconns": "300", "item_size_max": str(4 << 20), "udpport": "0"}
    assert {name: settings[name] for name in wanted} == wanted


def test_it_is_at_the_given_addresses_only(host, machine):
    assert answers(address_of(machine))
    listening = {line.split()[3] for line in host.check_output("ss -Hltn").splitlines() if ":11211" in line}
    assert listening == {f"{address_of(machine)}:{PORT}", f"[::1]:{PORT}"}
    assert ":11211" not in host.check_output("ss -Hlun")


def test_it_comes_back_after_its_death_and_a_restart_of_the_machine(host, machine):
    before = host.check_output("systemctl show --value -p MainPID memcached")
    host.check_output(f"kill -KILL {before}")
    seconds = wait_for(lambda: answers(address_of(machine)), 10)
    assert seconds < 5
    subprocess.run(["docker", "restart", "--time", "30", machine], check=True, capture_output=True)
    wait_for(lambda: answers(address_of(machine)), 30)


def test_another_run_changes_nothing():
    for arguments in (["--diff"], ["--check"]):
        run = play(*arguments)
        assert run.status == 0, run.output
        assert run.changed_tasks() == []


def test_values_given_as_text_mean_the_same():
    text = (
        "memcached_addresses={{ansible_facts.default_ipv4.address}},::1 memcached_port=11211 memcached_socket=false "
        "memcached_memory=32 memcached_max_connections=300 memcached_max_item_size=4"
    )
    run = play("--extra-vars", text)
    assert run.status == 0, run.output
    assert run.changed_tasks() == []


def test_a_unix_socket_instead_of_the_network_and_back():
    run = play("--extra-vars", "memcached_socket=yes memcached_socket_group=www-data")
    assert run.status == 0, run.output
    for name in machines():
        host = testinfra.get_host(f"docker://{name}")
        assert ":11211" not in host.check_output("ss -Hltn")
        wait_for(lambda host=host: host.file("/run/memcached/memcached.sock").exists)
        ask = (
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/memcached/memcached.sock'); "
            "s.sendall(b'version\\r\\n'); print(s.recv(99))"
        )
        for user, allowed in (("www-data", True), ("nobody", False)):
            done = host.run(f'setpriv --reuid={user} --regid={user} --clear-groups python3 -c "{ask}"')
            assert ("VERSION" in done.stdout) is allowed, (user, done.stderr)
    assert play().status == 0
    for name in machines():
        wait_for(lambda name=name: answers(address_of(name)))


BAD_INPUT = {
    "every interface": ({"memcached_addresses": ["0.0.0.0"]}, ["memcached_addresses", "0.0.0.0", "every interface"]),
    "no address": ({"memcached_addresses": []}, ["memcached_addresses", "at least one"]),
    "a name": ({"memcached_addresses": ["localhost"]}, ["memcached_addresses", "localhost"]),
    "more memory than there is": (
        {"memcached_memory": 10**7},
        ["memcached_memory is 10000000; it must be between 8 and"],
    ),
    "a large item": ({"memcached_max_item_size": 30}, ["memcached_max_item_size is 30; it must be between 1 and 16."]),
    "misspelled": ({"memcached_adresses": []}, ["memcached_adresses", "memcached_addresses"]),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_before_anything_changes(name):
    variables, words = BAD_INPUT[name]
    play(variables=variables).assert_refused(words)
