# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role web2py_daemon mean, and what is wrong in them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.frontends import FRONT_ENDS
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import (
    Host,
    bracketed,
    entry,
    ip_address,
    is_present,
    memory_problems,
    out_of_range,
    password_problems,
    proxy_problems,
    repeated_names,
    wrong,
)
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.frontend import public_names, public_ports

# As in vars/main.yml.
HOME = "/opt/web2py"
ROOT = "/var/lib/web2py"
UNITS = "/etc/systemd/system"
# Part of unit names, paths and a Python string; systemd would escape other characters.
INSTANCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
SYSTEM_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
URL_PATH = re.compile(r"/[A-Za-z0-9._~/-]+")
# Part of a unit's command line.
FILE = re.compile(r"/[A-Za-z0-9._/@+-]+")
# systemd.exec(5) ignores a limit of a process that it cannot read, such as 400MB, and has no shares here.
PROCESS_MEMORY = re.compile(r"[1-9][0-9]*[KMGT]?|infinity")
MAY_BE_ZERO = ("limits: request_body", "limits: requests")
# As in the role's argument specs and those of web2py.
PROXY_REUSE = 5
REQUEST_BODY = 268435456
LISTENING = "0A"

Listener = tuple[str, int]
Values = Mapping[str, Any]


def plan(values: Values, host: Host) -> tuple[dict[str, Any], list[str]]:
    site = host.values_of("web2py")
    applications = [item for item in values["applications"] if item.get("state", "present") == "present"]
    names = [str(item.get("name", "")) for item in applications]
    problems = [
        *instance_problems(values["instances"], names),
        *listener_problems(values["instances"], site, host.found),
        *scheduler_problems(values["scheduler_workers"], names),
        *general_problems(values, names),
    ]
    if problems:
        return {}, problems
    present = sorted(filter(is_present, values["instances"]), key=lambda item: item["name"])
    roots = {item["name"]: f"{ROOT}/instances/{item['name']}" for item in present if item["administration"]}
    exposed = [str(item["name"]) for item in applications if item.get("exposed", True)]
    instances = [
        instance_of(item, roots, names if item["administration"] else exposed, values["health_path"], site)
        for item in present
    ]
    schedulers = [
        {
            "name": f"{item['application']}-{number}",
            "application": item["application"],
            "queue": ":".join([item["application"], *item.get("groups", [])]),
        }
        for item in values["scheduler_workers"]
        if is_present(item)
        for number in range(1, item["workers"] + 1)
    ]
    return {
        "instances": instances,
        "names": [item["name"] for item in instances],
        "units": [f"web2py@{item['name']}.{kind}" for kind in ("socket", "service") for item in instances],
        "folders": [
            *(f"{UNITS}/web2py@{item['name']}.{kind}.d" for item in instances for kind in ("service", "socket")),
            *(f"{HOME}/instances/{name}" for name in roots),
        ],
        # Passwords are read from the variable by the number, where they are needed.
        "administered": [
            {
                "name": item["name"],
                "number": number,
                "root": roots[item["name"]],
                "password_file": f"{roots[item['name']]}/parameters_{item['port']}.py",
            }
            for number, item in enumerate(values["instances"])
            if is_present(item) and item["administration"]
        ],
        "links": [
            {"path": f"{root}/{name}", "target": f"{ROOT}/{name}"}
            for root in roots.values()
            for name in ("routes.py", *(f"applications/{name}" for name in names if name != "admin"))
        ],
        "schedulers": schedulers,
        "scheduler_units": [f"web2py-scheduler@{item['name']}.service" for item in schedulers],
        "scheduler_files": [f"scheduler-{item['name']}" for item in schedulers],
        # These of web2py may hold secrets.
        "applications": names,
    }, []


def instance_of(
    instance: Values, roots: Mapping[str, str], applications: Sequence[str], health_path: str, site: Values
) -> dict[str, Any]:
    """An instance with what follows from it; settings are those of the runtime package's handler."""
    name, is_socket, tls = instance["name"], instance["socket"], instance.get("tls", {})
    administration = "off"
    if instance["administration_through_proxy"] or (instance["administration"] and tls):
        administration = "https"
    elif instance["administration"]:
        administration = "loopback"
    if instance["administration"]:
        applications = list(dict.fromkeys(["admin", *applications]))
    proxies = list(dict.fromkeys(["unix", *site.get("trusted_proxies", [])])) if is_socket else []
    return {
        **instance,
        "listen": None if is_socket else f"{bracketed(instance['address'])}:{instance['port']}",
        "limits": {"request_body": site.get("max_request_body", REQUEST_BODY), **instance["limits"]},
        "access_log": instance.get("access_log", not is_socket),
        "tls": tls,
        # All instances run as one user.
        "hidden": [root for other, root in roots.items() if other != name] if name in roots else [f"{ROOT}/instances"],
        "settings": {
            "root": roots.get(name, ROOT),
            "framework": f"{HOME}/current",
            "health_path": health_path,
            "names": public_names(site),
            "ports": public_ports(site) if is_socket else {},
            "trusted_proxies": instance.get("trusted_proxies", proxies),
            "applications": instance.get("applications", applications),
            "administration": administration,
        },
    }


