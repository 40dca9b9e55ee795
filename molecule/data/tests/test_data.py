# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An application whose database, sessions, uploads and cached values are on other machines, and what befalls those."""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import threading
import time
import uuid
from urllib.parse import quote

import pytest
import testinfra
import yaml
from browser import PROJECT, assert_secret, load, play, wait_for

WEB12, WEB13, DATABASE, CACHE = (
    testinfra.get_host(f"docker://data-{name}") for name in ("web12", "web13", "database", "cache")
)
NOTES = "/notes/default"
SETTINGS = "/etc/web2py/applications/notes.json"
ODD = "Notizen d'été 書"
SECRETS = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets"
APPLICATIONS = yaml.safe_load((pathlib.Path(__file__).parents[1] / "inventory/group_vars/web2py_web.yml").read_text())[
    "web2py_applications"
]


def sql(statement: str, database: str = ODD) -> str:
    return DATABASE.check_output(
        f"cd / && runuser -u postgres -- psql -XAtqc {shlex.quote(statement)} {shlex.quote(database)}"
    )


def test_a_session_an_upload_and_cached_values_leave_no_file(site, web):
    assert [site.ask(f"{NOTES}/visits").body for _ in range(3)] == [b"1", b"2", b"3"]
    content = os.urandom(20 << 20)
    title = uuid.uuid4().hex
    assert site.add_note(title, content) == 303
    assert hashlib.sha256(site.attachment(title)).digest() == hashlib.sha256(content).digest()
    clocks = {site.fresh().ask(f"{NOTES}/clock").body for _ in range(10)}
    assert len(clocks) == 1
    numbers = [int(site.ask(f"{NOTES}/counter").body) for _ in range(3)]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    left = web.check_output("cd /var/lib/web2py/data/notes && find sessions uploads cache databases -type f")
    assert left == ""
    assert int(sql("SELECT count(*) FROM web2py_session_notes")) > 0


def test_both_web_hosts_have_the_same_session_uploads_and_cached_values(sites):
    first, second = sites
    assert [first.ask(f"{NOTES}/visits").body, first.ask(f"{NOTES}/visits").body] == [b"1", b"2"]
    second.cookies = first.cookies
    assert [second.ask(f"{NOTES}/visits").body, first.ask(f"{NOTES}/visits").body] == [b"3", b"4"]
    title = uuid.uuid4().hex
    assert first.add_note(title, b"attached to it") == 303
    assert second.attachment(title) == b"attached to it"
    assert first.ask(f"{NOTES}/clock").body == second.ask(f"{NOTES}/clock").body
    assert int(second.ask(f"{NOTES}/counter").body) == int(first.ask(f"{NOTES}/counter").body) - 1


def test_sessions_in_cookies(site, web):
    assert [site.ask("/cookies/default/visits").body for _ in range(3)] == [b"1", b"2", b"3"]
    assert web.check_output("find /var/lib/web2py/data/cookies/sessions/ -type f") == ""
    assert site.fresh().ask("/cookies/default/visits").body == b"1"


def test_the_cookie_of_a_session_that_came_by_https_goes_back_by_https_only(site):
    cookies = site.ask(f"{NOTES}/visits", "https").headers.get_all("Set-Cookie")
    assert cookies and all("secure" in cookie.lower() and "httponly" in cookie.lower() for cookie in cookies)


def libpq(database: str, user: str, password: str, mode: str = "verify-full") -> str:
    quoted = {"host": "data-database", "dbname": database, "user": user, "password": password, "sslmode": mode}
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in quoted.items()}
    return "sslrootcert=/etc/web2py/database_ca.pem " + " ".join(f"{name}='{value}'" for name, value in escaped.items())


def connect(host, dsn: str):
    """From a machine, with the driver that web2py uses."""
    program = (
        "import psycopg2, sys; c = psycopg2.connect(sys.argv[1]).cursor(); "
        "c.execute('SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()'); print(c.fetchone())"
    )
    return host.run(f"python3 -c {shlex.quote(program)} {shlex.quote(dsn)}")


