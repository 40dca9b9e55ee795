# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks of the role memcached, without Ansible and without a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.module_utils import networks


def errors(role: Mapping[str, Any]) -> list[str]:
    """All that is wrong in the variables of the role, by their names without `memcached_`."""
    found = [] if role["addresses"] else ["memcached_addresses: found an empty list, at least one address is needed"]
    for text in role["addresses"]:
        try:
            address = networks.address(text)
        except ValueError as error:
            found.append(f"memcached_addresses: {error}")
            continue
        if address.is_unspecified:
            found.append(
                f"memcached_addresses: found {text!r}, which is every interface; memcached asks nobody for a password: "
                "give the address of the interface that the web hosts use"
            )
        elif not address.is_loopback and str(address) not in role["machine_addresses"]:
            found.append(
                f"memcached_addresses: found {text!r}, which this host does not have; allowed are loopback and "
                f"{', '.join(role['machine_addresses'])}"
            )
    ranges = {
        "port": (1, 65535),
        "memory": (8, role["machine_memory"]),
        "max_connections": (16, 65536),
        "max_item_size": (1, min(1024, role["memory"] // 2)),
    }
    for name, (lowest, highest) in ranges.items():
        if not lowest <= role[name] <= highest:
            found.append(f"memcached_{name}: found {role[name]}, allowed are {lowest} to {highest}")
    return found
