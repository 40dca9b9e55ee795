# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from functools import cache
from itertools import chain
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

# Imported here, and not where they are used: Ansible loads an action once and forks for each host.
from ansible_collections.web2py.deployment.plugins.action.plan import file_reader, validated, values_of_other
from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import (
    ROLES,
    documented_options,
    is_secret,
    typed,
    why_unreadable,
)
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import balancer, database, storage, web
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.inventory import InventoryHost, Site, SiteError

# By tier, what computes the variables of its roles for one host, and these roles. Of the others on a web host, `web`
# says which there are.
TIERS: dict[str, tuple[Callable[[Site, InventoryHost], dict[str, Any]], tuple[str, ...]]] = {
    "database": (database.tier, ("postgresql", "tls_certificate")),
    "cache": (lambda _site, _host: {}, ("memcached",)),
    "storage": (storage.tier, ("nfs_shared",)),
    "web": (web.tier, ("web2py", "nfs_shared")),
    "balancer": (balancer.tier, ("haproxy", "tls_certificate")),
}
ROLE_NAMES = sorted(path.parent.parent.name for path in ROLES.glob("*/meta/argument_specs.yml"))


@cache
def option(variable: str) -> Mapping[str, Any]:
    """Return what the role that has this variable documents of it."""
    return next((options[variable] for options in map(documented_options, ROLE_NAMES) if variable in options), {})


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


class Reader:
    """Reads the variables of hosts with the defaults of roles, which no host has outside of its roles."""

    def __init__(self, groups: Mapping[str, list[str]], hostvars: Any, templar: Any, loader: Any) -> None:
        self._hostvars, self._templar, self._loader = hostvars, templar, loader
        self._defaults: dict[str, Any] = {}
        for role in ROLE_NAMES:
            path = ROLES / role / "defaults" / "main.yml"
            self._defaults |= loader.load_from_file(str(path), trusted_as_template=True)
        self.site = Site(groups, {name: self._host(name, {}) for name in groups["all"]})

    def inputs(
        self, names: list[str], tiers: Iterable[str] = tuple(TIERS)
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """Return by host the variables of its tiers' roles, and everything that is wrong."""
        site = self.site
        found: dict[str, dict[str, Any]] = {name: {} for name in names}
        # By problem the hosts that have it.
        problems: dict[str, dict[str, None]] = defaultdict(dict)
        for tier in tiers:
            compute, _roles = TIERS[tier]
            for name in filter(found.__contains__, site.tier(tier)):
                try:
                    found[name] |= compute(site, site.hosts[name])
                except SiteError as error:
                    problems[str(error)][name] = None
        # What the roles take follows from the declaration: as long as that is wrong, they are not judged.
        if not problems:
            try:
                problems |= {problem: {} for problem in [*storage.problems(site), *web.problems(site)]}
            except SiteError as error:
                problems[str(error)] = {}
        for name in [] if problems else names:
            for problem in self._problems(name, tiers, found[name]):
                problems[problem][name] = None
        public = {
            name: {variable: value for variable, value in values.items() if not is_secret(option(variable))}
            for name, values in found.items()
        }
        return public, [": ".join(filter(None, [", ".join(hosts), text])) for text, hosts in problems.items()]

    def _problems(self, name: str, tiers: Iterable[str], inputs: dict[str, Any]) -> Iterator[str]:
        """What is wrong in the variables of a host's roles."""
        variables = self._host(name, inputs)
        host = Host(
            facts=variables.own["ansible_facts"],
            read_file=file_reader(self._loader, self._templar),
            now=datetime.now(timezone.utc),
            values_of=lambda role: values_of_other(role, *self._given(variables, role)),
            name=name,
            groups=self.site.groups,
        )
        roles = [TIERS[tier][1] for tier in tiers if name in self.site.tier(tier)]
        for role in dict.fromkeys([*chain(*roles), *inputs.get("validated_roles", [])]):
            yield from validated(role, variables.own, *self._given(variables, role), host)[1]

    @staticmethod
    def _given(host: InventoryHost, role: str) -> tuple[dict[str, Any], list[str]]:
        """The role's variables as they are given, with its defaults, and why some have no value."""
        variables, unreadable = {}, []
        for variable in documented_options(role):
            if variable in host.values:
                try:
                    variables[variable] = (host.own if variable in host.own else host.values)[variable]
                except SiteError as error:
                    unreadable.append(str(error))
        return variables, unreadable

    def _host(self, name: str, inputs: Mapping[str, Any]) -> InventoryHost:
        own = {**self._hostvars.raw_get(name), **inputs}
        variables = {**self._defaults, **own}
        templar = self._templar.copy_with_new_env(available_variables={**variables, "hostvars": self._hostvars})

        def read(variable: str, value: Any) -> Any:
            try:
                return templar.template(value)
            except AnsibleError as error:
                raise SiteError(why_unreadable(variable, option(variable), error)) from error

        def read_typed(variable: str, value: Any) -> Any:
            converted, problems = typed({variable: option(variable)}, {variable: read(variable, value)})
            if problems:
                raise SiteError("\n".join(problems))
            return converted[variable]

        return InventoryHost(name, ReadWhenNeeded(own, read), ReadWhenNeeded(variables, read_typed))


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={"tiers": {"type": "list", "elements": "str", "choices": [*TIERS], "default": [*TIERS]}}
        )
        task_vars = task_vars or {}
        reader = Reader(task_vars["groups"], task_vars["hostvars"], self._templar, self._loader)
        hosts, problems = reader.inputs(task_vars["ansible_play_hosts"], arguments["tiers"])
        return {**result, **({"failed": True, "msg": "\n".join(problems)} if problems else {"hosts": hosts})}
