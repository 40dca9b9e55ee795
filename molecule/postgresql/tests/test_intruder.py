# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Nothing that the owner of a database plants in it runs as a superuser: in a backup, a restore or a run of the role.

Each way calls `intrude`, which tries to become a superuser, to run a program as postgres and to give its owner powers,
and writes into the server's log as whom it ran. A way that is not in the log was not tried.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shlex

import pytest
from browser import wait_for
from test_backup import DIRECTORY, back_up, restore
from test_runs import INVENTORY, play

MARKS = "/var/tmp/intruder"
PASSWORD = next(user["password"] for user in INVENTORY["postgresql_users"] if user["name"] == "tenant")
PSQL = f"PGPASSWORD={shlex.quote(PASSWORD)} psql -XAtq -v ON_ERROR_STOP=1 -U tenant tenant"
PAYLOAD = f"""
CREATE FUNCTION public.intrude(way text) RETURNS boolean LANGUAGE plpgsql AS $f$
DECLARE attempt text;
BEGIN
  -- Once in a session: some of these are called for each row of a catalogue.
  IF current_setting('intruder.' || way, true) = current_user THEN RETURN true; END IF;
  FOREACH attempt IN ARRAY ARRAY['RESET ROLE', 'RESET SESSION AUTHORIZATION', 'SET ROLE postgres',
    'SET SESSION AUTHORIZATION postgres', 'ALTER ROLE tenant SUPERUSER', 'GRANT pg_execute_server_program TO tenant',
    format('COPY (SELECT 1) TO PROGRAM %L', 'touch {MARKS}/' || way),
    format('COPY (SELECT 1) TO %L', '{MARKS}/' || way)] LOOP
    BEGIN EXECUTE attempt; EXCEPTION WHEN OTHERS THEN NULL; END;
  END LOOP;
  RAISE LOG 'intruder: % as %', way, current_user;
  PERFORM set_config('intruder.' || way, current_user, false);
  -- So that pg_restore goes on as before.
  BEGIN IF session_user = 'ansible_restore' THEN SET ROLE tenant; END IF; EXCEPTION WHEN OTHERS THEN NULL; END;
  RETURN true;
END $f$;
CREATE FUNCTION public.constant(way text, n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $f$
BEGIN PERFORM public.intrude(way); RETURN n; END $f$;
"""
# What a restore evaluates: constraints, domains, generated columns, partitions, keys, indexes, views that hold rows.
RESTORE = {
    "check": "CREATE TABLE w_check (n int CHECK (public.intrude('check'))); INSERT INTO w_check VALUES (1)",
    "check_by_sql_function": """CREATE FUNCTION f_sql() RETURNS boolean LANGUAGE sql
        AS $$SELECT public.intrude('check_by_sql_function')$$;
        CREATE TABLE w_sql (n int CHECK (f_sql())); INSERT INTO w_sql VALUES (1)""",
    "check_by_operator": """CREATE FUNCTION f_op(int, int) RETURNS boolean LANGUAGE sql
        AS $$SELECT public.intrude('check_by_operator')$$;
        CREATE OPERATOR public.### (FUNCTION = f_op, LEFTARG = int, RIGHTARG = int);
        CREATE TABLE w_op (n int CHECK (n ### 1)); INSERT INTO w_op VALUES (1)""",
    "check_by_cast": """CREATE TYPE t_cast AS (n int);
        CREATE FUNCTION f_cast(t_cast) RETURNS int LANGUAGE sql
        AS $$SELECT public.constant('check_by_cast', 1)$$;
        CREATE CAST (t_cast AS int) WITH FUNCTION f_cast(t_cast) AS IMPLICIT;
        CREATE TABLE w_cast (n t_cast CHECK (n::int = 1)); INSERT INTO w_cast VALUES (ROW(1)::t_cast)""",
    "check_by_aggregate": """CREATE FUNCTION f_step(int, int) RETURNS int LANGUAGE sql
        AS $$SELECT public.constant('check_by_aggregate', 1)$$;
        CREATE AGGREGATE a_step(int) (SFUNC = f_step, STYPE = int, INITCOND = '0');
        CREATE FUNCTION f_agg() RETURNS boolean LANGUAGE sql AS $$SELECT public.a_step(1) > 0$$;
        CREATE TABLE w_agg (n int CHECK (f_agg())); INSERT INTO w_agg VALUES (1)""",
    "check_by_view": """CREATE VIEW v_check AS SELECT public.intrude('check_by_view') AS yes;
        CREATE FUNCTION f_view() RETURNS boolean LANGUAGE sql AS $$SELECT yes FROM public.v_check$$;
        CREATE TABLE w_view (n int CHECK (f_view())); INSERT INTO w_view VALUES (1)""",
    "check_by_trigger": """CREATE FUNCTION f_trigger() RETURNS trigger LANGUAGE plpgsql
        AS $$BEGIN PERFORM public.intrude('check_by_trigger'); RETURN NEW; END$$;
        CREATE FUNCTION f_fire() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
          CREATE TEMP TABLE IF NOT EXISTS fired (n int);
          CREATE OR REPLACE TRIGGER fire BEFORE INSERT ON fired FOR EACH ROW EXECUTE FUNCTION public.f_trigger();
          INSERT INTO fired VALUES (1); RETURN true; END$$;
        CREATE TABLE w_trigger (n int CHECK (f_fire())); INSERT INTO w_trigger VALUES (1)""",
    "check_by_rule": """CREATE FUNCTION f_rule() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
          CREATE TEMP TABLE IF NOT EXISTS rules (n int);
          CREATE OR REPLACE RULE r AS ON INSERT TO rules DO INSTEAD SELECT public.intrude('check_by_rule');
          INSERT INTO rules VALUES (1); RETURN true; END$$;
        CREATE TABLE w_rule (n int CHECK (f_rule())); INSERT INTO w_rule VALUES (1)""",
    "check_by_policy": """CREATE FUNCTION f_policy() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
          CREATE TEMP TABLE IF NOT EXISTS fenced AS SELECT 1 AS n;
          DROP POLICY IF EXISTS p ON fenced;
          CREATE POLICY p ON fenced USING (public.intrude('check_by_policy'));
          ALTER TABLE fenced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
          PERFORM * FROM fenced; RETURN public.intrude('check_by_policy'); END$$;
        CREATE TABLE w_policy (n int CHECK (f_policy())); INSERT INTO w_policy VALUES (1)""",
    "check_by_definer": """CREATE FUNCTION f_definer() RETURNS boolean LANGUAGE sql SECURITY INVOKER
        SET search_path = public AS $$SELECT intrude('check_by_definer')$$;
        CREATE TABLE w_definer (n int CHECK (f_definer())); INSERT INTO w_definer VALUES (1)""",
    "check_of_whole_row": """CREATE TABLE w_row (n int);
        CREATE FUNCTION f_row(w_row) RETURNS boolean LANGUAGE sql AS $$SELECT public.intrude('check_of_whole_row')$$;
        ALTER TABLE w_row ADD CHECK (f_row(w_row)); INSERT INTO w_row VALUES (1)""",
    "check_inherited": """CREATE TABLE w_parent (n int CHECK (public.intrude('check_inherited')));
        CREATE TABLE w_child () INHERITS (w_parent); INSERT INTO w_child VALUES (1)""",
    "check_of_partition": """CREATE TABLE w_part (n int) PARTITION BY LIST (n);
        CREATE TABLE w_part_1 PARTITION OF w_part (CHECK (public.intrude('check_of_partition'))) FOR VALUES IN (1);
        INSERT INTO w_part VALUES (1)""",
    "domain": """CREATE DOMAIN d_plain AS int CHECK (public.intrude('domain'));
        CREATE TABLE w_domain (n d_plain); INSERT INTO w_domain VALUES (1)""",
    "domain_in_array": """CREATE DOMAIN d_array AS int CHECK (public.intrude('domain_in_array'));
        CREATE TABLE w_array (n d_array[]); INSERT INTO w_array VALUES ('{1}')""",
    "domain_in_composite": """CREATE DOMAIN d_composite AS int CHECK (public.intrude('domain_in_composite'));
        CREATE TYPE t_composite AS (n d_composite);
        CREATE TABLE w_composite (n t_composite); INSERT INTO w_composite VALUES (ROW(1))""",
    "domain_of_domain": """CREATE DOMAIN d_inner AS int CHECK (public.intrude('domain_of_domain'));
        CREATE DOMAIN d_outer AS d_inner; CREATE TABLE w_outer (n d_outer); INSERT INTO w_outer VALUES (1)""",
    "domain_of_range": """CREATE DOMAIN d_range AS int4range CHECK (public.intrude('domain_of_range'));
        CREATE TABLE w_range (n d_range); INSERT INTO w_range VALUES ('[1,2)')""",
    "generated": """CREATE TABLE w_generated
        (n int, m int GENERATED ALWAYS AS (public.constant('generated', n)) STORED);
        INSERT INTO w_generated VALUES (1)""",
    "generated_by_cast": """CREATE TYPE t_gen AS ENUM ('a');
        CREATE FUNCTION f_gen(t_gen) RETURNS int IMMUTABLE LANGUAGE plpgsql
        AS $$BEGIN RETURN public.constant('generated_by_cast', 1); END$$;
        CREATE CAST (t_gen AS int) WITH FUNCTION f_gen(t_gen);
        CREATE TABLE w_gen (n t_gen, m int GENERATED ALWAYS AS (n::int) STORED); INSERT INTO w_gen VALUES ('a')""",
    "partition_by_list": """CREATE TABLE w_list (n int) PARTITION BY LIST (public.constant('partition_by_list', n));
        CREATE TABLE w_list_1 PARTITION OF w_list FOR VALUES IN (1); INSERT INTO w_list VALUES (1)""",
    "partition_by_range": """CREATE TABLE w_rng (n int) PARTITION BY RANGE (public.constant('partition_by_range', n));
        CREATE TABLE w_rng_1 PARTITION OF w_rng FOR VALUES FROM (0) TO (9); INSERT INTO w_rng VALUES (1)""",
    "partition_by_hash": """CREATE TABLE w_hash (n int) PARTITION BY HASH (public.constant('partition_by_hash', n));
        CREATE TABLE w_hash_0 PARTITION OF w_hash FOR VALUES WITH (MODULUS 1, REMAINDER 0);
        INSERT INTO w_hash VALUES (1)""",
    "bound_of_partition": """CREATE DOMAIN d_bound AS int CHECK (public.intrude('bound_of_partition'));
        CREATE TABLE w_bound (n d_bound) PARTITION BY LIST (n);
        CREATE TABLE w_bound_1 PARTITION OF w_bound FOR VALUES IN (1)""",
    "foreign_key": """CREATE TYPE t_key AS ENUM ('a');
        CREATE FUNCTION f_key(t_key) RETURNS int IMMUTABLE LANGUAGE plpgsql
        AS $$BEGIN RETURN public.constant('foreign_key', 1); END$$;
        CREATE CAST (t_key AS int) WITH FUNCTION f_key(t_key) AS IMPLICIT;
        CREATE TABLE w_pk (n int PRIMARY KEY); INSERT INTO w_pk VALUES (1);
        CREATE TABLE w_fk (n t_key REFERENCES w_pk); INSERT INTO w_fk VALUES ('a')""",
    # PostgreSQL evaluates these as the owner of the table itself.
    "index": "CREATE TABLE w_index AS SELECT 1 AS n; CREATE INDEX ON w_index (public.constant('index', n))",
    "partial_index": """CREATE TABLE w_partial AS SELECT 1 AS n;
        CREATE INDEX ON w_partial (n) WHERE public.constant('partial_index', n) = 1""",
    "exclusion": """CREATE TABLE w_exclusion (n int, EXCLUDE ((public.constant('exclusion', n)) WITH =));
        INSERT INTO w_exclusion VALUES (1)""",
    "materialized_view": """CREATE MATERIALIZED VIEW w_materialized AS SELECT public.intrude('materialized_view')""",
}
BY_TABLE_OWNER = {"index", "partial_index", "exclusion", "materialized_view"}
# SQL in settings that are stored as they are.
SETTINGS = {
    "search_path": "public;ALTER/**/ROLE/**/tenant/**/SUPERUSER",
    "search_path of the role": "public;ALTER/**/ROLE/**/tenant/**/SUPERUSER",
    # With this one, nobody can connect any more.
    "local_preload_libraries": "x; ALTER ROLE tenant SUPERUSER",
}
# What the programs and the role look for by name, where the owner's search_path comes first.
SHADOWS = {
    **{
        f"view_{name}": f"""CREATE VIEW evil.{name}
        AS SELECT * FROM pg_catalog.{name} WHERE public.intrude('view_{name}')"""
        for name in (
            "pg_namespace",
            "pg_class",
            "pg_proc",
            "pg_depend",
            "pg_largeobject_metadata",
            "pg_extension",
            "pg_roles",
            "pg_database",
            "pg_shdepend",
        )
    },
    **{
        f"operator_{name}": f"""CREATE FUNCTION evil.{name}({left}, {right}) RETURNS {result} LANGUAGE plpgsql
        AS $$BEGIN PERFORM public.intrude('operator_{name}');
        RETURN $1 OPERATOR(pg_catalog.{sign}) $2; END$$;
        CREATE OPERATOR evil.{sign} (FUNCTION = evil.{name}, LEFTARG = {left}, RIGHTARG = {right})"""
        for name, sign, left, right, result in (
            ("not_like", "!~~", "name", "text", "boolean"),
            ("name_differs", "<>", "name", "text", "boolean"),
            ("name_is", "=", "name", "name", "boolean"),
            ("oid_is", "=", "oid", "oid", "boolean"),
            ("char_is", "=", '"char"', '"char"', "boolean"),
            ("plus", "+", "bigint", "bigint", "bigint"),
        )
    },
    "aggregate": """CREATE FUNCTION evil.step(bigint) RETURNS bigint LANGUAGE plpgsql
        AS $$BEGIN PERFORM public.intrude('aggregate'); RETURN 1; END$$;
        CREATE AGGREGATE evil.count(*) (SFUNC = evil.step, STYPE = bigint, INITCOND = '1')""",
    "function": """CREATE FUNCTION evil.current_database() RETURNS name LANGUAGE plpgsql
        AS $$BEGIN PERFORM public.intrude('function'); RETURN 'tenant'; END$$""",
}
# An extension that is careless about names, as many are that do not come with PostgreSQL.
CARELESS = {
    "careless.control": "default_version = '1'\nrelocatable = false\nschema = public\n",
    "careless--1.sql": "CREATE FUNCTION helper(anyelement) RETURNS boolean LANGUAGE sql AS 'SELECT true';\n"
    "SELECT helper('x'::text);\n",
}


