# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action `plan`: every option given as text, names, secrets, and a real run of ansible-playbook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.vault import AnsibleVaultError
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.plugin_utils import arguments
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host

REPOSITORY = Path(__file__).resolve().parents[2]
SECRET = "s3cret+"
FACTS = {
    "distribution": "Debian",
    "distribution_release": "trixie",
    "memtotal_mb": 2048,
    "all_ipv4_addresses": ["192.0.2.7"],
    "all_ipv6_addresses": [],
    "interfaces": ["eth0"],
}
# What the options of each role need to be without a fault, entries of every list among them.
COMPLETE: dict[str, dict[str, Any]] = {
    "apache_proxy": {"apache_proxy_websockets": [{"path": "/a", "backend": "ws://127.0.0.1:8888/"}]},
    "apache_site": {"apache_site_extra_ports": [8080]},
    "apache_wsgi": {},
    "lighttpd_fcgi": {},
    "memcached": {},
    "nfs_shared": {
        "nfs_shared_exports": [
            {"name": "a", "path": "/srv/a/b", "clients": ["192.0.2.10"], "owner": 950, "group": 951, "read_only": True}
        ],
        "nfs_shared_mounts": [
            {"name": "b", "server": "192.0.2.7", "export": "/srv/b", "path": "/srv/c/d", "read_only": True}
        ],
    },
    "haproxy": {
        "haproxy_certificates": [{"name": "www", "certificate_file": "/c.pem", "key_file": "/k.pem"}],
        "haproxy_servers": [
            {"name": "web1", "address": "web1", "port": 80, "weight": 7, "max_connections": 9, "verify": False},
            {"name": "web2", "address": "web2", "port": 443, "backup": True, "tls": True},
        ],
        "haproxy_keepalived": {
            "interface": "eth0",
            "router_id": 51,
            "priority": 150,
            "virtual_addresses": ["192.0.2.9"],
            "peers": ["192.0.2.3"],
            "password": SECRET,
        },
    },
    "postgresql": {
        "postgresql_connection_limit": 50,
        "postgresql_memory": 512,
        "postgresql_settings": [{"name": "jit", "value": "off"}],
        "postgresql_tls": {"certificate_file": "/c.pem", "key_file": "/k.pem"},
        "postgresql_users": [{"name": "shop", "password": SECRET + SECRET, "connection_limit": 7}],
        "postgresql_databases": [{"name": "shop", "owner": "shop", "extensions": ["pg_trgm"]}],
    },
    "tls_certificate": {
        "tls_certificate_certificates": [
            {"name": "www", "common_name": "www.example.org", "valid_days": 90, "renew_before_days": 20}
        ],
        "tls_certificate_ca_directory": "/nowhere/ca",
        "tls_certificate_ca_passphrase": SECRET,
    },
    "web2py": {
        "web2py_applications": [
            {"name": "welcome", "database": {"password": SECRET + SECRET}, "secure_cookies": True},
            {"name": "shop", "source": {"git": f"https://{SECRET}@example.org/x"}, "database": {"pool_size": 9}},
        ],
        "web2py_admin_passwords": [{"port": 443, "password": SECRET + SECRET}],
        "web2py_database_server": {"host": "db", "tls": {"ca_file": "/ca.pem"}},
        "web2py_database_ca_file": "/ca.pem",
        "web2py_cache_servers": [],
        "web2py_client_addresses": ["192.0.2.7"],
        "web2py_storage_server": "",
        "web2py_migrate_host": "www1",
        "web2py_secrets_directory": "/secrets",
        "web2py_admin_password_seed": "www1",
        "web2py_default_application": "shop",
        "web2py_server_names": ["www.example.org"],
        "web2py_public_http_port": 80,
        "web2py_public_https_port": 443,
        "web2py_trusted_proxies": [],
        "web2py_uid": 950,
        "web2py_gid": 951,
    },
    "web2py_daemon": {
        "web2py_daemon_instances": [
            {
                "name": "admin",
                "port": 8001,
                "administration": True,
                "password": SECRET + SECRET,
                "tls": {"certificate_file": "/c.pem", "key_file": "/k.pem"},
                "timeouts": {"head": 10},
                "limits": {"request_body": 1000},
            }
        ],
        "web2py_daemon_scheduler_workers": [{"application": "shop", "workers": 2}],
        "web2py_daemon_applications": [{"name": "shop", "database": {"password": SECRET}}],
        "web2py_daemon_framework_source": {"path": "/web2py"},
        "web2py_daemon_health_path": "/healthz",
        "web2py_daemon_user": "web2py",
        "web2py_daemon_group": "web2py",
    },
}
# How an INI inventory or --extra-vars may write what is true and false.
TRUE, FALSE = ("true", "True", "yes", "on", "1"), ("false", "False", "no", "off", "0")


