# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Imported here, and not where they are used: Ansible loads an action once and forks for each host.
from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import (
    ROLES,
    Options,
    documented_options,
    is_secret,
    typed,
)
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import balancer, database, storage, web
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.inventory import InventoryHost, Site, SiteError

# By tier, what computes the variables of its roles for one host.
TIERS: dict[str, Callable[[Site, InventoryHost], dict[str, Any]]] = {
    "database": database.tier,
    "storage": storage.tier,
    "web": web.tier,
    "balancer": balancer.tier,
}
ROLE_NAMES = sorted(path.parent.parent.name for path in ROLES.glob("*/meta/argument_specs.yml"))


def inputs(site: Site, names: list[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return by host the variables of its tiers' roles, and everything that is wrong."""
    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    problems: list[str] = []
    for tier, compute in TIERS.items():
        for name in site.tier(tier):
            if name in found:
                try:
                    found[name] |= compute(site, site.hosts[name])
                except SiteError as error:
                    problems.append(str(error))
    # Where a value cannot be read, the rest of the site is not judged by it.
    return found, list(dict.fromkeys(problems or storage.problems(site)))


@cache
def all_options() -> Options:
    return {name: option for role in ROLE_NAMES for name, option in documented_options(role).items()}


class ReadWhenNeeded(Mapping[str, Any]):
    """The variables of a host, of which each is computed when it is read."""

    def __init__(self, variables: Mapping[str, Any], read: Callable[[str, Any], Any]) -> None:
        self._variables = variables
        self._read = read

    def __getitem__(self, name: str) -> Any:
        return self._read(name, self._variables[name])

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


def read_site(groups: Mapping[str, list[str]], hostvars: Any, templar: Any, loader: Any) -> Site:
    """Return the inventory with the roles' defaults, which no host variable has outside of its role."""
    defaults: dict[str, Any] = {}
    for role in ROLE_NAMES:
        defaults |= loader.load_from_file(str(ROLES / role / "defaults" / "main.yml"), trusted_as_template=True)

    def host(name: str) -> InventoryHost:
        own = hostvars.raw_get(name)
        variables = {**defaults, **own}
        values = templar.copy_with_new_env(available_variables={**variables, "hostvars": hostvars})

        def read(variable: str, value: Any) -> Any:
            try:
                return values.template(value)
            except AnsibleError as error:
                secret = variable in all_options() and is_secret(all_options()[variable])
                reason = "its expression fails" if secret else error.message
                raise SiteError(f"{variable} of host {name} cannot be read: {reason}") from error

        def read_typed(variable: str, value: Any) -> Any:
            converted, problems = typed({variable: all_options()[variable]}, {variable: read(variable, value)})
            if problems:
                raise SiteError("\n".join(problems))
            return converted[variable]

        return InventoryHost(name, ReadWhenNeeded(own, read), ReadWhenNeeded(variables, read_typed))

    return Site(groups, {name: host(name) for name in groups["all"]})


class ActionModule(ActionBase):
    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        task_vars = task_vars or {}
        site = read_site(task_vars["groups"], task_vars["hostvars"], self._templar, self._loader)
        hosts, problems = inputs(site, task_vars["ansible_play_hosts"])
        return {**result, **({"failed": True, "msg": "\n".join(problems)} if problems else {"hosts": hosts})}