def instance_problems(instances: Sequence[Values], applications: Sequence[str]) -> Iterator[str]:
    yield from repeated_names("web2py_daemon_instances", instances)
    for number, instance in enumerate(instances):
        where = entry("web2py_daemon_instances", number, instance)
        if not INSTANCE_NAME.fullmatch(instance["name"]):
            yield wrong(
                f"{where}: name",
                instance["name"],
                "up to 32 lowercase letters, digits and underscores, the first a letter",
            )
        if is_present(instance):
            yield from address_problems(where, instance)
            yield from administration_problems(where, instance)
            yield from application_problems(where, instance, applications)
            yield from number_problems(where, instance)
            yield from proxied_problems(where, instance)
            yield from memory_problems(f"{where}: memory_max", instance["memory_max"])
            for key, path in instance.get("tls", {}).items():
                if not FILE.fullmatch(path):
                    yield wrong(f"{where}: tls: {key}", path, "an absolute path of letters, digits and signs of ._/@+-")


def address_problems(where: str, instance: Values) -> Iterator[str]:
    if instance["socket"]:
        for key in ("port", "tls"):
            if key in instance:
                yield wrong(f"{where}: {key}", instance[key], "left out where socket is true")
        return
    if ip_address(instance["address"]) is None:
        yield wrong(f"{where}: address", instance["address"], "an IP address")
    yield from out_of_range(f"{where}: port", instance.get("port"), 1, 65535)


def administration_problems(where: str, instance: Values) -> Iterator[str]:
    given = [key for key in ("password", "password_hash") if instance.get(key)]
    if instance["administration_through_proxy"] and (instance["administration"] or not instance["socket"]):
        yield wrong(
            f"{where}: administration_through_proxy", True, "false unless socket is true and administration false"
        )
    if not instance["administration"]:
        yield from (f"{where}: {key} is given; it must be left out unless administration is true." for key in given)
        return
    address = ip_address(instance["address"])
    if instance["socket"]:
        yield wrong(f"{where}: socket", True, "false where administration is true", "Give it a port of its own")
    elif address and not address.is_loopback and "tls" not in instance:
        yield wrong(
            f"{where}: address",
            instance["address"],
            "a loopback address such as 127.0.0.1 where administration is true",
            "On a public listener, administration needs tls",
        )
    yield from password_problems(where, instance)


def application_problems(where: str, instance: Values, applications: Sequence[str]) -> Iterator[str]:
    known = {*applications, *(["admin"] if instance["administration"] else [])}
    for name in instance.get("applications", []):
        if name not in known:
            yield wrong(f"{where}: applications", name, f"of the site's applications: {', '.join(sorted(known))}")


def number_problems(where: str, instance: Values) -> Iterator[str]:
    numbers = {name: instance[name] for name in ("processes", "threads")}
    for group in ("timeouts", "limits"):
        numbers |= {f"{group}: {name}": number for name, number in instance[group].items()}
    memory = numbers.pop("limits: process_memory")
    if not PROCESS_MEMORY.fullmatch(memory):
        yield wrong(f"{where}: limits: process_memory", memory, "a size such as 512M, or infinity")
    for name, number in numbers.items():
        least = 0 if name in MAY_BE_ZERO else 1
        if number < least:
            yield wrong(f"{where}: {name}", number, f"a whole number from {least}")


def proxied_problems(where: str, instance: Values) -> Iterator[str]:
    yield from proxy_problems(f"{where}: trusted_proxies", instance.get("trusted_proxies", []))
    keep_alive, reuse = instance["timeouts"]["keep_alive"], instance["timeouts"]["proxy_reuse"]
    if keep_alive <= reuse and (instance["socket"] or instance.get("trusted_proxies") or reuse != PROXY_REUSE):
        yield wrong(
            f"{where}: timeouts: keep_alive",
            keep_alive,
            f"more than proxy_reuse ({reuse})",
            "What the proxy sends on a connection that is just being closed is lost",
        )