@dataclasses.dataclass
class Tenant:
    """The owner of a database, who may do there what he likes."""

    server: object

    def run(self, script: str):
        return self.server.host.run(f"cd / && {PSQL} <<'END'\n{script}\nEND")

    def holds(self, script: str) -> None:
        """Keep a transaction open after a script."""
        self.server.run(f"cd / && {PSQL} >/dev/null 2>&1 <<'END' &\nBEGIN; {script}; SELECT pg_sleep(600);\nEND")
        asked = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'tenant' AND query LIKE '%pg_sleep%'"
        wait_for(lambda: self.server.ask(asked).strip() == "1", 20, "the transaction is open")

    def plants(self, *scripts: str) -> None:
        done = self.run(";\n".join((PAYLOAD, *scripts)))
        assert done.rc == 0, done.stderr

    def log(self) -> int:
        return int(self.server.run("cat /var/log/postgresql/*-main.log | wc -c"))

    def evaluated(self, since: int, where: str) -> dict[str, set[str]]:
        """As whom each way ran in databases of such a name, by the server's log."""
        lines = self.server.run(f"cat /var/log/postgresql/*-main.log | tail -c +{since + 1}")
        found: dict[str, set[str]] = {}
        for way, user in re.findall(rf"@{where}\S* LOG:  intruder: (\S+) as (\S+)", lines):
            found.setdefault(way, set()).add(user)
        return found

    def powers(self) -> dict[str, list[str]]:
        """What he has got of a superuser: programs that ran as postgres, flags, memberships."""
        return {
            "programs": self.server.run(f"ls {MARKS}").split(),
            "roles": self.server.ask(
                "SELECT rolname FROM pg_roles WHERE (rolsuper OR rolcreaterole) AND rolname <> 'postgres' "
                "UNION SELECT member::regrole::text FROM pg_auth_members WHERE member >= 16384"
            ).split(),
            "leftovers": self.server.ask(
                "SELECT datname FROM pg_database WHERE datname LIKE 'restored%' "
                "UNION SELECT rolname FROM pg_roles WHERE rolname LIKE 'ansible%'"
            ).split(),
        }


