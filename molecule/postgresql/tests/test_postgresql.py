# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What clients of the server can do and what they cannot, from the machine itself and from another one."""

from __future__ import annotations

import re

import pytest
from browser import assert_secret, wait_for

USERS = {"shop": "right horse shop", "O'Reilly & Söhne": "pä%ss'w@rd \"/\\ 4?"}
DATABASES = {"shop": "shop", "Bücher d'été, 書": "O'Reilly & Söhne"}


@pytest.mark.parametrize("database", DATABASES)
def test_the_owner_works_in_his_database_over_verified_tls(server, database):
    owner = DATABASES[database]
    statement = (
        "CREATE TABLE IF NOT EXISTS things (name text); INSERT INTO things VALUES ('書'); "
        "SELECT count(*) > 0 FROM things; SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    done = server.client(statement, USERS[owner], dbname=database, user=owner)
    assert done.stdout.split() == ["t", "t|TLSv1.3"], done.stderr


@pytest.mark.parametrize(
    ("parameters", "password", "words"),
    [
        ({"sslmode": "disable"}, USERS["shop"], "no encryption"),
        ({}, "wrong horse shop", "password authentication failed"),
        ({"dbname": "postgres"}, USERS["shop"], "no pg_hba.conf entry"),
        ({"dbname": "Bücher d'été, 書"}, USERS["shop"], "no pg_hba.conf entry"),
        ({"dbname": "archive"}, USERS["shop"], "permission denied for database"),
        ({"user": "postgres"}, "", "no pg_hba.conf entry"),
        ({"user": "archive", "dbname": "archive"}, "", "no pg_hba.conf entry"),
        ({"host": "", "hostaddr": "THE SERVER"}, USERS["shop"], "host name must be specified"),
        ({"sslrootcert": "/etc/ssl/certs/ssl-cert-snakeoil.pem"}, USERS["shop"], "certificate verify failed"),
    ],
)
def test_everybody_else_is_refused(server, parameters, password, words):
    address = server.run("hostname -I").split()[0]
    given = {name: address if value == "THE SERVER" else value for name, value in parameters.items()}
    done = server.client("SELECT 1", password, **{"dbname": "shop", "user": "shop", **given})
    assert done.rc != 0 and words in done.stderr, done.stderr


def test_a_certificate_for_another_name_is_refused(server):
    address = server.run("hostname -I").split()[0]
    done = server.client("SELECT 1", USERS["shop"], dbname="shop", user="shop", host=address)
    assert done.rc != 0 and "does not match host name" in done.stderr, done.stderr


def test_users_have_no_powers(server):
    flags = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
    assert server.ask(f"SELECT rolname FROM pg_roles WHERE ({flags}) AND rolname <> 'postgres'").strip() == ""
    done = server.client("COPY (SELECT 1) TO PROGRAM 'id'", USERS["shop"], dbname="shop", user="shop")
    assert "privileges of" in done.stderr or "permission denied" in done.stderr, done.stderr
    assert server.ask("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'shop'").strip() == "50"


def test_users_of_the_machine_are_nobody_without_a_password(server, host):
    host.run("id stranger || useradd stranger")
    for user in ("postgres", "shop", "archive"):
        done = host.run(f"cd / && runuser -u stranger -- psql -wXAtqc 'SELECT 1' -U {user} shop")
        assert done.rc != 0 and re.search("authentication failed|no password|no pg_hba.conf entry", done.stderr)
    done = host.run("cd / && PGPASSWORD='right horse shop' runuser -u stranger -- psql -XAtqc 'SELECT 1' -U shop shop")
    assert done.stdout.strip() == "1"


def test_passwords_are_stored_as_scram_secrets(server):
    stored = dict(line.split("|") for line in server.ask("SELECT rolname, rolpassword FROM pg_authid").splitlines())
    assert {user: stored[user].partition("$")[0] for user in USERS} == dict.fromkeys(USERS, "SCRAM-SHA-256")
    assert stored["archive"] == stored["postgres"] == ""


def test_databases_are_as_declared(server):
    found = server.ask("SELECT datname, pg_get_userbyid(datdba), datcollate FROM pg_database WHERE NOT datistemplate")
    assert set(found.splitlines()) == {
        "postgres|postgres|C.UTF-8",
        "shop|shop|C.UTF-8",
        "Bücher d'été, 書|O'Reilly & Söhne|C.UTF-8",
        "archive|archive|C",
        "tenant|tenant|C.UTF-8",
    }
    assert server.ask("SELECT similarity('a', 'a')", "shop").strip() == "1"


def test_settings_are_in_force(server):
    names = ["shared_buffers", "effective_cache_size", "work_mem", "maintenance_work_mem", "log_min_duration_statement"]
    settings = {name: server.ask(f"SHOW {name}").strip() for name in names}
    assert settings == {
        "shared_buffers": "96MB",
        "effective_cache_size": "384MB",
        "work_mem": "1310kB",
        "maintenance_work_mem": "32MB",
        "log_min_duration_statement": "250ms",
    }
    assert server.ask("SELECT count(*) FROM pg_settings WHERE pending_restart").strip() == "0"


def test_the_server_comes_back_after_its_death(server):
    server.run(f"kill -KILL {server.pid()}")
    ask = "cd / && runuser -u postgres -- psql -XAtqc 'SELECT 1'"
    assert wait_for(lambda: server.host.run(ask).stdout.strip() == "1", 20, "PostgreSQL answers again") < 15


@pytest.mark.parametrize("secret", USERS.values())
def test_no_password_is_anywhere_on_the_machine(server, host, secret):
    """Not in the journal, the logs of the server, process lists, or a file that others can read."""
    assert_secret(host, [secret], "cat /var/log/postgresql/*")
