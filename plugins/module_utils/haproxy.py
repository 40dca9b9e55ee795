# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role haproxy's checks, and the talk with a running HAProxy, without Ansible."""

from __future__ import annotations

import csv
import hashlib
import ipaddress
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.module_utils import networks
from ansible_collections.web2py.deployment.plugins.module_utils.items import present

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
KEEPALIVED_NEEDS = ("interface", "router_id", "virtual_addresses", "peers")


def is_true(value: Any) -> bool:
    """Whether an option is on, also where an inventory has it as a text."""
    return str(value).lower() in ("true", "yes", "on", "1", "y", "t")


def number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None


def range_error(variable: str, value: Any, lowest: int, highest: int) -> list[str]:
    found = number(value)
    if found is not None and lowest <= found <= highest:
        return []
    return [f"{variable}: found {value!r}, allowed are {lowest} to {highest}"]


def address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return networks.address(text)
    except ValueError:
        return None


def is_host(text: Any) -> bool:
    """An address, or a name that is none of those numbers that a resolver takes for an address."""
    text = str(text)
    return address(text) is not None or bool(HOST_NAME.fullmatch(text) and not re.fullmatch(r"[\d.]+", text))


def repeated(names: Sequence[Any]) -> list[Any]:
    return sorted({name for name in names if list(names).count(name) > 1}, key=str)


def bind_errors(role: Mapping[str, Any]) -> list[str]:
    """What is wrong with the addresses and ports at which HAProxy listens."""
    found = [
        f"haproxy_addresses: found {text!r}, allowed are IP addresses of this host; none means all"
        for text in role["addresses"]
        if address(text) is None
    ]
    virtual = {str(text).partition("/")[0] for text in role["keepalived"].get("virtual_addresses") or []}
    found += [
        f"haproxy_addresses: found {text!r}, a virtual address, which only one balancer has; leave the list empty"
        for text in role["addresses"]
        if str(text) in virtual
    ]
    ports = {name: number(role[name]) for name in ("http_port", "https_port", "statistics_port") if number(role[name])}
    if not (ports.keys() & {"http_port", "https_port"}):
        found.append("haproxy_http_port, haproxy_https_port: both are 0, which means none; set at least one of them")
    for port in repeated(list(ports.values())):
        names = " and ".join(f"haproxy_{name}" for name, value in ports.items() if value == port)
        found.append(f"{names}: found {port} in both, allowed are different ports")
    statistics = address(role["statistics_address"])
    if statistics is None or not statistics.is_loopback:
        found.append(
            f"haproxy_statistics_address: found {role['statistics_address']!r}, allowed are addresses of loopback: the "
            "page asks nobody for a password; reach it from elsewhere through an SSH tunnel"
        )
    return found


def site_errors(role: Mapping[str, Any]) -> list[str]:
    """What is wrong with how the site is answered."""
    found = [
        f"haproxy_server_names: found {name!r}, allowed are host names and IP addresses, without a port"
        for name in [*role["server_names"], *([role["health_host"]] if role["health_host"] else [])]
        if not is_host(name)
    ]
    found += [
        f"haproxy_denied_paths: found {path!r}, allowed are paths such as /admin and /*/appadmin: letters, digits and "
        "._~- between slashes, no dot at the beginning of a part, * for any one part"
        for path in role["denied_paths"]
        if not DENIED_PATH.fullmatch(str(path))
    ]
    https, redirects, strict = number(role["https_port"]), is_true(role["redirect_to_https"]), role["strict_paths"]
    if role["mode"] == "tcp":
        if not https:
            found.append("haproxy_https_port: found 0, but haproxy_mode is tcp and passes on what comes to that port")
        if number(role["http_port"]) and not redirects:
            found.append(
                f"haproxy_http_port: found {role['http_port']!r}, but haproxy_mode is tcp, which passes on TLS only; "
                "set haproxy_redirect_to_https: true, or haproxy_http_port: 0"
            )
        for name, value in (("denied_paths", role["denied_paths"]), ("hsts_max_age", number(role["hsts_max_age"]))):
            if value:
                found.append(
                    f"haproxy_{name}: found {role[name]!r}, but haproxy_mode is tcp, and HAProxy cannot look into what "
                    f"it passes on; set it to {'[]' if name == 'denied_paths' else 0}, and let the servers do it"
                )
        return found
    if is_true(role["send_proxy"]):
        found.append("haproxy_send_proxy: found true, allowed is that with haproxy_mode: tcp; http has X-Forwarded-For")
    if role["denied_paths"] and not is_true(strict):
        found.append(
            f"haproxy_strict_paths: found {strict!r}, but haproxy_denied_paths has entries, which an ambiguous URL "
            "would pass; set it to true, or haproxy_denied_paths to []"
        )
    for name in ("redirect_to_https", "hsts_max_age"):
        if not https and role[name] and str(role[name]).lower() not in ("0", "false", "no"):
            found.append(f"haproxy_{name}: found {role[name]!r}, but haproxy_https_port is 0")
    return found


