# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Web hosts that leave and come, and runs that are killed, while the site is visited without a pause."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess

import pytest
import testinfra
from browser import PROJECT, Run, address_of, play, site_of, wait_for
from visitors import BALANCER, WEB, ask_haproxy, at_balancer, pages, under_load

DATABASE = testinfra.get_host("docker://release-db")
LEAVING = "release-web2"
# `make test-all` kills more.
KILLS = 20 if os.environ.get("LAB_LONG") == "1" else 3


def inventories(folder: pathlib.Path, *, retired: bool) -> list[str]:
    """This inventory after the line of a web host was moved, beside two that are broken, or deleted."""
    copy = folder / ("retired" if retired else "deleted")
    shutil.copytree(PROJECT / "molecule/release/inventory", copy)
    head, tail = (copy / "hosts.yml").read_text().split("web2py_web:\n")
    tail = tail.replace(f"    {LEAVING}:\n", "", 1)
    gone = "{ansible_host: 127.0.0.1, ansible_port: 9, ansible_connection: ssh}"
    broken = (
        "{ansible_host: release-web1, ansible_connection: community.docker.docker, ansible_python_interpreter: /no}"
    )
    hosts = f"    gone.example: {gone}\n    broken.example: {broken}\n    {LEAVING}:\n"
    moved = f"web2py_retired:\n  hosts:\n{hosts}" if retired else ""
    (copy / "hosts.yml").write_text(f"{head}web2py_web:\n{tail}{moved}")
    return [f"--inventory={PROJECT / 'molecule/shared/inventory'}", f"--inventory={copy}"]


def rules() -> str:
    return DATABASE.check_output("cat /etc/postgresql/*/main/pg_hba.conf")


@pytest.mark.parametrize("retired", [True, False], ids=["moved", "deleted"])
def test_a_web_host_leaves_and_comes(tmp_path, capsys, retired):
    assert play().status == 0
    address = address_of(LEAVING)
    assert address in rules() and set(at_balancer()) == set(WEB)
    runs = []
    arguments = inventories(tmp_path, retired=retired)
    if retired:
        ask_haproxy("set server servers/release-web1 state maint")
        try:
            refused = play(*arguments)
        finally:
            ask_haproxy("set server servers/release-web1 state ready")
        assert refused.status != 0 and "so the site would be down" in " ".join(refused.output.split())
        assert refused.changed_tasks() == []
        wait_for(lambda: set(at_balancer().values()) == {"UP"})
    load = under_load(address_of("release-balancer"), 6, 1000, lambda: runs.append(play(*arguments)))
    assert runs[0].status == 0, runs[0].output[-3000:]
    assert load.failures == []
    assert set(at_balancer()) == set(WEB) - {LEAVING} and address not in rules()
    again = play(*arguments)
    assert (again.status, again.changed_tasks()) == (0, []), again.output[-3000:]
    if retired:
        host = WEB[LEAVING]
        assert host.run("systemctl is-active apache2.service lighttpd.service").stdout.split() == ["inactive"] * 2
        assert host.check_output("ls /etc/web2py") == "runtime.json"
        assert host.check_output("ls /var/lib/web2py/data") != ""
        assert "web2py" not in host.check_output("systemctl list-timers --all")
        output = " ".join(runs[0].output.split())
        assert "gone.example cannot be reached" in output
        assert "broken.example is NOT retired: Gather facts has failed" in output
    came = under_load(address_of("release-balancer"), 6, 1000, lambda: runs.append(play()))
    with capsys.disabled():
        print(f"\na web host leaves: {load}; {runs[0].seconds:.0f} s. It comes: {came}; {runs[1].seconds:.0f} s")
    assert runs[1].status == 0, runs[1].output[-3000:]
    assert came.failures == []
    wait_for(lambda: set(at_balancer().values()) == {"UP"} and set(at_balancer()) == set(WEB))
    assert address in rules() and set(pages()) == {"v1"}


def kill_at(number: int, variables: pathlib.Path) -> str:
    """Run the site playbook until its task or handler of this number begins, and kill it; the name of the task."""
    process = subprocess.Popen(
        ["ansible-playbook", "--limit=all", f"--extra-vars=@{variables}", str(PROJECT / "playbooks/site.yml")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        start_new_session=True,
    )
    begun = ""
    try:
        for line in process.stdout:
            if found := re.match(r"(?:TASK|RUNNING HANDLER) \[(.*)\]", line):
                begun, number = found[1], number - 1
                if number == 0:
                    break
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    return begun


def by_namespaces(folder: pathlib.Path) -> list[str]:
    """This inventory, its machines reached without Docker's daemon where root may: a run takes a third less time."""
    if os.geteuid() != 0:
        return []
    names = [*WEB, "release-balancer", "release-db"]
    pids = subprocess.check_output(["docker", "inspect", "--format", "{{.State.Pid}}", *names], text=True).split()
    hosts = {
        name: {"ansible_connection": "community.docker.nsenter", "ansible_nsenter_pid": int(pid)}
        for name, pid in zip(names, pids, strict=True)
    }
    file = folder / "namespaces.json"
    file.write_text(json.dumps({"docker": {"hosts": hosts}}))
    places = PROJECT / "molecule/shared/inventory", PROJECT / "molecule/release/inventory", file
    return [f"--inventory={place}" for place in places]


def test_a_run_that_is_killed_anywhere_is_made_good_by_the_next(version, tmp_path, capsys):
    """Each run has something to change, and to load, on every machine."""
    dice = random.Random(os.environ.get("LAB_SEED") or None)  # noqa: S311 (not a secret)
    variables = tmp_path / "variables.json"
    arguments = [*by_namespaces(tmp_path), f"--extra-vars=@{variables}"]
    tasks = 0
    runs: list[Run] = []
    for number in range(1, KILLS + 2):
        memory, port = f"{4 + number}MB", 8400 + number
        variables.write_text(
            json.dumps(
                {
                    **version(f"k{number}"),
                    "web2py_headers": {"X-Run": str(number)},
                    "haproxy_statistics_port": port,
                    "postgresql_settings": [{"name": "work_mem", "value": memory}],
                }
            )
        )
        at = dice.randrange(1, tasks) if tasks else 0
        begun: list[str] = []

        def run_it(at: int = at, begun: list[str] = begun) -> None:
            if at:
                begun.append(kill_at(at, variables))
            runs.append(play(*arguments))

        # Few visitors: twenty rounds are long enough without them.
        load = under_load(address_of("release-balancer"), 2, 200, run_it, in_service=True, pause=0.2)
        killed = f"killed at {at} of {tasks}, {begun[0]}" if at else "not killed"
        assert runs[-1].status == 0, (killed, runs[-1].output[-3000:])
        assert load.failures == [], killed
        tasks = tasks or len(re.findall(r"^(?:TASK|RUNNING HANDLER) \[", runs[-1].output, re.MULTILINE))
        again = play(*arguments)
        assert (again.status, again.changed_tasks()) == (0, []), (killed, again.output[-3000:])
        for machine, host in WEB.items():
            answer = site_of(machine, host, "apache_wsgi").ask("/counter/default/index")
            assert (answer.body.decode(), answer["X-Run"]) == (f"k{number}", str(number)), killed
        assert BALANCER.check_output(f"ss -Htln 'sport = :{port}'"), killed
        assert set(at_balancer().values()) == {"UP"} and set(at_balancer()) == set(WEB), killed
        assert DATABASE.check_output("cd / && runuser -u postgres -- psql -p 5433 -Atqc 'SHOW work_mem'") == memory, (
            killed
        )
        with capsys.disabled():
            print(f"\n{killed}: {load}")
