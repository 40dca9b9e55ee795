# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks and names of the role nfs_shared, without Ansible and without a server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.module_utils import networks
from ansible_collections.web2py.deployment.plugins.module_utils.items import entries, present

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PATH = re.compile(r"(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+")
HOST_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
UNIT = re.compile(r"[A-Za-z0-9:_.@\\-]+\.(service|socket|target|timer|path)")
MODE = re.compile(r"[02]?[0-7]{3}")
# What belongs to the system: to give one of these to an owner, or to cover it, breaks the machine.
SYSTEM = re.compile(
    r"/((bin|boot|dev|etc|lib|lib64|proc|root|run|sbin|sys|tmp|usr)(/.*)?"
    r"|home|media|mnt|opt|srv|var|var/(cache|lib|log|spool|www))"
)
# To this user and group root of a client is mapped.
NOBODY = 65534


def path_error(path: Any) -> str | None:
    """What is wrong with a folder that is to be exported or mounted."""
    text = str(path)
    if not PATH.fullmatch(text):
        return (
            f"found {path!r}, allowed is an absolute path of letters, digits, dots, dashes and underscores, "
            "without a slash at its end and without . and .. in it"
        )
    if SYSTEM.fullmatch(text):
        return f"found {path!r}, which belongs to the system; give a folder of its own, for example below /srv"
    return None


def inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def is_host_name(value: Any) -> bool:
    return isinstance(value, str) and HOST_NAME.fullmatch(value) is not None


def client_error(client: Any) -> str | None:
    """What is wrong with whom an export is for."""
    text = str(client)
    if re.search(r"[*?@\[]", text):
        return f"found {client!r}, allowed is each client by its address or name, no pattern and no netgroup"
    if is_host_name(client):
        return None
    wrong = networks.network_error(client)
    return wrong and f"one {wrong} Host names are allowed as well."


def server_error(server: Any) -> str | None:
    try:
        if not networks.address(server).is_unspecified:
            return None
    except ValueError:
        if is_host_name(server):
            return None
    return f"server is {server!r}, allowed are an IP address and a host name"


def number(value: Any) -> int | None:
    """A number, also one that a template has made a text."""
    if isinstance(value, bool) or not re.fullmatch(r"\d+", str(value)):
        return None
    return int(str(value))


def _identity_errors(where: str, export: Mapping[str, Any]) -> Iterator[str]:
    for key in ("owner", "group"):
        found = number(export.get(key))
        if found == 0:
            yield f"{where}: {key} is 0, which is root, trusted from no client; give the service's number"
        elif found is None or found > 2**32 - 2:
            yield f"{where}: {key} is {export.get(key)!r}, allowed are numbers from 1 on, the same on all hosts"
        elif found == NOBODY:
            yield f"{where}: {key} is {NOBODY}, to which root of every client is mapped; give the service's number"
    mode = str(export.get("mode", "0750"))
    if not MODE.fullmatch(mode):
        yield f"{where}: mode is {export.get('mode')!r}, allowed are quoted octal numbers like '0750'"
    elif int(mode, 8) & 0o007:
        yield f"{where}: mode is {mode!r}, which lets everybody in; allowed is 0 at its end"


def _client_errors(where: str, clients: Any) -> Iterator[str]:
    if not isinstance(clients, Sequence) or isinstance(clients, str) or not clients:
        yield f"{where}: clients is {clients!r}, at least one address or name is needed"
        return
    seen = set()
    for client in clients:
        if wrong := client_error(client):
            yield f"{where}: clients: {wrong}"
        elif client in seen:
            yield f"{where}: clients: {client!r} is listed twice; each may be there once"
        seen.add(client)