def certificate_errors(role: Mapping[str, Any]) -> list[str]:
    """What is wrong in `haproxy_certificates`."""
    wanted = [item for item in role["certificates"] if present(item)]
    found = []
    if role["mode"] == "http" and number(role["https_port"]) and not wanted:
        found.append(
            f"haproxy_certificates: found none, but haproxy_https_port is {role['https_port']}; give one with "
            "certificate_file and key_file, or set haproxy_https_port: 0"
        )
    for name in repeated([item.get("name") for item in role["certificates"]]):
        found.append(f"haproxy_certificates: {name!r} is listed twice; each name may be there once")
    for item in wanted:
        if not SERVER_NAME.fullmatch(str(item.get("name"))):
            found.append(
                f"haproxy_certificates: found the name {item.get('name')!r}, allowed are letters, digits, _ and -"
            )
        for key in ("certificate_file", "key_file"):
            if not FILE.fullmatch(str(item.get(key))):
                found.append(
                    f"haproxy_certificates: {key} of {item.get('name')!r} is {item.get(key)!r}, allowed is the "
                    "absolute path of a file on the host"
                )
    return found


def server_errors(role: Mapping[str, Any]) -> list[str]:
    """What is wrong in `haproxy_servers`."""
    servers = role["servers"]
    wanted = [item for item in servers if present(item)]
    found = []
    if not any(not is_true(item.get("backup", False)) for item in wanted):
        found.append("haproxy_servers: found none that is present and no backup, at least one is needed")
    for name in repeated([item.get("name") for item in servers]):
        found.append(f"haproxy_servers: {name!r} is listed twice; each name may be there once")
    for item in wanted:
        name, where = item.get("name"), f"haproxy_servers, {item.get('name')!r}"
        if not SERVER_NAME.fullmatch(str(name)):
            found.append(f"haproxy_servers: found the name {name!r}, allowed are letters, digits, _ and -")
        if not is_host(item.get("address") or ""):
            found.append(f"{where}: address is {item.get('address')!r}, allowed are IP addresses and host names")
        found += range_error(f"{where}, port", item.get("port"), 1, 65535)
        found += range_error(f"{where}, weight", item.get("weight", 100), 0, 256)
        found += range_error(f"{where}, max_connections", item.get("max_connections", 0), 0, 1000000)
        if role["mode"] == "tcp" or is_true(item.get("tls", False)):
            found += _tls_errors(where, item)
    return found


def _tls_errors(where: str, server: Mapping[str, Any]) -> list[str]:
    found = []
    name = server.get("tls_name", server.get("address"))
    if not HOST_NAME.fullmatch(str(name)) or address(name):
        found.append(
            f"{where}: tls_name is {server.get('tls_name')!r} and the address is {server.get('address')!r}, but one of "
            "them must be the host name that the certificate is for"
        )
    if "ca_file" in server and not FILE.fullmatch(str(server["ca_file"])):
        found.append(f"{where}: ca_file is {server['ca_file']!r}, allowed is the absolute path of a file on the host")
    return found


