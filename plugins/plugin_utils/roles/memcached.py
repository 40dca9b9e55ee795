# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role memcached mean, and what is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host, ip_address, out_of_range, wrong


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    machine_addresses = [*host.fact("all_ipv4_addresses"), *host.fact("all_ipv6_addresses")]
    problems = address_problems(values["addresses"], machine_addresses)
    ranges = {
        "port": (1, 65535),
        "memory": (8, host.fact("memtotal_mb")),
        "max_connections": (16, 65536),
        "max_item_size": (1, min(1024, values["memory"] // 2)),
    }
    for name, (lowest, highest) in ranges.items():
        problems += out_of_range(f"memcached_{name}", values[name], lowest, highest)
    return {"group": values["socket_group"] if values["socket"] else "memcache"}, problems


def address_problems(addresses: list[str], machine_addresses: list[str]) -> list[str]:
    problems = [] if addresses else ["memcached_addresses is empty; it must have at least one address."]
    for text in addresses:
        address = ip_address(text)
        if address is None:
            problems.append(wrong("memcached_addresses", text, "IP addresses of this host"))
        elif address.is_unspecified:
            problems.append(
                wrong(
                    "memcached_addresses",
                    text,
                    "addresses of single interfaces, not of every interface",
                    "memcached asks nobody for a password: give the address of the interface that the web hosts use",
                )
            )
        elif not address.is_loopback and str(address) not in machine_addresses:
            problems.append(
                wrong("memcached_addresses", text, f"a loopback address or one of {', '.join(machine_addresses)}")
            )
    return problems
