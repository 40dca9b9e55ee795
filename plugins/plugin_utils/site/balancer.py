# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What follows from the site for a balancer: the variables of the role haproxy."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.site.inventory import (
    InventoryHost,
    Site,
    client_addresses,
)

# While the storage server boots, requests wait for it, and so may a health check; it is no reason to refuse all. A host
# that is gone refuses or misses the connection, which is noticed at once.
SECONDS_OF_A_BOOT = 60
# Administration goes to one host, through its own port and an SSH tunnel.
ADMINISTRATION = ["/admin", "/*/appadmin"]


def server_name(host: str) -> str:
    """The name of a web host in HAProxy, of which it accepts letters, digits, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", host)


def server(host: InventoryHost) -> dict[str, Any]:
    """How a balancer reaches a web host."""
    encrypted = host.values["web2py_balancer_https"]
    found = {
        "name": server_name(host.name),
        "address": client_addresses([host.own])[0],
        "port": host.values["web2py_https_port" if encrypted else "web2py_http_port"],
    }
    return (
        {**found, "tls": True, "tls_name": next(iter(host.values["web2py_server_names"]), "")} if encrypted else found
    )


def tier(site: Site, host: InventoryHost) -> dict[str, Any]:
    declared = site.declared_at(host)
    timeout = SECONDS_OF_A_BOOT if site.tier("storage") else host.values["haproxy_health_timeout"]
    certificates = [{"name": "web2py", **host.certificate("web2py")}]
    return {
        # For a message about health checks that fail.
        "web2py_health_path": declared.values["web2py_health_path"],
        "haproxy_servers": [*host.values["haproxy_servers"], *map(server, site.web_hosts)],
        "haproxy_server_names": host.own.get("haproxy_server_names", declared.own.get("web2py_server_names", [])),
        "haproxy_health_path": host.own.get("haproxy_health_path", declared.values["web2py_health_path"]),
        "haproxy_health_timeout": host.own.get("haproxy_health_timeout", timeout),
        "haproxy_denied_paths": host.own.get("haproxy_denied_paths", ADMINISTRATION),
        "haproxy_certificates": host.own.get("haproxy_certificates", certificates),
    }