def keepalived_errors(keepalived: Mapping[str, Any], interfaces: Sequence[str]) -> list[str]:
    """What is wrong in `haproxy_keepalived` on a host with these interfaces; no message repeats the password."""
    if not keepalived:
        return []
    found = [f"haproxy_keepalived: {key} is missing" for key in KEEPALIVED_NEEDS if not keepalived.get(key)]
    if keepalived.get("interface") and not INTERFACE.fullmatch(str(keepalived["interface"])):
        found.append(f"haproxy_keepalived: interface is {keepalived['interface']!r}, allowed is the name of one")
    elif keepalived.get("interface") and interfaces and keepalived["interface"] not in interfaces:
        found.append(
            f"haproxy_keepalived: interface is {keepalived['interface']!r}, allowed are those of this host: "
            + ", ".join(sorted(interfaces))
        )
    for key, highest in (("router_id", 255), ("priority", 254)):
        if key in keepalived:
            found += range_error(f"haproxy_keepalived, {key}", keepalived[key], 1, highest)
    sources = [keepalived["source_address"]] if "source_address" in keepalived else []
    for key, texts in (("peers", keepalived.get("peers") or []), ("source_address", sources)):
        found += [
            f"haproxy_keepalived: {key} has {text!r}, allowed are IPv4 addresses"
            for text in texts
            if getattr(address(text), "version", 0) != 4
        ]
    versions = set()
    for text in keepalived.get("virtual_addresses") or []:
        try:
            versions.add(networks.address(str(ipaddress.ip_interface(str(text)).ip)).version)
        except ValueError:
            found.append(
                f"haproxy_keepalived: virtual_addresses has {text!r}, allowed are IP addresses, as 192.0.2.9/24"
            )
    if versions == {6}:
        found.append("haproxy_keepalived: virtual_addresses has IPv6 only, at least one IPv4 address is needed")
    if "password" in keepalived and not PASSWORD.fullmatch(str(keepalived["password"])):
        found.append("haproxy_keepalived: the password must have 1 to 8 letters, digits and signs of ._+/=-")
    return found


def errors(role: Mapping[str, Any], interfaces: Sequence[str] = ()) -> list[str]:
    """All that is wrong in the variables of the role, by their names without `haproxy_`."""
    found = []
    for name, allowed in (("mode", ("http", "tcp")), ("balance", ("roundrobin", "leastconn"))):
        if role[name] not in allowed:
            found.append(f"haproxy_{name}: found {role[name]!r}, allowed are {' and '.join(allowed)}")
    for name, (lowest, highest) in RANGES.items():
        found += range_error(f"haproxy_{name}", role[name], lowest, highest)
    for name, pattern, allowed in (
        ("health_path", URL_PATH, "a path such as /healthz, with a query or without"),
        ("health_status", STATUS, "a status such as 200, or a range such as 200-399"),
        ("socket_group", GROUP, "the name of a group"),
    ):
        if not pattern.fullmatch(str(role[name])):
            found.append(f"haproxy_{name}: found {role[name]!r}, allowed is {allowed}")
    found += bind_errors(role) + site_errors(role) + certificate_errors(role)
    return found + server_errors(role) + keepalived_errors(role["keepalived"], interfaces)


