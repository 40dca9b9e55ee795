# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Two web hosts as one site: what they share, and what befalls one of the machines while visitors come."""

from __future__ import annotations

import contextlib
import http.client
import re
import subprocess
import time
import uuid

import pytest
from browser import PROJECT, play, wait_for
from machines import NOTES, NOTES_DB, SHARED, in_parallel, load, states


def up(balancer, *names: str):
    return lambda: all(states(balancer)[name] == "UP" for name in names)


def test_a_run_without_a_change():
    run = play()
    print(f"a run without a change: {run.seconds:.0f} s, {run.tasks()} tasks")
    assert run.status == 0, run.output
    assert {name: found["changed"] for name, found in run.stats().items()} == dict.fromkeys(run.stats(), 0), run.output


@pytest.mark.parametrize("application", [NOTES, NOTES_DB])
def test_a_session_begun_on_one_web_host_goes_on_on_the_other(webs, application):
    first, second = (web.site() for web in webs)
    assert [first.ask(f"{application}/visits", "https").body for _ in range(2)] == [b"1", b"2"]
    second.cookies = first.cookies
    assert [host.ask(f"{application}/visits", "https").body for host in (second, first, second)] == [b"3", b"4", b"5"]


def test_both_web_hosts_answer_and_know_who_asks(site):
    answers = [site.fresh().ask("/heart/default/who", "https").json() for _ in range(10)]
    assert {answer["host"] for answer in answers} == {"cluster-web1", "cluster-web2"}
    (client,) = {answer["client"] for answer in answers}
    # This machine's address in the network of the machines, and not the balancer's.
    assert client != site.address and client.rsplit(".", 1)[-1] == "1"
    assert all(answer["https"] for answer in answers)


def test_administration_is_not_there(site):
    for path in ("/admin", "/admin/default/index", "/notes/appadmin", "//admin/default/site", "/%61dmin/"):
        assert site.ask(path, "https").status == 404, path
    assert site.ask("/notes/default/index").status == 301


@pytest.mark.parametrize("application", [NOTES, NOTES_DB])
def test_what_was_sent_to_one_web_host_is_served_by_the_other(webs, application):
    first, second = (web.site() for web in webs)
    title, content = uuid.uuid4().hex, uuid.uuid4().bytes * 20000
    assert first.add_note(title, content, application, "https") == 303
    assert second.attachment(title, application, "https") == content


def test_no_update_of_a_session_in_files_is_lost(webs):
    first, second = (web.site() for web in webs)
    before = int(first.ask(f"{NOTES}/visits", "https").body)
    second.cookies = first.cookies
    times = 1000

    def visit(site):
        for _ in range(times):
            assert site.ask(f"{NOTES}/visits", "https").status == 200

    started = time.monotonic()
    in_parallel(lambda: visit(first), lambda: visit(second))
    assert int(first.ask(f"{NOTES}/visits", "https").body) == before + 2 * times + 1
    print(f"two web hosts counted one session to {2 * times} in {time.monotonic() - started:.0f} s")


def test_a_ticket_of_one_web_host_is_seen_by_the_other(webs):
    first, second = webs
    folder = f"{SHARED}/heart/errors"
    before = set(second.run(f"runuser -u web2py -- ls {folder}").split())
    answer = first.site().ask("/heart/default/fail", "https")
    assert answer.status == 500
    ticket = re.search(rb"ticket/heart/([^\"<]+)", answer.body).group(1).decode()
    assert set(second.run(f"runuser -u web2py -- ls {folder}").split()) - before == {ticket}