class TestConnection:
    user, password = "o'notes & söhne", None

    @pytest.fixture(autouse=True)
    def _password(self):
        self.password = (SECRETS / "notes.database_password").read_text().strip()

    def test_web2pys_own_is_tls(self, site, web):
        site.ask(f"{NOTES}/visits")
        used = sql(
            "SELECT DISTINCT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
            "WHERE client_addr IS NOT NULL"
        )
        assert used == "t|TLSv1.3"
        assert '"uri": "postgres://' in web.file(SETTINGS).content_string
        assert "sslmode=verify-full" in web.file(SETTINGS).content_string

    def test_it_is_verified_and_nothing_else_is_let_in(self, web):
        assert "(True, 'TLSv1.3')" in connect(web, libpq(ODD, self.user, self.password)).stdout
        plain = connect(web, libpq(ODD, self.user, self.password, "disable"))
        assert "no pg_hba.conf entry" in plain.stderr and "no encryption" in plain.stderr
        other_name = libpq(ODD, self.user, self.password).replace("data-database", DATABASE.check_output("hostname -i"))
        assert "does not match host name" in connect(web, other_name).stderr
        foreign = libpq("cookies", self.user, self.password)
        assert "no pg_hba.conf entry" in connect(web, foreign).stderr

    def test_who_was_declared_beside_the_applications_is_let_in(self, web):
        assert "(True, 'TLSv1.3')" in connect(web, libpq("postgres", "auditor", "right horse auditor")).stdout

    def test_a_host_that_is_not_listed_is_refused(self):
        CACHE.check_output(
            "dpkg -s python3-psycopg2 >/dev/null || (apt-get update && apt-get install -y python3-psycopg2)"
        )
        refused = connect(CACHE, libpq(ODD, self.user, self.password, "require"))
        assert "no pg_hba.conf entry" in refused.stderr

    def test_its_user_has_no_powers(self):
        flags = "rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls"
        assert sql(f"SELECT rolname FROM pg_roles WHERE ({flags}) AND rolname <> 'postgres'") == ""


# What befalls the servers


def test_a_wrong_password_is_an_error_page_until_it_is_right(site, web):
    right = web.file(SETTINGS).content_string
    web.check_output("cp -p %s /root/right.json", SETTINGS)
    try:
        wrong = json.loads(right)
        wrong["database"]["uri"] = re.sub(r":[^:@]+@", ":wrong@", wrong["database"]["uri"])
        web.check_output("printf %%s %s > %s", json.dumps(wrong), SETTINGS)
        web.check_output("touch /opt/web2py/runtime/wsgi.py")
        wait_for(lambda: site.fresh().ask(f"{NOTES}/visits").status == 500, 10)
        page = site.fresh().ask(f"{NOTES}/visits")
        assert b"Ticket issued" in page.body and b"wrong" not in page.body
        assert site.ask("/welcome").status == 200
    finally:
        web.check_output("cp -p /root/right.json %s; rm /root/right.json", SETTINGS)
    assert wait_for(lambda: site.fresh().ask(f"{NOTES}/visits").status == 200, 5) < 5


def test_a_database_that_is_down_is_an_error_page_at_once(site, web):
    site.ask(f"{NOTES}/visits")
    DATABASE.check_output("systemctl stop postgresql")
    try:
        # Also for web2py that starts only now.
        web.check_output("touch /opt/web2py/runtime/wsgi.py")
        for _ in range(3):
            started = time.monotonic()
            answer = site.fresh().ask(f"{NOTES}/visits")
            assert answer.status == 500 and b"Ticket issued" in answer.body
            assert time.monotonic() - started < 5
        assert site.ask("/welcome").status == 200
    finally:
        DATABASE.check_output("systemctl start postgresql")
    assert wait_for(lambda: site.fresh().ask(f"{NOTES}/visits").status == 200, 5) < 5


