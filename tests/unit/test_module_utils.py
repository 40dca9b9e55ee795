# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""`module_utils` is what runs on hosts: Ansible sends it along with modules."""

from __future__ import annotations

import ast
from pathlib import Path

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
UTILS = PLUGINS / "module_utils"
NAME = "ansible_collections.web2py.deployment.plugins"


def imported(path: Path) -> set[str]:
    """Files of the collection that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            package = (
                [*(NAME, *path.relative_to(PLUGINS).parts)[: -node.level], node.module or ""] if node.level else []
            )
            module = ".".join(filter(None, package)) or node.module
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    paths = [PLUGINS.joinpath(*name.removeprefix(NAME).split(".")).with_suffix(".py") for name in names]
    return {str(found.relative_to(PLUGINS)) for found in paths if found.is_file()}


def reached() -> set[str]:
    """What modules import, and what that imports."""
    todo, found = [str(path.relative_to(PLUGINS)) for path in (PLUGINS / "modules").glob("*.py")], set()
    while todo:
        for name in imported(PLUGINS / todo.pop()) - found:
            found.add(name)
            todo.append(name)
    return found


def test_what_is_in_module_utils_runs_on_hosts():
    there = {str(path.relative_to(PLUGINS)) for path in UTILS.rglob("*.py")}
    assert there - reached() == set(), "move it to plugin_utils"


def test_modules_import_nothing_that_only_the_controller_has():
    assert [name for name in sorted(reached()) if not name.startswith("module_utils/")] == []
