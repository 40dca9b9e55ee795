# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the plans of several roles need: the host, and messages in one form. No Ansible in here."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import networks

LONGEST_VALUE = 400
# As the filter web2py_password_hash gives it.
PASSWORD_HASH = re.compile(r"pbkdf2\(\d+,\d+,sha(256|384|512)\)\$[^$\"'\\\s]+\$[0-9a-f]+")


class MissingFact(Exception):
    """A plan needs a fact that was not gathered."""


class UnusableVariables(Exception):
    """The variables of another role, which a plan needs, are wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Host:
    """What a plan may know besides the role's variables."""

    facts: Mapping[str, Any]
    # Reads a file of the controller, decrypted where Ansible Vault has encrypted it; fails with OSError.
    read_file: Callable[[str], bytes]
    now: datetime
    # The variables of another role that are given, as its documentation declares them, by names without the role's;
    # fails with UnusableVariables.
    values_of: Callable[[str], Mapping[str, Any]] = lambda _role: {}
    # What the role's tasks have seen on the host; nothing where no task has looked yet.
    found: Mapping[str, Any] | None = None
    # The host's name in the inventory, and all groups there.
    name: str = ""
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def fact(self, name: str) -> Any:
        if name not in self.facts:
            raise MissingFact(name)
        return self.facts[name]


def shown(value: Any) -> str:
    """A value as its author would write it, shortened."""
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"


def either(choices: Iterable[Any]) -> str:
    """The choices as a text, such as `a, b or c`."""
    *others, last = map(str, choices)
    return f"{', '.join(others)} or {last}" if others else last


def wrong(variable: str, value: Any, allowed: str, advice: str = "") -> str:
    """The message about one value; advice is a sentence without its full stop."""
    return f"{variable} is {shown(value)}; it must be {allowed}." + (f" {advice}." if advice else "")


def out_of_range(variable: str, value: int | None, lowest: int, highest: int, why: str = "") -> list[str]:
    if value is not None and lowest <= value <= highest:
        return []
    return [wrong(variable, value, f"between {lowest} and {highest}{why}")]


def memory_problems(variable: str, value: str) -> list[str]:
    """What is wrong with a limit of memory, as systemd.resource-control(5) takes it."""
    if re.fullmatch(r"infinity|[1-9][0-9]*[KMGT]?|[1-9][0-9]?%|100%", value):
        return []
    return [wrong(variable, value, "a size such as 512M, a share of the memory such as 60%, or infinity")]


def port_problems(ports: Mapping[str, int]) -> list[str]:
    """What is wrong with TCP ports, by their variables; each needs a port of its own."""
    variables: dict[int, list[str]] = defaultdict(list)
    for variable, port in ports.items():
        variables[port].append(variable)
    return [
        *(problem for variable, port in ports.items() for problem in out_of_range(variable, port, 1, 65535)),
        *(
            f"{' and '.join(names)} are {port}; they must be different ports."
            for port, names in variables.items()
            if len(names) > 1
        ),
    ]


def password_problems(where: str, item: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the password of an administrator; no message repeats one."""
    given = [key for key in ("password", "password_hash") if item.get(key)]
    if len(given) != 1:
        yield f"{where}: password and password_hash are {'both' if given else 'not'} given; it must be one of them."
    elif "password" in given and not 8 <= len(item["password"]) <= 1024:
        yield f"{where}: password is not shown; it must have 8 to 1024 characters."
    elif "password_hash" in given and not PASSWORD_HASH.fullmatch(item["password_hash"]):
        yield (
            f"{where}: password_hash is not shown; it must be pbkdf2(iterations,length,sha512)$salt$digest, as the "
            "filter web2py_password_hash gives it."
        )


def proxy_problems(variable: str, proxies: Sequence[str]) -> Iterator[str]:
    """Proxies that the runtime package would refuse at its start, or that are everybody."""
    for number, proxy in enumerate(proxies):
        if proxy != "unix" and (error := networks.network_error(proxy)):
            yield f"{variable}[{number}] {error} unix is allowed as well."


def entry(variable: str, number: int, item: Mapping[str, Any]) -> str:
    """How a message names one entry of a list."""
    return f"{variable}[{number}] ({item.get('name')!r})"


def repeated_names(variable: str, items: Iterable[Mapping[str, Any]]) -> list[str]:
    """One message for each name that several entries of a list have."""
    names = Counter(item["name"] for item in items)
    return [
        f"{variable} has {number} entries named {name!r}; each name must be there once."
        for name, number in names.items()
        if number > 1
    ]


def is_present(item: Mapping[str, Any]) -> bool:
    return item["state"] == "present"


def ip_address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return networks.address(text)
    except ValueError:
        return None


def bracketed(host: str) -> str:
    """A host as it stands in a URL, a Host header or before a port: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host
