# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A role's variables against its documentation: meta/argument_specs.yml and meta/main.yml."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.validation import check_type_bool, check_type_int
from ansible.module_utils.common.yaml import yaml_load
from ansible.parsing.vault import AnsibleVaultError
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import either, entry, wrong

COLLECTION = "web2py.deployment"
ROLES = Path(__file__).resolve().parents[2] / "roles"

Options = Mapping[str, Mapping[str, Any]]

KINDS = {
    "bool": "true or false",
    "int": "a whole number",
    "str": "text",
    "path": "a path",
    "list": "a list",
    "dict": "a dictionary",
}


def short_role_name(role: str) -> str:
    """Return the role's name without the collection; a role of another collection is an error."""
    prefix, separator, name = role.rpartition(".")
    if separator and prefix != COLLECTION:
        raise AnsibleActionFail(
            f"role is '{role}'; it must be a role of {COLLECTION}. "
            f"Give a short name, or one that begins with '{COLLECTION}.'."
        )
    return name


@cache
def documented_options(role: str, roles: Path = ROLES) -> Options:
    """Return the options in the main entry point of the role's argument_specs."""
    known = sorted(path.parent.parent.name for path in roles.glob("*/meta/argument_specs.yml"))
    if role not in known:
        raise AnsibleActionFail(
            f"role is '{role}'; it must be a role with a meta/argument_specs.yml: {', '.join(known) or 'none found'}."
        )
    text = (roles / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    return yaml_load(text)["argument_specs"]["main"].get("options") or {}


@cache
def supported_platforms(role: str, roles: Path = ROLES) -> list[dict[str, Any]]:
    """Return the platforms in the role's meta/main.yml."""
    meta = yaml_load((roles / role / "meta" / "main.yml").read_text(encoding="utf-8"))
    return meta["galaxy_info"].get("platforms") or []


def platform_problem(platforms: Iterable[dict[str, Any]], facts: Mapping[str, Any]) -> str:
    """Return what is wrong with the host's distribution for a role with these Galaxy platforms, or nothing."""
    allowed = {platform["name"]: platform["versions"] for platform in platforms}
    if not allowed or facts.get("distribution_release") in allowed.get(facts.get("distribution"), ()):
        return ""
    names = "; ".join(f"{name} {either(versions)}" for name, versions in allowed.items())
    if "distribution" not in facts:
        return f"The host's distribution is unknown; it must be {names}. Gather facts before the role."
    found = f"{facts['distribution']} {facts.get('distribution_version', '')}".strip()
    return f"The host's distribution is {found}; it must be {names}. Take the host out of the play."


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


def unknown_message(role: str, unknown: Mapping[str, list[str]]) -> str:
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


def typed(options: Options, given: Mapping[str, Any], place: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return the values as their options declare them, and all that cannot be converted.

    A value that is left out, or null in a dictionary, has the default of its option, or is left out of the result.
    """
    values: dict[str, Any] = {}
    problems = [
        f"{place}{name} is unknown; it must be one of {', '.join(sorted(options))}."
        for name in given
        if name not in options
    ]
    for name, option in options.items():
        if given.get(name) is not None or (name in given and (not place or means_all_without(option))):
            values[name], found = converted(option, given[name], f"{place}{name}")
            problems += found
        elif option.get("required"):
            problems += refused(option, None, f"{place}{name}")[1]
        elif "default" in option:
            values[name] = option["default"]
        elif option.get("apply_defaults"):
            values[name] = typed(option["options"], {})[0]
    return values, problems


def means_all_without(option: Mapping[str, Any]) -> bool:
    """Whether a dictionary in which this is left out may have no limit, so that null is a mistake."""
    return option.get("type") in ("list", "dict") and "default" not in option


def converted(option: Mapping[str, Any], value: Any, place: str) -> tuple[Any, list[str]]:
    """Return one value as its option declares it, and what is wrong with it."""
    kind, options = option.get("type", "str"), option.get("options")
    if kind == "list":
        return converted_list({**option, "type": option.get("elements", "str")}, value, place)
    if kind == "dict" and isinstance(value, Mapping):
        # Without apply_defaults an empty one stays empty: its options' defaults would make something of nothing.
        filled = options and (value or option.get("apply_defaults"))
        found, problems = typed(options, value, f"{place}: ") if filled else (plain(value), [])
        return (found, problems) if found or problems or not value else refused(option, value, place)
    try:
        scalar = converted_scalar(kind, value)
    except (TypeError, ValueError):
        return refused(option, value, place)
    choices = option.get("choices")
    return refused(option, value, place) if choices and scalar not in choices else (scalar, [])


def converted_list(element: Mapping[str, Any], value: Any, place: str) -> tuple[Any, list[str]]:
    if isinstance(value, str) and element["type"] != "dict":
        value = [part.strip() for part in value.split(",")] if value.strip() else []
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        return refused({**element, "type": "list"}, value, place)
    values, problems = [], []
    for number, item in enumerate(value):
        if isinstance(item, Mapping) and "options" in element:
            where = entry(place, number, item) if "name" in item else f"{place}[{number}]"
            found, wrong_in_item = typed(element["options"], item, f"{where}: ")
        else:
            found, wrong_in_item = converted(element, item, f"{place}[{number}]")
        values.append(found)
        problems += wrong_in_item
    return values, problems


def converted_scalar(kind: str, value: Any) -> Any:
    """Return the value as Ansible converts it for modules; what only looks like its kind is a TypeError."""
    if kind == "raw":
        return plain(value)
    if kind == "bool":
        return bool(check_type_bool(value))
    # To Python true is 1 and has a text; to who wrote it, it is neither.
    if value is None or isinstance(value, bool | Mapping | list | tuple | set) or kind not in ("int", "str", "path"):
        raise TypeError
    return int(check_type_int(value)) if kind == "int" else str(value)


def documented(role: str, variable: str, value: Any) -> Any:
    """Return one variable's value as the role declares it, for a filter; what cannot be converted is a ValueError."""
    found, problems = converted(documented_options(role)[variable], value, variable)
    if problems:
        raise ValueError(" ".join(problems))
    return found


class Hidden:
    """Stands in a message for a value that may hold a secret."""

    def __repr__(self) -> str:
        return "a value that is not shown"


def refused(option: Mapping[str, Any], value: Any, place: str) -> tuple[None, list[str]]:
    kind = option.get("type", "str")
    advice = "Put it in quotes" if kind == "str" and isinstance(value, bool) else ""
    if kind in ("dict", "list") and isinstance(value, str):
        advice = "Write it in YAML; on the command line give one JSON document for all: -e '{…}'"
    allowed = either(option["choices"]) if "choices" in option else KINDS[kind]
    shown = Hidden() if is_secret(option) and value is not None else value
    return None, [wrong(place, shown, allowed, advice)]


def plain(value: Any) -> Any:
    """A value without what Ansible has noted on it, such as where it comes from."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, str) else value


def is_secret(option: Mapping[str, Any]) -> bool:
    """Whether a value may hold a secret, itself or in one of its keys."""
    return option.get("no_log", False) or any(map(is_secret, option.get("options", {}).values()))


def why_unreadable(variable: str, option: Mapping[str, Any], error: AnsibleError) -> str:
    """Return why a variable has no value; of one that may hold a secret, only what cannot show it."""
    reason: BaseException | None = error
    if is_secret(option):
        while reason and not isinstance(reason, AnsibleVaultError | AnsibleUndefinedVariable):
            reason = reason.__cause__
    return f"{variable} cannot be read: {reason or 'its expression fails'}"


def without_secrets(options: Options, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values without those of options with no_log."""
    return {
        name: _public(options[name], value) if name in options else value
        for name, value in values.items()
        if not options.get(name, {}).get("no_log")
    }


def _public(option: Mapping[str, Any], value: Any) -> Any:
    nested = option.get("options", {})
    if isinstance(value, Mapping):
        return without_secrets(nested, value)
    if isinstance(value, list):
        return [without_secrets(nested, item) if isinstance(item, Mapping) else item for item in value]
    return value
