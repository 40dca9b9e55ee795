# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What somebody who controls an application, or can write into its database, makes of the jobs of a web host."""

from __future__ import annotations

import base64
import json
import re
import shlex
import sys
import time

import pytest
from browser import PROJECT, wait_for
from test_data import DATABASE, NOTES, WEB12, sql

sys.path.insert(0, str(PROJECT / "tests" / "unit" / "runtime"))

import hostile_pickles as hostile

SESSIONS = "/var/lib/web2py/data/notes/sessions"
MIGRATE = "web2py-migrate@notes.service"
CLEAN = "web2py-sessions@notes.service"
# As the unit does it, but outside of it: nothing but the reader stands between the row and the host.
BARE_MIGRATION = (
    "cd /var/lib/web2py && WEB2PY_RUNTIME_MIGRATE=1 PYTHONPATH=/opt/web2py/runtime PYTHONDONTWRITEBYTECODE=1 "
    "runuser -u web2py -- timeout 120 /usr/bin/python3 web2py.py --no_banner -S notes -M "
    "-R /opt/web2py/runtime/web2py_runtime/migrate.py"
)
ROWS = {
    **hostile.RUN,
    **{name: hostile.OTHERS[name] for name in ("levels without end", "3 million bytes")},
    **{name: hostile.COLUMNS[name] for name in ("statement as name", "NUL")},
}


def change(statement: str) -> str:
    """Longer than an argument may be."""
    DATABASE.check_output("printf %%s %s > /tmp/statement", statement[:100_000])
    for start in range(100_000, len(statement), 100_000):
        DATABASE.check_output("printf %%s %s >> /tmp/statement", statement[start : start + 100_000])
    return DATABASE.check_output(
        'cd / && runuser -u postgres -- psql -XAtq -v ON_ERROR_STOP=1 -f /tmp/statement "Notizen d\'été 書"'
    )


def started(host, unit: str, status: int = 0) -> str:
    """The journal of one run of a job."""
    cursor = host.check_output("journalctl --quiet --lines=1 --show-cursor | sed -n 's/^-- cursor: //p'")
    assert (host.run(f"systemctl start {unit}").rc != 0) == bool(status)
    host.check_output("journalctl --sync")
    return host.check_output(f"journalctl --output=cat --unit={unit} --after-cursor={shlex.quote(cursor)}")


# Tables


@pytest.fixture
def the_row():
    """The row of table `note`, which is put back."""
    sql("CREATE TABLE IF NOT EXISTS kept AS SELECT * FROM web2py_filesystem")
    path = sql("SELECT path FROM kept WHERE path LIKE '%note.table'")
    try:
        yield path
    finally:
        sql(
            f"DELETE FROM web2py_filesystem WHERE path = '{path}'; "
            f"INSERT INTO web2py_filesystem SELECT * FROM kept WHERE path = '{path}'; DROP TABLE kept"
        )


def test_no_row_of_the_database_runs_code_or_changes_tables_while_it_is_migrated(the_row):
    columns = "SELECT string_agg(column_name, ',') FROM information_schema.columns WHERE table_name = 'note'"
    before = sql(columns)
    WEB12.run("rm -f " + hostile.MARK)
    for name, data in ROWS.items():
        change(f"UPDATE web2py_filesystem SET content = decode('{data.hex()}', 'hex') WHERE path = '{the_row}'")
        done = WEB12.run(BARE_MIGRATION)
        assert done.rc != 0, name
        assert not WEB12.file(hostile.MARK).exists, name
        assert f"row with path '{the_row}'" in done.stderr and "fake_migrate" in done.stderr, (name, done.stderr)
        assert sql(columns) == before, name


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("ALTER TABLE web2py_filesystem ALTER content TYPE text USING 'x'", "octet_length|bytea|str"),
        ("ALTER TABLE web2py_filesystem DROP CONSTRAINT web2py_filesystem_pkey; {double}", "more than once"),
        ("UPDATE web2py_filesystem SET content = NULL WHERE path LIKE '%note.table'", "NoneType"),
    ],
)
def test_a_table_of_rows_that_was_changed_is_named(the_row, statement, said):
    sql("CREATE TABLE whole AS SELECT * FROM web2py_filesystem")
    double = "INSERT INTO web2py_filesystem SELECT * FROM whole"
    try:
        sql(statement.format(double=double) if "{double}" in statement else statement)
        log = started(WEB12, MIGRATE, status=1)
        assert re.search(rf"web2py_filesystem has a row with path .*({said})", log), log
    finally:
        sql(
            "ALTER TABLE web2py_filesystem DROP CONSTRAINT IF EXISTS web2py_filesystem_pkey; "
            "DELETE FROM web2py_filesystem; ALTER TABLE web2py_filesystem ALTER content TYPE bytea USING ''; "
            "INSERT INTO web2py_filesystem SELECT * FROM whole; "
            "ALTER TABLE web2py_filesystem ADD PRIMARY KEY (path); DROP TABLE whole"
        )
    assert "nothing to migrate" in started(WEB12, MIGRATE).splitlines()


