# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Several web hosts as one site: from `web2py_applications` and the inventory to what the roles nfs_shared and haproxy
take.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.module_utils.data import client_addresses
from ansible_collections.web2py.deployment.plugins.module_utils.items import entries, present

# The chapter's shared folders (web2py-book, "Sharing application folders"), with the key that says where an application
# keeps that kind of data. `cache` is not among them: cache.disk stops for ever over NFS.
SHARED_FOLDERS = {"sessions": "sessions", "uploads": "uploads", "errors": "tickets"}
# On the storage server, and where a web host mounts it. An application's name has no dash.
EXPORT = "/srv/web2py"
MOUNT = "/var/lib/web2py/data/web2py-shared"


def shared_folders(application: Mapping[str, Any]) -> list[str]:
    """Folders of an application that all web hosts share, as long as it keeps that kind of data in files.

    An application that is not exposed belongs to one host, as admin does.
    """
    if not present(application) or application.get("exposed", True) is not True:
        return []
    return [folder for folder, key in SHARED_FOLDERS.items() if application.get(key, "files") == "files"]


def nfs_shared_exports(applications: Any, clients: Sequence[str], owner: int, group: int) -> list[dict[str, Any]]:
    """Input of the role nfs_shared for the storage server."""
    if not clients or not any(map(shared_folders, entries(applications))):
        return [{"name": "web2py", "state": "absent"}]
    return [
        {
            "name": "web2py",
            "path": EXPORT,
            "clients": list(clients),
            "owner": int(owner),
            "group": int(group),
            "mode": "0700",
        }
    ]


def nfs_shared_mounts(applications: Any, server: str, units: Sequence[str]) -> list[dict[str, Any]]:
    """Input of the role nfs_shared for a web host; without a server nothing is mounted."""
    sharing = [item for item in entries(applications) if shared_folders(item)]
    if not server or not sharing:
        return [{"name": "web2py", "state": "absent"}]
    expiring = [f"web2py-sessions@{item['name']}.service" for item in sharing if "sessions" in shared_folders(item)]
    return [
        {"name": "web2py", "server": server, "export": EXPORT, "path": MOUNT, "before_units": [*units, *expiring]},
    ]


def haproxy_server_name(host: str) -> str:
    """The name of a web host in HAProxy, of which it accepts letters, digits, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", host)


def haproxy_servers(hosts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Input of the role haproxy: one server for each web host, given by its variables."""
    servers = []
    for host in hosts:
        encrypted = host.get("web2py_balancer_https", False)
        names = host.get("web2py_server_names") or [host["inventory_hostname"]]
        servers.append(
            {
                "name": haproxy_server_name(str(host["inventory_hostname"])),
                "address": client_addresses([host])[0],
                "port": int(host.get("web2py_https_port", 443) if encrypted else host.get("web2py_http_port", 80)),
                **({"tls": True, "tls_name": str(names[0])} if encrypted else {}),
            }
        )
    return servers


def cluster_errors(
    applications: Any,
    web_hosts: Sequence[str],
    storage_hosts: Sequence[str],
    balancers: Sequence[str],
    database_hosts: Sequence[str],
    uid: int | None,
    gid: int | None,
) -> list[str]:
    """What cannot be shared by these hosts as the inventory says."""
    errors = []
    # Hosts without a balancer that each have web2py and its database are sites of their own.
    if len(database_hosts) > 1 and (balancers or not set(web_hosts) <= set(database_hosts)):
        errors.append(
            f"web2py_database: found {', '.join(database_hosts)}; allowed is one host, which all web hosts use, "
            "because nothing is replicated from one to another"
        )
    if len(storage_hosts) > 1:
        errors.append(
            f"web2py_storage: found {', '.join(storage_hosts)}; allowed is one host, which all web hosts mount from"
        )
    for host in storage_hosts if len(web_hosts) > 1 else []:
        if host in web_hosts:
            errors.append(
                f"web2py_storage: found {host}, which is one of {len(web_hosts)} web hosts; "
                "allowed is a host that is none: a server that mounts from itself can stop for ever"
            )
    # One host that is both has its folders to itself.
    storage_hosts = [host for host in storage_hosts if host not in web_hosts]
    if storage_hosts and any(map(shared_folders, entries(applications))) and (uid is None or gid is None):
        errors.append(
            "web2py_uid and web2py_gid: found nothing for one of them; files on the storage server belong to numbers, "
            "so set both in group_vars/all.yml, to numbers from 1 to 999 that are free on all hosts, for example 950"
        )
    for item in entries(applications):
        if not present(item) or item.get("exposed", True) is not True:
            continue
        where = f"application {item.get('name')!r}"
        if storage_hosts and item.get("cache") == "disk":
            errors.append(
                f"{where}: cache is 'disk', which stops for ever over NFS in web2py 3; "
                "have cache: memcached, which all web hosts share, or cache: ram, which each process has its own of"
            )
        if len(web_hosts) > 1 and balancers and not storage_hosts:
            errors += [
                f"{where}: {key} are in files of each of {len(web_hosts)} web hosts behind a balancer; have {key}: "
                "database, or put a host into the group web2py_storage"
                # Every visitor has a session; uploads may be none.
                for key in ("sessions", "uploads")
                if item.get(key, "files" if key == "sessions" else None) == "files"
            ]
    return errors
