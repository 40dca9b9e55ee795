# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an operator finds who runs the play again, changes something, or makes a mistake."""

from __future__ import annotations

import functools
import pathlib

import browser
import pytest
import yaml

SCENARIO = pathlib.Path(__file__).parents[1]
play = functools.partial(browser.play, playbook=SCENARIO / "converge.yml")
DEFAULTS = yaml.safe_load((browser.PROJECT / "roles/postgresql/defaults/main.yml").read_text())
INVENTORY = yaml.safe_load((SCENARIO / "inventory/group_vars/docker.yml").read_text())
SECRETS = [user["password"] for user in INVENTORY["postgresql_users"] if "password" in user]


@pytest.mark.parametrize("arguments", [["-vvv", "--diff"], ["--check", "--diff"]])
def test_another_run_changes_nothing_and_tells_no_secret(servers, arguments):
    stored = [server.ask("SELECT rolname, rolpassword FROM pg_authid") for server in servers]
    started = [server.pid() for server in servers]
    run = play(*arguments)
    assert run.status == 0, run.output
    assert run.changes() == 0, run.changed_tasks()
    assert [server.pid() for server in servers] == started
    assert [server.ask("SELECT rolname, rolpassword FROM pg_authid") for server in servers] == stored
    assert [secret for secret in (*SECRETS, "SCRAM-SHA-256$") if secret in run.output] == []


def test_values_given_as_text_mean_the_same():
    variables = {name: INVENTORY.get(name, default) for name, default in DEFAULTS.items()}
    run = play(variables=browser.as_text(variables))
    assert run.status == 0, run.output
    assert run.changes() == 0, run.changed_tasks()


def test_what_can_be_loaded_is_and_the_rest_restarts(servers):
    """One setting that needs no restart and one that does, and an access rule."""
    started = [server.pid() for server in servers]
    settings = [*INVENTORY["postgresql_settings"], {"name": "work_mem", "value": "7MB"}]
    hba = [*INVENTORY["postgresql_hba"], {"type": "local", "databases": ["all"], "users": ["all"], "method": "peer"}]
    run = play("--diff", variables={"postgresql_settings": settings, "postgresql_hba": hba})
    assert run.status == 0, run.output
    assert run.changed_tasks() == ["Configure the server", "Configure who may connect", "Load the configuration"]
    assert [server.pid() for server in servers] == started, "not restarted"
    assert {server.ask("SHOW work_mem").strip() for server in servers} == {"7MB"}

    settings[-1] = {"name": "max_locks_per_transaction", "value": 128}
    run = play(variables={"postgresql_settings": settings, "postgresql_port": 5433})
    assert run.status == 0, run.output
    assert "Restart the server" in run.changed_tasks()
    for server in servers:
        assert server.run("ss -Hltn 'sport = :5433'") != ""
    assert play().status == 0
    assert {server.ask("SHOW max_locks_per_transaction").strip() for server in servers} == {"64"}


def test_rules_that_the_server_refuses_are_taken_back(servers):
    """And the next run says so again: nothing that cannot be loaded waits for the next restart."""
    before = [server.run("cat /etc/postgresql/*/main/pg_hba.conf") for server in servers]
    wrong = {"type": "local", "databases": ["shop"], "users": ["shop"], "method": "ldap", "options": {"ldapserv": "x"}}
    for _ in range(2):
        run = play("--diff", variables={"postgresql_hba": [wrong, *INVENTORY["postgresql_hba"]]})
        assert run.status != 0 and "ldapserv" in run.output and "the former rules stay" in run.output
        assert [server.run("cat /etc/postgresql/*/main/pg_hba.conf") for server in servers] == before
    for server in servers:
        assert server.run("ls /etc/postgresql/*/main/pg_hba.conf*").split()[1:] == []
        server.run(f"systemctl restart {server.unit()}")
    assert (play().status, play().changed_tasks()) == (0, [])


def test_a_secret_in_a_rule_is_in_no_diff():
    secret = "right horse ldap"
    options = {"ldapserver": "ldap.example", "ldapbinddn": "cn=x", "ldapbindpasswd": secret, "ldapbasedn": "dc=x"}
    rule = {"type": "host", "databases": ["shop"], "users": ["shop"], "address": "192.0.2.1", "method": "ldap"}
    variables = {"postgresql_hba": [{**rule, "options": options}, *INVENTORY["postgresql_hba"]]}
    run = play("--check", "--diff", variables=variables)
    assert "Configure who may connect" in run.changed_tasks() and secret not in run.output


def test_what_an_interrupted_run_has_not_loaded_is_loaded_by_the_next(servers):
    """It ends after the first files, before they are loaded."""
    rule = {"type": "local", "databases": ["all"], "users": ["all"], "method": "peer"}
    variables = {"postgresql_hba": [*INVENTORY["postgresql_hba"], rule]}
    for server in servers:
        server.run("cd /etc/postgresql/*/main && mv pg_ident.conf saved && mkdir pg_ident.conf")
    run = play(variables=variables)
    assert run.status != 0 and run.changed_tasks() == ["Configure who may connect"]
    for server in servers:
        server.run("cd /etc/postgresql/*/main && rmdir pg_ident.conf && mv saved pg_ident.conf")
    loaded = [server.ask("SELECT pg_conf_load_time()") for server in servers]
    run = play(variables=variables)
    assert run.status == 0, run.output
    assert run.changed_tasks() == ["Apply changes left by an interrupted run", "Load the configuration"]
    assert all(server.ask("SELECT pg_conf_load_time()") != old for server, old in zip(servers, loaded, strict=True))
    assert play().changed_tasks() == ["Configure who may connect", "Load the configuration"]
    assert play().changed_tasks() == []


