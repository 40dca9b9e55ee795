# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What web hosts share: the variables of the role nfs_shared, and what must not be left to each host alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import is_present
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.inventory import InventoryHost, Site

# Folders that web hosts may share (web2py book, "Sharing application folders"), with the key that says where an
# application keeps that kind of data. `cache` is not among them: cache.disk stops for ever over NFS.
SHARED_FOLDERS = {"sessions": "sessions", "uploads": "uploads", "errors": "tickets"}
# On the storage server, and where a web host mounts it. An application's name has no dash.
EXPORT = "/srv/web2py"
MOUNT = "/var/lib/web2py/data/web2py-shared"


def shared_folders(application: Mapping[str, Any]) -> list[str]:
    """Folders of an application that all web hosts share, as long as it keeps that kind of data in files.

    An application that is not exposed belongs to one host, as admin does.
    """
    if not is_present(application) or not application["exposed"]:
        return []
    return [folder for folder, key in SHARED_FOLDERS.items() if application.get(key, "files") == "files"]


def tier(site: Site, host: InventoryHost) -> dict[str, Any]:
    values = site.declared_at(host).values
    shared = exports(
        values["web2py_applications"], site.clients_of("storage"), values.get("web2py_uid"), values.get("web2py_gid")
    )
    return {"nfs_shared_exports": [*host.own.get("nfs_shared_exports", []), *shared]}


def exports(applications: Any, clients: Sequence[str], owner: int | None, group: int | None) -> list[dict[str, Any]]:
    """Input of the role nfs_shared for the storage server."""
    if not clients or not any(map(shared_folders, applications)):
        return [{"name": "web2py", "state": "absent"}]
    return [
        {
            "name": "web2py",
            "path": EXPORT,
            "clients": list(clients),
            "owner": owner,
            "group": group,
            "mode": "0700",
        }
    ]


def mounts(applications: Any, server: str, units: Sequence[str]) -> list[dict[str, Any]]:
    """Input of the role nfs_shared for a web host; without a server nothing is mounted."""
    sharing = [item for item in applications if shared_folders(item)]
    if not server or not sharing:
        return [{"name": "web2py", "state": "absent"}]
    expiring = [f"web2py-sessions@{item['name']}.service" for item in sharing if "sessions" in shared_folders(item)]
    return [
        {"name": "web2py", "server": server, "export": EXPORT, "path": MOUNT, "before_units": [*units, *expiring]},
    ]


def problems(site: Site) -> list[str]:
    """What the web hosts cannot share with these groups."""
    web, database, storage = (site.tier(name) for name in ("web", "database", "storage"))
    several = len(web) > 1
    found = []
    # Hosts without a balancer that each have web2py and its database are sites of their own.
    if len(database) > 1 and (site.tier("balancer") or not set(web) <= set(database)):
        found.append(
            f"web2py_database is {', '.join(database)}; it must be one host, which all web hosts use. "
            "Nothing is replicated from one to another."
        )
    if len(storage) > 1:
        found.append(
            f"web2py_storage is {', '.join(storage)}; it must be one host. All web hosts mount folders from it."
        )
    found += [
        f"web2py_storage is {host}; it must be a host that is not one of {len(web)} web hosts. "
        "A server that mounts from itself can stop for ever."
        for host in storage
        if several and host in web
    ]
    # One host that is both has its folders to itself.
    served = [host for host in storage if host not in web]
    for host in site.web_hosts:
        applications = [item for item in host.values["web2py_applications"] if is_present(item) and item["exposed"]]
        if served and any(map(shared_folders, applications)):
            found += [
                f"{variable} is not set; it must be a number from 1 to 999 that is free on all hosts, for example 950, "
                "because files on the storage server belong to numbers. Set it in group_vars/all.yml."
                for variable in ("web2py_uid", "web2py_gid")
                if variable not in host.values
            ]
        for item in applications:
            where = f"web2py_applications ({item['name']!r})"
            if served and item.get("cache") == "disk":
                found.append(
                    f"{where}: cache is 'disk'; it must be memcached, which all web hosts share, or ram, which each "
                    "process has for itself. In web2py 3, cache.disk stops for ever over NFS."
                )
            if several and site.tier("balancer") and not served:
                found += [
                    f"{where}: {key} is 'files', which each of {len(web)} web hosts behind a balancer has for itself; "
                    "it must be database. Or put a host into the group web2py_storage."
                    # Every visitor has a session; uploads may be none.
                    for key in ("sessions", "uploads")
                    if item.get(key, "files" if key == "sessions" else None) == "files"
                ]
    return list(dict.fromkeys(found))
