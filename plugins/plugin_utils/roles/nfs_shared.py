# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role nfs_shared mean, and what is wrong in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import networks
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


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    exports, mounts = values["exports"], values["mounts"]
    problems = [*export_problems(exports), *mount_problems(mounts, exports), *number_problems(values)]
    if problems:
        return {}, problems
    present_mounts = [mount_unit_of(mount, values["timeout"]) for mount in mounts if is_present(mount)]
    names = [mount["name"] for mount in mounts]
    return {
        "exports": [export_of(export) for export in exports if is_present(export)],
        "absent_exports": [export["name"] for export in exports if not is_present(export)],
        "mounts": present_mounts,
        "units": [mount["unit"] for mount in present_mounts],
        "drop_ins": drop_ins(present_mounts),
        # By what is in their files, units and drop-ins of these names are found again.
        "mount_marker": f"# Share: ({'|'.join(names)})$",
        "drop_in_files": [drop_in_file(name) for name in names],
        "manages_exports": bool(exports),
        "manages_mounts": bool(mounts),
    }, []


def export_of(export: Mapping[str, Any]) -> dict[str, Any]:
    access = "ro" if export["read_only"] else "rw"
    return {
        **export,
        "parent": str(PurePosixPath(export["path"]).parent),
        "options": f"{access},sync,secure,root_squash,no_subtree_check,sec=sys",
    }


def mount_unit_of(mount: Mapping[str, Any], timeout: int) -> dict[str, Any]:
    options = [
        *("hard", "nfsvers=4.2", "proto=tcp6" if ":" in mount["server"] else "proto=tcp", "sec=sys"),
        *(f"timeo={timeout * 10}", "retrans=2"),
        # The cache of names holds no missing ones: a file that one client has just made is there for all.
        "lookupcache=positive",
        *("nosuid", "nodev", "noexec", "_netdev", "nofail", "retry=10000"),
        *(["ro"] if mount["read_only"] else []),
    ]
    return {
        **mount,
        "unit": mount_unit(mount["path"]),
        "parent": str(PurePosixPath(mount["path"]).parent),
        "source": f"{bracketed(mount['server'])}:{mount['export']}",
        "options": ",".join(options),
    }


def mount_unit(path: str) -> str:
    """The name that systemd wants of the unit that mounts something at a path."""
    escaped = re.sub(
        r"^\.|[^A-Za-z0-9:_./]", lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), path.strip("/")
    )
    return escaped.replace("/", "-") + ".mount"


def drop_in_file(name: str) -> str:
    return f"nfs_shared_{name}.conf"


