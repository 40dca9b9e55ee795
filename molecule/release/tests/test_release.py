# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Releases and rollbacks while the site is visited without a pause. The tests build on each other, in this order."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest
from browser import PROJECT, Run, address_of, play, wait_for
from visitors import BALANCER, WEB, Load, at_balancer, pages, under_load

WEB1, WEB2 = WEB.values()
HISTORY = "/opt/web2py/deployments.json"
RELEASE, ROLLBACK = (PROJECT / "playbooks" / name for name in ("release.yml", "rollback.yml"))
# The demand; half of it for what is not a demand.
MANY, SOME = 10_000, 3_000
VISITORS = 6


@pytest.fixture(scope="module")
def other_framework(workshop) -> str:
    """A web2py that is not the one which was deployed first."""
    first, head = os.environ["LAB_WEB2PY"], os.environ["LAB_WEB2PY_HEAD"]
    if first != head:
        return head
    folder = workshop / "web2py"
    shutil.copytree(first, folder, symlinks=True)
    with open(folder / "gluon/__init__.py", "a") as stream:
        stream.write("# changed\n")
    return str(folder)


def framework(host) -> str:
    return host.check_output("basename $(readlink /opt/web2py/current)")


def links(host) -> str:
    return host.check_output("readlink /opt/web2py/current /var/lib/web2py/applications/*")


def history(host) -> list[dict]:
    assert host.check_output("stat -c '%%U:%%G %%a' " + HISTORY) == "root:root 644"
    return json.loads(host.file(HISTORY).content_string)["passed"]


def show(capsys, what: str, load: Load, run: Run) -> None:
    with capsys.disabled():
        print(f"\n{what}: {load}; the playbook took {run.seconds:.0f} s")


def loaded(playbook: pathlib.Path, variables: dict | None, requests: int) -> tuple[Load, Run]:
    runs = []
    load = under_load(
        address_of("release-balancer"),
        VISITORS,
        requests,
        lambda: runs.append(play(variables=variables, playbook=playbook)),
    )
    return load, runs[0]


def test_a_second_run_changes_nothing():
    assert pages() == ["v1", "v1"]
    assert {len(history(host)) for host in WEB.values()} == {1}
    run = play(playbook=RELEASE)
    assert run.status == 0, run.output[-3000:]
    assert set(run.changed_tasks()) == {
        "Take the host out of service when its requests are done",
        "Put the host back in service",
    }
    run = play()
    assert (run.status, run.changed_tasks()) == (0, []), run.output[-3000:]


