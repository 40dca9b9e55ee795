# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action plugin validate_role: its rules alone, and a real run of ansible-playbook."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.web2py.deployment.plugins.action import validate_role as plugin

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "the-value-nobody-may-see"


def unknown(*variables: str, role: str = "web", allowed: tuple[str, ...] = ("web_port", "web_user")) -> dict:
    return plugin.unknown_variables(role, variables, allowed, ("web_", "web_daemon_", "webber_"))


@pytest.mark.parametrize("name", ["web_port", "__web_ports", "_web_x", "website", "other_web_x", "web", "Web_port"])
def test_names_that_are_options_or_lack_the_prefix_are_silent(name: str) -> None:
    assert unknown(name) == {}


def test_every_misspelled_name_is_reported_with_its_nearest() -> None:
    assert unknown("web_usr", "web_prt", "web_port", "web_prt") == {
        "web_prt": ["web_port"],
        "web_usr": ["web_user"],
    }


def test_the_shared_prefix_does_not_make_names_similar() -> None:
    assert unknown("web_zzzzzz") == {"web_zzzzzz": []}


def test_a_longer_role_name_owns_its_variables() -> None:
    assert unknown("web_daemon_anything") == {}
    assert unknown("web_daemon_anything", role="web_daemon", allowed=()) == {"web_daemon_anything": []}
    assert unknown("webber_x") == {}


def test_an_option_wins_over_a_longer_role_name() -> None:
    """web_daemon_port as an option of role web stays allowed there although a role web_daemon exists."""
    assert unknown("web_daemon_port", allowed=("web_daemon_port",)) == {}


@pytest.mark.parametrize("role", ["tls_certificate", "web2py.deployment.tls_certificate"])
def test_the_role_is_named_short_or_in_full(role: str) -> None:
    assert plugin.short_role_name(role) == "tls_certificate"


@pytest.mark.parametrize("role", ["community.general.x", "deployment.x", "a.b.c.d"])
def test_a_role_of_another_collection_is_refused(role: str) -> None:
    with pytest.raises(AnsibleActionFail, match=r"web2py\.deployment"):
        plugin.short_role_name(role)


@pytest.mark.parametrize("role", ["absent", "../alpha", ""])
def test_a_role_that_does_not_exist_is_refused_with_those_that_do(collection: Path, role: str) -> None:
    with pytest.raises(AnsibleActionFail, match="alpha, alpha_beta"):
        plugin.documented_options(role, collection / "roles")


@pytest.fixture
def platforms() -> list[dict]:
    return []


@pytest.fixture
def collection(tmp_path: Path, platforms: list[dict]) -> Path:
    """A collection of two small roles with this plugin in it, so that no real role's options matter here."""
    root = tmp_path / "ansible_collections" / "web2py" / "deployment"
    utils = ("plugin_utils/arguments", "plugin_utils/networks", "plugin_utils/planning")
    for file in ("action/validate_role", "modules/validate_role", *utils):
        target = root / "plugins" / f"{file}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "plugins" / f"{file}.py", target)
    for role, options in {"alpha": ["alpha_port", "alpha_owner"], "alpha_beta": ["alpha_beta_size"]}.items():
        meta = root / "roles" / role / "meta"
        meta.mkdir(parents=True)
        spec = {"argument_specs": {"main": {"options": {name: {"type": "str"} for name in options}}}}
        (meta / "argument_specs.yml").write_text(yaml.safe_dump(spec))
        (meta / "main.yml").write_text(yaml.safe_dump({"galaxy_info": {"platforms": platforms}}))
    return root


def play(collection: Path, variables: dict, *arguments: str, **options: object) -> tuple[int, dict, str]:
    """Run the action in ansible-playbook; return exit status, the task's result and everything printed."""
    directory = collection.parents[2]
    (directory / "inventory.json").write_text(
        json.dumps({"all": {"hosts": {"host": {"ansible_connection": "local", **variables}}}})
    )
    task = {"web2py.deployment.validate_role": {"role": "alpha", **options}}
    (directory / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(directory),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [sys.executable, "-m", "ansible.cli.playbook", "-i", "inventory.json", "play.yml", *arguments]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    output = done.stdout + done.stderr
    marker = next(line for line in done.stdout.splitlines() if line.startswith(("ok: ", "fatal: ", "changed: ")))
    text = done.stdout[done.stdout.index(marker) :].partition("=> ")[2]
    result, _end = json.JSONDecoder().raw_decode(text) if text else ({}, 0)
    return done.returncode, result, output


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_play_fails_with_all_misspelled_names_and_no_value(collection: Path, arguments: tuple[str, ...]) -> None:
    variables = {"alpha_prt": SECRET, "alpha_ownr": [SECRET], "alpha_port": SECRET, "alpha_beta_zzz": SECRET}
    status, result, output = play(collection, variables, "-vvv", *arguments)
    assert status == 2
    assert result["changed"] is False
    assert result["unknown"] == ["alpha_ownr", "alpha_prt"]
    assert "did you mean alpha_owner?" in result["msg"]
    assert "did you mean alpha_port?" in result["msg"]
    assert "ansible-doc -t role web2py.deployment.alpha" in result["msg"]
    assert SECRET not in output
    assert "DEPRECATION" not in output


@pytest.mark.parametrize("arguments", [(), ("--check",)])
def test_a_play_passes_with_right_names_and_changes_nothing(collection: Path, arguments: tuple[str, ...]) -> None:
    variables = {"alpha_port": SECRET, "alpha_extra": SECRET}
    status, result, output = play(collection, variables, "-v", *arguments, also=["alpha_extra"])
    assert status == 0, output
    assert result == {"changed": False, "unknown": []}
    assert SECRET not in output


DEBIAN = [{"name": "Debian", "versions": ["bookworm", "trixie"]}]


@pytest.mark.parametrize(
    ("platforms", "facts", "found"),
    [
        (DEBIAN, {"distribution": "Debian", "distribution_release": "trixie"}, None),
        ([], {}, None),
        (
            DEBIAN,
            {"distribution": "Debian", "distribution_release": "buster", "distribution_version": "10.1"},
            "is Debian 10.1;",
        ),
        (DEBIAN, {"distribution": "Fedora", "distribution_release": "", "distribution_version": "43"}, "is Fedora 43;"),
        (DEBIAN, {}, "is unknown;"),
    ],
)
def test_the_distribution_is_one_of_those_in_the_meta_data(platforms: list, facts: dict, found: str | None) -> None:
    problem = plugin.platform_problem(platforms, facts)
    assert (problem == "") if found is None else (f"{found} it must be Debian bookworm or trixie." in problem)


@pytest.mark.parametrize("platforms", [DEBIAN])
def test_a_play_on_an_unsupported_host_fails(collection: Path) -> None:
    status, result, _output = play(collection, {"alpha_prt": SECRET})
    assert status == 2
    assert "alpha_prt" in result["msg"] and "distribution is unknown" in result["msg"]


def test_a_value_that_cannot_be_templated_is_never_touched(collection: Path) -> None:
    status, _result, output = play(collection, {"alpha_port": "{{ nowhere }}"}, "-v")
    assert status == 0, output


def test_an_unknown_option_of_the_action_is_refused(collection: Path) -> None:
    status, _result, output = play(collection, {}, besides=["alpha_extra"])
    assert status == 2
    assert "besides" in output
