# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Several web hosts as one site: what is shared, what is refused, and what a balancer gets to know."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from ansible_collections.web2py.deployment.plugins.action.plan import plan
from ansible_collections.web2py.deployment.plugins.module_utils import cluster
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host

APPLICATIONS = [
    {"name": "files"},
    {"name": "shop", "sessions": "database", "uploads": "database", "tickets": "database", "database": {}},
    {"name": "mixed", "sessions": "cookie", "uploads": "files"},
    {"name": "gone", "state": "absent"},
    {"name": "admin", "exposed": False},
]
HOST = {"inventory_hostname": "www1.example.org", "ansible_facts": {"default_ipv4": {"address": "192.0.2.10"}}}


def test_only_what_is_kept_in_files_is_shared():
    assert [cluster.shared_folders(item) for item in APPLICATIONS] == [
        ["sessions", "uploads", "errors"],
        [],
        ["uploads", "errors"],
        [],
        [],
    ]


def test_a_web_host_mounts_what_the_storage_server_exports():
    (export,) = cluster.nfs_shared_exports(APPLICATIONS, ["192.0.2.10"], "950", 951)
    (mount,) = cluster.nfs_shared_mounts(APPLICATIONS, "192.0.2.7", ["apache2.service"])
    assert mount["export"] == export["path"] and (export["owner"], export["group"]) == (950, 951)
    host = Host({}, open, datetime.now(timezone.utc))
    for variables in ({"nfs_shared_exports": [export]}, {"nfs_shared_mounts": [mount]}):
        assert plan("nfs_shared", variables, host)[1] == []


def test_old_sessions_are_not_looked_for_below_a_mount_point():
    (mount,) = cluster.nfs_shared_mounts(APPLICATIONS, "192.0.2.7", ["apache2.service"])
    assert mount["before_units"] == ["apache2.service", "web2py-sessions@files.service"]


@pytest.mark.parametrize(
    ("applications", "server", "clients"),
    [(APPLICATIONS, "", []), (APPLICATIONS[1:2], "192.0.2.7", ["192.0.2.10"])],
)
def test_without_hosts_or_files_nothing_is_shared(applications, server, clients):
    absent = [{"name": "web2py", "state": "absent"}]
    assert cluster.nfs_shared_mounts(applications, server, ["apache2.service"]) == absent
    assert cluster.nfs_shared_exports(applications, clients, 950, 950) == absent


def test_a_balancer_reaches_a_web_host_as_that_says():
    encrypted = {**HOST, "web2py_balancer_https": True, "web2py_server_names": ["www.example.org"]}
    other = {**HOST, "web2py_client_addresses": ["2001:db8::10", "2001:db8::11"], "web2py_http_port": "8080"}
    name = "www1-example-org"
    assert cluster.haproxy_servers([HOST, encrypted, other]) == [
        {"name": name, "address": "192.0.2.10", "port": 80},
        {"name": name, "address": "192.0.2.10", "port": 443, "tls": True, "tls_name": "www.example.org"},
        {"name": name, "address": "2001:db8::10", "port": 8080},
    ]


def errors(applications, web=("www1", "www2"), storage=(), balancers=("lb",), database=("db",), uid=950, gid=950):
    return cluster.cluster_errors(applications, web, storage, balancers, database, uid, gid)


@pytest.mark.parametrize(
    ("application", "hosts", "words"),
    [
        ({}, {}, ["'shop'", "sessions", "2 web hosts", "web2py_storage"]),
        ({"sessions": "cookie", "uploads": "files"}, {}, ["uploads", "database"]),
        ({"cache": "disk"}, {"storage": ["nas"]}, ["disk", "memcached"]),
        ({}, {"storage": ["nas"], "uid": None}, ["web2py_uid", "950"]),
        ({}, {"storage": ["nas", "nas2"]}, ["web2py_storage", "nas, nas2", "one host"]),
        ({}, {"storage": ["www1"], "balancers": []}, ["web2py_storage", "www1"]),
        ({"sessions": "database"}, {"database": ["db", "db2"]}, ["web2py_database", "db, db2", "one host"]),
        ({"sessions": "database"}, {"database": ["www1", "www2"]}, ["web2py_database", "www1, www2"]),
        ({}, {"database": ["www1", "db"], "balancers": []}, ["web2py_database", "www1, db"]),
    ],
)
def test_what_hosts_cannot_share_is_refused(application, hosts, words):
    (error,) = errors([{"name": "shop", **application}], **hosts)
    assert all(word in error for word in words), error


@pytest.mark.parametrize(
    ("application", "hosts"),
    [
        ({}, {"web": ["www1"]}),
        ({}, {"balancers": []}),
        ({}, {"storage": ["nas"]}),
        ({"cache": "disk"}, {"web": ["www1"], "storage": ["www1"], "uid": None}),
        ({"sessions": "database"}, {}),
        ({}, {"database": ["www1", "www2"], "balancers": []}),
        ({"sessions": "database"}, {"database": ["www2"]}),
        ({"exposed": False}, {}),
        ({"state": "absent", "cache": "disk"}, {"storage": ["nas"]}),
    ],
)
def test_what_hosts_can_share_is_allowed(application, hosts):
    assert errors([{"name": "shop", **application}], **hosts) == []
