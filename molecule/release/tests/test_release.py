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
from visitors import WEB, Load, ask_haproxy, at_balancer, page, pages, under_load

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
    assert host.check_output("stat -c '%U:%G %a' " + HISTORY) == "root:root 644"
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


@pytest.fixture(scope="module")
def broken_framework(workshop) -> dict:
    """It can be imported, which is asked before the switch, but not by those who answer requests."""
    folder = workshop / "broken"
    shutil.copytree(os.environ["LAB_WEB2PY"], folder, symlinks=True)
    with open(folder / "gluon/main.py", "a") as stream:
        stream.write(
            "\nif os.environ.get('web2py_path') == '/var/lib/web2py':\n    raise RuntimeError('broken on purpose')\n"
        )
    return {"web2py_source": {"path": str(folder)}}


def test_a_release_of_what_is_there_changes_nothing():
    assert pages() == ["v1", "v1"]
    assert {len(history(host)) for host in WEB.values()} == {1}
    run = play(playbook=RELEASE)
    assert run.status == 0, run.output[-3000:]
    assert set(run.changed_tasks()) == {
        "Drain the host and take it out of service",
        "Put the host back in service",
    }


def test_a_release_under_load_fails_no_request(version, capsys):
    load, run = loaded(RELEASE, version("v2"), MANY)
    show(capsys, "v1 to v2", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == [] and load.requests >= MANY
    assert set(load.answered) == {"v1", "v2"} and min(load.answered.values()) > 100
    assert pages() == ["v2", "v2"]
    assert {len(history(host)) for host in WEB.values()} == {2}
    assert set(at_balancer().values()) == {"UP"}


RAISES = {"controllers/default.py": "\n\ndef index():\n    raise RuntimeError('broken on purpose')\n"}
SYNTAX = {"models/version.py": "\nif True\n"}


def stopped(variables: dict, requests: int, capsys, what: str) -> str:
    """Release what is broken: the first host goes back, the second one is not touched. Returns what the play said."""
    before = [links(host) for host in WEB.values()]
    passed = [history(host) for host in WEB.values()]
    reloads = WEB2.check_output("stat -c %Y /opt/web2py/runtime/wsgi.py")
    now = pages()
    load, run = loaded(RELEASE, variables, requests)
    show(capsys, f"broken: {what}", load, run)
    assert run.status != 0
    assert load.failures == [] and load.requests >= requests and set(load.answered) == set(now)
    assert [links(host) for host in WEB.values()] == before
    assert [history(host) for host in WEB.values()] == passed
    assert WEB2.check_output("stat -c %Y /opt/web2py/runtime/wsgi.py") == reloads
    assert pages() == now
    assert set(at_balancer().values()) == {"UP"}
    assert run.stats()["release-web1"]["failed"] == 1 and run.stats()["release-web2"]["failed"] == 0
    assert "back on the release before and in service" in run.output, run.output[-3000:]
    return " ".join(run.output.split())


def test_a_broken_application_stops_at_the_first_host(version, capsys):
    output = stopped(version("v3", **RAISES), MANY, capsys, "the controller")
    assert "/counter/default/index: the status is 500" in output
    ticket = output.partition("with the ticket counter/")[2].split()[0].rstrip(".")
    assert WEB1.file(f"/var/lib/web2py/data/counter/errors/{ticket}").exists, output[-3000:]


def test_a_model_that_cannot_be_read_stops_before_its_migration(version, capsys):
    output = stopped(version("v3_syntax", **SYNTAX), SOME, capsys, "a model")
    assert "Migrate the applications' databases" in output


def test_a_framework_that_answers_nothing_is_taken_back(version, broken_framework, capsys):
    stopped({**version("v2"), **broken_framework}, SOME, capsys, "the framework")


def test_a_host_that_is_not_well_either_way_stays_out_of_service_until_it_is(version):
    """Without its database, neither the new release nor the one before passes; the site lives on the other host."""
    database = WEB1.check_output("getent ahostsv4 release-db").split()[0]
    WEB1.check_output(f"ip route add blackhole {database}")
    try:
        run = play(variables=version("v3_unreachable"), playbook=RELEASE)
        assert run.status != 0
        output = " ".join(run.output.split())
        assert "The host is NOT well and stays out of service at the balancer" in output, run.output[-3000:]
        assert at_balancer() == {"release-web1": "DRAIN", "release-web2": "UP"}
        assert page("release-web2") == "v2"
        # Not when somebody changes the balancer meanwhile, either.
        run = play(playbook=PROJECT / "playbooks/balancer.yml")
        assert run.status == 0, run.output[-3000:]
        assert at_balancer() == {"release-web1": "DRAIN", "release-web2": "UP"}
    finally:
        WEB1.check_output(f"ip route del blackhole {database}")
    load, run = loaded(RELEASE, version("v2"), 0)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == [] and set(load.answered) == {"v2"}
    assert set(at_balancer().values()) == {"UP"}
    assert pages() == ["v2", "v2"]


def test_what_the_site_playbook_broke_on_one_host_is_healed_by_the_rollback(version):
    """The other one is there already, and stays."""
    limit = "--limit=release-web1,release-balancer"
    run = play(limit, variables=version("v3", **RAISES), playbook=PROJECT / "playbooks/web.yml")
    assert run.status != 0 and "/counter/default/index: the status is 500" in run.output
    assert {len(history(host)) for host in WEB.values()} == {2}
    run = play(playbook=ROLLBACK)
    assert run.status == 0, run.output[-3000:]
    assert pages() == ["v2", "v2"]
    assert {len(history(host)) for host in WEB.values()} == {2}


def test_a_rollback_under_load_fails_no_request(capsys):
    load, run = loaded(ROLLBACK, None, MANY)
    show(capsys, "v2 back to v1", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == [] and load.requests >= MANY and set(load.answered) == {"v1", "v2"}
    assert pages() == ["v1", "v1"]
    assert {len(history(host)) for host in WEB.values()} == {1}
    assert " ".join(run.output.split()).count("The inventory still declares the newer one") == 1


def test_where_no_release_is_left_nothing_changes():
    before = [links(host) for host in WEB.values()]
    run = play(playbook=ROLLBACK)
    assert run.status != 0 and "no release before web2py" in run.output
    assert run.changed_tasks() == []
    assert [links(host) for host in WEB.values()] == before
    assert set(at_balancer().values()) == {"UP"}


def test_another_framework_under_load_fails_no_request(version, other_framework, capsys):
    """And v2 again, in the same release."""
    first = framework(WEB1)
    load, run = loaded(RELEASE, {**version("v2"), "web2py_source": {"path": other_framework}}, MANY)
    show(capsys, f"{first} to {framework(WEB1)}", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == [] and load.requests >= MANY and set(load.answered) == {"v1", "v2"}
    assert framework(WEB1) == framework(WEB2) != first
    load, run = loaded(ROLLBACK, None, SOME)
    show(capsys, "and back", load, run)
    assert run.status == 0, run.output[-3000:]
    assert load.failures == []
    assert framework(WEB1) == framework(WEB2) == first
    assert pages() == ["v1", "v1"]


def kill_after_the_switch(playbook: pathlib.Path, variables: dict | None) -> None:
    """Start a playbook, and kill it with all its processes when nothing is loaded and checked yet."""
    before = links(WEB1)
    process = subprocess.Popen(
        ["ansible-playbook", "--limit=all", "--extra-vars", json.dumps(variables or {}), str(playbook)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_for(lambda: process.poll() is not None or links(WEB1) != before, 600, "the switch")
        assert process.poll() is None, "the playbook has ended before"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_release_that_is_killed_is_finished_by_the_next_and_what_is_broken_is_not_remembered(version, capsys):
    names = [pathlib.PurePath(line).name for line in links(WEB1).splitlines()]
    runs = []

    def killed_and_repeated() -> None:
        kill_after_the_switch(RELEASE, version("v5", **RAISES))
        assert at_balancer()["release-web1"] == "DRAIN"
        runs.append(play(variables=version("v6"), playbook=RELEASE))

    load = under_load(address_of("release-balancer"), VISITORS, SOME, killed_and_repeated)
    show(capsys, "killed, and another one", load, runs[0])
    assert runs[0].status == 0, runs[0].output[-3000:]
    assert load.failures == [] and set(load.answered) == {"v1", "v6"}
    assert pages() == ["v6", "v6"]
    assert set(at_balancer().values()) == {"UP"}
    assert history(WEB1) == history(WEB2)
    assert history(WEB1)[:-1] == [{"framework": names[0], "applications": {"counter": names[1]}}]


def test_a_rollback_that_is_killed_is_repeated_not_continued():
    kill_after_the_switch(ROLLBACK, None)
    run = play(playbook=ROLLBACK)
    assert run.status == 0, run.output[-3000:]
    assert pages() == ["v1", "v1"]
    assert history(WEB1) == history(WEB2)
    assert set(at_balancer().values()) == {"UP"}


def test_a_release_that_is_killed_and_cannot_be_migrated_is_not_remembered_as_well(version):
    """Its pages answer, so its check passes; what it lacks is its tables."""
    before, known = pages(), history(WEB1)[-1]
    fails = "\nimport os\nif os.environ.get('WEB2PY_RUNTIME_MIGRATE'):\n    raise RuntimeError('no tables')\n"
    variables = version("v6_unfinished", **{"models/version.py": fails})
    kill_after_the_switch(RELEASE, variables)
    run = play(variables=variables, playbook=RELEASE)
    assert run.status != 0 and "The host is back on the release before and in service" in run.output
    assert pages() == before
    assert history(WEB1)[-1] == history(WEB2)[-1] == known
    assert set(at_balancer().values()) == {"UP"}


def test_the_last_web_host_is_not_taken_out(version):
    ask_haproxy("set server servers/release-web2 state maint")
    try:
        run = play(variables=version("v7"), playbook=RELEASE)
    finally:
        ask_haproxy("set server servers/release-web2 state ready")
    assert run.status != 0 and "would interrupt the site" in run.output
    assert run.changed_tasks() == []
    assert pages() == ["v1", "v1"]
    wait_for(lambda: set(at_balancer().values()) == {"UP"})


def test_nothing_is_released_without_the_host_that_migrates(version):
    run = play("--limit=release-web2,release-balancer", variables=version("v7"), playbook=RELEASE)
    assert run.status != 0 and "web2py_migrate_host is release-web1, which could not be reached" in run.output
    assert run.changed_tasks() == []
    assert pages() == ["v1", "v1"]


def test_where_the_host_that_migrates_is_left_out_another_one_does():
    run = play("--limit=release-web2,release-balancer", playbook=PROJECT / "playbooks/web.yml")
    assert (run.status, run.changed_tasks()) == (0, []), run.output[-3000:]
    migration = run.output.partition("Migrate the applications' databases")[2].partition("TASK [")[0]
    assert "ok: [release-web2] => (item=counter)" in migration


def test_a_balancer_for_which_no_web_host_is_well_says_so():
    playbook = PROJECT / "playbooks/balancer.yml"
    try:
        run = play(variables={"haproxy_health_path": "/nothing"}, playbook=playbook)
    finally:
        repaired = play(playbook=playbook)
    output = " ".join(run.output.split())
    assert run.status != 0 and "release-balancer: no web server is up, so visitors get status 503" in output
    assert "release-web1 DOWN L7STS/404" in output and "It asks for /nothing" in output
    assert repaired.status == 0, repaired.output[-3000:]
    wait_for(lambda: set(at_balancer().values()) == {"UP"})


def test_bad_input_is_refused_on_all_hosts_before_anything_changes(version):
    wrong = version("v7")
    wrong["web2py_applications"][0]["check_path"] = "counter/%2e"
    user = WEB1.check_output("id -u web2py")
    # What the inventory alone shows comes first; what hosts have is looked at afterwards.
    for variables, words in (
        (wrong, ["check_path is 'counter/%2e'"]),
        (
            {**version("v7"), "web2py_uid": 12345},
            ["web2py_uid and web2py_gid are 12345 and", f"they must be {user} and"],
        ),
    ):
        run = play(variables=variables, playbook=RELEASE)
        output = " ".join(run.output.split())
        assert run.status != 0 and [word for word in words if word not in output] == [], output
        assert run.changed_tasks() == []


def test_the_other_front_ends_take_over_and_go_back_too(version, broken_framework, capsys):
    """Without an interruption, because each host is drained. What ends mod_wsgi's processes ends others otherwise."""
    names = ["v1"]
    for front_end, more in (
        ("lighttpd_fcgi", {}),
        ("apache_proxy", {"web2py_daemon_instances": [{"name": "public", "socket": True}]}),
    ):
        names.append(f"{front_end}_v")
        variables = {"web2py_frontend": front_end, **more, **version(names[-1])}
        load, run = loaded(RELEASE, variables, SOME)
        show(capsys, f"to {front_end}", load, run)
        assert run.status == 0, run.output[-3000:]
        assert load.failures == [] and set(load.answered) == set(names[-2:])
        assert pages() == [names[-1]] * 2
        stopped({**variables, **broken_framework}, SOME, capsys, f"the framework, with {front_end}")