def listener_problems(instances: Sequence[Values], site: Values, found: Values | None) -> Iterator[str]:
    """Where instances listen, and front end, other programs or other instances do already."""
    # The site's playbook, which has not looked at the host, always puts a front end there.
    roles = [*FRONT_ENDS] if found is None else [role.rpartition(".")[2] for role in found["play_roles"]]
    front_end_ports = ("http_port", "https_port") if set(roles) & set(FRONT_ENDS) else ()
    listening = found["listening"] if found else ""
    taken = sorted(listeners(listening) - own_listeners(listening))
    others: list[tuple[str, int, str]] = []
    for number, instance in enumerate(instances):
        port, address = instance.get("port"), instance["address"]
        if not is_present(instance) or instance["socket"] or not port or ip_address(address) is None:
            continue
        where = f"{entry('web2py_daemon_instances', number, instance)}: port"
        for name in front_end_ports:
            if site.get(name) == port:
                yield wrong(where, port, f"another than web2py_{name}, on which the front end listens")
        for other, other_port in taken:
            if port == other_port and overlap(address, other):
                yield wrong(where, port, "a free port", f"Another program listens on {other} with this port")
        for other, other_port, name in others:
            if port == other_port and overlap(address, other):
                yield wrong(where, port, f"another than that of instance {name!r}, which listens on {other}")
        others.append((address, port, instance["name"]))


def listeners(proc_net_tcp: str) -> set[Listener]:
    """Addresses and ports in the state LISTEN, from the text of /proc/net/tcp and /proc/net/tcp6."""
    found = set()
    for line in proc_net_tcp.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[3] == LISTENING:
            address, _separator, port = fields[1].partition(":")
            # The kernel writes 32-bit words in the byte order of the machine, little-endian on all of Debian's.
            words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
            found.add((str(ipaddress.ip_address(b"".join(words))), int(port, 16)))
    return found


def own_listeners(list_sockets: str) -> set[Listener]:
    """Addresses and ports of our own sockets, from the text of `systemctl list-sockets`."""
    found = set()
    for line in list_sockets.splitlines():
        listen, _separator, rest = line.strip().partition(" ")
        address, _separator, port = listen.rpartition(":")
        if "web2py@" in rest and port.isdecimal():
            found.add((address.strip("[]"), int(port)))
    return found


def overlap(one: str, other: str) -> bool:
    """Whether two listeners of one port are in each other's way."""
    addresses = [ipaddress.ip_address(one), ipaddress.ip_address(other)]
    # An IPv6 socket for all addresses takes the IPv4 ones as well.
    if any(address.version == 6 and address.is_unspecified for address in addresses):
        return True
    same_family = addresses[0].version == addresses[1].version
    return same_family and (addresses[0] == addresses[1] or any(address.is_unspecified for address in addresses))


def scheduler_problems(workers: Sequence[Values], applications: Sequence[str]) -> Iterator[str]:
    named = [{**item, "name": item["application"]} for item in workers]
    yield from repeated_names("web2py_daemon_scheduler_workers", named)
    for number, item in enumerate(named):
        if not is_present(item):
            continue
        where = entry("web2py_daemon_scheduler_workers", number, item)
        if item["name"] not in applications:
            allowed = f"one of the site's applications: {', '.join(applications) or 'there are none'}"
            yield wrong(f"{where}: application", item["name"], allowed)
        yield from out_of_range(f"{where}: workers", item["workers"], 1, 99)
        for group in item.get("groups", []):
            if not re.fullmatch(r"\w+", group):
                yield wrong(f"{where}: groups", group, "letters, digits and underscores")


def general_problems(values: Values, applications: Sequence[str]) -> Iterator[str]:
    yield from memory_problems("web2py_daemon_scheduler_memory_max", values["scheduler_memory_max"])
    yield from out_of_range("web2py_daemon_scheduler_tasks_max", values["scheduler_tasks_max"], 8, 65536)
    if values["scheduler_stop_timeout"] < 0:
        yield wrong("web2py_daemon_scheduler_stop_timeout", values["scheduler_stop_timeout"], "a whole number from 0")
    for name in applications:
        if not re.fullmatch(r"\w+", name):
            yield wrong("web2py_daemon_applications: name", name, "letters, digits and underscores")
    for name in ("user", "group", "socket_group"):
        if not SYSTEM_NAME.fullmatch(values[name]):
            yield wrong(f"web2py_daemon_{name}", values[name], "the name of a user or group")
    if not URL_PATH.fullmatch(values["health_path"]):
        yield wrong("web2py_daemon_health_path", values["health_path"], "a URL path such as /healthz")
    source = values["framework_source"]
    if not source and any(is_present(item) and item["administration"] for item in values["instances"]):
        yield wrong("web2py_daemon_framework_source", source, "given where an instance has administration")