def test_what_an_application_does_while_it_is_migrated_it_does_in_its_sandbox(web):
    """Its models run then; this one says what it may do."""
    model = web.check_output("readlink -f /var/lib/web2py/applications/notes") + "/models/notes.py"
    probe = """
if __import__("os").environ.get("WEB2PY_RUNTIME_MIGRATE"):
    import os, subprocess
    def can(*command):
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    status = [line.split() for line in open("/proc/self/status")]
    print("PROBE", [words[1] for words in status if words[0] in ("NoNewPrivs:", "Seccomp:")],
          can("touch", "/var/tmp/probe", "/opt/web2py/probe"), can("unshare", "-r", "true"),
          can("ls", "/var/lib/web2py/instances"), sorted(set(os.environ) & {"ANSIBLE", "SUDO_USER", "SSH_CLIENT"}),
          [os.readlink("/proc/self/fd/0"), len(os.listdir("/proc/self/fd")) < 8], can("ls", "/root"))
"""
    web.check_output("cp -p %s /root/model.py && printf %%s %s >> %s", model, probe, model)
    try:
        log = started(web, MIGRATE)
    finally:
        web.check_output("cp -p /root/model.py %s && rm /root/model.py", model)
    said = next(line for line in log.splitlines() if line.startswith("PROBE"))
    assert said == "PROBE ['1', '2'] False False False [] ['/dev/null', True] False"
    assert "nothing to migrate" in log.splitlines()


