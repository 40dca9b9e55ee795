# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every front end does alike: who is answered, what is static, what needs HTTPS. Each role renders it in the
language of its server, so that one can take another's place and visitors see no difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import mozilla
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import bracketed, wrong
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.applications import exposed

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


def public_names(declaration: Mapping[str, Any]) -> list[str]:
    """The site's names as they stand in a Host header."""
    return [bracketed(name) for name in declaration.get("server_names", [])]


def public_ports(declaration: Mapping[str, Any]) -> dict[str, int]:
    """By port of the web server, as JSON has it, the one that visitors use."""
    ports = ((declaration.get(f"{scheme}_port"), f"public_{scheme}_port") for scheme in ("http", "https"))
    return {str(port): declaration[public] for port, public in ports if public in declaration}


def frontend_problems(role: str, declaration: Mapping[str, Any]) -> list[str]:
    """What is wrong where a front-end role runs without the role web2py, or while another one is chosen."""
    # Of these two the inventory may set one; both are known where the defaults of the role web2py are.
    for name in ("frontend", "static_max_age"):
        if name not in declaration:
            return [f"web2py_{name} is not set. Put the role web2py before {role} in the same play."]
    if declaration["frontend"] != role:
        return [wrong("web2py_frontend", declaration["frontend"], f"{role} where this role is applied")]
    return []


def frontend_site(declaration: Mapping[str, Any]) -> dict[str, Any]:
    """Translate the site's declaration (variables of the role web2py), without a problem, for a front-end role."""
    names = public_names(declaration)
    applications = exposed(declaration["applications"])
    public_https_port = declaration["public_https_port"]
    https_suffix = "" if public_https_port == 443 else f":{public_https_port}"
    # No names are refused where the role web2py validates them.
    canonical = next(iter(names), "")
    administration = "https" if declaration["administration"] == "https" else "off"
    return {
        "names": names,
        "canonical": canonical,
        "applications": applications,
        "http_port": declaration["http_port"],
        "https_port": declaration["https_port"],
        "certificate_file": declaration["certificate_file"],
        "certificate_key_file": declaration["certificate_key_file"],
        "hsts_max_age": declaration["hsts_max_age"],
        "max_request_body": declaration["max_request_body"],
        "headers": declaration["headers"],
        "environment": {"WEB2PY_APPLICATIONS": ",".join(applications), "WEB2PY_ADMINISTRATION": administration},
        "health_path": declaration["health_path"],
        "routes": bool(declaration["routes_extra"]),
        "trusted_proxies": declaration["trusted_proxies"],
        "answers": answers(declaration, f"https://{canonical}{https_suffix}"),
        "static_pattern": rf"^/({'|'.join(applications)})/static/(?:{VERSION})?(.*)$" if applications else "",
        "static_max_age": declaration["static_max_age"],
        "versioned_max_age": 31536000,
        "tls": mozilla.INTERMEDIATE,
        "user": declaration["user"],
        "group": declaration["group"],
        "root": "/var/lib/web2py",
        "runtime": "/opt/web2py/runtime",
    }
