# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What follows from the site for a web host: its roles, in which order, and how it is checked."""

from __future__ import annotations

from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import frontends
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import is_present
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import web2py
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.applications import check_paths
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.balancer import server_name
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.inventory import InventoryHost, Site, SiteError
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.storage import mounts

DAEMON = "web2py_daemon"


def tier(_site: Site, host: InventoryHost) -> dict[str, Any]:
    values, name = host.values, chosen(host)
    front_end = frontends.FRONT_ENDS[name]
    daemon = [DAEMON] if uses_daemon(host) else []
    says_daemon = any(variable.startswith(f"{DAEMON}_") for variable in host.own)
    units = [front_end.unit] if front_end.unit else []
    units += ["web2py@.service", "web2py-scheduler@.service"] if daemon else []
    server = values["web2py_storage_server"]
    https = values["web2py_redirect_to_https"]
    return {
        "nfs_shared_mounts": [
            *host.own.get("nfs_shared_mounts", []),
            *mounts(values["web2py_applications"], server, units),
        ],
        "shares": bool(server),
        "front_end": name,
        "daemon": bool(daemon),
        # The daemon's variables also where a list in them has become empty.
        "validated_roles": [*([DAEMON] if daemon or says_daemon else []), "tls_certificate", name],
        "deployed_roles": ["web2py", "tls_certificate", *daemon],
        "reloaded_roles": ["web2py", *daemon, *([name] if front_end.reload else [])],
        "name_at_balancer": server_name(host.name),
        "check": {
            "host": next(iter(values["web2py_server_names"]), ""),
            "https": https,
            "port": values["web2py_https_port" if https else "web2py_http_port"],
            "paths": check_paths(values["web2py_applications"], values["web2py_health_path"]),
            "units": [frontends.main_unit(name, values)],
        },
    }


def problems(site: Site) -> list[str]:
    """What is wrong in the declaration, in its words and not of the roles that take what follows."""
    found: list[str] = []
    for host in site.web_hosts:
        declared = {name: host.values[f"web2py_{name}"] for name in web2py.DECLARATION}
        found += web2py.declaration_problems(declared, site.tier("web"))
    return list(dict.fromkeys(found))


def chosen(host: InventoryHost) -> str:
    """The front end of a web host."""
    name = host.values["web2py_frontend"]
    if problem := frontends.problem(name):
        raise SiteError(problem)
    return name


def uses_daemon(host: InventoryHost) -> bool:
    return bool(host.values["web2py_daemon_instances"] or host.values["web2py_daemon_scheduler_workers"])


def processes(host: InventoryHost) -> list[tuple[int, int]]:
    """Of what works on requests on a web host: number of processes, and threads of each."""
    found = [
        (item["processes"], item["threads"]) for item in host.values["web2py_daemon_instances"] if is_present(item)
    ]
    front_end = frontends.FRONT_ENDS[chosen(host)]
    if front_end.processes:
        threads = host.values[front_end.threads] if front_end.threads else 1
        found.append((host.values[front_end.processes], threads))
    return found
