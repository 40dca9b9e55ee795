# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A role's variables against its documentation: meta/argument_specs.yml and meta/main.yml."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.validation import check_type_bool, check_type_int
from ansible.module_utils.common.yaml import yaml_load
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


def typed(options: Options, given: Mapping[str, Any], place: str = "") -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the values as their options declare them, and by the option what is wrong.

    A value that is left out, or null in a dictionary, has the default of its option, or is left out of the result.
    """
    values: dict[str, Any] = {}
    problems: dict[str, list[str]] = {}
    for name, option in options.items():
        if given.get(name) is not None or (name in given and not place):
            conversion = Conversion(option, f"{place}{name}")
            values[name] = conversion.of(given[name])
            if conversion.problems:
                problems[name] = conversion.problems
        elif option.get("required"):
            problems[name] = [wrong(f"{place}{name}", None, KINDS[option.get("type", "str")])]
        elif "default" in option:
            values[name] = option["default"]
    for name in given:
        if name not in options:
            problems[name] = [f"{place}{name} is unknown; it must be one of {', '.join(sorted(options))}."]
    return values, problems


class Hidden:
    """Stands in a message for a value that may hold a secret."""

    def __repr__(self) -> str:
        return "a value that is not shown"


class Conversion:
    """The conversion of one value, in which a list or dictionary may have several problems."""

    def __init__(self, option: Mapping[str, Any], place: str) -> None:
        self.option = option
        self.place = place
        self.problems: list[str] = []

    def of(self, value: Any) -> Any:
        kind = self.option.get("type", "str")
        if kind == "list":
            return self._list(value)
        if kind == "dict":
            # An empty one stays empty: its options' defaults would make something of nothing.
            converted = self._dict(value, self.place) if isinstance(value, Mapping) and value else {}
            if isinstance(value, Mapping) and (converted or self.problems or not value):
                return converted
            return self._refuse(value, self.place)
        return self._scalar(kind, value, self.place)

    def _list(self, value: Any) -> list[Any] | None:
        elements = self.option.get("elements", "str")
        if elements != "dict" and isinstance(value, str):
            value = [part.strip() for part in value.split(",")] if value.strip() else []
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            return self._refuse(value, self.place)
        return [self._element(elements, number, item) for number, item in enumerate(value)]

    def _element(self, elements: str, number: int, item: Any) -> Any:
        if elements != "dict":
            return self._scalar(elements, item, f"{self.place}[{number}]")
        if not isinstance(item, Mapping):
            return self._refuse(item, f"{self.place}[{number}]", "a dictionary")
        return self._dict(item, entry(self.place, number, item) if "name" in item else f"{self.place}[{number}]")

    def _dict(self, value: Mapping[str, Any], place: str) -> dict[str, Any]:
        if "options" not in self.option:
            return plain(value)
        values, problems = typed(self.option["options"], value, f"{place}: ")
        self.problems += [problem for found in problems.values() for problem in found]
        return values

    def _scalar(self, kind: str, value: Any, place: str) -> Any:
        try:
            converted = converted_scalar(kind, value)
        except (TypeError, ValueError):
            return self._refuse(value, place, KINDS[kind])
        choices = self.option.get("choices")
        if choices and converted not in choices:
            return self._refuse(value, place, either(choices))
        return converted

    def _refuse(self, value: Any, place: str, allowed: str = "") -> None:
        kind = allowed or KINDS[self.option["type"]]
        advice = "Put it in quotes" if kind == "text" and isinstance(value, bool) else ""
        if kind in (KINDS["dict"], KINDS["list"]) and isinstance(value, str):
            advice = "Write it in YAML; on the command line give one JSON document for all: -e '{…}'"
        self.problems.append(wrong(place, Hidden() if is_secret(self.option) else value, kind, advice))


def converted_scalar(kind: str, value: Any) -> Any:
    """Return the value as Ansible converts it for modules; what only looks like its kind is a TypeError."""
    if kind == "bool":
        return bool(check_type_bool(value))
    if kind == "raw":
        return plain(value)
    if kind == "int":
        # To Python true is 1; to who wrote it, it is no number.
        if isinstance(value, bool):
            raise TypeError
        return int(check_type_int(value))
    if value is None or isinstance(value, bool | Mapping | list | tuple | set):
        raise TypeError
    return str(value)


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
