# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an operator finds who runs the play again, changes something, or makes a mistake."""

from __future__ import annotations

import functools
import pathlib

import browser
import pytest
import yaml
from browser import wait_for

SCENARIO = pathlib.Path(__file__).parents[1]
play = functools.partial(browser.play, playbook=SCENARIO / "converge.yml")
DEFAULTS = yaml.safe_load((browser.PROJECT / "roles/nfs_shared/defaults/main.yml").read_text())
EXPORTS, MOUNTS = (
    yaml.safe_load((SCENARIO / f"inventory/group_vars/{group}.yml").read_text())[variable]
    for group, variable in (("nfs_server", "nfs_shared_exports"), ("nfs_clients", "nfs_shared_mounts"))
)


@pytest.mark.parametrize("arguments", [["--diff"], ["--check", "--diff"]])
def test_another_run_changes_nothing(arguments):
    run = play(*arguments)
    assert run.status == 0, run.output
    assert run.changes() == 0, run.changed_tasks()


@pytest.mark.parametrize(
    ("group", "entries"),
    [("nfs_server", {"nfs_shared_exports": EXPORTS}), ("nfs_clients", {"nfs_shared_mounts": MOUNTS})],
)
def test_values_given_as_text_mean_the_same(group, entries):
    run = play(f"--limit={group}", variables=browser.as_text({**DEFAULTS, **entries}))
    assert run.status == 0, run.output
    assert run.changes() == 0, run.changed_tasks()


def test_a_mount_that_is_refused_says_why_and_can_be_removed(second):
    private = {**MOUNTS[0], "name": "private", "export": "/srv/shared/private", "path": "/var/lib/shop/private"}
    run = play("--limit=nfs-shared-client-2", variables={"nfs_shared_mounts": [MOUNTS[0], private]})
    assert run.status != 0
    assert "a share cannot be mounted" in run.output and "mount.nfs4: " in run.output, run.output
    absent = {"name": "private", "state": "absent"}
    run = play("--limit=nfs-shared-client-2", variables={"nfs_shared_mounts": [MOUNTS[0], absent]})
    assert run.status == 0, run.output
    assert second.run("ls /etc/systemd/system/shop.service.d") == "nfs_shared_notes.conf"
    assert not second.host.file("/var/lib/shop/private").exists
    assert second.is_active("shop.service")


def test_a_share_is_removed(server, first, second):
    """On the clients, and then on the server."""
    server.run("echo 42 > /srv/shared/reference/answer")
    absent = {"name": "reference", "state": "absent"}
    run = play("--limit=nfs_clients", variables={"nfs_shared_mounts": [MOUNTS[0], absent]})
    assert run.status == 0, run.output
    assert run.changed_tasks() == [
        "Unmount the shared folders",
        "Make the mount point writable again",
        "Remove the mount point",
        "Remove the unit",
    ]
    for machine in (first, second):
        assert "reference" not in machine.run("cat /proc/mounts && ls /etc/systemd/system /var/lib/shop")
        assert machine.is_active("shop.service")
    clients = [first.address, second.address]
    run = play(
        "--limit=nfs-shared-server", variables={"nfs_shared_exports": [{**EXPORTS[0], "clients": clients}, absent]}
    )
    assert run.status == 0, run.output
    assert run.changed_tasks() == ["Remove exports", "Export the configured folders only"]
    assert "reference" not in server.run("exportfs -v")
    mount = "mount -t nfs4 -o nfsvers=4.2,retry=0 nfs-shared-server:/srv/shared/reference /mnt"
    assert first.attempt(mount).rc == 32
    assert server.run("ls /srv/shared/reference") == "answer", "the files stay"


def test_a_run_that_was_killed_before_it_restarted_anything_is_made_good(server, first, second):
    """It has written its files, so the next run has nothing to write."""
    server.run("sed -i s/^lease-time=.*/lease-time=12/ /etc/nfs.conf.d/ansible.conf")
    for machine in (first, second):
        machine.run(r"sed -i s/timeo=100/timeo=200/ '/etc/systemd/system/var-lib-shop-all\x2dnotes.mount'")
    run = play(variables={"nfs_shared_lease_time": 12, "nfs_shared_timeout": 20})
    assert run.status == 0, run.output
    assert server.run("cat /proc/fs/nfsd/nfsv4leasetime") == "12"
    for machine in (first, second):
        options = machine.run("findmnt --noheadings --output OPTIONS /var/lib/shop/all-notes").split(",")
        assert "timeo=200" in options, options
        assert machine.is_active("shop.service")


