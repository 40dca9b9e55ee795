# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every role of the collection has in common, and what its files say about each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
PLAN = "web2py.deployment.plan"
STANDARD_FILES = (
    "README.md",
    "defaults/main.yml",
    "meta/argument_specs.yml",
    "meta/example.yml",
    "meta/main.yml",
    "tasks/deploy.yml",
    "tasks/main.yml",
    "tasks/validate.yml",
)

pytestmark = pytest.mark.parametrize(
    "role", [pytest.param(path, id=path.name) for path in sorted(ROLES.iterdir()) if path.is_dir()]
)


def load(role: Path, file: str) -> Any:
    return yaml.safe_load((role / file).read_text(encoding="utf-8"))


def options(role: Path) -> dict[str, dict[str, Any]]:
    return load(role, "meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def test_a_role_has_the_standard_files(role: Path) -> None:
    assert [file for file in STANDARD_FILES if not (role / file).is_file()] == []


def test_public_variables_carry_the_name_of_the_role(role: Path) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []


def test_internal_variables_carry_two_underscores_too(role: Path) -> None:
    names = [name for file in (role / "vars").glob("*.yml") for name in load(role, f"vars/{file.name}") or {}]
    assert [name for name in names if not name.startswith(f"__{role.name}_")] == []


def test_defaults_and_specification_agree(role: Path) -> None:
    """Ansible applies no default of a specification, so defaults/main.yml has to repeat each of them."""
    specified = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert load(role, "defaults/main.yml") == specified


def undescribed(prefix: str, described: dict[str, dict[str, Any]]) -> list[str]:
    faults = []
    for name, option in described.items():
        faults += [f"{prefix}{name}: {key}" for key in ("type", "description") if key not in option]
        if option.get("type") == "list" and "elements" not in option:
            faults.append(f"{prefix}{name}: elements")
        faults += undescribed(f"{prefix}{name}.", option.get("options", {}))
    return faults


def test_every_variable_has_a_type_and_a_description(role: Path) -> None:
    assert undescribed("", options(role)) == []


def test_validation_comes_first_and_catches_misspelled_variables(role: Path) -> None:
    imported = [task.get("ansible.builtin.import_tasks") for task in load(role, "tasks/main.yml")]
    assert [file for file in imported if file] == ["validate.yml", "deploy.yml"]
    assert imported[0] == "validate.yml" and imported[-1] == "deploy.yml"
    plans = [task[PLAN] for task in load(role, "tasks/validate.yml") if PLAN in task]
    assert [plan["role"] for plan in plans] == [role.name]


def test_the_example_uses_the_role(role: Path) -> None:
    entries = [entry for play in load(role, "meta/example.yml") for entry in play.get("roles", [])]
    used = [entry["role"] if isinstance(entry, dict) else entry for entry in entries]
    # A role that others include is used through its variables.
    variables = [name for entry in entries if isinstance(entry, dict) for name in entry.get("vars", {})]
    assert f"web2py.deployment.{role.name}" in used or set(variables) & set(options(role))
