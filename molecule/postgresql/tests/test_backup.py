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


def content(server, database: str) -> str:
    """Number of rows, a checksum of each table, and who owns it."""
    return server.ask(
        "SELECT count(*), md5(string_agg(articles::text, '|' ORDER BY id)) FROM articles "
        "UNION ALL SELECT count(*), md5(string_agg(prices::text, '|' ORDER BY article)) FROM prices "
        "UNION ALL SELECT count(*), string_agg(tableowner, ',') FROM pg_tables WHERE schemaname = 'public'",
        database,
    )


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
    folder = back_up(server)
    server.ask(f'DROP DATABASE "{database}" WITH (FORCE)')
    done = restore(host, folder, database)
    assert done.rc == 0, done.stderr
    assert content(server, database) == before
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
    assert refused.rc != 0 and " tables; --overwrite" in refused.stderr
    assert content(server, database) == changed
    done = restore(host, folder, database, "--overwrite")
    assert done.rc == 0, done.stderr
    assert content(server, database) == before


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


def test_a_backup_that_fails_is_seen_and_leaves_the_others(server, host):
    folder = back_up(server)
    host.check_output("mv /usr/bin/pg_dumpall /usr/bin/pg_dumpall.away")
    try:
        assert host.run("systemctl start postgresql-backup.service").rc != 0
        assert host.run("systemctl is-failed postgresql-backup.service").rc == 0
    finally:
        host.check_output("mv /usr/bin/pg_dumpall.away /usr/bin/pg_dumpall; systemctl reset-failed")
    assert server.run(f"ls -A {DIRECTORY}").split() == [folder.rpartition("/")[2]]


def test_the_timer_waits(server):
    listed = server.run("systemctl list-timers --no-legend postgresql-backup.timer")
    assert "postgresql-backup.service" in listed
