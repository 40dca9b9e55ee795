# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of the role nfs_shared."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import nfs_shared

EXPORT = {"name": "notes", "path": "/srv/shared/notes", "clients": ["192.0.2.10"], "owner": 990, "group": 990}
MOUNT = {"name": "notes", "server": "192.0.2.7", "export": "/srv/shared/notes", "path": "/var/lib/shop/notes"}


def plan(**options: Any) -> tuple[dict[str, Any], list[str]]:
    variables = {f"nfs_shared_{name}": value for name, value in options.items()}
    return action.plan("nfs_shared", variables, Host({}, open, datetime.now(timezone.utc)))


def export_errors(exports: Any) -> list[str]:
    return plan(exports=exports)[1]


def mount_errors(mounts: Any, exports: Any = ()) -> list[str]:
    return plan(mounts=mounts, exports=exports)[1]


def names_all(errors: list[str], words: list[str]) -> bool:
    return len(errors) == 1 and all(word in errors[0] for word in words)


def test_a_role_without_a_fault():
    assert plan(exports=[EXPORT], mounts=[MOUNT])[1] == []
    assert plan()[1] == []
    assert plan(lease_time=10, grace_time=10, timeout=1, threads=1024)[1] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"clients": ["2001:db8::7", "192.0.2.0/28", "web-1.example.org", "web1"]},
        {"owner": "990", "mode": "2770"},
        {"path": "/srv/a.b/_c-d", "read_only": True},
        {"path": "/var/lib/shop", "mode": "700"},
    ],
)
def test_an_export_without_a_fault(changes):
    assert export_errors([{**EXPORT, **changes}]) == []


def test_of_what_is_absent_only_the_name_counts():
    exports = [{"name": "old", "state": "absent"}, {**EXPORT, "name": "older", "state": "absent"}, EXPORT]
    assert export_errors(exports) == []
    assert mount_errors([{"name": "old", "state": "absent"}, MOUNT]) == []
    assert names_all(export_errors([{"name": "../x", "state": "absent"}]), ["'../x'"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(
            ({"path": path}, ["nfs_shared_exports[0] ('notes')", "path", repr(path), "absolute path"])
            for path in ("srv/notes", "/srv/notes/", "/srv//notes", "/srv/../etc", "/srv/.notes", "/", "/srv/my notes")
        ),
        ({"path": None}, ["path is not set", "absolute path"]),
        ({"path": '/srv/a"b'}, ["absolute path"]),
        ({"path": "/srv/a\n/etc *(rw)"}, ["absolute path"]),
        *(
            ({"path": path}, ["path", repr(path), "belongs to the system"])
            for path in ("/srv", "/etc", "/etc/nfs", "/usr/share/notes", "/var/lib", "/tmp/notes", "/home")
        ),
        ({"clients": []}, ["nfs_shared_exports[0] ('notes')", "clients is []", "at least one"]),
        ({"clients": None}, ["clients is not set", "a list"]),
        ({"clients": {"192.0.2.10": "rw"}}, ["clients is {'192.0.2.10': 'rw'}", "a list"]),
        *(
            ({"clients": [client]}, ["clients", repr(client), "no pattern"])
            for client in ("*", "*.example.org", "web?", "@web", "web[12]")
        ),
        *(
            ({"clients": [client]}, ["clients", repr(client), "covers too many addresses", "single addresses"])
            for client in ("0.0.0.0/0", "::/0", "0.0.0.0", "::", "0.0.0.0/1", "128.0.0.0/1", "2000::/3")
        ),
        ({"clients": ["192.0.2.10/24"]}, ["'192.0.2.10/24'", "host bits"]),
        ({"clients": ["192.0.2.300"]}, ["'192.0.2.300'", "Host names"]),
        ({"clients": [None]}, ["clients[0] is not set", "text"]),
        ({"clients": ["a(rw)"]}, ["'a(rw)'", "Host names"]),
        ({"clients": ["web1", "web1"]}, ["'web1' 2 times"]),
        ({"owner": 0}, ["owner is 0", "root"]),
        ({"group": "0"}, ["group is 0", "root"]),
        ({"owner": 65534}, ["owner is 65534", "root of every client"]),
        ({"owner": "www-data"}, ["owner is 'www-data'", "number"]),
        ({"owner": None}, ["owner is not set", "number"]),
        ({"group": True}, ["group is true", "number"]),
        ({"group": 2**32}, ["group is 4294967296", "a number from 1"]),
        ({"mode": "0755"}, ["mode is '0755'", "everybody"]),
        ({"mode": "488"}, ["mode is '488'", "quoted octal"]),
        ({"mode": "u=rwx"}, ["mode is 'u=rwx'", "quoted octal"]),
        ({"mode": "4750"}, ["mode is '4750'", "quoted octal"]),
        ({"name": "my notes"}, ["name is 'my notes'", "letters"]),
        ({"name": None}, ["name is not set", "text"]),
    ],
)
def test_a_fault_of_an_export_is_named(changes, words):
    errors = export_errors([{**EXPORT, **changes}])
    assert names_all(errors, words), errors


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"server": None}, ["nfs_shared_mounts[0] ('notes')", "server is not set", "host name"]),
        ({"server": "192.0.2.300"}, ["'192.0.2.300'"]),
        ({"server": "0.0.0.0"}, ["'0.0.0.0'"]),
        ({"server": "storage:/srv"}, ["'storage:/srv'"]),
        ({"export": "notes"}, ["export is 'notes'", "absolute path"]),
        ({"export": None}, ["export is not set"]),
        ({"path": "notes"}, ["path", "'notes'", "absolute path"]),
        ({"path": "/var/lib"}, ["'/var/lib'", "belongs to the system"]),
        ({"path": "/srv/shared/notes"}, ["'/srv/shared/notes'", "does not export itself"]),
        ({"before_units": ["shop"]}, ["before_units", "'shop'", "full names"]),
        ({"before_units": ["../shop.service"]}, ["'../shop.service'", "full names"]),
        ({"before_units": {"shop.service": 1}}, ["before_units is {'shop.service': 1}", "list"]),
        ({"before_units": ["shop.service", "shop.service"]}, ["'shop.service' 2 times"]),
    ],
)
def test_a_fault_of_a_mount_is_named(changes, words):
    errors = mount_errors([{**MOUNT, **changes}], [EXPORT])
    assert names_all(errors, words), errors


