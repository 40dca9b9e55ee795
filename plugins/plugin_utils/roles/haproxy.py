# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role haproxy mean, and what is wrong in them."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import mozilla, networks
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import (
    Host,
    bracketed,
    entry,
    ip_address,
    is_present,
    out_of_range,
    repeated_names,
    wrong,
)

# What HAProxy's manual allows in names; no dot, which separates the parts of a variable there.
SERVER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
FILE = re.compile(r"(/[A-Za-z0-9._@+-]+)+")
URL_PATH = re.compile(r"/[A-Za-z0-9._~/?=&%+:@-]*")
STATUS = re.compile(r"[1-5]\d\d(-[1-5]\d\d)?")
DENIED_PATH = re.compile(r"(/([A-Za-z0-9_~-][A-Za-z0-9._~-]*|\*))+")
GROUP = re.compile(r"[a-z_][a-z0-9_-]*")
INTERFACE = re.compile(r"[A-Za-z0-9._@-]{1,15}")
# keepalived sends it in clear text and cuts off the rest (VRRP version 2).
PASSWORD = re.compile(r"[A-Za-z0-9._+/=-]{1,8}")
RANGES = {
    "http_port": (0, 65535),
    "https_port": (0, 65535),
    "statistics_port": (0, 65535),
    "hsts_max_age": (0, 2**31 - 1),
    "retries": (0, 10),
    "health_interval": (1, 300),
    "health_timeout": (1, 300),
    "health_rise": (1, 100),
    "health_fall": (1, 100),
    "timeout_connect": (1, 300),
    "timeout_client": (1, 86400),
    "timeout_server": (1, 86400),
    "timeout_queue": (1, 3600),
    "timeout_request": (1, 300),
    "timeout_keep_alive": (1, 3600),
    "timeout_tunnel": (1, 604800),
    "timeout_reload": (1, 86400),
    "max_connections": (10, 1000000),
    "max_header_size": (4096, 131072),
    "max_headers": (16, 1000),
}
NAME_RULE = "a name of letters, digits, _ and -"
FILE_RULE = "the absolute path of a file on the host"
# The configuration calls it @system-ca.
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    problems = [
        *number_and_text_problems(values),
        *address_problems(values),
        *site_problems(values),
        *certificate_problems(values),
        *server_problems(values),
        *keepalived_problems(values["keepalived"], host.facts.get("interfaces", ())),
    ]
    if problems:
        return {}, problems
    uses_certificates = values["mode"] == "http" and values["https_port"]
    certificates = [certificate_of(item) for item in values["certificates"] if is_present(item)]
    certificates = certificates if uses_certificates else []
    servers = [server_of(item, values["mode"]) for item in values["servers"] if is_present(item)]
    authorities = [server["ca_file"] or SYSTEM_AUTHORITIES for server in servers if server["tls"] and server["verify"]]
    port = "" if values["https_port"] == 443 else f":{values['https_port']}"
    health_host = values["health_host"] or (values["server_names"] or [""])[0]
    return {
        "binds": binds(values["addresses"], has_ipv6=bool(host.fact("all_ipv6_addresses"))),
        "certificates": certificates,
        "links": {
            link: target
            for item in certificates
            for link, target in ((item["path"], item["certificate_file"]), (item["key_path"], item["key_file"]))
        },
        # Their checksums are in the configuration, in this order.
        "read_files": list(dict.fromkeys([*(item["certificate_file"] for item in certificates), *authorities])),
        "known_hosts": [bracketed(name) for name in values["server_names"]],
        "denied_patterns": [path_pattern(path) for path in values["denied_paths"]],
        "https_location": f"https://%[req.fhdr(host),host_only]{port}",
        "health_host": bracketed(health_host),
        "servers": servers,
        "tls": mozilla.INTERMEDIATE,
        "statistics_address": bracketed(values["statistics_address"]),
        "keepalived": keepalived_of(values["keepalived"], host.facts) if values["keepalived"] else {},
        "has_keepalived": bool(values["keepalived"]),
    }, []


def binds(addresses: Sequence[str], *, has_ipv6: bool) -> list[dict[str, str]]:
    """Addresses to listen at, each with the option that it needs.

    IPv4 clients keep their IPv4 addresses, and a host without IPv6 starts all the same.
    """
    wanted = addresses or (["0.0.0.0", "::"] if has_ipv6 else ["0.0.0.0"])  # noqa: S104
    return [{"host": bracketed(text), "options": " v6only" if ":" in text else ""} for text in wanted]


def certificate_of(item: Mapping[str, Any]) -> dict[str, str]:
    """A certificate, with the names by which HAProxy finds certificate and key beside each other.

    Other files have other names, so that a change can be tried while the previous names are in use.
    """
    files = {key: item[key] for key in ("certificate_file", "key_file")}
    digest = hashlib.sha256("\n".join(files.values()).encode()).hexdigest()[:12]
    path = f"/etc/haproxy/certificates/{item['name']}-{digest}.pem"
    return {**files, "path": path, "key_path": f"{path}.key"}