def test_a_release_under_load_fails_no_request(version, capsys):
    load, run = loaded(RELEASE, version("v2"), MANY)
    show(capsys, "v1 to v2", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == [] and load.requests >= MANY
    assert set(load.answered) == {"v1", "v2"} and min(load.answered.values()) > 100
    assert pages() == ["v2", "v2"]
    assert {len(history(host)) for host in WEB.values()} == {2}
    assert set(at_balancer().values()) == {"UP"}


BROKEN = {
    "raises": {"controllers/default.py": "\n\ndef index():\n    raise RuntimeError('broken on purpose')\n"},
    "syntax": {"models/version.py": "\nif True\n"},
    "module": {"modules/loaded.py": "\nimport there_is_no_such_module\n"},
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_release_stops_at_the_first_host(version, capsys, fault):
    before, untouched, passed = links(WEB1), links(WEB2), history(WEB1)
    untouched += WEB2.check_output("stat -c %%Y /opt/web2py/runtime/wsgi.py")
    load, run = loaded(RELEASE, version(f"v3_{fault}", **BROKEN[fault]), MANY if fault == "raises" else SOME)
    show(capsys, f"broken: {fault}", load, run)
    assert run.status != 0
    assert load.failures == [] and set(load.answered) == {"v2"}
    assert links(WEB1) == before
    assert links(WEB2) + WEB2.check_output("stat -c %%Y /opt/web2py/runtime/wsgi.py") == untouched
    assert pages() == ["v2", "v2"]
    assert [history(host) for host in WEB.values()] == [passed, passed]
    assert set(at_balancer().values()) == {"UP"}
    assert run.stats()["release-web1"]["failed"] == 1 and run.stats()["release-web2"]["failed"] == 0
    assert "back on the release before and in service" in run.output
    if fault == "raises":
        assert "/counter/default/index: found status 500" in run.output
        ticket = run.output.partition("with the ticket counter/")[2].split()[0].rstrip(".")
        assert WEB1.file(f"/var/lib/web2py/data/counter/errors/{ticket}").exists, run.output[-3000:]


def test_a_site_that_is_broken_by_the_site_playbook_says_so_and_the_next_release_heals_it(version):
    run = play(variables=version("v3_raises", **BROKEN["raises"]))
    assert run.status != 0 and "/counter/default/index: found status 500" in run.output
    assert {len(history(host)) for host in WEB.values()} == {2}
    run = play(variables=version("v2"), playbook=RELEASE)
    assert run.status == 0, run.output[-3000:]
    assert pages() == ["v2", "v2"]
    assert {len(history(host)) for host in WEB.values()} == {2}


def test_a_rollback_under_load_fails_no_request(capsys):
    load, run = loaded(ROLLBACK, None, MANY)
    show(capsys, "v2 back to v1", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == [] and set(load.answered) == {"v1", "v2"}
    assert pages() == ["v1", "v1"]
    assert {len(history(host)) for host in WEB.values()} == {1}
    assert "The inventory still declares the newer one" in run.output


def test_where_no_release_is_left_nothing_changes():
    before = [links(host) for host in WEB.values()]
    run = play(playbook=ROLLBACK)
    assert run.status != 0 and "no release before web2py" in run.output
    assert run.changed_tasks() == []
    assert [links(host) for host in WEB.values()] == before
    assert set(at_balancer().values()) == {"UP"}


def test_another_framework_under_load_fails_no_request(version, other_framework, capsys):
    assert play(variables=version("v2"), playbook=RELEASE).status == 0
    first = framework(WEB1)
    load, run = loaded(RELEASE, {**version("v2"), "web2py_source": {"path": other_framework}}, MANY)
    show(capsys, f"{first} to {framework(WEB1)}", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == []
    assert framework(WEB1) == framework(WEB2) != first
    load, run = loaded(ROLLBACK, None, SOME)
    show(capsys, "back", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == []
    assert framework(WEB1) == framework(WEB2) == first
    assert pages() == ["v2", "v2"]


def test_a_framework_that_does_not_start_is_taken_back(version, workshop, capsys):
    """It can be imported, which is asked before the switch, and no application can run on it."""
    broken = workshop / "broken"
    if not broken.exists():
        shutil.copytree(os.environ["LAB_WEB2PY"], broken, symlinks=True)
        with open(broken / "gluon/main.py", "a") as stream:
            stream.write("\n\ndef wsgibase(environ, responder):\n    raise RuntimeError('broken on purpose')\n")
    before = links(WEB1)
    load, run = loaded(RELEASE, {**version("v2"), "web2py_source": {"path": str(broken)}}, SOME)
    show(capsys, "broken framework", load, run)
    assert run.status != 0 and "back on the release before and in service" in run.output, run.output[-3000:]
    assert load.failures == [] and set(load.answered) == {"v2"}
    assert links(WEB1) == links(WEB2) == before


def kill_when(condition, playbook: pathlib.Path, variables: dict | None) -> None:
    """Start a playbook, and kill it with all its processes at a certain moment."""
    command = ["ansible-playbook", "--limit=all", "--extra-vars", json.dumps(variables or {}), str(playbook)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(lambda: process.poll() is not None or condition(), 300, "the moment to kill the playbook")
        assert process.poll() is None, "the playbook has ended before"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_run_that_is_killed_is_finished_by_the_next(version, capsys):
    """Right after the switch: nothing is loaded or checked, and the host is out of service."""
    before = links(WEB1)
    runs = []

    def killed_and_repeated() -> None:
        kill_when(lambda: links(WEB1) != before, RELEASE, version("v4"))
        assert len(history(WEB1)) == 2
        runs.append(play(variables=version("v4"), playbook=RELEASE))

    load = under_load(address_of("release-balancer"), VISITORS, SOME, killed_and_repeated)
    show(capsys, "killed and repeated", load, runs[0])
    assert runs[0].status == 0, runs[0].output[-3000:]
    assert load.failures == [] and set(load.answered) == {"v2", "v4"}
    assert pages() == ["v4", "v4"]
    assert set(at_balancer().values()) == {"UP"}
    assert history(WEB1) == history(WEB2)


def test_a_broken_release_that_was_killed_is_not_remembered(version):
    before = links(WEB1)
    kill_when(lambda: links(WEB1) != before, RELEASE, version("v5", **BROKEN["raises"]))
    run = play(variables=version("v6"), playbook=RELEASE)
    assert run.status == 0, run.output[-3000:]
    assert pages() == ["v6", "v6"]
    assert history(WEB1) == history(WEB2)
    names = [pathlib.PurePath(line).name for line in before.splitlines()]
    assert history(WEB1)[-2] == {"framework": names[0], "applications": {"counter": names[1]}}


def test_a_rollback_that_is_killed_is_repeated_not_continued():
    before = links(WEB1)
    kill_when(lambda: links(WEB1) != before, ROLLBACK, None)
    run = play(playbook=ROLLBACK)
    assert run.status == 0, run.output[-3000:]
    assert pages() == ["v4", "v4"]
    assert history(WEB1) == history(WEB2)


def test_the_last_web_host_is_not_taken_out(version):
    BALANCER.check_output(
        "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        "s.sendall(b'set server servers/release-web2 state maint\\n'); s.recv(100)\""
    )
    run = play(variables=version("v7"), playbook=RELEASE)
    assert run.status != 0 and "would interrupt the site" in run.output
    assert pages() == ["v4", "v4"]
    run = play("--limit=release-web2,release-balancer,release-db", playbook=RELEASE, variables=version("v4"))
    assert run.status == 0, run.output[-3000:]
    assert set(at_balancer().values()) == {"UP"}


def test_bad_input_is_refused_on_all_hosts_before_anything_changes(version):
    variables = version("v4")
    variables["web2py_applications"][0]["check_path"] = "counter/%2e"
    run = play(variables=variables, playbook=RELEASE)
    assert run.status != 0 and "check_path is 'counter/%2e'" in run.output
    assert run.changed_tasks() == []


FRONT_ENDS = {
    "apache_proxy": {"web2py_daemon_instances": [{"name": "public", "socket": True}]},
    "lighttpd_fcgi": {},
}


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_the_other_front_ends_load_a_release_and_go_back_too(version, workshop, capsys, front_end):
    """A broken framework ends gunicorn and uWSGI; a broken application does not."""
    variables = {"web2py_frontend": front_end, **FRONT_ENDS[front_end]}
    run = play(variables={**variables, **version("v6")})
    assert run.status == 0, run.output[-3000:]
    load, run = loaded(RELEASE, {**variables, **version("v8")}, SOME)
    show(capsys, f"{front_end}, v6 to v8", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == [] and set(load.answered) == {"v6", "v8"}
    for broken in (
        version("v3_raises", **BROKEN["raises"]),
        {**version("v8"), "web2py_source": {"path": str(workshop / "broken")}},
    ):
        load, run = loaded(RELEASE, {**variables, **broken}, SOME)
        show(capsys, f"{front_end}, broken", load, run)
        assert run.status != 0 and "back on the release before and in service" in run.output, run.output[-3000:]
        assert load.failures == [] and set(load.answered) == {"v8"}
        assert pages() == ["v8", "v8"]
    load, run = loaded(ROLLBACK, variables, SOME)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == [] and set(load.answered) == {"v6", "v8"}
    assert pages() == ["v6", "v6"]