def test_a_migration_that_does_not_end_is_ended(web):
    """A lock that somebody holds on the table."""
    folder = f"/run/systemd/system/{MIGRATE}.d"
    web.check_output(f"mkdir -p {folder} && printf '[Service]\\nTimeoutStartSec=3\\n' > {folder}/time.conf")
    web.check_output("systemctl daemon-reload")
    DATABASE.check_output(
        "cd / && (runuser -u postgres -- psql -XAtqc \"SELECT pg_advisory_lock(hashtext('web2py.deployment: "
        'migration\')), pg_sleep(60)" "Notizen d\'été 書" > /dev/null 2>&1 & echo $!) > /tmp/holder'
    )
    try:
        wait_for(lambda: sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted") != "0", 10)
        begun = time.monotonic()
        log = started(web, MIGRATE, status=1)
        assert time.monotonic() - begun < 30 and "timeout" in log
    finally:
        sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        web.check_output(f"rm -r {folder} && systemctl daemon-reload && systemctl reset-failed {MIGRATE}")
    wait_for(lambda: "nothing to migrate" in started(web, MIGRATE).splitlines(), 30)


# Units


def limits(host, unit: str) -> dict[str, str]:
    names = ("MemoryMax", "TasksMax", "TimeoutStartUSec", "Type", "OOMPolicy")
    lines = host.check_output(f"systemctl show {unit} " + " ".join(f"-p {name}" for name in names)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_every_unit_that_runs_an_application_has_limits(web):
    for unit in (MIGRATE, CLEAN, "apache2.service"):
        found = limits(web, unit)
        assert found["MemoryMax"].isdigit() and int(found["TasksMax"]) <= 2048, (unit, found)
        if found["Type"] == "oneshot":
            assert found["TimeoutStartUSec"] == "1h", (unit, found)
        else:
            assert found["OOMPolicy"] == "continue"


@pytest.mark.parametrize("unit", [MIGRATE, CLEAN])
def test_jobs_are_confined(web, unit):
    score = web.check_output(f"systemd-analyze security --no-pager {unit} | tail -1")
    assert float(re.search(r"(\d+\.\d)", score).group(1)) <= 2.0, score


# Sessions


def test_a_hostile_session_in_the_database_is_a_new_one_and_others_go_on(site, web):
    """Before: classes of web2py changed for all applications of the process, and a thread that never ended."""
    names = (
        "state of a class",
        "integer of a decimal with a thousand million digits",
        "levels without end",
        "key that is hashed for ever",
        "marshal of a tuple of 2 thousand million",
    )
    other = site.fresh()
    assert other.ask(f"{NOTES}/visits").body == b"1"
    for name in names:
        browser = site.fresh()
        browser.ask(f"{NOTES}/visits")
        data = base64.b64encode(hostile.OTHERS[name]).decode()
        change(
            f"UPDATE web2py_session_notes SET session_data = '{data}'::bytea "
            "WHERE id = (SELECT max(id) FROM web2py_session_notes)"
        )
        begun = time.monotonic()
        answer = browser.ask(f"{NOTES}/visits")
        assert (answer.status, answer.body) == (200, b"1"), name
        assert time.monotonic() - begun < 5, name
    assert other.ask(f"{NOTES}/visits").body == b"2"
    assert site.ask("/welcome").status == 200


MAKE_HOSTILE = """
import os, pickle, socket, sys, time
folder = sys.argv[1]
old = time.time() - 2 * 86400
os.chdir(folder)
os.mkfifo("fifo")
socket.socket(socket.AF_UNIX).bind("socket")
os.symlink("/dev/zero", "zero")
os.symlink("/etc/passwd", "link")
os.symlink("/", "folder-link")
open("whole", "wb").write(pickle.dumps({}))
os.link("whole", "hard")
open("sparse", "wb").truncate(1 << 30)
open("unreadable", "wb").write(b"x" * 100)
os.chmod("unreadable", 0)
open("bomb", "wb").write(b"}X\\x0a\\0\\0\\0expiration" + b")" + b"2\\x86" * 70 + b"s.")
open("memo", "wb").write(b"}X\\x0a\\0\\0\\0expirationr\\xff\\xff\\xff\\x7fNs.")
open("copies", "wb").write(b"}X\\x0a\\0\\0\\0expiration](" + b"N" * 50000 + b"eq\\x010]("
                           + b"cbuiltins\\nlist\\nh\\x01\\x85R" * 20000 + b"es.")
here = folder
for level in range(300):
    os.mkdir("deep")
    os.chdir("deep")
open("bottom", "wb").write(b"x")
os.chdir(folder)
names = ["fifo", "socket", "zero", "link", "folder-link", "whole", "sparse", "unreadable", "bomb", "memo", "copies"]
try:
    os.mknod("device", 0o20666, os.makedev(1, 5))
    names.append("device")
except OSError:
    pass
for name in names:
    os.utime(name, (old, old), follow_symlinks=False)
os.system("chown -hR web2py: " + folder)
print(" ".join(names))
"""


def test_nothing_in_the_folder_of_sessions_stops_their_clean_up(web):
    """Before: a FIFO stopped it for ever, a device and a link to one took all memory, as did 1 GiB of nothing."""
    web.check_output("printf %%s %s > /root/make.py", MAKE_HOSTILE)
    made = web.check_output(f"python3 /root/make.py {SESSIONS}").split()
    assert {"fifo", "zero", "sparse"} <= set(made)
    begun = time.monotonic()
    log = started(web, CLEAN)
    assert time.monotonic() - begun < 30
    assert "could not be deleted" in log, log
    left = web.check_output(f"ls {SESSIONS}").split()
    assert left == ["deep"], "beyond so many levels it is no folder of sessions"
    assert web.file("/etc/passwd").exists
    web.check_output(f"rm -rf {SESSIONS}/*; rm /root/make.py")


def test_nothing_in_the_table_of_sessions_stops_their_clean_up(site, web):
    site.ask(f"{NOTES}/visits")
    before = sql("SELECT count(*) FROM web2py_session_notes")
    bombs = "), (".join(
        f"now() - interval '2 days', '{base64.b64encode(b'expiration' + hostile.OTHERS[name]).decode()}'::bytea"
        for name in ("state of a class", "memo of 2 thousand million", "key that is hashed for ever")
    )
    change(
        f"INSERT INTO web2py_session_notes (modified_datetime, session_data) VALUES ({bombs}), "
        "('-infinity', 'gAR9lC4='), ('0044-03-15 BC', 'gAR9lC4='), "
        "(now() - interval '2 days', NULL), "
        "(now() - interval '2 days', convert_to(repeat('x', 200000000), 'UTF8'))"
    )
    log = started(web, CLEAN)
    assert "7 sessions deleted" in log.splitlines(), log
    assert sql("SELECT count(*) FROM web2py_session_notes") == before


def test_what_web2py_knows_of_its_tables_is_still_a_pickle_that_the_previous_release_reads():
    """So that a site can go back to it."""
    content = sql("SELECT encode(content, 'base64') FROM web2py_filesystem WHERE path LIKE '%note.table'")
    program = "import json, pickle, sys; print(json.dumps(pickle.load(sys.stdin.buffer)))"
    columns = WEB12.check_output(f"printf %%s %s | base64 -di | python3 -c {shlex.quote(program)}", content)
    assert "title" in json.loads(columns)
