# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Addresses and networks in rules of who may connect, and whose word is believed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

# Larger networks are no hosts of a site.
SHORTEST_PREFIX = {4: 8, 6: 16}


def address(text: Any) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IP address; a ValueError says what is wrong with it.

    Without a zone: Python takes any text after the percent sign, line breaks included, and gives it back.
    """
    if "%" in str(text):
        raise ValueError(f"{text!r} has a zone, which is not allowed in an address")
    return ipaddress.ip_address(str(text))


def network(text: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network, or one address as a network; a ValueError says what is wrong with it."""
    if "%" in str(text):
        raise ValueError(f"{text!r} has a zone, which is not allowed in an address")
    found = ipaddress.ip_network(str(text))
    mapped = found.network_address.ipv4_mapped if found.version == 6 else None
    return ipaddress.ip_network((mapped, found.prefixlen - 96)) if mapped and found.prefixlen >= 96 else found


def address_error(text: Any) -> str | None:
    """What is wrong with the address of one host, as the end of `<variable> …`."""
    try:
        found = address(text)
    except ValueError:
        return f"is {text!r}; it must be one IP address."
    if found.is_unspecified or found.is_loopback or found.is_multicast:
        return f"is {text!r}; it must be the IP address of one host."
    return None


def network_error(text: Any) -> str | None:
    """What is wrong with the hosts that a rule is for, as the end of `<variable> …`."""
    try:
        found = network(text)
    except ValueError as error:
        return f"is {text!r} ({error}); it must be an IP address or a network, such as 192.0.2.0/28."
    return _width_error(text, found)


def _width_error(text: Any, found: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str | None:
    shortest = SHORTEST_PREFIX[found.version]
    if found.prefixlen < shortest or found.network_address.is_unspecified:
        return (
            f"is {text!r}; it covers too many addresses. Use single addresses, or networks of /{shortest} or smaller."
        )
    return None


def errors(texts: Iterable[Any]) -> list[str]:
    """What is wrong with the addresses of one host, each by itself and all together."""
    texts = list(texts) if isinstance(texts, list | tuple) else [texts]
    wrong = [error for error in map(network_error, texts) if error]
    if wrong:
        return wrong
    for version, shortest in SHORTEST_PREFIX.items():
        all_of_it = ipaddress.collapse_addresses(found for found in map(network, texts) if found.version == version)
        if sum(part.num_addresses for part in all_of_it) > 2 ** ((32 if version == 4 else 128) - shortest):
            return [
                f"is {texts!r}; together they cover too many addresses. Use single addresses, or fewer and smaller "
                "networks."
            ]
    return []