def certificates(items: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The certificates that are present, with the names by which HAProxy finds certificate and key beside each other.

    Other files have other names, so that a change can be tried while the former names are in use.
    """
    found = []
    for item in items:
        if present(item):
            files = {key: str(item[key]) for key in ("certificate_file", "key_file")}
            digest = hashlib.sha256("\n".join(files.values()).encode()).hexdigest()[:12]
            path = f"/etc/haproxy/certificates/{item['name']}-{digest}.pem"
            found.append({**files, "path": path, "key_path": f"{path}.key"})
    return found


def path_pattern(path: str) -> str:
    """A regular expression for the decoded path of every URL that leads to `path` or below it.

    However many slashes and single dots are between its parts; and with a suffix, which servers may take for a format.
    """
    parts = ("[^/]+" if part == "*" else re.escape(part) for part in path.lstrip("/").split("/"))
    return "^" + "".join(rf"/+(\.?/+)*{part}" for part in parts) + "([/.;]|$)"


# What follows talks with a running HAProxy: its manual, chapter "Unix Socket commands".


class RuntimeFault(Exception):
    """HAProxy cannot be asked, or says no; `result` is what was done all the same."""

    def __init__(self, message: str, result: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.result = dict(result or {})


FORCED_MAINTENANCE, CONFIGURED_MAINTENANCE, FORCED_DRAIN = 0x01, 0x04, 0x08
STATES = ("ready", "drain", "maint")


def talk(path: str, command: str) -> str:
    """What HAProxy answers to one command."""
    received = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(path)
            connection.sendall(command.encode() + b"\n")
            while part := connection.recv(65536):
                received += part
    except OSError as error:
        raise RuntimeFault(
            f"{path}: {error.strerror or error}; is HAProxy running, and may this user ask it?"
        ) from error
    return received.decode(errors="replace")


def administrative_states(text: str, backend: str) -> dict[str, str]:
    """What operators want each server of a backend to be, from `show servers state`."""
    states, columns = {}, []
    for line in text.splitlines():
        fields = line.split()
        if line.startswith("#"):
            columns = fields[1:]
        elif columns and len(fields) >= len(columns) - 1:
            row = dict(zip(columns, fields))  # noqa: B905 (older versions have fewer columns)
            if row["be_name"] == backend:
                states[row["srv_name"]] = administrative_state(int(row["srv_admin_state"]))
    return states


def administrative_state(flags: int) -> str:
    if flags & (FORCED_MAINTENANCE | CONFIGURED_MAINTENANCE):
        return "maint"
    return "drain" if flags & FORCED_DRAIN else "ready"


def statistics(text: str, backend: str, server: str) -> dict[str, str]:
    """The row of one server in `show stat`."""
    for row in csv.DictReader(text.removeprefix("# ").splitlines()):
        if (row["pxname"], row["svname"]) == (backend, server):
            return row
    raise RuntimeFault(f"HAProxy has no server {server!r} in {backend!r} any more")


def busy(row: Mapping[str, str]) -> int:
    """How many requests a server has, and how many wait for just it."""
    return int(row["scur"] or 0) + int(row["qcur"] or 0)


def is_up(row: Mapping[str, str]) -> bool:
    """Whether a server gets requests: not while its checks are about to decide otherwise."""
    return row["status"] in ("UP", "no check", "OPEN")


def reached(state: str, row: Mapping[str, str]) -> bool:
    return is_up(row) if state == "ready" else busy(row) == 0


def chosen(states: Mapping[str, str], backend: str, servers: Sequence[str], *, others: bool) -> list[str]:
    """The servers that are meant: those that are named, or with `others` all that are not."""
    if others:
        return [server for server in states if server not in servers]
    for server in servers:
        if server not in states:
            known = ", ".join(sorted(states)) or f"none, because there is no backend {backend!r}"
            raise RuntimeFault(f"server: found {server!r}, allowed are the servers of {backend!r}: {known}")
    return list(servers)


def set_state(
    ask: Callable[[str], str],
    backend: str,
    servers: Sequence[str],
    state: str,
    *,
    others: bool = False,
    former: Sequence[str] = STATES,
    check: bool = False,
    wait: bool = True,
    timeout: float = 300,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> dict[str, Any]:
    """Bring servers into a state; with `wait`, end when none has a request left, or, to be ready, when all are up."""
    states = administrative_states(ask("show servers state"), backend)
    before = {
        server: states[server]
        for server in chosen(states, backend, servers, others=others)
        if states[server] in former or states[server] == state
    }
    changing = [server for server, found in before.items() if found != state]
    for server in [] if check else changing:
        if answer := ask(f"set server {backend}/{server} state {state}").strip():
            raise RuntimeFault(f"HAProxy refuses to set {server!r} to {state}: {answer}")
    deadline = clock() + timeout
    while True:
        table = ask("show stat")
        rows = {server: statistics(table, backend, server) for server in before}
        found = [
            {
                "name": server,
                "before": before[server],
                "requests": busy(row),
                "status": row["status"],
                "up": is_up(row),
                "check": "/".join(filter(None, (row["check_status"].removeprefix("* "), row["check_code"]))),
            }
            for server, row in rows.items()
        ]
        result = {"changed": bool(changing), "servers": found}
        late = [server for server, row in rows.items() if not reached(state, row)]
        if check or not wait or not late:
            return result
        if clock() >= deadline:
            server, row = late[0], rows[late[0]]
            left = f"its status is {row['status']}" if state == "ready" else f"it has {busy(row)} requests"
            raise RuntimeFault(f"{server!r} is set to {state}, but after {timeout:g} seconds {left}", result)
        sleep(0.1)