def test_a_client_loses_what_it_has_mounted_when_the_export_is_gone(server, first, second):
    """Even while it has it mounted."""
    second.shop("echo before > /var/lib/shop/all-notes/before")
    server.run("sed -i 3d /etc/exports.d/nfs_shared_notes.exports && exportfs -ra")
    wait_for(lambda: second.attempt("ls /var/lib/shop/all-notes", shop=True).rc != 0)
    assert first.shop("cat /var/lib/shop/all-notes/before") == "before\n"
    # The next run brings everything back.
    run = play()
    assert run.status == 0, run.output
    wait_for(lambda: second.attempt("cat /var/lib/shop/all-notes/before", shop=True).stdout == "before\n", 60)
    for machine in (first, second):
        assert machine.shop("cat /var/lib/shop/reference/answer") == "42\n"
    assert server.run("cat /proc/fs/nfsd/nfsv4leasetime") == "15"


def test_a_folder_with_files_is_not_covered(first):
    first.run("mkdir /var/lib/shop/full && touch /var/lib/shop/full/precious")
    try:
        more = {**MOUNTS[0], "name": "more", "path": "/var/lib/shop/full", "before_units": []}
        run = play("--limit=nfs-shared-client-1", variables={"nfs_shared_mounts": [MOUNTS[0], more]})
        assert run.status != 0 and run.changes() == 0
        assert "/var/lib/shop/full/precious" in run.output and "move the files" in run.output, run.output
    finally:
        first.run("rm -r /var/lib/shop/full")


def test_every_mistake_is_named_before_anything_changes():
    export = {"name": "x", "path": "/srv/x", "clients": ["192.0.2.10"], "owner": 2001, "group": 2001}
    mount = {"name": "x", "server": "nfs-shared-server", "export": "/srv/x", "path": "/srv/y"}
    variables = {
        "nfs_shared_exports": [
            {**export, "path": "srv/x"},
            export,
            {**export, "name": "world", "path": "/srv/world", "clients": ["*", "0.0.0.0/0"]},
            {**export, "name": "root", "path": "/srv/root", "owner": 0, "group": 65534, "mode": "0777"},
            {**export, "name": "inner", "path": "/srv/x/inner", "clients": []},
            {**export, "name": "system", "path": "/etc/x"},
        ],
        "nfs_shared_mounts": [
            {**mount, "before_units": ["shop"]},
            {**mount, "name": "self", "path": "/srv/x", "server": "a b", "export": "x/"},
        ],
        "nfs_shared_grace_time": 5,
        "nfs_shared_threads": 0,
    }
    run = play(variables=variables)
    assert run.status != 0 and run.changes() == 0, run.changed_tasks()
    for words in (
        ("'srv/x'", "absolute path"),
        ("2 entries named 'x'",),
        ("'*'", "no pattern"),
        ("'0.0.0.0/0'", "covers too many addresses"),
        ("owner is 0",),
        ("group is 65534",),
        ("'0777'", "everybody"),
        ("'/srv/x/inner'", "overlaps"),
        ("clients is []",),
        ("'/etc/x'", "belongs to the system"),
        ("'shop'", "full names"),
        ("'/srv/x'", "does not export itself"),
        ("'a b'", "host name"),
        ("'x/'", "on the server"),
        ("nfs_shared_grace_time is 5;", "between 15 and 3600"),
        ("nfs_shared_threads is 0;", "between 1 and 1024"),
    ):
        assert all(word in run.output for word in words), (words, run.output)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"nfs_shared_export": []}, ["nfs_shared_export:", "nfs_shared_exports"]),
        ({"nfs_shared_mounts": [{**MOUNTS[0], "soft": True}]}, ["nfs_shared_mounts", "soft", "before_units"]),
    ],
)
def test_a_misspelled_variable_or_key_is_named(variables, words):
    run = play("--limit=nfs_clients", variables=variables)
    assert run.status != 0 and run.changes() == 0
    assert [word for word in words if word not in run.output] == [], run.output