def test_check_mode_predicts_a_new_database_and_another_port(servers):
    databases = [*INVENTORY["postgresql_databases"], {"name": "new", "owner": "shop", "extensions": ["pg_trgm"]}]
    run = play("--check", variables={"postgresql_databases": databases, "postgresql_port": 5433})
    assert run.status == 0, run.output
    assert {"Configure the server", "Manage databases"} <= set(run.changed_tasks())


def test_a_certificate_that_postgres_cannot_use_is_refused_while_the_server_goes_on(servers):
    started = [server.pid() for server in servers]
    tls = {**INVENTORY["postgresql_tls"], "key_file": "/etc/shadow"}
    run = play(variables={"postgresql_tls": tls})
    assert run.status != 0 and "postgresql_tls" in run.output and "/etc/shadow" in run.output
    assert run.changes() == 0
    assert [server.pid() for server in servers] == started


def test_users_databases_and_passwords_come_and_go(servers):
    users = [*INVENTORY["postgresql_users"], {"name": "guest", "password": "first horse guest"}]
    databases = [*INVENTORY["postgresql_databases"], {"name": "guest book", "owner": "guest"}]
    run = play(variables={"postgresql_users": users, "postgresql_databases": databases})
    assert run.status == 0, run.output
    assert run.changed_tasks() == [
        "Manage users",
        "Manage databases",
        "Revoke public access to the databases",
        "Set the owners of the databases",
    ]
    users[-1]["password"] = "second horse guest"
    before = [server.ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'guest'") for server in servers]
    run = play(variables={"postgresql_users": users, "postgresql_databases": databases})
    assert run.changed_tasks() == ["Manage users"]
    after = [server.ask("SELECT rolpassword FROM pg_authid WHERE rolname = 'guest'") for server in servers]
    assert all(old != new for old, new in zip(before, after, strict=True))
    users[-1] = {"name": "guest", "state": "absent"}
    databases[-1] = {"name": "guest book", "state": "absent"}
    run = play(variables={"postgresql_users": users, "postgresql_databases": databases})
    assert run.status == 0, run.output
    assert run.changed_tasks() == ["Remove databases", "Remove users"]


def test_every_mistake_is_named_before_anything_changes():
    variables = {
        "postgresql_users": [{"name": "shop", "password": "tiny-77"}, {"name": "shop"}, {"name": "pg_x"}],
        "postgresql_databases": [
            {"name": 'with a "quote"', "owner": "shop"},
            {"name": "twice", "owner": "shop"},
            {"name": "twice", "owner": "shop"},
            {"name": "orphan", "owner": "nobody"},
            {"name": "é" * 32, "owner": "shop"},
        ],
        "postgresql_hba": [
            {
                "type": "host",
                "databases": ["all"],
                "users": ["all"],
                "address": "10.0.0.300",
                "method": "scram-sha-256",
            },
            {"type": "host", "databases": ["all"], "users": ["all"], "method": "peer"},
            {"type": "hostssl", "databases": ["all"], "users": ["all"], "address": "all", "method": "cert"},
        ],
        "postgresql_settings": [{"name": "port", "value": 1}, {"name": "shared buffers", "value": 1}],
        "postgresql_memory": 10**7,
        "postgresql_tls": {},
    }
    run = play(variables=variables)
    assert run.status != 0 and run.changes() == 0, run.changed_tasks()
    for words in (
        ("'shop'", "8 to 1024"),
        ("2 entries named 'shop'",),
        ("'pg_x'",),
        ("with a", "quote", "double quote"),
        ("2 entries named 'twice'",),
        ("'orphan'", "owner is 'nobody'"),
        ("63 bytes",),
        ("postgresql_hba[0]: address is '10.0.0.300'",),
        ("postgresql_hba[1]: address is not set",),
        ("type is 'host'", "local with method peer"),
        ("type is 'hostssl'", "postgresql_tls is empty"),
        ("'port'", "postgresql_port"),
        ("'shared buffers'",),
        ("postgresql_memory is 10000000", "all of this machine"),
    ):
        assert all(word in run.output for word in words), (words, run.output)
    assert "tiny-77" not in run.output


def test_a_schedule_that_systemd_cannot_read_is_refused():
    run = play(variables={"postgresql_backup_schedule": "every now and then"})
    assert run.status != 0 and run.changes() == 0, run.changed_tasks()
    assert "postgresql_backup_schedule is 'every now and then'; it must be a calendar event" in run.output


def test_an_unknown_method_is_refused_with_those_that_are_allowed():
    run = play(variables={"postgresql_hba": [{**INVENTORY["postgresql_hba"][0], "method": "trust"}]})
    assert run.status != 0 and run.changes() == 0
    assert "trust" in run.output and "scram-sha-256" in run.output


@pytest.mark.parametrize(("name", "value"), [("work_memm", "4MB"), ("work_mem", "many"), ("shared_buffers", "1PB")])
def test_a_setting_that_the_server_would_refuse_never_reaches_it(servers, name, value):
    settings = [item for item in INVENTORY["postgresql_settings"] if item["name"] != name]
    run = play(variables={"postgresql_settings": [*settings, {"name": name, "value": value}]})
    assert run.status != 0 and run.changes() == 0, run.output
    assert name in run.output
    for server in servers:
        assert name not in server.run("cat /etc/postgresql/*/main/conf.d/ansible.conf") or name != "work_memm"
        assert server.ask("SELECT 1").strip() == "1"
    # The refused run counts as interrupted: the next one loads the configuration once more, and finishes.
    assert play().changed_tasks() == ["Apply changes left by an interrupted run", "Load the configuration"]
    assert play().changed_tasks() == []