# Of a session of the tests themselves, in a database with all that in it.
SAFE = (
    "-c role=none -c client_encoding=UTF8 -c search_path=pg_catalog -c local_preload_libraries= -c statement_timeout=0"
)
NOTHING = {"programs": [], "roles": [], "leftovers": []}


def clear(server) -> None:
    server.run(f"rm -rf {MARKS}; install -d -m 777 {MARKS}")
    server.ask(
        "ALTER ROLE tenant NOSUPERUSER; REVOKE pg_execute_server_program FROM tenant; ALTER ROLE tenant RESET ALL"
    )
    # Also what a restore has left that failed a test.
    left = server.ask("SELECT datname FROM pg_database WHERE datname LIKE 'restored%'").split()
    for name in ("tenant", *left):
        server.ask(f"ALTER DATABASE {name} OWNER TO postgres; ALTER DATABASE {name} IS_TEMPLATE false")
        server.ask(f"DROP DATABASE {name} WITH (FORCE)")
    server.ask("DROP SCHEMA IF EXISTS open CASCADE", "shop")
    for role in server.ask("SELECT rolname FROM pg_roles WHERE rolname LIKE 'ansible%'").split():
        server.ask(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = '{role}'")
        server.ask(f"DROP ROLE {role}")
    server.ask("CREATE DATABASE tenant OWNER tenant TEMPLATE template0 LC_COLLATE 'C.UTF-8' LC_CTYPE 'C.UTF-8'")
    server.ask("REVOKE ALL ON DATABASE tenant FROM PUBLIC")


@pytest.fixture
def tenant(server):
    clear(server)
    yield Tenant(server)
    clear(server)


@pytest.fixture
def tenants(servers):
    for server in servers:
        clear(server)
    yield [Tenant(server) for server in servers]
    for server in servers:
        clear(server)


def test_code_in_a_dump_runs_with_the_rights_of_its_owner(tenant, host):
    tenant.plants(*RESTORE.values())
    folder, since = back_up(tenant.server), tenant.log()
    done = restore(host, folder, "tenant", "--overwrite")
    ran = tenant.evaluated(since, "restored_")
    as_superuser = sorted(way for way, users in ran.items() if "postgres" in users)
    assert (as_superuser, tenant.powers()) == ([], NOTHING), done.stderr
    assert done.rc == 0, done.stderr
    assert set(RESTORE) - set(ran) == set(), "each way was tried"
    assert done.stdout.splitlines()[1:] == [], "nothing is left out"
    rows = tenant.run("SELECT (SELECT count(*) FROM w_check), (SELECT m FROM w_generated), (SELECT count(*) FROM w_fk)")
    assert rows.stdout.strip() == "1|1|1", rows.stderr


def test_code_that_stays_in_the_role_of_restores_is_refused(tenant, host):
    """It would have left things there with the rights that the role has in the next restore."""
    tenant.plants(
        "CREATE FUNCTION stay() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RESET ROLE; EXECUTE "
        "'CREATE FUNCTION public.later() RETURNS text SECURITY DEFINER LANGUAGE sql AS ''SELECT current_user::text'''; "
        "EXECUTE format('ALTER DATABASE %I IS_TEMPLATE true', current_database()); "
        "RETURN true; EXCEPTION WHEN insufficient_privilege THEN RETURN true; END$$",
        "CREATE TABLE w_stay (n int CHECK (stay()))",
    )
    tenant.server.ask("ALTER TABLE w_stay DISABLE TRIGGER ALL", "tenant")
    assert tenant.run("INSERT INTO w_stay VALUES (1); DROP FUNCTION IF EXISTS later()").rc == 0
    tenant.server.ask("ALTER DATABASE tenant IS_TEMPLATE false")
    done = restore(host, back_up(tenant.server), "tenant", "--overwrite")
    assert done.rc != 0 and "ansible_restore" in done.stderr and "nothing was changed" in done.stderr, done.stdout
    assert tenant.powers() == NOTHING
    assert tenant.run("SELECT count(*) FROM w_stay").stdout.strip() == "1"


# What shop does in its own database as soon as the role of restores exists.
ACCOMPLICE = """
import time, psycopg2
shop = psycopg2.connect(user="shop", dbname="shop", password="right horse shop")
shop.autocommit = True
cursor = shop.cursor()
cursor.execute("CREATE SCHEMA IF NOT EXISTS open")
shop.autocommit = COMMITTED
for _ in range(3000):
    try:
        cursor.execute("GRANT USAGE ON SCHEMA open TO ansible_restore")
        break
    except psycopg2.Error:
        shop.rollback()
        time.sleep(0.02)
time.sleep(600)
"""


@pytest.mark.parametrize("committed", [True, False])
def test_rights_of_the_role_of_restores_elsewhere_stop_no_restore(tenant, host, committed):
    # The restore goes on when shop has come.
    tenant.plants(
        """CREATE FUNCTION hold() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
        FOR i IN 1..200 LOOP
          EXIT WHEN current_database() NOT LIKE 'restored%' OR EXISTS (SELECT FROM pg_shdepend JOIN pg_roles r
            ON refobjid = r.oid JOIN pg_database d ON d.oid = dbid
            WHERE rolname = 'ansible_restore' AND datname = 'shop')
            OR EXISTS (SELECT FROM pg_locks JOIN pg_roles r ON objid = r.oid
            WHERE rolname = 'ansible_restore' AND classid = 'pg_authid'::regclass);
          PERFORM pg_sleep(0.1);
        END LOOP; RETURN true; END$$;
        CREATE TABLE kept (n int CHECK (hold())); INSERT INTO kept VALUES (1)"""
    )
    folder = back_up(tenant.server)
    script = ACCOMPLICE.replace("COMMITTED", str(committed))
    pid = tenant.server.run(f"python3 - >/dev/null 2>&1 <<'END' & echo $!\n{script}\nEND").strip()
    try:
        done = restore(host, folder, "tenant", "--overwrite")
        left = tenant.server.ask("SELECT rolcanlogin FROM pg_roles WHERE rolname LIKE 'ansible%'").split()
        later = restore(host, folder, "archive")
        assert (done.rc, later.rc) == (0, 0), (done.stderr, later.stderr)
        assert left == (["f"] if committed else []), done.stderr
        assert ("drop both" in done.stderr) == committed
        assert tenant.powers()["roles"] == []
        assert tenant.run("SELECT count(*) FROM kept").stdout.strip() == "1"
    finally:
        host.run(f"kill {pid}")


PLOTS = {
    # The text of the error is not what makes it one that is expected.
    "rows are lost": (
        """CREATE FUNCTION f() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
        IF current_database() LIKE 'restored%' THEN RAISE EXCEPTION 'schema "tools" already exists'; END IF;
        RETURN true; END$$""",
        (),
        'schema "tools" already exists',
    ),
    "messages": (
        """CREATE FUNCTION f() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
        IF current_database() LIKE 'restored%' THEN
        FOR i IN 1..600 LOOP RAISE WARNING '%', repeat('x', 1000000); END LOOP; END IF; RETURN true; END$$""",
        (),
        "MiB of messages",
    ),
    "time": (
        """CREATE FUNCTION f() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN
        IF current_database() LIKE 'restored%' THEN SET statement_timeout TO 0; PERFORM pg_sleep(900); END IF;
        RETURN true; END$$""",
        ("--timeout", "4"),
        "within 4 seconds",
    ),
}
PEAK = "import resource, subprocess, sys; done = subprocess.run(sys.argv[1:]); " + (
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(done.returncode)"
)


@pytest.mark.parametrize("way", PLOTS)
def test_no_code_in_a_dump_hides_losses_or_holds_a_restore(tenant, host, way):
    function, options, words = PLOTS[way]
    tenant.server.ask("CREATE SCHEMA tools; CREATE EXTENSION hstore SCHEMA tools", "tenant")
    tenant.plants(function, "CREATE TABLE kept (n int CHECK (f())); INSERT INTO kept VALUES (1)")
    folder = back_up(tenant.server)
    command = f"cd / && runuser -u postgres -- python3 -c {shlex.quote(PEAK)} postgresql-restore --overwrite"
    done = host.run(f"{command} {' '.join(options)} {folder} tenant")
    tenant.server.run("truncate --size=0 /var/log/postgresql/*-main.log")
    assert done.rc != 0 and words in done.stderr and "nothing was changed" in done.stderr, (done.stdout, done.stderr)
    assert int(done.stdout.split()[-1]) < 100_000, "kB of memory"
    assert tenant.powers() == NOTHING
    assert tenant.run("SELECT count(*) FROM kept").stdout.strip() == "1"


OBSTACLES = {
    "no connections": ("ALTER DATABASE tenant ALLOW_CONNECTIONS false", "not currently accepting connections"),
    "long comment": (
        "DO $$BEGIN EXECUTE format('COMMENT ON DATABASE tenant IS %L', repeat('x', 20000000)); END$$",
        "more than 1 MB",
    ),
    "locked table": ("LOCK TABLE kept", "pg_dump: error:"),
    "locked sequence": ("ALTER SEQUENCE numbers RENAME TO others", "not finished within 8 seconds"),
    "ended": ("ALTER SEQUENCE numbers RENAME TO others", "ended by signal 15"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_no_owner_stops_the_backups_of_the_others(tenant, host, obstacle):
    script, reason = OBSTACLES[obstacle]
    assert tenant.run("CREATE TABLE kept AS SELECT 1 AS n; CREATE SEQUENCE numbers").rc == 0
    old = f"{DIRECTORY}/2020-01-02T000000Z"
    tenant.server.run(f"mv {back_up(tenant.server)} {old}; cp -a {old} {DIRECTORY}/2020-01-01T000000Z")
    if obstacle in ("locked table", "locked sequence", "ended"):
        tenant.holds(script)
    elif obstacle == "no connections":
        # An owner of two databases does that from the other one.
        tenant.server.ask(script)
    else:
        done = tenant.run(script)
        assert done.rc == 0, done.stderr
    seconds = "600" if obstacle == "ended" else "8"
    backup = (
        "setpriv --reuid=postgres --regid=postgres --init-groups "
        f"postgresql-backup --keep-days 14 --timeout {seconds} {DIRECTORY}"
    )
    if obstacle == "ended":
        # While the dump of tenant waits, and not before.
        waits = "SELECT 1 FROM pg_stat_activity WHERE datname = 'tenant' AND wait_event_type = 'Lock'"
        backup = (
            f"{backup} & for _ in $(seq 600); do "
            f'[ -z "$(runuser -u postgres -- psql -XAtc "{waits}")" ] || break; sleep 0.1; done; kill $!; wait $!'
        )
    done = host.run(f"cd / && {{ {backup}; }}")
    assert done.rc != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("failed: tenant: ") and reason in line and line.isprintable()
    names = tenant.server.run(f"ls {DIRECTORY}").split()
    assert len(names) == 2 and names[0] == "2020-01-02T000000Z", "the last good dump of tenant is kept"
    dumps = {"postgres.dump", "shop.dump", "archive.dump", "globals.sql", "databases.json"}
    found = set(tenant.server.run(f"ls {DIRECTORY}/{names[1]}").split("\n"))
    assert dumps <= found and "tenant.dump" not in found
    assert restore(host, f"{DIRECTORY}/{names[1]}", "archive").rc == 0
    assert "an earlier backup" in restore(host, f"{DIRECTORY}/{names[1]}", "tenant", "--overwrite").stderr
    if obstacle == "no connections":
        assert host.run("systemctl start postgresql-backup.service").rc != 0
        assert "postgresql-backup.service" in tenant.server.run("systemctl --failed --plain --no-legend")
        assert "failed: tenant: " in tenant.server.run("journalctl --unit=postgresql-backup --lines=20 --output=cat")
        tenant.server.ask("ALTER DATABASE tenant ALLOW_CONNECTIONS true")
        tenant.server.run("systemctl start postgresql-backup.service")
        assert "2020-01-02T000000Z" not in tenant.server.run(f"ls {DIRECTORY}").split()
    else:
        restored = restore(host, old, "tenant", "--overwrite")
        assert restored.rc == 0, restored.stderr
        assert tenant.run("SELECT count(*) FROM kept").stdout.strip() == "1"


@pytest.mark.parametrize("name", SETTINGS)
def test_sql_in_settings_is_text(tenant, host, name):
    setting, _, role = name.partition(" of ")
    whose = "ROLE tenant IN DATABASE" if role else "DATABASE"
    done = tenant.run(
        "ALTER DATABASE tenant SET work_mem TO '7MB'; "
        f"SELECT set_config('{setting}', $${SETTINGS[name]}$$, false); ALTER {whose} tenant SET {setting} FROM CURRENT"
    )
    assert done.rc == 0, done.stderr
    done = restore(host, back_up(tenant.server), "tenant", "--overwrite")
    assert tenant.powers() == NOTHING
    assert done.rc == 0, done.stderr
    assert (
        tenant.server.ask("SELECT 1 FROM pg_db_role_setting WHERE setconfig::text LIKE '%work_mem=7MB%'").strip() == "1"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"rights": [{"privilege": "CONNECT ON DATABASE tenant TO tenant; ALTER ROLE tenant SUPERUSER; GRANT CONNECT"}]},
        {"connections": "-1; ALTER ROLE tenant SUPERUSER"},
        {"file": "../../tmp/other.dump"},
        {"owner": "postgres"},
        {"owner": "pg_write_server_files"},
    ],
    ids=str,
)
def test_a_backup_that_says_something_else_of_a_database_is_refused(tenant, host, change):
    folder = back_up(tenant.server)
    path = f"{folder}/databases.json"
    databases = json.loads(tenant.server.run(f"cat {path}"))
    for database in databases:
        if database["name"] == "tenant":
            database.update(change)
            database["rights"] = [{"user": None, "grantable": False, **right} for right in database["rights"]]
    tenant.server.run(f"cat > {path} <<'END'\n{json.dumps(databases)}\nEND")
    done = restore(host, folder, "tenant", "--overwrite")
    assert tenant.powers() == NOTHING
    assert done.rc != 0 and "nothing was changed" in done.stderr, done.stdout


def test_what_only_a_superuser_can_make_is_left_out_and_listed(tenant, host):
    """And what somebody else than the owner had belongs to the owner."""
    tenant.server.ask(
        """
        CREATE EXTENSION hstore; CREATE SCHEMA tools; CREATE EXTENSION postgres_fdw SCHEMA tools;
        CREATE TABLE theirs AS SELECT 1 AS n; GRANT SELECT ON theirs TO tenant WITH GRANT OPTION;
        CREATE FUNCTION audit() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN END$$;
        CREATE EVENT TRIGGER audit ON ddl_command_end EXECUTE FUNCTION audit();
        CREATE SERVER elsewhere FOREIGN DATA WRAPPER postgres_fdw;
        CREATE FOREIGN TABLE remote (n int) SERVER elsewhere;
        CREATE PUBLICATION everything FOR ALL TABLES;
        CREATE FUNCTION open_to_few() RETURNS int LANGUAGE sql AS 'SELECT 1';
        REVOKE ALL ON FUNCTION open_to_few FROM PUBLIC;
        COMMENT ON DATABASE tenant IS 'it''s \\ ours'
        """,
        "tenant",
    )
    tenant.run("GRANT SELECT ON theirs TO archive; CREATE TABLE ours AS SELECT 2 AS n")
    done = restore(host, back_up(tenant.server), "tenant", "--overwrite")
    assert done.rc == 0, done.stderr
    notes = done.stdout.splitlines()[1:]
    for kind in ("EVENT TRIGGER", "SERVER", "FOREIGN TABLE", "PUBLICATION"):
        assert any(note.startswith(f"left out: {kind} ") for note in notes), (kind, notes)
    assert any(note.startswith("belongs to tenant now: TABLE public theirs") for note in notes), notes
    assert not any("EXTENSION" in note or "ACL public TABLE theirs" in note for note in notes), notes
    found = tenant.server.ask(
        "SELECT extname, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace ORDER BY 1; "
        "SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'tools'; "
        "SELECT relowner::regrole, has_table_privilege('archive', oid, 'SELECT') "
        "FROM pg_class WHERE relname = 'theirs'; "
        "SELECT has_function_privilege('archive', 'open_to_few()', 'EXECUTE'); "
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'tenant'; "
        "SELECT datacl FROM pg_database WHERE datname = 'tenant'",
        "tenant",
    ).splitlines()
    assert found == [
        "hstore|public",
        "plpgsql|pg_catalog",
        "postgres_fdw|tools",
        "tenant",
        "tenant|t",
        "f",
        r"it's \ ours",
        "{tenant=CTc/tenant}",
    ]
    assert tenant.run("SELECT theirs.n, ours.n FROM theirs, ours").stdout.strip() == "1|2"


def test_a_restore_that_was_killed_leaves_nothing_to_the_next(tenant, host):
    tenant.run("CREATE TABLE kept AS SELECT 1 AS n")
    folder = back_up(tenant.server)
    tenant.server.ask("CREATE DATABASE restored_0123456789abcdef OWNER tenant IS_TEMPLATE true")
    tenant.server.ask("CREATE ROLE ansible_restore LOGIN; GRANT tenant TO ansible_restore")
    tenant.server.run(
        "cd / && runuser -u postgres -- psql -XAtqc 'SELECT pg_sleep(600)' -U ansible_restore "
        "restored_0123456789abcdef >/dev/null 2>&1 &"
    )
    done = restore(host, folder, "tenant", "--overwrite")
    assert done.rc == 0, done.stderr
    assert tenant.powers() == NOTHING


def test_the_catalogues_that_a_restore_asks_are_the_servers_own(tenant, host):
    """Without --overwrite it looks whether there is anything in the database."""
    tenant.plants(
        "CREATE SCHEMA evil", *SHADOWS.values(), "ALTER DATABASE tenant SET search_path TO evil, pg_catalog, public"
    )
    folder, since = back_up(tenant.server), tenant.log()
    done = restore(host, folder, "tenant")
    ran = tenant.evaluated(since, "tenant")
    assert (sorted(ran), tenant.powers()) == ([], NOTHING), done.stderr
    assert done.rc != 0 and "not empty" in done.stderr, done.stderr


def test_a_backup_evaluates_nothing_and_no_owner_can_prevent_it(tenant, host):
    tenant.plants(
        *RESTORE.values(),
        "CREATE SCHEMA evil",
        *SHADOWS.values(),
        """CREATE TABLE guarded AS SELECT 1 AS n; ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
        ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
        CREATE POLICY p ON guarded USING (public.intrude('policy'));
        CREATE VIEW v AS SELECT public.intrude('view');
        CREATE TABLE ruled (n int DEFAULT public.constant('default', 1));
        CREATE RULE r AS ON INSERT TO ruled DO ALSO SELECT public.intrude('rule');
        CREATE STATISTICS s ON (public.constant('statistics', n)), n FROM guarded;
        SELECT lo_from_bytea(0, 'large object');
        CREATE SEQUENCE numbers""",
        """ALTER DATABASE tenant SET search_path TO evil, pg_catalog, public;
        ALTER DATABASE tenant SET role TO tenant;
        ALTER DATABASE tenant SET statement_timeout TO '1ms';
        ALTER DATABASE tenant SET standard_conforming_strings TO off;
        ALTER DATABASE tenant SET default_transaction_isolation TO serializable;
        ALTER DATABASE tenant SET default_transaction_deferrable TO on;
        ALTER DATABASE tenant SET client_encoding TO latin1;
        ALTER DATABASE tenant SET local_preload_libraries TO 'evil'""",
    )
    count = f"PGOPTIONS='{SAFE}' runuser -u postgres -- psql -XAtqd tenant"
    # In the encoding that the owner has chosen, its name is no UTF-8.
    tenant.server.run(f"""cd / && {count} -c 'CREATE SCHEMA "été"' -c 'CREATE EXTENSION hstore SCHEMA "été"'""")
    since = tenant.log()
    folder = back_up(tenant.server)
    assert (tenant.evaluated(since, "tenant"), tenant.powers()) == ({}, NOTHING)
    assert "tenant.dump" in tenant.server.run(f"ls {folder}")
    restored = restore(host, folder, "tenant", "--overwrite")
    assert restored.rc == 0, restored.stderr
    rows = tenant.server.run(
        f"cd / && {count} -c 'SELECT count(*) FROM public.guarded' -c 'SELECT count(*) FROM public.w_check'"
    )
    assert rows.split() == ["1", "1"], "policies hide no row from a backup"


def test_the_role_takes_nothing_from_an_owner(tenants):
    """An extension in a database of an owner who has taken all names, and one that would call the owner's functions."""
    for tenant in tenants:
        folder = tenant.server.run("pg_config --sharedir 2>/dev/null || ls -d /usr/share/postgresql/[0-9]*").split()[0]
        for name, text in CARELESS.items():
            tenant.server.run(f"cat > {folder}/extension/{name} <<'END'\n{text}END")
        tenant.plants(
            "CREATE SCHEMA evil",
            *SHADOWS.values(),
            "CREATE FUNCTION public.helper(text) RETURNS boolean LANGUAGE sql AS $$SELECT public.intrude('helper')$$",
            "ALTER DATABASE tenant SET search_path TO evil, pg_catalog, public",
        )
    since = [tenant.log() for tenant in tenants]
    others = [item for item in INVENTORY["postgresql_databases"] if item["name"] != "tenant"]
    new = {"name": "second", "owner": "tenant", "extensions": ["careless"]}

    def with_extension(name: str):
        databases = [*others, new, {"name": "tenant", "owner": "tenant", "extensions": [name]}]
        return play(variables={"postgresql_databases": databases})

    try:
        run = with_extension("hstore")
        ran = [tenant.evaluated(old, "tenant") for tenant, old in zip(tenants, since, strict=True)]
        assert (ran, [tenant.powers() for tenant in tenants]) == ([{}] * len(tenants), [NOTHING] * len(tenants))
        assert run.status == 0, run.output
        for tenant in tenants:
            asked = "SELECT extnamespace::regnamespace FROM pg_catalog.pg_extension WHERE extname = 'hstore'"
            assert tenant.server.ask(f"SET search_path TO pg_catalog; {asked}", "tenant").strip() == "public"
            assert tenant.server.ask("SELECT helper('x'::text), current_user", "second").strip() == "t|postgres"
        refused = with_extension("careless")
        ran = [tenant.evaluated(old, "tenant") for tenant, old in zip(tenants, since, strict=True)]
        assert (ran, [tenant.powers() for tenant in tenants]) == ([{}] * len(tenants), [NOTHING] * len(tenants))
        assert refused.status != 0 and "extensions of tenant is careless" in refused.output, refused.output
        assert "Schedule the backups" in refused.output, "all else was done"
        for tenant in tenants:
            assert tenant.run("DROP SCHEMA public CASCADE").rc == 0
        run = with_extension("hstore")
        assert run.status == 0, run.output
        for tenant in tenants:
            tenant.run(
                "DROP SCHEMA public CASCADE; CREATE SCHEMA public; "
                "CREATE FUNCTION public.hstore(text, text) RETURNS int LANGUAGE sql AS 'SELECT 1'"
            )
        run = with_extension("hstore")
        assert run.status != 0 and "extensions of tenant is hstore, which could not be created" in run.output
        assert "Schedule the backups" in run.output, "all else was done"
        for tenant in tenants:
            tenant.server.ask("ALTER DATABASE tenant ALLOW_CONNECTIONS false")
        run = with_extension("hstore")
        assert run.status != 0 and "not currently accepting connections" in run.output
        assert "Schedule the backups" in run.output, "all else was done"
    finally:
        for tenant in tenants:
            tenant.server.run("rm -f /usr/share/postgresql/*/extension/careless*")
            tenant.server.ask("DROP DATABASE IF EXISTS second WITH (FORCE)")


def test_a_user_that_takes_all_connections_leaves_some_to_the_others(tenant, host):
    script = f"""
import psycopg2
connections = []
try:
    while True:
        connections.append(psycopg2.connect(user="tenant", dbname="tenant", password={PASSWORD!r}))
except psycopg2.OperationalError as error:
    print(len(connections), error)
print(psycopg2.connect(user="shop", dbname="shop", password="right horse shop").server_version > 0)
"""
    done = host.run(f"python3 - <<'END'\n{script}\nEND")
    assert done.rc == 0, done.stderr
    assert "too many connections for role" in done.stdout and done.stdout.split()[0] == "50"
