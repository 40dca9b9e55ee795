# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the lab remembers of machines with a kernel of their own, without booting one."""

from __future__ import annotations

import ipaddress
import json
import subprocess

import lab
import pytest
import suite
import uml

NETWORK = uml.Network("br-lab", ipaddress.IPv4Network("172.18.0.0/16"), "172.18.0.1")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(lab, "CACHE", tmp_path)
    for name, path in (("HOME", ""), ("MACHINES", "machines"), ("SSH_CONFIG", "ssh_config"), ("KEY", "key")):
        monkeypatch.setattr(uml, name, tmp_path / path)
    # Not those of machines that run here meanwhile.
    monkeypatch.setattr(uml.Machine, "tap", property(lambda machine: f"web2py-test{machine.number}"))
    return tmp_path


@pytest.fixture
def booted(home, monkeypatch):
    """Machines that are a sleeping process each."""
    processes = []

    def boot(machine, network, base):
        processes.append(subprocess.Popen(["sleep", "300"], start_new_session=True))
        (machine.folder / "process").write_text(f"{processes[-1].pid} {uml.since_of(processes[-1].pid)}")

    monkeypatch.setattr(uml.Machine, "boot", boot)
    monkeypatch.setattr(uml.Machine, "wait", lambda machine: None)
    monkeypatch.setattr(uml, "image", lambda: home / "base.img")
    monkeypatch.setattr(uml.Network, "find", lambda: NETWORK)
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def test_machines_have_addresses_that_docker_gives_last():
    assert [NETWORK.address(number) for number in (1, 2)] == ["172.18.255.254", "172.18.255.253"]


def test_a_machine_is_booted_once_and_keeps_its_address_over_a_power_cut(booted):
    before = uml.start(["a", "b"])
    assert [machine.address for machine in uml.start(["a", "b"])] == ["172.18.255.254", "172.18.255.253"]
    assert len(booted) == 2
    uml.kill(["b"])
    assert booted[1].wait(5) == -9 and booted[0].poll() is None
    assert [entry["process"] for entry in uml.listed()] == [booted[0].pid, None]
    assert uml.start(["b"]) == before[1:]
    assert len(booted) == 3


def test_what_is_stopped_is_forgotten_and_its_number_is_free(booted, home):
    uml.start(["a", "b"])
    uml.stop(["a"])
    assert [entry["name"] for entry in uml.listed()] == ["b"]
    assert "Host a\n" not in (home / "ssh_config").read_text()
    assert [machine.number for machine in uml.start(["c"])] == [1]
    uml.stop([])
    assert uml.listed() == []
    assert all(process.wait(5) == -9 for process in booted)


@pytest.fixture
def settings(monkeypatch):
    """What Docker says about the network."""
    found = {
        "Id": "6b2a64ebec3f1a4f",
        "Options": {},
        "IPAM": {"Config": [{"Subnet": "172.18.0.0/16", "IPRange": "172.18.0.0/17"}]},
    }
    monkeypatch.setattr(lab, "network_settings", lambda: found)
    return found


def test_a_container_has_an_address_that_no_machine_gets(booted, settings):
    uml.start(["a"])
    (container,) = uml.reserve(["c_1"])
    assert (container.address, container.host_name) == ("172.18.255.253", "c-1")
    assert uml.reserve(["c_1"]) == [container]
    assert [machine.address for machine in uml.start(["b"])] == ["172.18.255.252"]
    assert len(booted) == 2
    uml.stop(["c_1"])
    assert [machine.address for machine in uml.start(["d"])] == ["172.18.255.253"]


def test_a_network_without_fixed_addresses_is_named(home, settings):
    del settings["IPAM"]["Config"][0]["IPRange"]
    with pytest.raises(lab.LabError, match="make lab-down"):
        uml.reserve(["c"])


def test_another_process_of_the_same_number_is_left_alone(booted):
    (machine,) = uml.start(["a"])
    (machine.folder / "process").write_text(f"{booted[0].pid} 1")
    assert machine.process() is None
    uml.stop(["a"])
    assert booted[0].poll() is None


def test_ssh_finds_a_machine_by_its_name(booted, home):
    uml.start(["a"])
    asked = subprocess.run(
        ["ssh", "-G", "-F", home / "ssh_config", "a"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert {"hostname 172.18.255.254", "user root", f"identityfile {home / 'key'}"} <= set(asked)


def test_the_list_is_json(booted, capsys, monkeypatch):
    uml.start(["a"])
    monkeypatch.setattr("sys.argv", ["uml.py", "list"])
    assert uml.main() == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry == {"name": "a", "number": 1, "address": "172.18.255.254", "process": booted[0].pid}


def test_kernels_are_prepared_for_the_scenarios_that_have_some():
    assert suite.scenario("nfs_shared", keep=False).needs_kernels
    assert not suite.scenario("memcached", keep=False).needs_kernels
