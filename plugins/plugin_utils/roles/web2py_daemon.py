# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks of the role web2py_daemon's variables, without Ansible."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import networks
from ansible_collections.web2py.deployment.plugins.plugin_utils.items import entries, present
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.applications import (
    PASSWORD_HASH,
    port_errors,
    proxy_errors,
)

# Part of unit names, paths and a Python string; systemd would escape other characters.
INSTANCE_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
# systemd.resource-control(5): bytes, with a unit, or a share of the machine's memory.
MEMORY = re.compile(r"[0-9]+[KMGT]?|[0-9]{1,3}%|infinity")
# systemd.exec(5) ignores a limit of a process that it cannot read, such as 400MB, and has no shares here.
PROCESS_MEMORY = re.compile(r"[1-9][0-9]*[KMGT]?|infinity")
# What may be left out, but not left empty: `applications:` without a value would mean all of them.
NOT_EMPTY = ("access_log", "applications", "limits", "socket", "timeouts", "tls", "trusted_proxies")
# The smallest allowed number of each setting.
TIMEOUTS = {"keep_alive": 1, "proxy_reuse": 1, "head": 1, "stall": 1, "request": 1, "graceful": 1}
LIMITS = {"request_body": 0, "requests": 0, "connections": 1, "files": 1, "tasks": 1}
# As in the role's argument specs.
KEEP_ALIVE, PROXY_REUSE = 30, 5
LISTENING = "0A"

Listener = tuple[str, int]


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


def _name(instance: Mapping[str, Any]) -> str:
    return f"web2py_daemon_instances: instance {instance.get('name')!r}"


def _address_errors(instance: Mapping[str, Any]) -> list[str]:
    name = _name(instance)
    if instance.get("socket"):
        given = [key for key in ("address", "port", "tls") if instance.get(key)]
        return [f"{name}: {', '.join(given)} cannot be given together with socket"] if given else []
    errors = []
    address = instance.get("address", "127.0.0.1")
    try:
        networks.address(address)
    except ValueError:
        errors.append(f"{name}: address is {address!r}, allowed are IP addresses")
    return errors + port_errors({f"{name}: port": instance.get("port")})


def _administration_errors(instance: Mapping[str, Any]) -> list[str]:
    name = _name(instance)
    given = [key for key in ("password", "password_hash") if instance.get(key)]
    if instance.get("administration_through_proxy") and (instance.get("administration") or not instance.get("socket")):
        return [f"{name}: administration_through_proxy is true, allowed only with socket and without administration"]
    if not instance.get("administration"):
        return [f"{name}: {given[0]} is given, but administration is not true"] if given else []
    errors = []
    if instance.get("socket"):
        errors.append(f"{name}: administration needs an address and a port of its own, not a socket")
    elif not instance.get("tls"):
        try:
            loopback = networks.address(instance.get("address", "127.0.0.1")).is_loopback
        except ValueError:
            loopback = True  # reported by the address itself
        if not loopback:
            errors.append(
                f"{name}: administration asked for on a plain public listener: address is {instance['address']!r}, "
                "allowed are loopback addresses such as 127.0.0.1, or give the instance tls"
            )
    if len(given) != 1:
        errors.append(f"{name}: administration needs exactly one of password and password_hash")
    elif "password" in given and not (isinstance(instance["password"], str) and 8 <= len(instance["password"]) <= 1024):
        errors.append(f"{name}: password must be a text of 8 to 1024 characters")
    elif "password_hash" in given and not PASSWORD_HASH.fullmatch(str(instance["password_hash"])):
        errors.append(f"{name}: password_hash must have the form that the filter web2py_password_hash gives")
    return errors


def _number_errors(prefix: str, values: Mapping[str, Any], smallest: Mapping[str, int]) -> list[str]:
    return [
        f"{prefix}{key} is {values[key]!r}, allowed are whole numbers from {least}"
        for key, least in smallest.items()
        if key in values and not (re.fullmatch("[0-9]+", str(values[key])) and int(values[key]) >= least)
    ]


