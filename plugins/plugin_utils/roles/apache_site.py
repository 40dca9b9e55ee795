# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role apache_site mean, and what is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host, out_of_range, port_problems
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.frontend import frontend_problems, frontend_site

# What a front end needs of Apache beside what every site needs.
PACKAGES = {"apache_wsgi": ["libapache2-mod-wsgi-py3"]}
MODULES = {"apache_wsgi": ["wsgi"], "apache_proxy": ["buffer", "proxy", "proxy_http"]}


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    declaration = host.values_of("web2py")
    # The front end's own role says whether it is the one that is chosen.
    front_end = declaration.get("frontend", "the front end's")
    problems = frontend_problems(front_end, declaration)
    site = {} if problems else frontend_site(declaration)
    ports = {f"web2py_{name}": site[name] for name in ("http_port", "https_port") if name in site}
    ports |= {f"apache_site_extra_ports[{number}]": port for number, port in enumerate(values["extra_ports"])}
    workers = out_of_range("apache_site_max_request_workers", values["max_request_workers"], 25, 400)
    websockets = front_end == "apache_proxy" and host.values_of("apache_proxy").get("websockets")
    return {
        "site": site,
        "packages": ["apache2", "logrotate", *PACKAGES.get(front_end, [])],
        "modules": [*MODULES.get(front_end, []), *(["proxy_wstunnel"] if websockets else [])],
    }, [*problems, *port_problems(ports), *workers]