def server_of(item: Mapping[str, Any], mode: str) -> dict[str, Any]:
    return {
        **item,
        "host": bracketed(item["address"]),
        # Where TLS is passed through, it is the health check that uses it.
        "tls": item["tls"] or mode == "tcp",
        "tls_name": item.get("tls_name", item["address"]),
        "ca_file": item.get("ca_file"),
    }


def keepalived_of(keepalived: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    interface = facts.get(keepalived["interface"].replace("-", "_"), {})
    addresses = keepalived["virtual_addresses"]
    return {
        **keepalived,
        "source_address": keepalived.get("source_address", interface.get("ipv4", {}).get("address", "")),
        "virtual_addresses": [text for text in addresses if ":" not in text],
        "virtual_addresses_ipv6": [text for text in addresses if ":" in text],
        "has_password": "password" in keepalived,
    }


def path_pattern(path: str) -> str:
    """A regular expression for the decoded path of every URL that leads to `path` or below it.

    However many slashes and single dots are between its parts; and with a suffix, which servers may take for a format.
    """
    parts = ("[^/]+" if part == "*" else re.escape(part) for part in path.lstrip("/").split("/"))
    return "^" + "".join(rf"/+(\.?/+)*{part}" for part in parts) + "([/.;]|$)"


def is_host(text: str | None) -> bool:
    """An address, or a name that is none of those numbers that a resolver takes for an address."""
    text = text or ""
    return ip_address(text) is not None or bool(HOST_NAME.fullmatch(text) and not re.fullmatch(r"[\d.]+", text))


def number_and_text_problems(values: Mapping[str, Any]) -> Iterator[str]:
    for name, (lowest, highest) in RANGES.items():
        yield from out_of_range(f"haproxy_{name}", values[name], lowest, highest)
    for name, pattern, allowed in (
        ("health_path", URL_PATH, "a path such as /healthz, with a query or without"),
        ("health_status", STATUS, "a status such as 200, or a range such as 200-399"),
        ("socket_group", GROUP, "the name of a group"),
    ):
        if not pattern.fullmatch(values[name]):
            yield wrong(f"haproxy_{name}", values[name], allowed)


def address_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the addresses and ports at which HAProxy listens."""
    virtual = {text.partition("/")[0] for text in values["keepalived"].get("virtual_addresses", ())}
    for text in values["addresses"]:
        if ip_address(text) is None:
            yield wrong("haproxy_addresses", text, "IP addresses of this host", "An empty list means all")
        elif text in virtual:
            yield (
                f"haproxy_addresses is {text!r}, a virtual address, which only one balancer has; it must be an address "
                "of this host. Or leave the list empty."
            )
    if not (values["http_port"] or values["https_port"]):
        yield "haproxy_http_port and haproxy_https_port are 0, which means none; at least one of them must be a port."
    names = defaultdict(list)
    for name in ("http_port", "https_port", "statistics_port"):
        names[values[name]].append(f"haproxy_{name}")
    for port, variables in names.items():
        if port and len(variables) > 1:
            yield f"{' and '.join(variables)} are {port}; they must be different ports."
    statistics = ip_address(values["statistics_address"])
    if statistics is None or not statistics.is_loopback:
        yield wrong(
            "haproxy_statistics_address",
            values["statistics_address"],
            "a loopback address",
            "The page asks nobody for a password: reach it from elsewhere through an SSH tunnel",
        )


def site_problems(values: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with how the site is answered."""
    health_hosts = [values["health_host"]] if values["health_host"] else []
    for name, texts in (("server_names", values["server_names"]), ("health_host", health_hosts)):
        for text in texts:
            if not is_host(text):
                yield wrong(f"haproxy_{name}", text, "a host name or an IP address, without a port")
    for path in values["denied_paths"]:
        if not DENIED_PATH.fullmatch(path):
            yield wrong(
                "haproxy_denied_paths",
                path,
                "a path such as /admin or /*/appadmin: letters, digits and ._~- between slashes, no dot at the "
                "beginning of a part, * for any one part",
            )
    yield from (tcp_problems if values["mode"] == "tcp" else http_problems)(values)


def tcp_problems(values: Mapping[str, Any]) -> Iterator[str]:
    if not values["https_port"]:
        yield wrong("haproxy_https_port", 0, "a port while haproxy_mode is tcp, which passes on what comes to it")
    if values["http_port"] and not values["redirect_to_https"]:
        yield wrong(
            "haproxy_http_port",
            values["http_port"],
            "0 while haproxy_mode is tcp, which passes on TLS only",
            "Or set haproxy_redirect_to_https: true",
        )
    for name, empty in (("denied_paths", "[]"), ("hsts_max_age", "0")):
        if values[name]:
            yield wrong(
                f"haproxy_{name}",
                values[name],
                f"{empty} while haproxy_mode is tcp, as HAProxy cannot look into what it passes on",
                "Let the servers do it",
            )


def http_problems(values: Mapping[str, Any]) -> Iterator[str]:
    if values["send_proxy"]:
        yield wrong("haproxy_send_proxy", True, "false unless haproxy_mode is tcp", "Servers get X-Forwarded-For")
    if values["denied_paths"] and not values["strict_paths"]:
        yield wrong(
            "haproxy_strict_paths",
            False,
            "true while haproxy_denied_paths has entries, which an ambiguous URL would pass",
        )
    for name, off in (("redirect_to_https", "false"), ("hsts_max_age", "0")):
        if values[name] and not values["https_port"]:
            yield wrong(f"haproxy_{name}", values[name], f"{off} while haproxy_https_port is 0")


def certificate_problems(values: Mapping[str, Any]) -> Iterator[str]:
    items = values["certificates"]
    if values["mode"] == "http" and values["https_port"] and not any(map(is_present, items)):
        yield (
            f"haproxy_certificates has no certificate; it must have one while haproxy_https_port is "
            f"{values['https_port']}. Give certificate_file and key_file, or set haproxy_https_port: 0."
        )
    yield from repeated_names("haproxy_certificates", items)
    for number, item in enumerate(items):
        if not is_present(item):
            continue
        where = entry("haproxy_certificates", number, item)
        if not SERVER_NAME.fullmatch(item["name"]):
            yield wrong(f"{where}: name", item["name"], NAME_RULE)
        for key in ("certificate_file", "key_file"):
            if not FILE.fullmatch(item.get(key, "")):
                yield wrong(f"{where}: {key}", item.get(key), FILE_RULE)


def server_problems(values: Mapping[str, Any]) -> Iterator[str]:
    items = values["servers"]
    if not any(is_present(item) and not item["backup"] for item in items):
        yield "haproxy_servers has no server; it must have at least one that is present and no backup."
    yield from repeated_names("haproxy_servers", items)
    for number, item in enumerate(items):
        if not is_present(item):
            continue
        where = entry("haproxy_servers", number, item)
        if not SERVER_NAME.fullmatch(item["name"]):
            yield wrong(f"{where}: name", item["name"], NAME_RULE)
        if not is_host(item.get("address")):
            yield wrong(f"{where}: address", item.get("address"), "an IP address or a host name")
        yield from out_of_range(f"{where}: port", item.get("port"), 1, 65535)
        yield from out_of_range(f"{where}: weight", item["weight"], 0, 256)
        yield from out_of_range(f"{where}: max_connections", item["max_connections"], 0, 1000000)
        if values["mode"] == "tcp" or item["tls"]:
            yield from tls_problems(where, item)


def tls_problems(where: str, server: Mapping[str, Any]) -> Iterator[str]:
    name = server.get("tls_name", server.get("address", ""))
    if not HOST_NAME.fullmatch(name) or ip_address(name):
        yield wrong(
            f"{where}: tls_name",
            server.get("tls_name"),
            f"the host name that the certificate is for, because address is {server.get('address')!r}",
        )
    if "ca_file" in server and not FILE.fullmatch(server["ca_file"]):
        yield wrong(f"{where}: ca_file", server["ca_file"], FILE_RULE)


def keepalived_problems(keepalived: Mapping[str, Any], interfaces: Sequence[str]) -> Iterator[str]:
    """What is wrong in `haproxy_keepalived` on a host with these interfaces; no message repeats the password."""
    if not keepalived:
        return
    where = "haproxy_keepalived"
    for key, allowed in (
        ("interface", "the name of a network interface"),
        ("router_id", "between 1 and 255"),
        ("virtual_addresses", "a list of at least one address"),
        ("peers", "a list of at least one address"),
    ):
        if not keepalived.get(key) and keepalived.get(key) != 0:
            yield wrong(f"{where}: {key}", keepalived.get(key) or None, allowed)
    if interface := keepalived.get("interface"):
        if not INTERFACE.fullmatch(interface):
            yield wrong(f"{where}: interface", interface, "the name of a network interface")
        elif interfaces and interface not in interfaces:
            yield wrong(f"{where}: interface", interface, f"one of this host: {', '.join(sorted(interfaces))}")
    for key, highest in (("router_id", 255), ("priority", 254)):
        if key in keepalived:
            yield from out_of_range(f"{where}: {key}", keepalived[key], 1, highest)
    sources = [keepalived["source_address"]] if "source_address" in keepalived else []
    for key, texts in (("peers", keepalived.get("peers", ())), ("source_address", sources)):
        for text in texts:
            if getattr(ip_address(text), "version", 0) != 4:
                yield wrong(f"{where}: {key}", text, "IPv4 addresses")
    versions = set()
    for text in keepalived.get("virtual_addresses", ()):
        try:
            versions.add(networks.address(str(ipaddress.ip_interface(text).ip)).version)
        except ValueError:
            yield wrong(f"{where}: virtual_addresses", text, "IP addresses such as 192.0.2.9/24")
    if versions == {6}:
        yield f"{where}: virtual_addresses has IPv6 only; it must have at least one IPv4 address."
    if "password" in keepalived and not PASSWORD.fullmatch(keepalived["password"]):
        yield f"{where}: password is not shown; it must have 1 to 8 letters, digits and signs of ._+/=-."