def test_a_database_that_is_gone_without_a_word_is_noticed(sites):
    """Its packets get lost, as after a power cut; kept connections would wait for minutes."""
    for site in sites:
        for _ in range(3):
            assert site.fresh().ask(f"{NOTES}/visits").status == 200
    DATABASE.check_output("ip link set eth0 down")
    try:
        for site in sites:
            started = time.monotonic()
            assert site.fresh().ask(f"{NOTES}/visits").status == 500
            assert time.monotonic() - started < 20
        for site in sites:
            started = time.monotonic()
            assert site.fresh().ask(f"{NOTES}/visits").status == 500
            assert time.monotonic() - started < 6
            assert site.ask("/welcome").status == 200
    finally:
        DATABASE.check_output("ip link set eth0 up")
    for site in sites:
        assert wait_for(lambda site=site: site.fresh().ask(f"{NOTES}/visits").status == 200, 20) < 10


def test_a_restart_of_the_database_under_load_loses_nothing_that_was_committed(site):
    marker = uuid.uuid4().hex
    saved: list[str] = []
    over = threading.Event()

    def write(number: int) -> None:
        browser, count = site.fresh(), 0
        while not over.is_set():
            title = f"{marker} {number} {count}"
            count += 1
            if browser.add_note(title) == 303:
                saved.append(title)

    threads = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: len(saved) > 10)
        DATABASE.check_output("systemctl restart 'postgresql@*-main'")
        before = len(saved)
        assert wait_for(lambda: len(saved) > before, 5) < 5
        # And not one of the writers alone.
        wait_for(lambda: len(saved) > before + 4)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    rows = set(sql(f"SELECT title FROM note WHERE title LIKE '{marker}%'").splitlines())
    assert set(saved) <= rows


def test_without_its_cache_server_the_site_works_and_finds_it_again(site):
    results = load(
        site,
        f"{NOTES}/clock",
        4,
        lambda: CACHE.check_output("kill -KILL $(systemctl show -P MainPID memcached)"),
        seconds=3,
    )
    assert set(results) == {200} and results[200] > 20
    CACHE.check_output("systemctl stop memcached")
    try:
        started = time.monotonic()
        assert [site.ask(f"{NOTES}/clock").status for _ in range(5)] == [200] * 5
        assert time.monotonic() - started < 5
        assert site.ask(f"{NOTES}/counter").status == 200
    finally:
        CACHE.check_output("systemctl start memcached")

    def cached() -> bool:
        return len({site.fresh().ask(f"{NOTES}/clock").body for _ in range(8)}) == 1

    assert wait_for(cached, 10) < 5


# Sessions


def test_a_pickle_that_is_no_session_runs_nothing(site, web):
    site.ask(f"{NOTES}/visits")
    evil = b"cposix\nsystem\n(S'touch /tmp/evil-ran; touch /var/lib/web2py/data/notes/cache/evil-ran'\ntR."
    sql(f"UPDATE web2py_session_notes SET session_data = '{base64.b64encode(evil).decode()}'::bytea")
    assert site.ask(f"{NOTES}/visits").body == b"1", "a new session"
    assert web.run("ls /var/lib/web2py/data/notes/cache/evil-ran /tmp/evil-ran").rc != 0


