# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `web2py_applications` and the other site variables mean: checks and translations, without Ansible."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import networks
from ansible_collections.web2py.deployment.plugins.plugin_utils.items import entries, present

# gluon.rewrite routes no other application names ([a-zA-Z0-9_]); a dash gives 400 on every dynamic URL.
NAME = re.compile(r"[A-Za-z0-9_]+")
BUNDLED = ("admin", "examples", "welcome")
# Code stays read-only, and static files stay readable for the web server.
NEVER_WRITABLE = ("models", "views", "controllers", "modules", "compiled", "static")
PASSWORD_HASH = re.compile(r"pbkdf2\(\d+,\d+,sha(256|384|512)\)\$[^$\"'\\\s]+\$[0-9a-f]+")
# One reading in every server: no %, no backslash, no space, and no fragment, which is not sent.
CHECK_PATH = re.compile(r"/[!$&-;=?-Z_a-z~]*")
HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")


def name_error(name: Any) -> str | None:
    if isinstance(name, str) and NAME.fullmatch(name):
        return None
    return (
        f"application name: found {name!r}, allowed are letters, digits and underscores only (web2py routes no others)"
    )


def writable_error(writable: Any) -> str | None:
    for folder in writable or []:
        if not isinstance(folder, str) or not NAME.fullmatch(folder) or folder in NEVER_WRITABLE:
            return (
                f"writable: found {folder!r}, allowed are names of folders directly in the application, "
                f"but not {', '.join(NEVER_WRITABLE)}"
            )
    return None


def check_path_error(item: Mapping[str, Any]) -> str | None:
    path = item.get("check_path")
    if path is None or (isinstance(path, str) and CHECK_PATH.fullmatch(path) and ".." not in path):
        return None
    return (
        f"application {item.get('name')!r}: check_path is {path!r}, allowed is a URL path that begins with a slash, "
        f"such as /{item.get('name')}/default/index, without %, \\, .. and spaces"
    )


def application_errors(applications: Sequence[Mapping[str, Any]]) -> list[str]:
    """All that is wrong in `web2py_applications`, one message each."""
    errors = []
    seen = set()
    for item in entries(applications):
        name = item.get("name")
        wrong = name_error(name) or writable_error(item.get("writable")) or check_path_error(item)
        if wrong:
            errors.append(wrong)
        elif not isinstance(item.get("exposed", True), bool):
            errors.append(f"application {name!r}: exposed is {item['exposed']!r}, allowed are true and false")
        elif name in seen:
            errors.append(f"application {name!r} is listed twice; each name may be there once")
        elif present(item) and not item.get("source") and name not in BUNDLED:
            errors.append(
                f"application {name!r} has no source; only {', '.join(BUNDLED)} come with web2py, "
                "the others need source: {path: …}, {url: …, checksum: …} or {git: …, version: …}"
            )
        seen.add(name)
    return errors


def frontend_applications(applications: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the applications that the web server exposes."""
    return [str(item["name"]) for item in entries(applications) if present(item) and item.get("exposed", True)]


def default_application(applications: Sequence[Mapping[str, Any]]) -> str:
    """The application that answers `/` when the inventory names none: the first that is exposed, never admin."""
    names = [name for name in frontend_applications(applications) if name != "admin"]
    return names[0] if names else ""


def check_paths(applications: Sequence[Mapping[str, Any]], health_path: str) -> list[str]:
    """What a healthy web host answers: the runtime package, and one page of every exposed application."""
    own = {str(item["name"]): item.get("check_path") for item in entries(applications)}
    return [health_path, *(own[name] or f"/{name}/default/index" for name in frontend_applications(applications))]


def port_errors(ports: Mapping[str, Any]) -> list[str]:
    """Variables (by name) that are no TCP port, or that share one."""
    errors = []
    seen: dict[int, str] = {}
    for variable, port in ports.items():
        # `-e some_port=8080` on the command line gives text.
        port = int(port) if isinstance(port, str) and port.isascii() and port.isdecimal() else port
        if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
            errors.append(f"{variable}: found {port!r}, allowed are the ports 1 to 65535")
        elif port in seen:
            errors.append(f"{variable}: found {port}, which {seen[port]} uses already; each needs a port of its own")
        else:
            seen[port] = variable
    return errors


def admin_password_errors(passwords: Sequence[Mapping[str, Any]]) -> list[str]:
    """All that is wrong in `web2py_admin_passwords`; a message never repeats a password."""
    errors = []
    seen = set()
    for item in entries(passwords):
        port = item.get("port")
        errors += port_errors({"port in web2py_admin_passwords": port})
        if port in seen:
            errors.append(f"web2py_admin_passwords: port {port} is listed twice; each port may be there once")
        seen.add(port)
        given = [key for key in ("password", "password_hash") if item.get(key)]
        if present(item) and len(given) != 1:
            errors.append(f"web2py_admin_passwords: port {port} needs exactly one of password and password_hash")
        elif item.get("password") and not (isinstance(item["password"], str) and 8 <= len(item["password"]) <= 1024):
            errors.append(f"web2py_admin_passwords: the password of port {port} must be a text of 8 to 1024 characters")
        elif item.get("password_hash") and not PASSWORD_HASH.fullmatch(item["password_hash"]):
            errors.append(
                f"web2py_admin_passwords: the password_hash of port {port} must have the form "
                "pbkdf2(iterations,length,sha512)$salt$digest, as the filter web2py_password_hash gives it"
            )
    return errors


def host_name_errors(names: Sequence[Any], variable: str) -> list[str]:
    """Entries that are neither a DNS name nor an IP address."""
    errors = [] if names else [f"{variable}: found an empty list, at least one DNS name or IP address is needed"]
    if names and ":" in str(names[0]) and _is_address(names[0]):
        errors.append(f"{variable}: found {names[0]!r} as the first name, which must be a DNS name or an IPv4 address")
    for name in names:
        if not _is_address(name) and not (
            isinstance(name, str) and len(name) < 254 and all(HOST_LABEL.fullmatch(label) for label in name.split("."))
        ):
            errors.append(f"{variable}: found {name!r}, allowed are DNS names without a port, and IP addresses")
    return errors


def proxy_errors(proxies: Any) -> list[str]:
    """Entries of `web2py_trusted_proxies` that the runtime package would refuse at its start, or that are everybody."""
    wrong = [networks.network_error(proxy) for proxy in proxies if proxy != "unix"]
    return [f"one of web2py_trusted_proxies {error} unix is allowed as well." for error in wrong if error]


def header_errors(headers: Any) -> list[str]:
    """Response headers (`web2py_headers`) that no web server could send."""
    errors = []
    for name, value in headers.items() if isinstance(headers, Mapping) else []:
        if not re.fullmatch("[A-Za-z0-9_-]+", str(name)):
            errors.append(
                f"web2py_headers: found the name {name!r}, allowed are letters, digits, dashes and underscores"
            )
        elif isinstance(value, Mapping | list) or value is None or not re.fullmatch("[ -~]+", str(value)):
            errors.append(f"web2py_headers: {name} is {value!r}, allowed is a text of printable ASCII characters")
    return errors


def _is_address(name: Any) -> bool:
    try:
        networks.address(name)
    except ValueError:
        return False
    return True


def subject_alt_names(names: Sequence[Any]) -> list[str]:
    """Names as a certificate lists them (RFC 5280, 4.2.1.6)."""
    return [f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names]
