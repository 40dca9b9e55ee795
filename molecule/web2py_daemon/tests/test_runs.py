# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an operator finds who runs the play again, changes something, or makes a mistake."""

from __future__ import annotations

import functools
import pathlib

import browser
import pytest
import yaml
from browser import load

PUBLIC = 8000
TASKS = "/tasks/default"
INVENTORY = yaml.safe_load((pathlib.Path(__file__).parents[1] / "inventory/group_vars/web2py_web.yml").read_text())
INSTANCES = {instance["name"]: instance for instance in INVENTORY["web2py_daemon_instances"]}


# On all machines at once: what matters here happens on each of them by itself.
play = functools.partial(browser.play, playbook=pathlib.Path(__file__).parents[1] / "converge.yml")


@pytest.mark.parametrize("arguments", [[], ["--check", "--diff"]])
def test_another_run_changes_nothing(arguments):
    run = play(*arguments)
    assert run.status == 0, run.output
    assert run.changes() == 0, run.changed_tasks()


def test_every_mistake_is_named_before_anything_changes(publics):
    for site in publics:
        site.run("systemd-run --unit=stranger python3 -m http.server 8099")
    instances = [
        {"name": "Bad-Name", "port": 8100},
        {"name": "taken", "port": 8099},
        {"name": "one", "port": 8101},
        {"name": "two", "address": "::", "port": 8101},
        {"name": "open", "address": "::", "port": 8102, "administration": True, "password": "long enough"},
        {"name": "short", "port": 8103, "administration": True, "password": "tiny-77"},
        {"name": "nowhere", "port": 70000},
        {"name": "apps", "port": 8104, "applications": ["shop"]},
        {"name": "idle", "port": 8105, "password": "never-used-77"},
        INSTANCES["public"],
    ]
    workers = [{"application": "shop"}]
    try:
        run = play(
            variables={"web2py_daemon_instances": instances, "web2py_daemon_scheduler_workers": workers},
        )
    finally:
        for site in publics:
            site.run("systemctl stop stranger")
    assert run.status != 0 and run.changes() == 0
    for words in (
        ("'Bad-Name'", "lowercase"),
        ("'taken'", "port is 8099; it must be a free port. Another program listens on 0.0.0.0"),
        ("'two'", "port is 8101; it must be another than that of instance 'one'"),
        ("'open'", "address is '::'; it must be a loopback address", "needs tls"),
        ("'short'", "password is not shown; it must have 8 to 1024 characters"),
        ("'nowhere'", "port is 70000; it must be between 1 and 65535"),
        ("'apps'", "'shop'", "probe_2"),
        ("'idle'", "password is given; it must be left out unless administration is true"),
        ("web2py_daemon_scheduler_workers", "'shop'"),
    ):
        assert all(word in run.output for word in words), (words, run.output)
    assert "'public'" not in run.output, "our own listener is not in the way"
    assert "tiny-77" not in run.output and "never-used-77" not in run.output


def test_a_changed_address_and_instances_that_are_gone(publics):
    """One run moves an instance, removes one as absent and others as no longer listed; the last brings them back."""
    administered = {"administration": True, "password": "right horse 8011"}
    instances = [
        {**INSTANCES["public"], "port": 8010},
        {"name": "tls", "state": "absent"},
        {"name": "former", "port": 8011, **administered},
        {"name": "moved", "port": 8012, **administered},
    ]
    run = play("--diff", variables={"web2py_daemon_instances": instances, "web2py_daemon_scheduler_workers": []})
    assert run.status == 0, run.output
    for site in publics:
        listening = site.run("ss -Hltn")
        assert ":8010" in listening
        assert not [port for port in (8000, 8001, 8443) if f":{port} " in listening]
        left = site.host.run(
            "ls -d /etc/web2py/daemon/* /etc/systemd/system/web2py* /var/lib/web2py/instances/* /run/web2py/*"
        ).stdout
        assert not [name for name in ("admin", "tls", "behind", "tasks") if name in left], left
        units = site.run("systemctl list-units --all --no-legend 'web2py*'")
        gone = ("web2py@admin", "web2py@tls", "web2py@behind", "web2py-scheduler@tasks", "web2py-retry@admin")
        assert not [name for name in gone if name in units], units
    # One without administration any more, and one at another port.
    instances[2:] = [{"name": "former", "port": 8011}, {"name": "moved", "port": 8013, **administered}]
    run = play(variables={"web2py_daemon_instances": instances, "web2py_daemon_scheduler_workers": []})
    assert run.status == 0, run.output
    for site in publics:
        left = site.run("cd /var/lib/web2py/instances && ls -d * */parameters_*; ls /opt/web2py/instances").split()
        assert sorted(left) == ["moved", "moved", "moved/parameters_8013.py"]
    back = play("-vvv", "--diff")
    assert back.status == 0
    assert [secret for secret in ("right horse", "sha512)$", "PRIVATE KEY") if secret in back.output] == []
    assert [site.ask("/welcome").status for site in publics] == [200] * len(publics)


def test_a_run_that_was_killed_before_it_restarted_anything_is_made_good(publics):
    """It has written the address of a socket, so the next run has nothing to write; other sockets stay open."""
    others = "systemctl show --property=ActiveEnterTimestamp web2py@behind.socket web2py@admin.socket"
    opened = [site.run(others) for site in publics]
    for site in publics:
        site.run(f"sed -i s/{PUBLIC}/8010/ /etc/systemd/system/web2py@public.socket.d/address.conf")
    changed = [*INVENTORY["web2py_daemon_instances"][1:], {**INSTANCES["public"], "port": 8010}]
    run = play(variables={"web2py_daemon_instances": changed})
    assert run.status == 0, run.output
    assert "Set the addresses of the instances" not in run.changed_tasks()
    assert "Find sockets and services that run with older units" in run.changed_tasks()
    for site in publics:
        assert ":8010 " in site.run("ss -Hltn") and f":{PUBLIC} " not in site.run("ss -Hltn")
    assert [site.run(others) for site in publics] == opened
    assert play().status == 0


def test_a_change_of_settings_reloads_one_instance_under_load(publics):
    changed = [*INVENTORY["web2py_daemon_instances"][1:], {**INSTANCES["public"], "threads": 6}]
    runs = []
    results = load(
        publics,
        f"{TASKS}/slow/0.2",
        8,
        lambda: runs.append(play(variables={"web2py_daemon_instances": changed})),
        seconds=1,
    )
    assert runs[0].status == 0, runs[0].output
    assert runs[0].changed_tasks() == ["Configure gunicorn for the instances", "Reload the daemon's instances"]
    assert set(results) == {200} and results[200] > 50
    assert play().status == 0


def test_removal_leaves_nothing_but_the_listed_scheduler(publics):
    run = play(variables={"web2py_daemon_instances": []})
    assert run.status == 0, run.output
    for site in publics:
        assert f":{PUBLIC} " not in site.run("ss -Hltn")
        assert site.run("systemctl is-active web2py-scheduler@tasks-1").strip() == "active"
    assert play().status == 0