def test_old_sessions_are_deleted_from_files_and_database(site, web, capsys):
    """100,000 files, all but 10 old, one of them of a visitor who is remembered for a year; and rows."""
    site.ask(f"{NOTES}/visits")
    kept = sql("SELECT count(*) FROM web2py_session_notes")
    sql(
        "INSERT INTO web2py_session_notes "
        "(locked, client_ip, created_datetime, modified_datetime, unique_key, session_data) SELECT 'F', '192.0.2.1', "
        "now() - interval '3 days', now() - interval '2 days', md5(n::text), 'gAR9lC4='::bytea "
        "FROM generate_series(1, 2000) AS n"
    )
    make = """
import os, pickle, time
folder = "/var/lib/web2py/data/notes/sessions"
old = time.time() - 2 * 86400
for number in range(100000):
    data = {"auth": {"expiration": 365 * 86400}} if number == 50 else {"n": number}
    with open(f"{folder}/192.0.2.1-{number}", "wb") as file:
        pickle.dump(data, file)
    if number >= 10:
        os.utime(file.name, (old, old))
os.system("chown -R web2py: " + folder)
"""
    web.check_output("printf %%s %s > /root/make.py; python3 /root/make.py", make)
    started = time.monotonic()
    web.check_output("systemctl start web2py-sessions@notes.service")
    seconds = time.monotonic() - started
    log = web.check_output("journalctl -u web2py-sessions@notes -n 5 --no-pager")
    with capsys.disabled():
        print(f"\n100,000 session files and 2,000 rows: {seconds:.1f} s; {log.splitlines()[-1]}")
    left = web.check_output("ls /var/lib/web2py/data/notes/sessions").split()
    assert sorted(left) == sorted(f"192.0.2.1-{number}" for number in [*range(10), 50])
    assert sql("SELECT count(*) FROM web2py_session_notes") == kept
    web.check_output("rm -rf /var/lib/web2py/data/notes/sessions/*")


# Tables


def migrate(number: int) -> list:
    """On both web hosts at once, so many processes on each."""
    command = (
        "cd /var/lib/web2py && WEB2PY_RUNTIME_MIGRATE=1 PYTHONPATH=/opt/web2py/runtime PYTHONDONTWRITEBYTECODE=1 "
        "runuser -u web2py -- /usr/bin/python3 web2py.py --no_banner -S notes -M "
        "-R /opt/web2py/runtime/web2py_runtime/migrate.py"
    )
    with concurrent.futures.ThreadPoolExecutor(2 * number) as pool:
        return list(pool.map(lambda host: host.run(command), [WEB12, WEB13] * number))


def test_eight_migrations_at_once_make_the_tables_once(sites):
    sql("DROP TABLE note, web2py_session_notes, web2py_filesystem")
    results = migrate(4)
    assert [done.rc for done in results] == [0] * 8, results
    assert sum("migrated" in done.stdout.splitlines()[-1].split() for done in results) == 1
    assert [site.fresh().ask(f"{NOTES}/index").status for site in sites] == [200, 200]


def altered() -> int:
    return int(DATABASE.check_output("cat /var/log/postgresql/*.log | grep -c 'statement: ALTER TABLE' || true"))


def test_a_changed_model_is_migrated_by_one_host(sites, tmp_path):
    notes = tmp_path / "notes"
    shutil.copytree(PROJECT / "docs/examples/notes", notes)
    model = notes / "models/notes.py"
    model.write_text(model.read_text().replace('Field("created"', 'Field("colour"), Field("created"'))
    applications = given_applications()
    applications[0]["source"]["path"] = str(notes)
    before = altered()
    run = play(variables={"web2py_applications": applications})
    assert run.status == 0, run.output[-3000:]
    assert altered() == before + 1
    for site in sites:
        assert b'name="colour"' in site.fresh().ask(f"{NOTES}/index").body
    assert play().status == 0
    for site in sites:
        assert b'name="colour"' not in site.fresh().ask(f"{NOTES}/index").body


def given_applications() -> list[dict]:
    applications = json.loads(json.dumps(APPLICATIONS))
    applications[0]["source"]["path"] = applications[1]["source"]["path"] = str(PROJECT / "docs/examples/notes")
    return applications


def test_another_password_needs_no_migration(sites):
    """web2py names what it knows of its tables after the connection string, password and all."""
    applications = given_applications()
    applications[0]["database"]["password"] = "another horse"
    before = [site.ask(f"{NOTES}/index").status for site in sites]
    run = play(variables={"web2py_applications": applications})
    assert run.status == 0, run.output
    assert set(run.changed_tasks()) >= {"Manage users", "Configure the applications"}
    assert "Migrate the applications' databases" not in run.changed_tasks()
    assert before + [site.fresh().ask(f"{NOTES}/index").status for site in sites] == [200] * 4
    back = play("-vvv", "--diff")
    assert back.status == 0 and "Configure the applications" in back.changed_tasks()
    assert [secret for secret in secrets_of_the_site() if secret in back.output] == []
    assert [site.fresh().ask(f"{NOTES}/index").status for site in sites] == [200, 200]