def test_an_application_that_takes_all_memory_is_ended_alone(webs):
    """Containers of the tests have no memory controller, these kernels have one."""
    web, unit = webs[0], "apache2.service"
    visitor = web.site()
    assert visitor.ask("/heart/default/beat", "https").status == 200
    started, boot = web.run(f"systemctl show --property MainPID {unit}"), web.boot_id()
    events = f"grep '^oom_kill ' /sys/fs/cgroup/system.slice/{unit}/memory.events"
    before = int(web.run(events).split()[1])
    limit = int(web.run(f"cat /sys/fs/cgroup/system.slice/{unit}/memory.max"))
    total = int(web.run("grep MemTotal /proc/meminfo").split()[1]) * 1024
    assert limit == pytest.approx(0.6 * total, rel=0.01)
    began = time.monotonic()
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert visitor.fresh().ask("/heart/default/eat", "https").status >= 500
    eaten = time.monotonic() - began
    wait_for(lambda: answers_with(web.site(), "/heart/default/beat", 200), 60, "the application answers again")
    print(f"all memory taken: ended after {eaten:.1f} s, answers again after {time.monotonic() - began:.1f} s")
    assert int(web.run(events).split()[1]) > before
    # Its unit's limit and not the host's memory was at its end, and only a process of the unit was ended.
    killed = web.run("journalctl --dmesg --no-pager | grep -i 'killed process'")
    assert "Memory cgroup out of memory" in killed
    assert all("Memory cgroup out of memory" in line for line in killed.splitlines()), killed
    assert (web.run(f"systemctl show --property MainPID {unit}"), web.boot_id()) == (started, boot)


def answers_with(site, path: str, status: int) -> bool:
    try:
        return site.ask(path, "https").status == status
    except (OSError, http.client.HTTPException):
        return False


def test_a_web_host_without_power(site, webs, balancer):
    broken = webs[0]
    with load(site, "a web host loses its power, and comes back") as running:
        cut = time.time()
        broken.cut_power()
        wait_for(lambda: states(balancer)[broken.name] == "DOWN", 60, "the balancer notices it")
        noticed = time.time()
        running.more(100)
        broken.power_on()
        wait_for(up(balancer, broken.name), 300, f"{broken.name} is up again")
        running.more(100)
        wait_for(lambda: {site.ask("/heart/default/beat", "https").body for _ in range(4)} != {b"cluster-web2"}, 30)
    # Only what was in flight, and each visitor has one request at a time.
    assert len(running.wrong) <= len(running.threads), running.wrong
    assert all(began < cut for began, _what in running.wrong), (cut, running.wrong)
    assert running.longest(since=cut) < 30
    # HAProxy asks another server when keep-alive fails. Bytes without an acknowledgement put that off to its timeout.
    assert running.longest() < 130
    print(
        f"noticed after {noticed - cut:.1f} s, {len(running.wrong)} requests in flight failed, "
        f"the longest of those after it waited {running.longest(since=cut):.1f} s"
    )
    assert broken.run("findmnt --noheadings --output FSTYPE " + SHARED) == "nfs4"


def below_the_mount_point(web) -> str:
    """What is in the folder that the share covers."""
    return web.run(
        f"mkdir -p /mnt/below && mount --bind / /mnt/below && find /mnt/below{SHARED} -mindepth 1; umount /mnt/below"
    )


def test_the_storage_server_is_rebooted(site, webs, storage):
    files = "find /srv/web2py -type f -path '*{}*' | wc -l"
    kept = {kind: int(storage.run(files.format(kind))) for kind in ("/uploads/", "/errors/")}
    assert all(kept.values())
    # More visitors than the web hosts have threads.
    with load(site, "the storage server is rebooted", visitors=40) as running:
        started = time.monotonic()
        storage.reboot()
        running.more(100, 240)
        print(f"served again {time.monotonic() - started:.0f} s after the reboot began")
    assert running.wrong == []
    assert {kind: int(storage.run(files.format(kind))) for kind in kept} == kept
    assert [below_the_mount_point(web) for web in webs] == ["", ""]