def _value_errors(instance: Mapping[str, Any], applications: Iterable[str]) -> list[str]:
    name = _name(instance)
    known = {*applications, *(["admin"] if instance.get("administration") else [])}
    errors = [
        f"{name}: applications has {application!r}, allowed are those of the site: {', '.join(sorted(known))}"
        for application in instance.get("applications") or []
        if application not in known
    ]
    errors += [
        f"{name}: {key} is empty, allowed is a value, or no {key} at all"
        for key in NOT_EMPTY
        if key in instance and instance[key] is None
    ]
    errors += _number_errors(f"{name}: ", instance, {"processes": 1, "threads": 1})
    limits, timeouts = (
        instance.get(key) if isinstance(instance.get(key), Mapping) else {} for key in ("limits", "timeouts")
    )
    errors += _number_errors(f"{name}: limits.", limits, LIMITS)
    wrong = _number_errors(f"{name}: timeouts.", timeouts, TIMEOUTS)
    keep_alive, reuse = timeouts.get("keep_alive", KEEP_ALIVE), timeouts.get("proxy_reuse", PROXY_REUSE)
    proxied = instance.get("socket") or instance.get("trusted_proxies") or "proxy_reuse" in timeouts
    if proxied and not wrong and int(keep_alive) <= int(reuse):
        wrong.append(
            f"{name}: timeouts.keep_alive is {keep_alive}, allowed is more than timeouts.proxy_reuse ({reuse}): "
            "what the proxy sends on a connection that is just being closed is lost"
        )
    errors += wrong
    if not PROCESS_MEMORY.fullmatch(str(limits.get("process_memory", "infinity"))):
        errors.append(
            f"{name}: limits.process_memory is {limits['process_memory']!r}, "
            "allowed are sizes such as 512M or 2G, and infinity"
        )
    if not MEMORY.fullmatch(str(instance.get("memory_max", "infinity"))):
        errors.append(f"{name}: memory_max is {instance['memory_max']!r}, allowed are sizes such as 512M, 2G, or 50%")
    errors += [
        error.replace("web2py_trusted_proxies", f"{name}: trusted_proxies")
        for error in proxy_errors(instance.get("trusted_proxies") or [])
    ]
    for key in ("certificate_file", "key_file"):
        tls = instance.get("tls")
        # Both become part of a unit's command line.
        if tls and not re.fullmatch(r"/[A-Za-z0-9._/@+-]+", str(tls.get(key, ""))):
            errors.append(f"{name}: tls.{key} is {tls.get(key)!r}, allowed are absolute paths without blanks")
    return errors


def daemon_errors(
    instances: Sequence[Mapping[str, Any]],
    applications: Sequence[Mapping[str, Any]] = (),
    scheduler_workers: Sequence[Mapping[str, Any]] = (),
    proc_net_tcp: str = "",
    list_sockets: str = "",
    frontend_ports: Mapping[str, Any] | None = None,
) -> list[str]:
    """All that is wrong in `web2py_daemon_instances` and `web2py_daemon_scheduler_workers`; no password is repeated."""
    errors = []
    names: set[Any] = set()
    known = [str(item.get("name")) for item in entries(applications) if present(item)]
    taken = listeners(proc_net_tcp) - own_listeners(list_sockets)
    addresses: list[tuple[str, int, str]] = []
    for instance in entries(instances):
        name = instance.get("name")
        if not isinstance(name, str) or not INSTANCE_NAME.fullmatch(name):
            errors.append(
                f"{_name(instance)}: allowed names have up to 32 lowercase letters, digits and underscores, "
                "the first a letter"
            )
            continue
        if name in names:
            errors.append(f"{_name(instance)} is listed twice; each name may be there once")
        names.add(name)
        if not present(instance):
            continue
        wrong = _address_errors(instance)
        errors += wrong + _administration_errors(instance) + _value_errors(instance, known)
        if wrong or instance.get("socket"):
            continue
        address, port = str(instance.get("address", "127.0.0.1")), int(instance["port"])
        for other, other_port, other_name in addresses:
            if port == other_port and overlap(address, other):
                errors.append(f"{_name(instance)}: {address} port {port} is used by instance {other_name!r} already")
        addresses.append((address, port, name))
        errors += [
            f"{_name(instance)}: {address} port {port} is {variable}, on which the front end listens; "
            "choose another port for one of them"
            for variable, used in (frontend_ports or {}).items()
            if str(used) == str(port)
        ]
        errors += [
            f"{_name(instance)}: {address} port {port} is taken: another program listens on {other}; "
            "choose another port or stop that program"
            for other, other_port in sorted(taken)
            if port == other_port and overlap(address, other)
        ]
    return errors + _scheduler_errors(scheduler_workers, known)


def _scheduler_errors(workers: Sequence[Mapping[str, Any]], applications: Sequence[str]) -> list[str]:
    errors = []
    seen = set()
    for entry in entries(workers):
        application = entry.get("application")
        variable = f"web2py_daemon_scheduler_workers: application {application!r}"
        if application in seen:
            errors.append(f"{variable} is listed twice; each may be there once, with the number of its workers")
        seen.add(application)
        if not present(entry):
            continue
        if application not in applications:
            errors.append(f"{variable} is not deployed, allowed are: {', '.join(applications) or 'none'}")
        if not re.fullmatch("[1-9][0-9]?", str(entry.get("workers", 1))):
            errors.append(f"{variable}: workers is {entry['workers']!r}, allowed are 1 to 99")
        for group in entry.get("groups") or []:
            if not isinstance(group, str) or not re.fullmatch(r"\w+", group):
                errors.append(f"{variable}: group {group!r}, allowed are letters, digits and underscores")
    return errors
