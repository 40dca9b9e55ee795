# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every front end does alike: who is answered, what is static, what needs HTTPS. Each role renders it in the
language of its server, so that one can take another's place and visitors see no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import mozilla
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import bracketed
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.applications import frontend_applications

# web2py's own names: the application admin, and the controller appadmin of every application.
ADMINISTRATION_PATHS = r"^(/(?:admin|\w+/appadmin)(?:/.*)?)$"
# Versions in the URLs of static files are web2py's (web2py book, "Static asset management").
VERSION = r"_\d+\.\d+\.\d+/"


def answers(site: Mapping[str, Any], https: str) -> dict[str, list[dict[str, Any]]]:
    """What the web server answers itself, by scheme; the first pattern that the decoded path matches decides."""
    http_rules: list[dict[str, Any]] = []
    https_rules: list[dict[str, Any]] = []
    if site["redirect_to_https"]:
        # Balancers and the site playbook ask for the health of web2py over HTTP, too.
        everything = f"^(?!{_literal(site['health_path'])}$)(/.*)$"
        http_rules.append({"pattern": everything, "status": 301, "location": f"{https}$1"})
    if site["administration"] != "https":
        off = {"pattern": ADMINISTRATION_PATHS, "status": 404, "location": None}
        http_rules.append(off)
        https_rules.append(off)
    elif site["administration_over_http"] == "redirect":
        http_rules.append({"pattern": ADMINISTRATION_PATHS, "status": 302, "location": f"{https}$1"})
    else:
        http_rules.append({"pattern": ADMINISTRATION_PATHS, "status": 403, "location": None})
    return {"http": http_rules, "https": https_rules}


def _literal(path: str) -> str:
    """A health path (letters, digits and ._~/-) as part of a pattern; escaping more than the dot is not portable."""
    return path.replace(".", r"\.")


def frontend_site(declaration: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the site's declaration (role web2py's variables without their prefix) for the front-end roles."""
    names = [bracketed(str(name)) for name in declaration["server_names"]]
    applications = frontend_applications(declaration["applications"])
    ports = {scheme: int(declaration[f"{scheme}_port"]) for scheme in ("http", "https")}
    public_ports = {scheme: int(declaration[f"public_{scheme}_port"]) for scheme in ports}
    https_suffix = "" if public_ports["https"] == 443 else f":{public_ports['https']}"
    administration = "https" if declaration["administration"] == "https" else "off"
    return {
        "names": names,
        "canonical": names[0],
        "applications": applications,
        "http_port": ports["http"],
        "https_port": ports["https"],
        "public_ports": {str(port): public_ports[scheme] for scheme, port in ports.items()},
        "https_suffix": https_suffix,
        "certificate_file": declaration["certificate_file"],
        "certificate_key_file": declaration["certificate_key_file"],
        "hsts_max_age": int(declaration["hsts_max_age"]),
        "max_request_body": int(declaration["max_request_body"]),
        "headers": dict(declaration["headers"]),
        "environment": {"WEB2PY_APPLICATIONS": ",".join(applications), "WEB2PY_ADMINISTRATION": administration},
        "health_path": declaration["health_path"],
        "routes": bool(declaration["routes_extra"]),
        "trusted_proxies": [str(proxy) for proxy in declaration["trusted_proxies"]],
        "answers": answers(declaration, f"https://{names[0]}{https_suffix}"),
        "static_pattern": rf"^/({'|'.join(applications)})/static/(?:{VERSION})?(.*)$" if applications else "",
        "static_max_age": int(declaration["static_max_age"]),
        "versioned_max_age": 31536000,
        "tls": mozilla.INTERMEDIATE,
        "user": declaration["user"],
        "group": declaration["group"],
        "root": declaration["root"],
        "runtime": declaration["runtime"],
    }


def frontend_problems(role: str, chosen: str | None) -> list[str]:
    """What is wrong when this front-end role runs while another one is chosen."""
    if chosen is None:
        return [f"web2py_frontend is not set; it must be {role}. Put the role web2py before {role} in the same play."]
    if chosen != role:
        return [f"web2py_frontend is {chosen!r}; it must be {role} where this role is applied."]
    return []
