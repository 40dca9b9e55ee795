# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader

# Imported here, and not where they are used: Ansible loads an action once and forks for each host.
from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import (
    documented_options,
    platform_problem,
    role_prefixes,
    short_role_name,
    supported_platforms,
    typed,
    unknown_message,
    unknown_variables,
    why_unreadable,
    without_secrets,
)
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host, MissingFact, UnusableVariables
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import (
    apache_proxy,
    apache_site,
    apache_wsgi,
    haproxy,
    lighttpd_fcgi,
    memcached,
    nfs_shared,
    postgresql,
    tls_certificate,
    web2py,
    web2py_daemon,
)

PLANS = {
    "apache_proxy": apache_proxy.plan,
    "apache_site": apache_site.plan,
    "apache_wsgi": apache_wsgi.plan,
    "haproxy": haproxy.plan,
    "lighttpd_fcgi": lighttpd_fcgi.plan,
    "memcached": memcached.plan,
    "nfs_shared": nfs_shared.plan,
    "postgresql": postgresql.plan,
    "tls_certificate": tls_certificate.plan,
    "web2py": web2py.plan,
    "web2py_daemon": web2py_daemon.plan,
}


def plan(
    role: str, variables: Mapping[str, Any], host: Host, unreadable: Iterable[str] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Return what the role's tasks read, by names without the role's, and everything that is wrong."""
    options = documented_options(role)
    typed_variables, refused = typed(options, variables)
    if problems := [*unreadable, *refused]:
        # What else is wrong could follow from these.
        return {}, problems
    values = without_prefix(role, typed_variables)
    try:
        derived, problems = PLANS[role](values, host)
    except MissingFact as fact:
        return {}, [f"The host's fact {fact} is unknown; role {role} needs it. Gather facts before the role."]
    except UnusableVariables as error:
        return {}, error.problems
    return without_secrets(without_prefix(role, options), {**values, **derived}), problems


def without_prefix(role: str, by_variable: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(f"{role}_"): value for name, value in by_variable.items()}


def validated(
    role: str, names: Iterable[str], variables: Mapping[str, Any], unreadable: Sequence[str], host: Host
) -> tuple[dict[str, Any], list[str]]:
    """Return the plan and everything that is wrong, also in the names of all the host's variables and in the host."""
    values, problems = plan(role, variables, host, unreadable)
    unknown = unknown_variables(role, names, documented_options(role), role_prefixes())
    return values, [
        *([unknown_message(role, unknown)] if unknown else []),
        *filter(None, [platform_problem(supported_platforms(role), host.facts)]),
        *problems,
    ]


def values_of_other(role: str, given: Mapping[str, Any], unreadable: Sequence[str]) -> dict[str, Any]:
    """Return what is given of another role's variables, as Host.values_of does."""
    options = {name: option for name, option in documented_options(role).items() if name in given}
    values, problems = typed(options, given)
    if unreadable or problems:
        raise UnusableVariables([*unreadable, *problems])
    return without_prefix(role, values)


def file_reader(loader: Any, templar: Any) -> Callable[[str], bytes]:
    """Return what reads files of this machine, decrypted where Ansible Vault has encrypted them."""
    lookup = lookup_loader.get("ansible.builtin.file", loader=loader, templar=templar)

    def read_file(path: str) -> bytes:
        try:
            return lookup.run([path], variables={}, rstrip=False)[0].encode()
        except AnsibleError as error:
            raise OSError(str(error)) from error

    return read_file


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={"role": {"type": "str", "required": True}, "found": {"type": "dict"}}
        )
        role = short_role_name(arguments["role"])
        if role not in PLANS:
            raise AnsibleActionFail(f"role is '{role}'; it must be one of {', '.join(PLANS)}.")
        task_vars = task_vars or {}

        host = Host(
            facts=task_vars.get("ansible_facts") or {},
            read_file=file_reader(self._loader, self._templar),
            now=datetime.now(timezone.utc),
            values_of=lambda other: values_of_other(other, *self._variables(other, task_vars)),
            found=arguments["found"],
            name=task_vars.get("inventory_hostname", ""),
            groups=task_vars.get("groups", {}),
        )
        values, problems = validated(role, task_vars, *self._variables(role, task_vars), host)
        result.update({"failed": True, "msg": "\n".join(problems)} if problems else values, changed=False)
        return result

    def _variables(self, role: str, task_vars: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the role's variables, and why some have no value."""
        variables, problems = {}, []
        for name, option in documented_options(role).items():
            if name in task_vars:
                try:
                    variables[name] = self._templar.template(task_vars[name])
                except AnsibleError as error:
                    problems.append(why_unreadable(name, option, error))
        return variables, problems
