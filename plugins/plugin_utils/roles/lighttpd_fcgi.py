# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role lighttpd_fcgi mean, and what is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host, memory_problems, out_of_range
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.frontend import frontend_problems, frontend_site

RANGES = {
    "processes": (1, 512),
    "maximum_requests": (0, 10**9),
    "request_timeout": (1, 86400),
    "graceful_timeout": (1, 300),
    "reload_patience": (1, 300),
    "max_connections": (16, 65536),
    "tasks_max": (16, 65536),
}


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    declaration = host.values_of("web2py")
    problems = frontend_problems("lighttpd_fcgi", declaration)
    site = {} if problems else frontend_site(declaration)
    for name, (lowest, highest) in RANGES.items():
        problems += out_of_range(f"lighttpd_fcgi_{name}", values[name], lowest, highest)
    return {
        "site": site,
        # For each connection of a visitor one to web2py and one file, besides those of Lighttpd itself.
        "max_files": values["max_connections"] * 3 + 1024,
    }, [*problems, *memory_problems("lighttpd_fcgi_memory_max", values["memory_max"])]
