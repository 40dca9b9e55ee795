# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups are whole, kept as long as asked for, and come back as they were, or not at all."""

from __future__ import annotations

import pytest

DIRECTORY = "/var/backups/postgresql"
ODD = "Bücher d'été, 書"
FILL = """
DROP TABLE IF EXISTS articles, prices;
CREATE TABLE articles (id serial PRIMARY KEY, name text UNIQUE, picture bytea);
INSERT INTO articles (name, picture)
  SELECT 'Artikel ' || n || ' é書', decode(md5(n::text), 'hex') FROM generate_series(1, 5000) AS n;
CREATE TABLE prices (article int REFERENCES articles, price numeric);
INSERT INTO prices SELECT id, id * 1.5 FROM articles;
ALTER TABLE articles OWNER TO {owner};
ALTER TABLE prices OWNER TO {owner};
"""
OWNERS = {"shop": "shop", ODD: '"O\'Reilly & Söhne"'}


PROPERTIES = (
    "SELECT datconnlimit, array_agg(right_::text ORDER BY right_::text) FROM pg_database, unnest(datacl) AS right_ "
    "GROUP BY 1, datname HAVING datname =",
    "SELECT setrole::regrole, setconfig FROM pg_db_role_setting JOIN pg_database ON setdatabase = pg_database.oid "
    "WHERE datname =",
)


def content(server, database: str) -> str:
    """Number of rows, a checksum of each table, and who owns it."""
    return server.ask(
        "SELECT count(*), md5(string_agg(articles::text, '|' ORDER BY id)) FROM articles "
        "UNION ALL SELECT count(*), md5(string_agg(prices::text, '|' ORDER BY article)) FROM prices "
        "UNION ALL SELECT count(*), string_agg(tableowner, ',') FROM pg_tables WHERE schemaname = 'public'",
        database,
    )


def properties(server, database: str) -> list[str]:
    quoted = database.replace("'", "''")
    return [server.ask(f"{statement} '{quoted}'") for statement in PROPERTIES]


def back_up(server) -> str:
    """Make a backup as the timer does; return its folder."""
    server.run(f"rm -rf {DIRECTORY}/*")
    server.run("systemctl start postgresql-backup.service")
    (name,) = server.run(f"ls {DIRECTORY}").split()
    return f"{DIRECTORY}/{name}"


def restore(host, folder: str, database: str, *options: str):
    command = f"cd / && runuser -u postgres -- postgresql-restore {' '.join(options)} %s %s"
    return host.run(command, folder, database)


@pytest.fixture(params=list(OWNERS))
def database(request, server) -> str:
    server.ask(FILL.format(owner=OWNERS[request.param]), request.param)
    return request.param


def test_a_dropped_database_comes_back_as_it_was(server, host, database):
    before = content(server, database)
    server.ask(
        f'GRANT CONNECT ON DATABASE "{database}" TO archive; ALTER DATABASE "{database}" CONNECTION LIMIT 7; '
        f"""ALTER DATABASE "{database}" SET search_path TO "$user", 'a b', public; """
        f"""ALTER DATABASE "{database}" SET application_name TO 'it''s'; """
        f"""ALTER ROLE archive IN DATABASE "{database}" SET work_mem TO '9MB'"""
    )
    settings = properties(server, database)
    assert "archive=c/" in settings[0] and "9MB" in settings[1]
    folder = back_up(server)
    server.ask(f'DROP DATABASE "{database}" WITH (FORCE)')
    done = restore(host, folder, database)
    assert done.rc == 0, done.stderr
    assert content(server, database) == before
    assert properties(server, database) == settings, "rights, limits and settings are not in the dump"
    assert server.ask("SELECT datname FROM pg_database WHERE datname LIKE 'restored%'").strip() == ""
    everybody = server.ask(
        "SELECT datname FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) a WHERE a.grantee = 0"
    )
    assert database not in everybody.splitlines(), "nobody else may connect"


def test_a_database_with_tables_is_replaced_only_if_told(server, host, database):
    before = content(server, database)
    folder = back_up(server)
    server.ask("DELETE FROM prices", database)
    changed = content(server, database)
    refused = restore(host, folder, database)
    assert refused.rc != 0 and "not empty" in refused.stderr and "--overwrite" in refused.stderr
    assert content(server, database) == changed
    done = restore(host, folder, database, "--overwrite")
    assert done.rc == 0, done.stderr
    assert content(server, database) == before


