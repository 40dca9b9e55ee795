# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

COLLECTION = "web2py.deployment"
ROLES = Path(__file__).resolve().parents[2] / "roles"


def short_role_name(role: str) -> str:
    """Return the role's name without the collection; a role of another collection is an error."""
    prefix, separator, name = role.rpartition(".")
    if separator and prefix != COLLECTION:
        raise AnsibleActionFail(
            f"validate_role: role is '{role}', allowed are the roles of {COLLECTION}: "
            f"give a short name, or one that begins with '{COLLECTION}.'."
        )
    return name


def documented_options(role: str, roles: Path = ROLES) -> frozenset[str]:
    """Return the names of the options in the main entry point of the role's argument_specs."""
    known = sorted(path.parent.parent.name for path in roles.glob("*/meta/argument_specs.yml"))
    if role not in known:
        raise AnsibleActionFail(
            f"validate_role: role is '{role}', allowed are the roles with a meta/argument_specs.yml: "
            f"{', '.join(known) or 'none found'}."
        )
    text = (roles / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    return frozenset(yaml.safe_load(text)["argument_specs"]["main"].get("options") or {})


def platform_problem(platforms: Iterable[dict[str, Any]], facts: dict[str, Any]) -> str:
    """Return what is wrong with the host's distribution for a role with these Galaxy platforms, or nothing."""
    allowed = {platform["name"]: platform["versions"] for platform in platforms}
    if not allowed or facts.get("distribution_release") in allowed.get(facts.get("distribution"), ()):
        return ""
    found = " ".join(str(facts[name]) for name in ("distribution", "distribution_version") if name in facts)
    return (
        f"unsupported distribution: found {found or 'none, because facts were not gathered'}, allowed are "
        + "; ".join(f"{name} {', '.join(map(str, versions))}" for name, versions in allowed.items())
        + ". Take the host out of the play."
    )


def supported_platforms(role: str, roles: Path = ROLES) -> list[dict[str, Any]]:
    """Return the platforms in the role's meta/main.yml."""
    meta = yaml.safe_load((roles / role / "meta" / "main.yml").read_text(encoding="utf-8"))
    return meta["galaxy_info"].get("platforms") or []


def role_prefixes(roles: Path = ROLES) -> frozenset[str]:
    """Return the variable prefix of every role."""
    return frozenset(f"{path.name}_" for path in roles.iterdir() if path.is_dir())


def unknown_variables(
    role: str, variables: Iterable[str], allowed: Iterable[str], prefixes: Iterable[str]
) -> dict[str, list[str]]:
    """Return every variable that has the role's prefix and is no option of it, with the nearest allowed names."""
    own = f"{role}_"
    longer = tuple(prefix for prefix in prefixes if prefix.startswith(own) and prefix != own)
    allowed = set(allowed)
    # The shared prefix would make every name look similar, so only the rest is compared.
    rests = {name.removeprefix(own): name for name in sorted(allowed)}
    return {
        name: [rests[rest] for rest in difflib.get_close_matches(name.removeprefix(own), rests, n=3)]
        for name in sorted(set(variables))
        if name.startswith(own) and name not in allowed and not name.startswith(longer)
    }


def message(role: str, unknown: dict[str, list[str]]) -> str:
    """Return one text about all unknown variables; it names variables and never a value."""
    lines = [
        f"{name}: role {COLLECTION}.{role} has no such variable; "
        + (f"did you mean {' or '.join(near)}?" if near else "no allowed name is similar.")
        for name, near in unknown.items()
    ]
    lines.append(
        f"Correct or remove what is named above. All variables of the role: "
        f"ansible-doc -t role {COLLECTION}.{role}, or the role's README.md."
    )
    return "\n".join(lines)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "role": {"type": "str", "required": True},
                "also": {"type": "list", "elements": "str", "default": []},
            }
        )
        role = short_role_name(arguments["role"])
        allowed = documented_options(role) | set(arguments["also"])
        unknown = unknown_variables(role, task_vars or {}, allowed, role_prefixes())

        platform = platform_problem(supported_platforms(role), (task_vars or {}).get("ansible_facts") or {})
        problems = [message(role, unknown)] if unknown else []
        problems += [platform] if platform else []

        result.update(changed=False, unknown=list(unknown))
        if problems:
            result.update(failed=True, msg="\n".join(problems))
        return result