def test_a_mount_without_a_fault():
    for server in ("storage.example.org", "2001:db8::7", "storage"):
        mount = {**MOUNT, "server": server, "before_units": ["shop.service", "web2py@public.service"]}
        assert mount_errors([mount], [EXPORT]) == []


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"path": "/srv/other"}, ["2 entries named 'notes'"]),
        ({"name": "more"}, ["more", "'/srv/shared/notes'", "overlaps", "'notes'"]),
        ({"name": "more", "path": "/srv/shared/notes/more"}, ["more", "overlaps '/srv/shared/notes' of 'notes'"]),
        ({"name": "more", "path": "/srv/shared"}, ["'/srv/shared', which overlaps '/srv/shared/notes'"]),
    ],
)
def test_entries_that_get_in_each_others_way(second, words):
    errors = export_errors([EXPORT, {**EXPORT, **second}])
    assert names_all(errors, words), errors


def test_paths_that_only_begin_alike_are_apart():
    assert export_errors([EXPORT, {**EXPORT, "name": "2", "path": "/srv/shared/notes2"}]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lease_time": 9}, ["nfs_shared_lease_time", "is 9;", "between 10 and 3600"]),
        ({"lease_time": 3601, "grace_time": 3600}, ["nfs_shared_lease_time", "3601", "between 10 and 3600"]),
        ({"grace_time": 14}, ["nfs_shared_grace_time", "is 14;", "between 15 and 3600", "nfs_shared_lease_time"]),
        ({"grace_time": 3601}, ["nfs_shared_grace_time", "3601", "between 15 and 3600"]),
        ({"threads": 0}, ["nfs_shared_threads", "is 0;", "between 1 and 1024"]),
        ({"timeout": 601}, ["nfs_shared_timeout", "601", "between 1 and 600"]),
        ({"server_wait": 0}, ["nfs_shared_server_wait", "is 0;", "between 1 and 3600"]),
    ],
)
def test_a_fault_of_a_number_is_named(changes, words):
    errors = plan(**changes)[1]
    assert names_all(errors, words), errors


def test_all_faults_at_once():
    export = {**EXPORT, "path": "notes", "clients": ["*", "0.0.0.0/0"], "owner": 0, "group": 0, "mode": "0777"}
    assert len(plan(exports=[export], threads=0)[1]) == 7


# By systemd-escape(1).
@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/srv", "srv.mount"),
        ("/srv/shared/notes", "srv-shared-notes.mount"),
        ("/srv/my-notes", "srv-my\\x2dnotes.mount"),
        ("/srv/a_b.c/d", "srv-a_b.c-d.mount"),
        ("/var/lib/web2py/data/a-b/c", "var-lib-web2py-data-a\\x2db-c.mount"),
    ],
)
def test_units_of_mounts(path, unit):
    assert nfs_shared.mount_unit(path) == unit


def test_what_the_tasks_read():
    mounts = [
        {**MOUNT, "before_units": ["shop.service", "web@1.service"]},
        {**MOUNT, "name": "old", "state": "absent", "before_units": ["shop.service"]},
        {**MOUNT, "name": "other", "path": "/srv/other", "server": "2001:db8::7", "read_only": "yes"},
    ]
    values, problems = plan(mounts=mounts, exports=[EXPORT, {"name": "old", "state": "absent"}])
    assert problems == []
    assert values["drop_ins"] == [
        {
            "folder": f"/etc/systemd/system/{unit}.d",
            "path": f"/etc/systemd/system/{unit}.d/nfs_shared_notes.conf",
            "mount": "/var/lib/shop/notes",
        }
        for unit in ("shop.service", "web@1.service")
    ]
    assert values["units"] == ["var-lib-shop-notes.mount", "srv-other.mount"]
    assert values["mount_marker"] == "# Share: (notes|old|other)$"
    assert values["drop_in_files"] == ["nfs_shared_notes.conf", "nfs_shared_old.conf", "nfs_shared_other.conf"]
    notes, other = values["mounts"]
    assert (notes["source"], other["source"]) == ("192.0.2.7:/srv/shared/notes", "[2001:db8::7]:/srv/shared/notes")
    assert notes["options"] == (
        "hard,nfsvers=4.2,proto=tcp,sec=sys,timeo=100,retrans=2,lookupcache=positive,nosuid,nodev,noexec,_netdev,"
        "nofail,retry=10000"
    )
    assert other["options"] == notes["options"].replace("proto=tcp", "proto=tcp6") + ",ro"
    (export,) = values["exports"]
    assert (export["parent"], export["mode"]) == ("/srv/shared", "0750")
    assert export["options"] == "rw,sync,secure,root_squash,no_subtree_check,sec=sys"
    assert values["absent_exports"] == ["old"]