def test_a_restore_that_is_ended_leaves_the_old_database(server, host, database):
    """As it is when somebody interrupts the play, at any moment."""
    before = content(server, database)
    folder = back_up(server)
    ended = 0
    for tenths in range(1, 13):
        done = host.run(
            "cd / && timeout --signal=TERM %s setpriv --reuid=postgres --regid=postgres --init-groups "
            "/usr/local/sbin/postgresql-restore --overwrite %s %s",
            str(tenths / 10),
            folder,
            database,
        )
        ended += done.rc != 0
        assert content(server, database) == before, (tenths, done.stderr)
        assert server.ask("SELECT datname FROM pg_database WHERE datname LIKE 'restored%'").strip() == "", tenths
    assert ended > 2


def test_a_database_with_nothing_but_a_function_is_not_empty(server, host):
    folder = back_up(server)
    server.ask("CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'", "archive")
    try:
        refused = restore(host, folder, "archive")
        assert refused.rc != 0 and "not empty" in refused.stderr
    finally:
        server.ask("DROP FUNCTION one()", "archive")
    assert restore(host, folder, "archive").rc == 0


def test_a_damaged_dump_is_reported_and_the_old_database_stays(server, host, database):
    folder = back_up(server)
    before = content(server, database)
    dump = server.run(f"ls -S {folder}/*.dump | head -n 9")
    for path in dump.splitlines():
        host.check_output("size=$(stat -c %%s %s) && truncate -s $((size - 3000)) %s", path, path)
    done = restore(host, folder, database, "--overwrite")
    assert done.rc != 0 and "nothing was changed" in done.stderr, done.stderr
    assert content(server, database) == before
    assert server.ask("SELECT count(*) FROM pg_database WHERE datname LIKE 'restored%'").strip() == "0"


def test_only_older_backups_are_removed_and_never_the_newest(server):
    server.run(
        f'rm -rf {DIRECTORY}/*; cd {DIRECTORY}; d() {{ date -u -d "$1" +%Y-%m-%dT%H%M%SZ; }}; '
        "mkdir $(d '-15 days') $(d '-14 days -1 hour') $(d '-14 days +1 hour') $(d '-1 day') other; "
        "chown -R postgres: ."
    )
    before = server.run(f"ls {DIRECTORY}").split()
    server.run("systemctl start postgresql-backup.service")
    after = server.run(f"ls {DIRECTORY}").split()
    assert [name for name in before if name not in after] == before[:2]
    assert len(after) == 4 and "other" in after


def test_backups_are_readable_by_postgres_alone(server):
    folder = back_up(server)
    modes = server.run(f"find {DIRECTORY} -printf '%m %u\\n' | sort -u")
    assert set(modes.split("\n")) - {""} == {"700 postgres", "600 postgres"}
    assert {"globals.sql", "databases.json", "shop.dump"} <= set(server.run(f"ls {folder}").split())


@pytest.mark.parametrize(("program", "kept"), [("psql", False), ("pg_dump", False), ("pg_dumpall", True)])
def test_a_backup_that_fails_is_seen_and_leaves_the_others(server, host, program, kept):
    """Without the users, the dumps of the databases are kept."""
    folder = back_up(server)
    host.check_output(f"mv /usr/bin/{program} /usr/bin/{program}.away")
    try:
        assert host.run("systemctl start postgresql-backup.service").rc != 0
        assert host.run("systemctl is-failed postgresql-backup.service").rc == 0
    finally:
        host.check_output(f"mv /usr/bin/{program}.away /usr/bin/{program}; systemctl reset-failed")
    folders = server.run(f"ls -A {DIRECTORY}").split()
    assert folders[0] == folder.rpartition("/")[2] and len(folders) == 1 + kept
    if kept:
        files = server.run(f"ls {DIRECTORY}/{folders[1]}").split()
        assert "shop.dump" in files and "globals.sql" not in files


def test_the_timer_waits(server):
    listed = server.run("systemctl list-timers --no-legend postgresql-backup.timer")
    assert "postgresql-backup.service" in listed
