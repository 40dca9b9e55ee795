# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Ansible hides of a task that handles secrets: its failure still says on which host, what, and why."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.web2py.deployment.plugins.filter.failure_reasons import failure_reasons

REPOSITORY = Path(__file__).resolve().parents[2]
COLLECTIONS = str(Path(inspect.getfile(failure_reasons)).parents[5])
SECRET = "right-horse-battery"
# By file and task: the variables that its message needs, with a secret in them.
INSTANCE = {"name": "admin", "port": 8001, "administration": True, "password": SECRET}
VARIABLES = {
    ("roles/tls_certificate/tasks/files.yml", "Install the private key"): {
        "__tls_certificate_folder": "/etc/ssl/tls_certificate/web2py"
    },
    ("roles/web2py/tasks/deploy.yml", "Set the administrators' passwords"): {
        "web2py_admin_passwords": [{"port": 443, "password": SECRET}]
    },
    ("roles/web2py/tasks/settings.yml", "Configure the applications"): {
        "__web2py": {"settings": ["shop"]},
        "web2py_applications": [{"name": "shop", "database": {"password": SECRET}}, {"name": "welcome"}],
        "__web2py_secrets": {"shop.cookie_key": "cookie " + SECRET},
    },
    ("roles/web2py_daemon/tasks/deploy.yml", "Set the passwords of the administration"): {
        "__web2py_daemon": {"administered": [{"name": "admin", "number": 0}], "password_seed": "www1"},
        "web2py_daemon_instances": [INSTANCE],
    },
    ("roles/postgresql/tasks/databases.yml", "Manage users"): {
        "__postgresql": {"users": [{"name": "shop", "number": 0, "has_password": True}]},
        "postgresql_users": [{"name": "shop", "password": SECRET}],
    },
}
# These keep their result, and the task after them fails with its message.
CHECKED_AFTERWARDS = {
    ("playbooks/tickets.yml", "Read the tickets in the database"),
    ("playbooks/tickets.yml", "Write the report as a page and as JSON"),
}
KEYWORDS = {"name", "loop", "loop_control", "no_log", "when", "register", "vars", "diff", "notify"}


def tasks_of(entries: list, block: dict | None = None) -> Iterator[tuple[dict, dict | None, list]]:
    """Each task with the block that it is in, and the tasks beside it."""
    for entry in entries or []:
        for part in ("tasks", "block", "rescue", "always", "pre_tasks", "post_tasks", "handlers"):
            if part in entry:
                yield from tasks_of(entry[part], entry)
        if "block" not in entry and "hosts" not in entry:
            yield entry, block, entries


def hidden() -> dict[tuple[str, str], tuple[dict, dict | None, list]]:
    found = {}
    for folder in ("roles/*/tasks", "roles/*/handlers", "playbooks", "playbooks/tasks"):
        for path in sorted(REPOSITORY.glob(f"{folder}/*.yml")):
            for task, block, beside in tasks_of(yaml.safe_load(path.read_text())):
                if task.get("no_log"):
                    found[str(path.relative_to(REPOSITORY)), task["name"]] = (task, block, beside)
    # Messages never repeat a password.
    return {place: one for place, one in found.items() if one[0]["no_log"] is not False}


def test_these_are_all_tasks_of_which_nothing_is_shown():
    assert set(hidden()) == set(VARIABLES) | CHECKED_AFTERWARDS


@pytest.mark.parametrize("place", sorted(CHECKED_AFTERWARDS))
def test_the_message_of_a_result_that_is_kept_is_shown(place):
    task, _block, beside = hidden()[place]
    after = beside[beside.index(task) + 1]
    assert task["failed_when"] is False
    assert task["register"] in json.dumps(after) and "msg" in json.dumps(after)
    assert "no_log" not in after


@pytest.mark.parametrize("place", sorted(VARIABLES))
def test_a_failure_says_where_what_and_why_and_no_secret(place, tmp_path):
    task, block, _beside = hidden()[place]
    failing = {name: value for name, value in task.items() if name in KEYWORDS - {"notify", "vars"}}
    # No message of a module has the content of a private key.
    secret = SECRET if "password" in str(VARIABLES[place]) else ""
    reason = f"Destination directory does not exist, password {secret}"
    failing["ansible.builtin.fail"] = {"msg": "{{ reason }}"}
    # Not in the play, of which Ansible shows the lines around a failure.
    (tmp_path / "variables.json").write_text(json.dumps({**VARIABLES[place], "reason": reason}))
    play = {
        "hosts": "all",
        "gather_facts": False,
        "tasks": [{"name": "As in the role", "block": [failing], "rescue": block["rescue"]}],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ansible.cli.playbook",
            "-i",
            "www1,",
            "-c",
            "local",
            "play.yml",
            "-e",
            "@variables.json",
            "-vvv",
        ],
        cwd=tmp_path,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 2, output
    said = next((line for line in output.splitlines() if "www1: " in line and "Destination directory" in line), "")
    assert any(word in said for word in ("private key", "passwords", "settings", "users"))
    # ansible-core 2.19 shows the message of a failure itself, whatever no_log says; what a module says holds no secret.
    assert SECRET not in said


def test_reasons_of_a_loop_are_those_of_what_failed():
    results = [
        {"_ansible_item_label": "port 443", "failed": True, "msg": "no space for tiny-77 left"},
        {"_ansible_item_label": "port 444", "msg": "fine"},
        {"item": {"password": SECRET}, "failed": True, "msg": "gone"},
    ]
    said = failure_reasons({"msg": "One or more items failed", "results": results}, [{"password": "tiny-77"}])
    assert said == "port 443: no space for ******** left; gone"
    assert failure_reasons({"failed": True}) == "no reason was given"