def _list_errors(variable: str, items: list[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with names and paths in either list."""
    names: set[Any] = set()
    paths: dict[str, Any] = {}
    for item in items:
        name = item.get("name")
        if not isinstance(name, str) or not NAME.fullmatch(name):
            yield f"{variable}: name is {name!r}, allowed are letters, digits, dashes and underscores"
        elif name in names:
            yield f"{variable}: {name!r} is listed twice; each name may be there once"
        names.add(name)
        if not present(item):
            continue
        path = item.get("path")
        if wrong := path_error(path):
            yield f"{variable}, {name}: path: {wrong}"
            continue
        for other, owner in paths.items():
            if inside(path, other) or inside(other, path):
                yield (
                    f"{variable}, {name}: path is {path!r}, which overlaps {other!r} of {owner!r}; "
                    "give each a folder outside of the others"
                )
        paths[path] = name


def export_errors(exports: Any) -> list[str]:
    """All that is wrong in `nfs_shared_exports`."""
    found = list(_list_errors("nfs_shared_exports", entries(exports)))
    for export in filter(present, entries(exports)):
        where = f"nfs_shared_exports, {export.get('name')}"
        found += [*_identity_errors(where, export), *_client_errors(where, export.get("clients"))]
    return found


def mount_errors(mounts: Any, exports: Any = ()) -> list[str]:
    """All that is wrong in `nfs_shared_mounts`."""
    found = list(_list_errors("nfs_shared_mounts", entries(mounts)))
    own = [export.get("path") for export in filter(present, entries(exports))]
    for mount in filter(present, entries(mounts)):
        where = f"nfs_shared_mounts, {mount.get('name')}"
        if wrong := server_error(mount.get("server")):
            found.append(f"{where}: {wrong}")
        if not PATH.fullmatch(str(mount.get("export"))):
            found.append(f"{where}: export is {mount.get('export')!r}, allowed is the absolute path on the server")
        if mount.get("path") in own:
            found.append(f"{where}: path is {mount['path']!r}, which this host exports itself; mount it elsewhere")
        units = mount.get("before_units") or []
        if isinstance(units, str) or not isinstance(units, Sequence):
            found.append(f"{where}: before_units is {units!r}, allowed is a list of units")
            continue
        for unit in dict.fromkeys(units):
            if not isinstance(unit, str) or not UNIT.fullmatch(unit):
                found.append(f"{where}: before_units: found {unit!r}, allowed are full names like web2py.service")
            elif units.count(unit) > 1:
                found.append(f"{where}: before_units: {unit!r} is listed twice; each may be there once")
    return found


def errors(role: Mapping[str, Any]) -> list[str]:
    """All that is wrong in the variables of the role, by their names without `nfs_shared_`."""
    found = export_errors(role["exports"]) + mount_errors(role["mounts"], role["exports"])
    # The kernel takes 10 to 3600; and a client has to notice a restart before the grace period is over.
    lease = min(max(role["lease_time"], 10), 3600)
    ranges = {
        "lease_time": (10, 3600, ""),
        "grace_time": (lease, 3600, ", not less than nfs_shared_lease_time"),
        "threads": (1, 1024, ""),
        "timeout": (1, 600, ""),
        "server_wait": (1, 3600, ""),
    }
    for name, (lowest, highest, why) in ranges.items():
        if not lowest <= role[name] <= highest:
            found.append(f"nfs_shared_{name}: found {role[name]}, allowed are {lowest} to {highest}{why}")
    return found


def mount_unit(path: str) -> str:
    """The name that systemd wants of the unit that mounts something at a path."""
    escaped = re.sub(
        r"^\.|[^A-Za-z0-9:_./]", lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), path.strip("/")
    )
    return escaped.replace("/", "-") + ".mount"


def mount_path(unit: str) -> str:
    """The path at which a unit mounts something."""
    path = "/" + unit.removesuffix(".mount").replace("-", "/")
    return re.sub(r"\\x([0-9a-f]{2})", lambda match: chr(int(match[1], 16)), path)


def drop_ins(mounts: Any) -> list[dict[str, str]]:
    """For each mount and each unit that needs it, where the unit is told so."""
    return [
        {"path": f"/etc/systemd/system/{unit}.d/nfs_shared_{mount['name']}.conf", "mount": mount["path"]}
        for mount in filter(present, entries(mounts))
        for unit in mount.get("before_units") or []
    ]
