# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The inventory as the tiers see it: groups, and of each host what the inventory says of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import networks
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import bracketed


class SiteError(Exception):
    """The site cannot be deployed as the inventory says."""


@dataclass(frozen=True)
class InventoryHost:
    """One host. Both mappings may compute a value when it is read."""

    name: str
    # What the inventory, the command line and the host's facts say.
    own: Mapping[str, Any]
    # Roles' variables as their documentation declares them, with the defaults of the roles.
    values: Mapping[str, Any]

    def certificate(self, name: str) -> dict[str, str]:
        """Where the role tls_certificate puts a certificate of this name."""
        folder = f"{self.values['tls_certificate_directory']}/{name}"
        return {"certificate_file": f"{folder}/fullchain.pem", "key_file": f"{folder}/privkey.pem"}


@dataclass(frozen=True)
class Site:
    groups: Mapping[str, Sequence[str]]
    hosts: Mapping[str, InventoryHost]

    def tier(self, name: str) -> list[str]:
        return list(self.groups.get(f"web2py_{name}", []))

    @property
    def web_hosts(self) -> list[InventoryHost]:
        return [self.hosts[name] for name in self.tier("web")]

    def declared_at(self, host: InventoryHost) -> InventoryHost:
        """The host whose variables declare the site: web hosts do, also where only their group has the variables."""
        return (self.web_hosts or [host])[0]

    def clients_of(self, tier: str) -> list[str]:
        """Addresses from which web hosts come to a tier that is not on the same host."""
        return client_addresses(host.own for host in self.web_hosts if host.name not in self.tier(tier))


def client_addresses(hosts: Iterable[Mapping[str, Any]]) -> list[str]:
    """Addresses from which hosts, given by their variables, come to other hosts of the site.

    Who may connect to a database, a share or a web host follows from these. A host says itself what its facts are, so
    they are worth one address of one machine.
    """
    addresses: list[str] = []
    for host in hosts:
        name = host.get("inventory_hostname")
        facts = host.get("ansible_facts") or {}
        given = host.get("web2py_client_addresses")
        # Facts of any name become variables.
        if "web2py_client_addresses" in facts:
            raise SiteError(
                f"web2py_client_addresses of host {name!r} is a fact, {facts['web2py_client_addresses']!r}; it must be "
                "set in the inventory. Find out what on that host, or which cacheable set_fact, has said so"
            )
        if given:
            wrong = networks.errors(given)
            errors = [f"web2py_client_addresses of host {name!r} {error}" for error in wrong]
        else:
            given = [
                (facts.get("default_ipv4") or {}).get("address") or (facts.get("default_ipv6") or {}).get("address")
            ]
            errors = [
                f"the default route's address of host {name!r} {error} Set web2py_client_addresses for that host"
                for error in map(networks.address_error, filter(None, given))
                if error
            ]
        if errors:
            raise SiteError("; ".join(errors))
        if not all(given):
            if "default_ipv4" in facts:
                raise SiteError(f"Host {name!r} has no default route; set web2py_client_addresses for it.")
            raise SiteError(
                f"The address of host {name!r} is not known: it did not answer, or --limit leaves it out. Bring it "
                "back, take it out of the inventory, run the playbook without --limit, or set web2py_client_addresses "
                "for it."
            )
        addresses += [str(address) for address in given]
    return addresses


def memcached_servers(
    hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]] | None = None, port: int = 11211
) -> list[str]:
    """Addresses of cache servers with their port, as `web2py_cache_servers` takes them.

    Hosts of the inventory, given by `hostvars`, are reached by their `ansible_host`, as database and storage are, at
    their `memcached_port`.
    """
    servers = []
    for host in hosts:
        known = hostvars[host] if hostvars and host in hostvars else {}
        address = str(known.get("ansible_host", host))
        servers.append(f"{bracketed(address)}:{known.get('memcached_port', port)}")
    return servers
