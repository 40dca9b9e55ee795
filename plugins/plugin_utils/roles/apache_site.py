# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role apache_site mean, and what is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host, out_of_range, port_problems


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    site = host.values_of("web2py")
    ports = {f"web2py_{name}": site[name] for name in ("http_port", "https_port") if name in site}
    ports |= {f"apache_site_extra_ports[{number}]": port for number, port in enumerate(values["extra_ports"])}
    workers = out_of_range("apache_site_max_request_workers", values["max_request_workers"], 25, 400)
    return {}, [*port_problems(ports), *workers]