def drop_ins(mounts: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """For each mount and each unit that needs it, the file that tells the unit so."""
    found = []
    for mount in mounts:
        for unit in mount["before_units"]:
            folder = f"/etc/systemd/system/{unit}.d"
            path = f"{folder}/{drop_in_file(mount['name'])}"
            found.append({"folder": folder, "path": path, "mount": mount["path"]})
    return found


def export_problems(exports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from list_problems("nfs_shared_exports", exports)
    for number, export in enumerate(exports):
        if is_present(export):
            where = entry("nfs_shared_exports", number, export)
            yield from identity_problems(where, export)
            yield from client_problems(where, export.get("clients"))


def mount_problems(mounts: Sequence[Mapping[str, Any]], exports: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from list_problems("nfs_shared_mounts", mounts)
    own = [export.get("path") for export in exports if is_present(export)]
    for number, mount in enumerate(mounts):
        if not is_present(mount):
            continue
        where = entry("nfs_shared_mounts", number, mount)
        server = mount.get("server")
        if not is_server(server):
            yield wrong(f"{where}: server", server, "an IP address or a host name")
        if not PATH.fullmatch(mount.get("export", "")):
            yield wrong(f"{where}: export", mount.get("export"), "the absolute path of the folder on the server")
        if mount.get("path") in own:
            yield wrong(f"{where}: path", mount["path"], "a folder that this host does not export itself")
        units = mount["before_units"]
        for unit in dict.fromkeys(units):
            if not UNIT.fullmatch(unit):
                yield wrong(f"{where}: before_units", unit, "full names of units, such as web2py.service")
            elif units.count(unit) > 1:
                yield f"{where}: before_units has {unit!r} {units.count(unit)} times; each unit must be there once."


def number_problems(values: Mapping[str, Any]) -> Iterator[str]:
    # The kernel takes 10 to 3600; and a client has to notice a restart before the grace period is over.
    lease = min(max(values["lease_time"], 10), 3600)
    ranges = {
        "lease_time": (10, 3600, ""),
        "grace_time": (lease, 3600, ", and not less than nfs_shared_lease_time"),
        "threads": (1, 1024, ""),
        "timeout": (1, 600, ""),
        "server_wait": (1, 3600, ""),
    }
    for name, (lowest, highest, why) in ranges.items():
        yield from out_of_range(f"nfs_shared_{name}", values[name], lowest, highest, why)


def list_problems(variable: str, items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong with names and paths in either list."""
    yield from repeated_names(variable, items)
    paths: dict[str, str] = {}
    for number, item in enumerate(items):
        where, name = entry(variable, number, item), item["name"]
        if not NAME.fullmatch(name):
            yield wrong(f"{where}: name", name, "up to 64 letters, digits, dashes and underscores")
        if not is_present(item):
            continue
        path = item.get("path")
        if problem := path_problem(f"{where}: path", path):
            yield problem
            continue
        for other, owner in paths.items():
            if inside(path, other) or inside(other, path):
                yield (
                    f"{where}: path is {path!r}, which overlaps {other!r} of {owner!r}; it must be a folder outside of "
                    "the others."
                )
        paths[path] = name


def path_problem(variable: str, path: str | None) -> str | None:
    """What is wrong with a folder that is to be exported or mounted."""
    if path is None or not PATH.fullmatch(path):
        return wrong(
            variable,
            path,
            "an absolute path of letters, digits, dots, dashes and underscores, without a slash at its end and without "
            ". and .. in it",
        )
    if SYSTEM.fullmatch(path):
        return (
            f"{variable} is {path!r}, which belongs to the system; it must be a folder of its own, for example below "
            "/srv."
        )
    return None


def inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")


def identity_problems(where: str, export: Mapping[str, Any]) -> Iterator[str]:
    for key in ("owner", "group"):
        found = export.get(key)
        if found == 0:
            yield wrong(f"{where}: {key}", 0, "the number of the service", "0 is root, trusted from no client")
        elif found == NOBODY:
            yield wrong(
                f"{where}: {key}", NOBODY, "the number of the service", f"To {NOBODY} root of every client is mapped"
            )
        elif found is None or not 0 < found <= 2**32 - 2:
            yield wrong(f"{where}: {key}", found, "a number from 1 on, the same on all hosts")
    mode = export["mode"]
    if not MODE.fullmatch(mode):
        yield wrong(f"{where}: mode", mode, "a quoted octal number such as '0750'")
    elif int(mode, 8) & 0o007:
        yield wrong(f"{where}: mode", mode, "0 at its end", "It lets everybody in")


def client_problems(where: str, clients: Sequence[str] | None) -> Iterator[str]:
    if not clients:
        yield wrong(f"{where}: clients", clients, "a list of at least one address or name")
        return
    for client in dict.fromkeys(clients):
        if problem := client_problem(f"{where}: clients", client):
            yield problem
        elif clients.count(client) > 1:
            yield f"{where}: clients has {client!r} {clients.count(client)} times; each client must be there once."


def client_problem(variable: str, client: str) -> str | None:
    """What is wrong with whom an export is for."""
    if re.search(r"[*?@\[]", client):
        return wrong(variable, client, "addresses and names of single clients, no pattern and no netgroup")
    if HOST_NAME.fullmatch(client):
        return None
    problem = networks.network_error(client)
    return problem and f"{variable} {problem} Host names are allowed as well."


def is_server(server: str | None) -> bool:
    address = ip_address(server)
    return HOST_NAME.fullmatch(server or "") is not None if address is None else not address.is_unspecified
