# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A front end's removal can be interrupted and taken up again by the next run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
# By these files role web2py knows which front end a host has.
MARKERS = {
    "apache_wsgi": "/etc/apache2/web2py/apache_wsgi.conf",
    "apache_proxy": "/etc/apache2/web2py/apache_proxy.conf",
    "lighttpd_fcgi": "/etc/lighttpd/web2py/lighttpd_fcgi.conf",
}


def tasks(role: str) -> list[dict[str, Any]]:
    """The tasks of a role's removal, those of the roles that it includes among them."""
    found = []
    for task in yaml.safe_load((ROLES / role / "tasks" / "remove.yml").read_text(encoding="utf-8")):
        included = task.get("ansible.builtin.include_role")
        found += tasks(included["name"].rpartition(".")[2]) if included else [task]
    return found


def removed_paths(task: dict[str, Any]) -> list[str]:
    file = task.get("ansible.builtin.file", {})
    if file.get("state") != "absent":
        return []
    return task["loop"] if file["path"] == "{{ item }}" else [file["path"]]


@pytest.mark.parametrize("role", MARKERS)
def test_what_tells_that_it_is_there_goes_last(role: str) -> None:
    steps = [(task["name"], path) for task in tasks(role) for path in removed_paths(task) or [""]]
    removing = [number for number, (_, path) in enumerate(steps) if path and MARKERS[role].startswith(path)]
    assert removing, "nothing removes it"
    assert [name for name, path in steps[removing[0] :] if not MARKERS[role].startswith(path or "-")] == []