def test_a_secret_may_be_encrypted_with_vault(tmp_path):
    """As a user does it afterwards: the same site, and the file stays encrypted."""
    file, password = SECRETS / "notes.database_password", tmp_path / "vault"
    password.write_text("the vault's own\n")
    clear = file.read_text()
    subprocess.run(["ansible-vault", "encrypt", "--vault-password-file", password, file], check=True)
    try:
        assert "AES256" in file.read_text()
        run = play(f"--vault-password-file={password}")
        assert (run.status, run.changed_tasks()) == (0, []), run.output[-3000:]
        refused = play()
        assert refused.status != 0 and "vault" in refused.output.lower()
        assert refused.changed_tasks() == []
    finally:
        file.write_text(clear)


# Runs


def secrets_of_the_site() -> list[str]:
    made = [file.read_text().strip() for file in SECRETS.iterdir() if not file.name.startswith(".")]
    given = [APPLICATIONS[1]["database"]["password"], "another horse", "right horse auditor"]
    return [*made, *given, *(quote(secret, safe="") for secret in given)]


def test_a_second_run_changes_nothing_and_tells_no_secret():
    """That a run which changes them tells none is part of the test with another password."""
    run = play("-vvv", "--diff")
    assert run.status == 0, run.output[-3000:]
    assert run.changed_tasks() == []
    assert [secret for secret in secrets_of_the_site() if secret in run.output] == []


def test_no_secret_is_where_others_can_read_it(sites):
    for site in sites:
        site.ask(f"{NOTES}/visits")
        assert site.host.check_output("stat -c '%%U:%%G %%a' %s", SETTINGS) == "root:web2py 640"
    for host in (WEB12, WEB13, DATABASE, CACHE):
        # Those of the tests above, of the time without a database.
        tickets = "find /var/lib/web2py/data -path '*/errors/*' -type f -print0 | xargs -0 cat"
        assert_secret(host, secrets_of_the_site(), tickets)


def test_backup_and_restore_by_playbook(sites):
    site = sites[0]
    title = uuid.uuid4().hex
    assert site.add_note(title, b"attached") == 303
    count = "SELECT count(*), md5(string_agg(note::text, '|' ORDER BY id)) FROM note"
    before = sql(count)
    assert play(playbook=PROJECT / "playbooks/backup.yml").status == 0
    sql(f'DROP DATABASE "{ODD}" WITH (FORCE)', "postgres")
    assert site.fresh().ask(f"{NOTES}/index").status == 500
    restore = PROJECT / "playbooks/restore.yml"
    assert play(variables={"restore_database": ODD}, playbook=restore).status == 0
    assert sql(count) == before
    assert title in site.fresh().ask(f"{NOTES}/index").body.decode()
    refused = play(variables={"restore_database": ODD}, playbook=restore)
    assert refused.status != 0 and "overwrite" in refused.output
    assert play(variables={"restore_database": ODD, "restore_overwrite": True}, playbook=restore).status == 0
    assert sql(count) == before


BAD_INPUT = {
    "sessions in a database that is not there": ({"sessions": "database"}, ["sessions is 'database'", "has none"]),
    "an unknown cache": ({"cache": "redis"}, ["cache", "redis", "memcached"]),
    "a database name with a quote": ({"database": {"name": 'a"b'}}, ["double quote"]),
    "a short password": ({"database": {"password": "tiny-77"}}, ["8 to 1024"]),
    "the database of another application": ({"database": {"name": "cookies"}}, ["'cookies'", "same database"]),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_before_anything_changes(name):
    keys, words = BAD_INPUT[name]
    applications = [
        {"name": "welcome", **keys},
        {"name": "cookies", "source": {"path": str(PROJECT / "docs/examples/notes")}, "database": {}},
    ]
    run = play(variables={"web2py_applications": applications})
    run.assert_refused(words)
    assert "tiny-77" not in run.output
