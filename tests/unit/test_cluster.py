# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Several web hosts as one site: what is shared, what is refused, and what a balancer gets to know."""

from __future__ import annotations

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import cluster, nfs_shared

APPLICATIONS = [
    {"name": "files"},
    {"name": "shop", "sessions": "database", "uploads": "database", "tickets": "database", "database": {}},
    {"name": "mixed", "sessions": "cookie", "uploads": "files"},
    {"name": "gone", "state": "absent"},
    {"name": "admin", "exposed": False},
]
SHARED = ["files-sessions", "files-uploads", "files-errors", "mixed-uploads", "mixed-errors"]
HOST = {"inventory_hostname": "www1.example.org", "ansible_facts": {"default_ipv4": {"address": "192.0.2.10"}}}


def present(items):
    return [item["name"] for item in items if item.get("state", "present") == "present"]


def test_only_what_is_kept_in_files_is_shared():
    exports = cluster.nfs_shared_exports(APPLICATIONS, ["192.0.2.10"], "950", 951)
    mounts = cluster.nfs_shared_mounts(APPLICATIONS, "192.0.2.7", ["apache2.service"])
    assert present(exports) == present(mounts) == SHARED
    assert exports[0] == {
        "name": "files-sessions",
        "path": "/srv/web2py/files/sessions",
        "clients": ["192.0.2.10"],
        "owner": 950,
        "group": 951,
        "mode": "0700",
    }
    # What is shared no longer, or not any more, is removed by name.
    assert len(exports) == len(mounts) == 3 * len(APPLICATIONS)


def test_a_web_host_mounts_what_the_storage_server_exports():
    exports = {item["name"]: item for item in cluster.nfs_shared_exports(APPLICATIONS, ["192.0.2.10"], 950, 950)}
    for mount in cluster.nfs_shared_mounts(APPLICATIONS, "192.0.2.7", ["apache2.service"]):
        if "path" in mount:
            assert mount["export"] == exports[mount["name"]]["path"]
            assert "apache2.service" in mount["before_units"]
    assert nfs_shared.export_errors(list(exports.values())) == []
    assert nfs_shared.mount_errors(cluster.nfs_shared_mounts(APPLICATIONS, "192.0.2.7", ["apache2.service"])) == []


def test_old_sessions_are_not_looked_for_below_a_mount_point():
    mounts = cluster.nfs_shared_mounts([{"name": "shop"}], "192.0.2.7", ["apache2.service"])
    waiting = {item["name"]: item["before_units"][1:] for item in mounts}
    assert waiting == {"shop-sessions": ["web2py-sessions@shop.service"], "shop-uploads": [], "shop-errors": []}


def test_without_a_server_or_clients_nothing_is_shared():
    assert present(cluster.nfs_shared_mounts(APPLICATIONS, "", ["apache2.service"])) == []
    assert present(cluster.nfs_shared_exports(APPLICATIONS, [], 950, 950)) == []


def test_a_balancer_reaches_a_web_host_as_that_says():
    encrypted = {**HOST, "web2py_balancer_https": True, "web2py_server_names": ["www.example.org"]}
    other = {**HOST, "web2py_client_addresses": ["2001:db8::10", "2001:db8::11"], "web2py_http_port": "8080"}
    name = "www1-example-org"
    assert cluster.haproxy_servers([HOST, encrypted, other]) == [
        {"name": name, "address": "192.0.2.10", "port": 80},
        {"name": name, "address": "192.0.2.10", "port": 443, "tls": True, "tls_name": "www.example.org"},
        {"name": name, "address": "2001:db8::10", "port": 8080},
    ]


def errors(applications, web=("www1", "www2"), storage=(), balancers=("lb",), uid=950, gid=950):
    return cluster.cluster_errors(applications, web, storage, balancers, uid, gid)


@pytest.mark.parametrize(
    ("application", "hosts", "words"),
    [
        ({}, {}, ["'shop'", "sessions", "2 web hosts", "web2py_storage"]),
        ({"sessions": "cookie", "uploads": "files"}, {}, ["uploads", "database"]),
        ({"cache": "disk"}, {"storage": ["nas"]}, ["disk", "memcached"]),
        ({}, {"storage": ["nas"], "uid": None}, ["web2py_uid", "950"]),
        ({}, {"storage": ["nas", "nas2"]}, ["web2py_storage", "nas, nas2", "one host"]),
        ({}, {"storage": ["www1"], "balancers": []}, ["web2py_storage", "www1"]),
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
        ({"exposed": False}, {}),
        ({"state": "absent", "cache": "disk"}, {"storage": ["nas"]}),
    ],
)
def test_what_hosts_can_share_is_allowed(application, hosts):
    assert errors([{"name": "shop", **application}], **hosts) == []
