# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The talk with a running HAProxy: its manual, chapter "Unix Socket commands"."""

from __future__ import annotations

import csv
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


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
            raise RuntimeFault(f"server is {server!r}; it must be a server of {backend!r}: {known}")
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
        result = {
            "changed": bool(changing),
            "servers": found,
            "up": [server["name"] for server in found if server["up"]],
            "healthy": [server["name"] for server in found if server["up"] and re.match("L7OK|$", server["check"])],
            "summary": ", ".join(
                f"{server['name']} is {server['status']} {server['check']}".strip() for server in found
            ),
        }
        late = [server for server, row in rows.items() if not reached(state, row)]
        if check or not wait or not late:
            return result
        if clock() >= deadline:
            server, row = late[0], rows[late[0]]
            left = f"its status is {row['status']}" if state == "ready" else f"it has {busy(row)} requests"
            raise RuntimeFault(f"{server!r} is set to {state}, but after {timeout:g} seconds {left}", result)
        sleep(0.1)