def test_a_web_host_that_boots_without_its_storage_writes_nowhere(site, webs, storage, balancer):
    web, other = webs
    try:
        web.cut_power()
        storage.cut_power()
        web.power_on()
        wait_for(lambda: web.boot_id() != "", 120, f"{web.name} boots")
        # It waits for its mount, and its web server with it.
        wait_for(lambda: web.run("systemctl show -P ActiveState apache2.service") == "inactive", 60)
        assert web.run(f"findmnt --noheadings {SHARED} || true") == ""
        assert web.host.run(f"runuser -u web2py -- touch {SHARED}/x || touch {SHARED}/x").rc != 0
    finally:
        storage.power_on()
    wait_for(up(balancer, web.name, other.name), 300, "both are up again, without a play")
    assert below_the_mount_point(web) == ""


def seconds_of_failures(wrong: list[tuple[float, str]]) -> float:
    return max((began for began, _what in wrong), default=0) - min((began for began, _what in wrong), default=0)


def test_the_database_is_restarted(site, database):
    with load(site, "the database is restarted") as running:
        database.check_output("systemctl restart postgresql@*.service")
        ended = time.time()
        running.more(60)
    assert all(began < ended + 5 for began, _what in running.wrong), running.wrong
    print(f"{len(running.wrong)} requests failed within {seconds_of_failures(running.wrong):.1f} s")


def test_the_cache_is_killed(site, cache):
    with load(site, "the cache is killed") as running:
        cache.check_output("systemctl kill --signal=SIGKILL memcached.service")
        running.more(60)
        wait_for(lambda: cache.service("memcached").is_running, 30)
    assert running.wrong == []
    number = int(site.ask(f"{NOTES}/counter", "https").body)
    assert int(site.ask(f"{NOTES}/counter", "https").body) == number + 1


def inventory_without(tmp_path, web: str, retired: bool) -> str:
    """The inventory of this scenario, as it is when a line has been deleted, or moved."""
    folder = PROJECT / "molecule/cluster/inventory"
    subprocess.run(["cp", "-r", str(folder), str(tmp_path)], check=True)
    file = tmp_path / "inventory/hosts.yml"
    head, tail = file.read_text().split("web2py_web:\n")
    tail = tail.replace(f"    {web}:\n", "", 1)
    file.write_text(f"{head}web2py_web:\n{tail}" + (f"web2py_retired:\n  hosts:\n    {web}:\n" if retired else ""))
    return str(tmp_path / "inventory")


def test_a_web_host_leaves_and_comes_under_load(site, webs, storage, database, balancer, tmp_path):
    leaving = webs[1]
    address = leaving.site().address
    rules = "cat /etc/postgresql/*/main/pg_hba.conf"
    assert address in database.check_output(rules) and address in storage.run("exportfs -s")
    shared = str(PROJECT / "molecule/shared/inventory")
    without = ["--inventory", shared, "--inventory", inventory_without(tmp_path, leaving.name, retired=True)]
    with load(site, "a web host leaves") as running:
        run = play(*without)
        assert run.status == 0, run.output
    assert running.wrong == []
    print(f"a web host left within {run.seconds:.0f} s")
    assert list(states(balancer)) == ["cluster-web1"]
    assert address not in database.check_output(rules) and address not in storage.run("exportfs -s")
    assert leaving.run(f"findmnt --noheadings {SHARED} || true") == ""
    assert leaving.run("ls /etc/web2py/applications 2>&1 || true").startswith("ls: cannot access")
    assert leaving.run("systemctl is-active apache2.service || true") == "inactive"
    again = play(*without)
    assert again.status == 0 and all(found["changed"] == 0 for found in again.stats().values()), again.output
    with load(site, "a web host comes") as running:
        run = play()
        assert run.status == 0, run.output
        wait_for(up(balancer, leaving.name), 60)
        running.more(100)
    assert running.wrong == []
    print(f"a web host came within {run.seconds:.0f} s")
    assert {site.fresh().ask("/heart/default/beat", "https").body for _ in range(4)} == {
        b"cluster-web1",
        b"cluster-web2",
    }