def plan(role: str, variables: dict[str, Any], facts: dict[str, Any] = FACTS) -> tuple[dict[str, Any], list[str]]:
    others = {
        "web2py": {**action.values_of_other("web2py", complete("web2py"), []), "frontend": role},
        "web2py_daemon": {"instances": [{"name": "public", "state": "present", "socket": True}]},
    }
    host = Host(facts, open, datetime.now(timezone.utc), others.__getitem__, name="www1")
    return action.plan(role, variables, host)


def complete(role: str) -> dict[str, Any]:
    """Every variable of the role with a value."""
    defaults = yaml.safe_load((REPOSITORY / "roles" / role / "defaults/main.yml").read_text(encoding="utf-8"))
    return {**defaults, **COMPLETE[role]}


def scalars(options: arguments.Options, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The names that lead to each option which has no options of its own, and its type."""
    for name, option in options.items():
        if "options" in option:
            yield from scalars(option["options"], (*path, name))
        else:
            yield (*path, name), option["type"]


def walk(*kinds: str) -> list[Any]:
    return [
        pytest.param(role, path, id=".".join(path))
        for role in action.PLANS
        for path, kind in scalars(arguments.documented_options(role))
        if kind in kinds
    ]


def replaced(value: Any, path: tuple[str, ...], new: Any) -> Any:
    """A copy in which the option at the path is another; in a list, that of each entry."""
    if not path:
        return new(value) if callable(new) else new
    if isinstance(value, list):
        return [replaced(item, path, new) for item in value]
    name, *rest = path
    return {**value, name: replaced(value.get(name), tuple(rest), new)}


def default_of(role: str, path: tuple[str, ...]) -> Any:
    options = arguments.documented_options(role)
    for name in path[:-1]:
        options = options[name]["options"]
    return options[path[-1]].get("default")


@pytest.mark.parametrize("role", sorted(action.PLANS))
def test_the_variables_of_these_tests_are_without_a_fault(role: str) -> None:
    values, problems = plan(role, complete(role))
    assert problems == []
    public = {name for name, option in arguments.documented_options(role).items() if not option.get("no_log")}
    assert {name.removeprefix(f"{role}_") for name in public} <= set(values)


@pytest.mark.parametrize(("role", "path"), walk("int"))
def test_a_number_given_as_text_is_that_number(role: str, path: tuple[str, ...]) -> None:
    typed = complete(role)
    expected = plan(role, typed)
    for text in (str, lambda number: f" {number} "):
        as_text = replaced(typed, path, lambda number: text(default_of(role, path) if number is None else number))  # noqa: B023
        assert as_text != typed
        assert plan(role, as_text) == expected


@pytest.mark.parametrize(("role", "path"), walk("bool"))
def test_a_boolean_given_as_text_is_that_boolean(role: str, path: tuple[str, ...]) -> None:
    for typed, texts in ((True, TRUE), (False, FALSE)):
        expected = plan(role, replaced(complete(role), path, typed))
        for text in texts:
            assert plan(role, replaced(complete(role), path, text)) == expected


@pytest.mark.parametrize("value", ["many", "", "1.5", "1,000", True, None, [1], {"a": 1}])
@pytest.mark.parametrize(("role", "path"), walk("int"))
def test_what_is_no_number_is_refused_by_name(role: str, path: tuple[str, ...], value: Any) -> None:
    if value is None and len(path) > 1:
        return  # left out
    refused(role, path, value, "a whole number")


@pytest.mark.parametrize("value", ["maybe", "", "2", 2, None, [True], {"a": True}])
@pytest.mark.parametrize(("role", "path"), walk("bool"))
def test_what_is_no_boolean_is_refused_by_name(role: str, path: tuple[str, ...], value: Any) -> None:
    if value is None and len(path) > 1:
        return
    refused(role, path, value, "true or false")


@pytest.mark.parametrize(("role", "path"), walk("list", "dict"))
def test_null_is_no_list_and_no_dictionary(role: str, path: tuple[str, ...]) -> None:
    """A list in an entry that is left out may mean everything."""
    if len(path) == 1 or default_of(role, path) is None:
        refused(role, path, None, "it must be a ")


@pytest.mark.parametrize("value", [True, [], {}])
@pytest.mark.parametrize(("role", "path"), walk("str", "path"))
def test_what_is_no_text_is_refused_by_name(role: str, path: tuple[str, ...], value: Any) -> None:
    refused(role, path, value, "it must be ")


def refused(role: str, path: tuple[str, ...], value: Any, allowed: str) -> None:
    _values, problems = plan(role, replaced(complete(role), path, value))
    # A list has one for each entry.
    assert 1 <= len(problems) <= 2
    for problem in problems:
        assert problem.startswith(path[0])
        assert f"{path[-1]} is " in problem and allowed in problem
        assert SECRET not in problem


@pytest.mark.parametrize("role", sorted(action.PLANS))
def test_values_are_converted_as_ansible_converts_them(role: str) -> None:
    """But for what it fills in: null for each option without a default, and defaults of an empty dictionary."""
    options = arguments.documented_options(role)

    def without_null(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: without_null(item) for name, item in value.items() if item is not None}
        return [without_null(item) for item in value] if isinstance(value, list) else value

    def as_text(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: as_text(item) for name, item in value.items()}
        return [as_text(item) for item in value] if isinstance(value, list) else str(value)

    for variables in (complete(role), as_text(complete(role))):
        validated = ArgumentSpecValidator(options).validate(variables)
        assert validated.error_messages == []
        values, problems = arguments.typed(options, variables)
        assert problems == []
        assert {name: value for name, value in values.items() if value != {}} == {
            name: value
            for name, value in without_null(validated.validated_parameters).items()
            if complete(role)[name] != {}
        }


@pytest.mark.parametrize("role", sorted(action.PLANS))
def test_secrets_are_neither_returned_nor_repeated(role: str) -> None:
    assert SECRET not in repr(plan(role, complete(role)))
    text = f"{SECRET} {SECRET}"
    for name, option in arguments.documented_options(role).items():
        if not arguments.is_secret(option):
            continue
        wrong_values = ([text], {"password": {"key": text}}, {"password": text, "interface": "eth7"}, {"unknown": text})
        for value in (*wrong_values, text) if "options" in option else wrong_values:
            values, problems = plan(role, {**complete(role), name: value})
            assert problems and SECRET not in repr((values, problems))


def test_a_dictionary_as_text_is_refused_and_not_shown() -> None:
    (problem,) = plan("haproxy", {**complete("haproxy"), "haproxy_keepalived": f'{{"password": "{SECRET}"}}'})[1]
    assert problem.startswith(
        "haproxy_keepalived is a value that is not shown; it must be a dictionary. Write it in YAML"
    )
    (problem,) = plan("haproxy", {**complete("haproxy"), "haproxy_servers": "web1,web2"})[1]
    assert problem.startswith("haproxy_servers is 'web1,web2'; it must be a list. Write it in YAML")


def test_a_list_may_be_given_as_text_with_commas() -> None:
    assert plan("memcached", {"memcached_addresses": "127.0.0.1, ::1"})[0]["addresses"] == ["127.0.0.1", "::1"]
    assert "empty" in plan("memcached", {"memcached_addresses": ""})[1][0]


def test_keys_and_choices_that_do_not_exist_are_refused_by_name() -> None:
    entries = [{"name": "a", "prt": 1}, {"address": "b"}, {"name": "c", "state": "gone"}, "d", {}]
    assert plan("haproxy", {**complete("haproxy"), "haproxy_servers": entries})[1] == [
        "haproxy_servers[0] ('a'): prt is unknown; it must be one of address, backup, ca_file, max_connections, name, "
        "port, state, tls, tls_name, verify, weight.",
        "haproxy_servers[1]: name is not set; it must be text.",
        "haproxy_servers[2] ('c'): state is 'gone'; it must be present or absent.",
        "haproxy_servers[3] is 'd'; it must be a dictionary. Write it in YAML; on the command line give one JSON "
        "document for all: -e '{…}'.",
        "haproxy_servers[4]: name is not set; it must be text.",
    ]


def test_all_problems_are_reported_together_and_none_twice() -> None:
    variables = {"haproxy_servers": [{"name": "a", "port": "x"}], "haproxy_http_port": "x"}
    _values, problems = plan("haproxy", {**complete("haproxy"), **variables})
    assert sorted(problems) == [
        "haproxy_http_port is 'x'; it must be a whole number.",
        "haproxy_servers[0] ('a'): port is 'x'; it must be a whole number.",
    ]


def test_of_values_that_cannot_be_read_nothing_else_is_said() -> None:
    """A list that is refused would leave others without what they name."""
    users = [{"name": "shop", "connection_limit": "many"}]
    _values, problems = plan("postgresql", {**complete("postgresql"), "postgresql_users": users})
    assert problems == ["postgresql_users[0] ('shop'): connection_limit is 'many'; it must be a whole number."]


@pytest.mark.parametrize("role", sorted(action.PLANS))
def test_what_a_plan_returns_is_in_nobody_s_way(role: str) -> None:
    """A registered result is read by attribute, and Ansible gives some keys of a result a meaning."""
    reserved = {*dir(dict), "failed", "changed", "skipped", "unreachable", "msg", "rc", "results", "diff", "exception"}
    reserved |= {"stdout", "stderr", "invocation", "ansible_facts", "add_host", "add_group", "deprecations"}
    assert not reserved & set(plan(role, complete(role))[0])


def run(
    folder: Path,
    role: str,
    variables: dict[str, Any],
    *options: str,
    facts: Any = FACTS,
    tasks: list[dict[str, Any]] | None = None,
) -> tuple[int, str]:
    """Validate in a play and show the registered plan; variables that are text are in an INI inventory."""
    text = [f"{name}={value}" for name, value in variables.items() if isinstance(value, str)]
    (folder / "inventory.ini").write_text(
        "\n".join(["[all]", "localhost ansible_connection=local", "[all:vars]", *text])
    )
    values = {name: value for name, value in variables.items() if not isinstance(value, str)}
    validate = {"ansible.builtin.include_role": {"name": f"web2py.deployment.{role}", "tasks_from": "validate"}}
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {**values, "ansible_facts": facts},
        "tasks": tasks or [validate, {"ansible.builtin.debug": {"var": f"__{role}"}}],
    }
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    link = folder / "ansible_collections" / "web2py" / "deployment"
    if not link.exists():
        link.parent.mkdir(parents=True)
        link.symlink_to(REPOSITORY)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(folder),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile",
        "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(folder / "facts"),
    }
    command = [sys.executable, "-m", "ansible.cli.playbook", "-i", "inventory.ini", "play.yml", *options]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def shown(output: str, role: str) -> dict[str, Any]:
    start = output.index("{", output.index("TASK [ansible.builtin.debug]"))
    return json.JSONDecoder().raw_decode(output[start:])[0][f"__{role}"]


def test_an_ini_inventory_and_extra_vars_mean_what_they_say(tmp_path: Path) -> None:
    variables = {"memcached_socket": "yes", "memcached_port": "11212", "memcached_addresses": "127.0.0.1,::1"}
    status, output = run(tmp_path, "memcached", variables, "-e", "memcached_socket=false memcached_memory=32")
    assert status == 0, output
    values = shown(output, "memcached")
    assert (values["socket"], values["port"], values["memory"]) == (False, 11212, 32)
    assert values["addresses"] == ["127.0.0.1", "::1"]
    # Of the role's defaults.
    assert values["max_connections"] == 1024 and values["changed"] is False
    assert not any("11212" in file.read_text() for file in (tmp_path / "facts").glob("**/*") if file.is_file())


@pytest.mark.parametrize("options", [(), ("--check",)])
def test_a_play_is_refused_with_everything_that_is_wrong(tmp_path: Path, options: tuple[str, ...]) -> None:
    variables = {
        "memcached_prt": "11211",
        "memcached_port": "many",
        "memcached_socket_group": "{{ nowhere }}",
    }
    facts = {**FACTS, "distribution": "Fedora", "distribution_version": "43"}
    status, output = run(tmp_path, "memcached", variables, *options, facts=facts)
    assert status == 2
    for words in (
        "memcached_prt: role web2py.deployment.memcached has no such variable; did you mean memcached_port?",
        "The host's distribution is Fedora 43; it must be Debian bookworm or trixie.",
        "memcached_port is 'many'; it must be a whole number.",
        "memcached_socket_group cannot be read: ",
    ):
        assert words in output, output
    assert "DEPRECATION" not in output


def test_a_play_shows_no_secret(tmp_path: Path) -> None:
    variables = {name: value for name, value in complete("haproxy").items() if not isinstance(value, str)}
    for wrong in ({}, {"haproxy_retries": "x"}, {"haproxy_keepalived": {"password": [SECRET]}}):
        status, output = run(tmp_path, "haproxy", {**variables, **wrong}, "-vvv")
        assert (status == 0) is (not wrong), output
        assert SECRET not in output
    assert "haproxy_keepalived: password is a value that is not shown; it must be text." in output


def test_missing_facts_are_named(tmp_path: Path) -> None:
    status, output = run(tmp_path, "memcached", {}, facts={})
    assert status == 2
    assert "The host's distribution is unknown; it must be Debian bookworm or trixie. Gather facts" in output


def test_another_role_is_refused(tmp_path: Path) -> None:
    status, output = run(tmp_path, "memcached", {}, tasks=[{"web2py.deployment.plan": {"role": "nowhere"}}])
    assert status == 2
    assert "it must be one of apache_proxy, apache_site, apache_wsgi, haproxy, lighttpd_fcgi, memcached," in output


def test_an_expression_of_a_secret_that_fails_is_explained_without_its_value():
    def raised(cause: Exception) -> AnsibleError:
        try:
            raise AnsibleError("the filter refuses 'right horse'") from cause
        except AnsibleError as error:
            return error

    secret, public = {"no_log": True}, {}
    told = "x_users cannot be read: "
    assert (
        arguments.why_unreadable("x_users", secret, raised(ValueError("right horse"))) == f"{told}its expression fails"
    )
    assert "no vault" in arguments.why_unreadable(
        "x_users", secret, raised(AnsibleVaultError("no vault secrets found"))
    )
    assert "'y' is undefined" in arguments.why_unreadable(
        "x_users", secret, raised(AnsibleUndefinedVariable("'y' is undefined"))
    )
    assert "right horse" in arguments.why_unreadable("x_users", public, raised(ValueError()))
