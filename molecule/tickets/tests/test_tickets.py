# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tickets of a real web2py: into the database, onto admin's pages, and into the report."""

from __future__ import annotations

import contextlib
import html
import importlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import threading
import zlib

import pytest
import testinfra
import yaml
from browser import PROJECT, play, wait_for

# As the web hosts import it, too: out of a package of its own.
sys.path.append(str(PROJECT / "plugins"))
ticket = importlib.import_module("module_utils.tickets.ticket")
WEB12, WEB13, DATABASE = (testinfra.get_host(f"docker://tickets-{name}") for name in ("web12", "web13", "database"))
WEBS = (WEB12, WEB13)
ERRORS = "/var/lib/web2py/data/faulty/errors"
LAB = pathlib.Path(__file__).parent
# `make test-all` has more of them: collectors that are killed, and tickets whose collecting is measured.
KILLS, MANY = (200, 100_000) if os.environ.get("LAB_LONG") == "1" else (40, 20_000)
MADE = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])


def sql(statement: str) -> str:
    return DATABASE.check_output(f"cd / && runuser -u postgres -- psql -XAtqc {shlex.quote(statement)} web2py_tickets")


def python(host, program: str, *arguments: object) -> str:
    """Run a program of the tests on a web host as web2py's user."""
    host.check_output("mkdir -p /opt/tests")
    path = f"/opt/tests/{program}"
    host.check_output("printf %%s %s > %s", (LAB / program).read_text(), path)
    return host.check_output(
        f"cd /tmp && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/web2py/runtime runuser -u web2py -- python3 {path} "
        + " ".join(shlex.quote(str(argument)) for argument in arguments)
    )


def measured(host, *command: str) -> tuple[float, float]:
    """Seconds and MiB that it took."""
    seconds, memory = python(host, "measure.py", *command).split()[-2:]
    return float(seconds), float(memory)


def collect(host) -> None:
    host.check_output("systemctl start web2py-tickets.service")


FAULTS = {
    "model": ("/faulty/default/index?where=model", "LookupError", "models/faults.py"),
    "controller": ("/faulty/default/controller", "ZeroDivisionError", "controllers/default.py"),
    "import": ("/faulty/default/imported", "ImportError", "controllers/default.py"),
    "view": ("/faulty/default/view", "NameError", "views/default/view.html"),
}


@pytest.fixture
def empty():
    """No ticket anywhere."""
    for host in WEBS:
        host.check_output(f"rm -rf {ERRORS} && install -d -o web2py -g web2py -m 700 {ERRORS}")
    sql("DROP TABLE IF EXISTS ticket, web2py_ticket_faulty")


def provoke(site, path: str) -> str:
    """Name of the ticket that web2py issues."""
    answer = site.ask(path)
    assert answer.status == 500
    found = re.search(rb"/ticket/faulty/([^\"<]+)", answer.body) or re.search(rb"faulty/([\w.-]+)", answer.body)
    return found.group(1).decode()


def own_address(site) -> str:
    """As the site sees this browser."""
    with contextlib.closing(site.connect("http")) as connection:
        return connection.sock.getsockname()[0]


def log_in(site) -> None:
    assert site.post("/admin/default/index", {"password": "right horse 443"}, "https").status == 303


def shown(body: bytes) -> str:
    """The text of a page."""
    return html.unescape(re.sub(r"<[^>]*>", "", body.decode()))


def test_admin_shows_each_ticket_from_the_database(empty, sites):
    issued: dict[str, tuple] = {}
    for site in sites:
        for path, error, layer in FAULTS.values():
            name = provoke(site, path)
            content = site.host.file(f"{ERRORS}/{name}").content
            issued[name] = (ticket.read_pickle(content)["traceback"], error, layer)
    for site in sites:
        collect(site.host)
        assert site.run(f"find {ERRORS} -type f") == ""
    assert sorted(sql("SELECT ticket_id FROM ticket").splitlines()) == sorted(issued)
    for site in sites:
        log_in(site)
        # Whoever follows admin's own link gets there, too.
        assert (
            site.ask("/admin/default/errors/faulty/dbnew", "https").headers["Location"].endswith("errors/faulty/dbold")
        )
        listed = site.ask("/admin/default/errors/faulty/dbold", "https").body.decode()
        for name, (traceback, error, layer) in issued.items():
            assert name in listed
            page = site.ask(f"/admin/default/ticketdb/faulty/{name}", "https")
            assert page.status == 200
            text = shown(page.body)
            assert error in text
            for line in traceback.splitlines():
                assert ticket.storable(line).strip() in text or "\\x00" in ticket.storable(line), (name, line)
            row = json.loads(sql(f"SELECT row_to_json(ticket) FROM ticket WHERE ticket_id = '{name}'"))
            assert (row["error_type"], row["layer"], row["application"]) == (error, layer, "faulty")
            assert row["client"] == own_address(sites[0])
    # The same error is one problem, whatever the server, the Python and the web2py.
    counts = sql(
        "SELECT error_type, count(*), count(DISTINCT fingerprint), count(DISTINCT server) FROM ticket GROUP BY 1"
    )
    assert sorted(counts.splitlines()) == sorted(f"{error}|2|1|2" for _, error, _ in FAULTS.values())


def test_times_are_those_of_the_files(empty, sites):
    name = provoke(sites[0], FAULTS["controller"][0])
    sites[0].run(f"touch -d '2026-03-04 05:06:07.25 UTC' {ERRORS}/{name}")
    collect(sites[0].host)
    assert sql("SELECT extract(epoch FROM created) FROM ticket") == "1772600767.250000"
    assert sql("SELECT created_datetime FROM web2py_ticket_faulty") == "2026-03-04 05:06:07.25"


def test_what_is_not_whole_or_no_ticket_is_left_or_set_aside(empty, site):
    name = provoke(site, FAULTS["controller"][0])
    other = name[:-12] + "000000000000"
    site.run(
        f"cd {ERRORS} && head -c 500 {name} > {other} && chown web2py: {other} && touch README.txt && mkdir folder"
    )
    collect(site.host)
    assert sorted(site.run(f"ls {ERRORS}").split()) == sorted(["README.txt", "folder", other])
    site.run(f"touch -d '-2 min' {ERRORS}/{other}")
    collect(site.host)
    assert sorted(site.run(f"ls {ERRORS}").split()) == ["README.txt", "folder", "quarantine"]
    assert sorted(site.run(f"ls {ERRORS}/quarantine").split()) == [f"{other}.quarantined", f"{other}.reason"]
    assert "ends in the middle" in site.run(f"cat {ERRORS}/quarantine/{other}.reason")
    assert sql("SELECT ticket_id FROM ticket") == name


def test_a_ticket_that_the_database_refuses_keeps_no_other_out(empty, site):
    collect(site.host)
    sql("ALTER TABLE web2py_ticket_faulty ALTER ticket_data TYPE varchar(200000)")
    name = provoke(site, FAULTS["controller"][0])
    other = name[:-12] + "000000000000"
    # As the others, but with so many variables that its row does not fit.
    site.run(
        f"cd {ERRORS} && PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/opt/web2py/runtime python3 -c "
        + shlex.quote(
            "import pickle; from web2py_runtime.tickets import ticket; "
            f"report = ticket.read_pickle(open('{name}', 'rb').read()); report['snapshot'] = {{'x': 'y' * 300000}}; "
            f"open('{other}', 'wb').write(pickle.dumps(report))"
        )
        + f" && chown web2py: {other} && touch -d '-2 min' {other}"
    )
    collect(site.host)
    assert sql("SELECT ticket_id FROM ticket") == sql("SELECT ticket_id FROM web2py_ticket_faulty") == name
    assert "StringDataRightTruncation" in site.run(f"cat {ERRORS}/quarantine/{other}.reason")
    assert site.run(f"ls {ERRORS}").split() == ["quarantine"]


def test_duplicates_are_counted_and_nobody_has_to_call_the_collector(empty, sites):
    names = [provoke(site, FAULTS["controller"][0]) for site in sites for _ in range(3)]
    run = play(variables={"web2py_tickets_duplicates": "count", "web2py_tickets_schedule": "*:*:0/5"})
    assert run.status == 0, run.output[-3000:]
    # Its accuracy and its random delay are half a minute together.
    wait_for(lambda: not any(site.run(f"ls {ERRORS}") for site in sites), 90, "the timers have moved all tickets")
    assert sql("SELECT count(*), count(traceback), count(DISTINCT fingerprint) FROM ticket") == f"{len(names)}|1|1"
    assert sql("SELECT count(*) FROM web2py_ticket_faulty") == "1"
    assert play().changed_tasks() == [
        "Configure the applications",
        "Install the units that collect tickets",
        "Reload web2py code",
    ]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"web2py_tickets_schedule": "now and then"}, ["web2py_tickets_schedule is 'now and then'", "OnCalendar"]),
        ({"web2py_database_server": {}}, ["tickets-web12, tickets-web13", "web2py_database_server"]),
    ],
    ids=["schedule", "SQLite on two hosts"],
)
def test_what_cannot_work_is_refused_before_anything_is_changed(variables, words):
    run = play(variables=variables)
    assert (run.status != 0, run.changed_tasks()) == (True, []), run.output[-3000:]
    assert [word for word in words if word not in run.output] == []


SMALL_SITE = {
    "database": {"sqlite": "/var/lib/web2py/data/web2py-tickets/tickets.sqlite"},
    "uri": "sqlite://tickets.sqlite",
    "folder": "/var/lib/web2py/data/web2py-tickets",
    "driver_args": {},
    "duplicates": "keep",
}


def test_a_site_without_a_database_server(empty, site):
    """The collector under its unit, admin's page, and the module, with settings as the role writes them then."""
    settings = "/etc/web2py/applications/faulty.json"
    changed = {**json.loads(site.run(f"cat {settings}")), "tickets": SMALL_SITE}
    name = provoke(site, FAULTS["view"][0])
    site.run(f"install -d -o web2py -g web2py -m 700 {SMALL_SITE['folder']}")
    try:
        site.run(f"cp -a {settings} {settings}.before && printf %s {shlex.quote(json.dumps(changed))} > {settings}")
        assert information(site) == {"total": 0, "applications": {}}
        assert site.run(f"ls {SMALL_SITE['folder']}") == ""
        collect(site.host)
        assert site.run(f"find {ERRORS} -type f") == ""
        assert information(site) == {"total": 1, "applications": {"faulty": 1}}
        log_in(site)
        assert name in site.ask("/admin/default/errors/faulty/dbold", "https").body.decode()
        page = site.ask(f"/admin/default/ticketdb/faulty/{name}", "https")
        assert page.status == 200 and "NameError" in shown(page.body)
    finally:
        site.run(f"mv {settings}.before {settings}; rm -rf {SMALL_SITE['folder']}")


def information(site) -> dict:
    """Of the module web2py_ticket_info."""
    command = ["ansible", site.machine, "--become", "--module-name", "web2py.deployment.web2py_ticket_info"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **PLAIN})
    report = yaml.safe_load(done.stdout.partition("=>")[2])["report"]
    return {name: report[name] for name in ("total", "applications")}


PLAIN = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}


def test_the_timer_is_there_and_the_service_is_confined(site):
    assert site.run("systemctl is-enabled web2py-tickets.timer") == "enabled"
    exposure = site.run("systemd-analyze security web2py-tickets.service --no-pager | tail -n 1")
    assert float(re.search(r"([\d.]+) (OK|MEDIUM)", exposure).group(1)) <= 3.0, exposure


def test_a_database_that_is_down_costs_nothing(empty, sites):
    name = provoke(sites[0], FAULTS["controller"][0])
    DATABASE.check_output("systemctl stop postgresql")
    try:
        assert sites[0].host.run("systemctl start web2py-tickets.service").rc != 0
        assert sites[0].run(f"ls {ERRORS}").strip() == name
    finally:
        DATABASE.check_output("systemctl start postgresql")
    collect(sites[0].host)
    assert sql("SELECT ticket_id FROM ticket") == name


# The playbook and the page


def tickets_play(*arguments: str, **variables: str):
    page = MADE / "tickets.html"
    variables = {"tickets_report": str(page), **variables}
    run = play(*arguments, variables=variables, playbook=PROJECT / "playbooks/tickets.yml")
    return run, page


def test_the_report_says_what_is_in_the_database(empty, sites, capsys):
    for site in sites:
        for path, _, _ in FAULTS.values():
            for _ in range(2):
                provoke(site, path)
    predicted, _ = tickets_play("--check")
    assert predicted.status == 0, predicted.output[-3000:]
    assert predicted.changed_tasks()[0] == "Move tickets into the database"
    assert sum(int(site.run(f"ls {ERRORS} | wc -l")) for site in sites) == 16
    assert sql("SELECT to_regclass('ticket') IS NULL") == "t"
    run, page = tickets_play("-vvv")
    assert run.status == 0, run.output[-3000:]
    assert "ZeroDivisionError" not in run.output
    report = json.loads(page.with_suffix(".json").read_text())
    assert report["total"] == 16 == int(sql("SELECT count(*) FROM ticket"))
    assert report["applications"] == {"faulty": 16}
    assert report["servers"] == {"tickets-web12": 8, "tickets-web13": 8}
    assert len(report["problems"]) == 4 and sum(bucket["count"] for bucket in report["timeline"]) == 16
    assert (page.stat().st_mode & 0o777, page.with_suffix(".json").stat().st_mode & 0o777) == (0o600, 0o600)
    again, _ = tickets_play()
    assert (again.status, "Move tickets into the database" in again.changed_tasks()) == (0, False)
    nowhere, _ = tickets_play("-vvv", tickets_report="/no/such/folder/tickets.html")
    assert nowhere.status != 0 and "/no/such/folder does not exist" in nowhere.output
    assert "ZeroDivisionError" not in nowhere.output

    browser = WEB13
    browser.check_output(
        "dpkg -s chromium >/dev/null 2>&1 || (apt-get update && apt-get install -y --no-install-recommends chromium)"
    )
    browser.check_output("id -u visitor >/dev/null 2>&1 || useradd --create-home visitor")
    browser.check_output("printf %%s %s > /home/visitor/tickets.html", page.read_text())
    chromium = (
        "cd /home/visitor && runuser -u visitor -- timeout 60 chromium --headless --no-sandbox --disable-gpu "
        "--hide-scrollbars --enable-logging=stderr --v=0 "
    )
    loaded = browser.run(chromium + "--dump-dom file:///home/visitor/tickets.html")
    assert "CONSOLE" not in loaded.stderr, loaded.stderr
    # An error is seen where there is one: of a script that the page does not allow.
    wrong = page.read_text().replace("</main>", "<script>wrong()</script></main>")
    browser.check_output("printf %%s %s > /home/visitor/wrong.html", wrong)
    assert "CONSOLE" in browser.run(chromium + "--dump-dom file:///home/visitor/wrong.html").stderr
    document = loaded.stdout
    assert re.search(r'data-total="16"', document)
    assert re.search(r'data-application="faulty"[^>]*data-count="16"', document)
    counts = dict(re.findall(r'<article[^>]*data-fingerprint="(\w+)"[^>]*data-count="(\d+)"', document))
    rows = sql("SELECT fingerprint, count(*) FROM ticket GROUP BY 1").splitlines()
    assert counts == dict(row.split("|") for row in rows)
    # And as somebody reads it.
    text = words_of(document)
    for words in ("16 tickets", "4 problems", "1 applications", "2 servers", "4 of 4 shown"):
        assert words in text
    for server in sql("SELECT server, count(*) FROM ticket GROUP BY 1").splitlines():
        assert " ".join(server.split("|")) in text
    problems = {
        found.group(1): words_of(found.group())
        for found in re.finditer(r'<article[^>]*data-fingerprint="(\w+)".*?</article>', document, re.DOTALL)
    }
    minute = "to_char({}(created) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')"
    seen = f"SELECT fingerprint, count(*), {minute.format('min')}, {minute.format('max')} FROM ticket GROUP BY 1"
    for row in sql(seen).splitlines():
        print_, count, first, last = row.split("|")
        assert problems[print_].startswith(f"{count}\N{MULTIPLICATION SIGN}")
        assert f"{first} to {last} on tickets-web12 (2), tickets-web13 (2)" in problems[print_]
    artifacts = PROJECT / "artifacts"
    artifacts.mkdir(exist_ok=True)
    for name, size, dark, paper in (
        ("phone", "375,1600", False, "fbfaf8"),
        ("desk", "1280,1600", False, "fbfaf8"),
        ("dark", "1280,1600", True, "17191c"),
    ):
        browser.check_output(
            f"{chromium} --blink-settings=preferredColorScheme={0 if dark else 1} --window-size={size} "
            f"--screenshot=/home/visitor/{name}.png file:///home/visitor/tickets.html"
        )
        picture = browser.file(f"/home/visitor/{name}.png").content
        assert first_point(picture) == paper, name
        (artifacts / f"tickets-{name}.png").write_bytes(picture)
    with capsys.disabled():
        print(f"\nThe report in Chromium: {artifacts}/tickets-phone.png, tickets-desk.png, tickets-dark.png")


def words_of(document: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", document)).split())


def first_point(png: bytes) -> str:
    """Red, green and blue of the point at the top on the left, which no filter of PNG changes."""
    data, place = b"", 8
    while place < len(png):
        length = int.from_bytes(png[place : place + 4], "big")
        if png[place + 4 : place + 8] == b"IDAT":
            data += png[place + 8 : place + 8 + length]
        place += 12 + length
    return zlib.decompress(data)[1:4].hex()


def test_a_web_host_that_cannot_collect_is_named(empty, sites):
    provoke(sites[1], FAULTS["view"][0])
    sites[0].run(f"mv {ERRORS} {ERRORS}.away && touch {ERRORS}")
    try:
        run, page = tickets_play()
    finally:
        sites[0].run(f"rm {ERRORS}; mv {ERRORS}.away {ERRORS}")
    assert run.status != 0 and "not collected: faulty: NotADirectoryError" in run.output
    report = json.loads(page.with_suffix(".json").read_text())
    assert report["total"] == 1
    assert [(one["server"], one["application"]) for one in report["failed"]] == [("tickets-web12", "faulty")]
    assert "tickets-web12, faulty could not be collected: NotADirectoryError" in shown(page.read_bytes())


def test_a_second_run_changes_nothing():
    run = play()
    assert (run.status, run.changed_tasks()) == (0, []), run.output[-3000:]


# What may befall


def test_nothing_hostile_runs_or_stops_the_others(empty, site, capsys):
    names = {provoke(site, path) for path, _, _ in FAULTS.values()}
    touched = f"{ERRORS}/a-pickle-has-run"
    hostile = int(python(site.host, "hostile_files.py", ERRORS, touched)) - len(names)
    assert hostile >= 30
    seconds, memory = map(
        float, python(site.host, "measure.py", "python3", "-m", "web2py_runtime.collect_tickets").split()[-2:]
    )
    left = site.run(f"find {ERRORS} -mindepth 1 -maxdepth 1 -not -name quarantine -printf '%y\n'").split()
    aside = site.run(f"find {ERRORS}/quarantine -mindepth 1 -not -name '*.reason' | wc -l")
    reasons = site.run(f"cat {ERRORS}/quarantine/*.reason").splitlines()
    with capsys.disabled():
        print(f"\n{hostile} hostile files: {aside} in quarantine, {len(left)} left, {seconds:.1f} s, {memory:.0f} MiB")
    assert sorted(left) == ["d", "f"] and int(aside) == len(reasons) == hostile - 2
    assert site.host.run(f"test -e {touched}").rc != 0
    assert set(sql("SELECT ticket_id FROM ticket").splitlines()) == names
    assert "root:" not in sql("SELECT ticket_data FROM web2py_ticket_faulty")
    assert memory < 100
    # admin's page of errors reads files in folders below, too.
    log_in(site)
    page = site.ask("/admin/default/errors/faulty", "https")
    assert (page.status, b"quarantine" in page.body) == (200, False)


def each_is_there_once(written: list[str]) -> None:
    left = [name for host in WEBS for name in host.check_output(f"ls {ERRORS}").split()]
    for table in ("ticket", "web2py_ticket_faulty"):
        rows = sql(f"SELECT ticket_id FROM {table}").splitlines()
        assert sorted(rows + left) == sorted(written), (table, len(rows), len(left), len(written))
    assert left == []


@pytest.mark.parametrize(
    ("host", "collectors", "restarting"),
    [(WEB12, 1, False), (WEB13, 1, True), (WEB12, 2, False)],
    ids=["one collector", "the database restarts", "two collectors"],
)
def test_kills_lose_and_double_no_ticket(empty, host, collectors, restarting, capsys):
    over = threading.Event()
    restarts = []

    def restart() -> None:
        while restarting and not over.wait(4):
            DATABASE.check_output("systemctl restart 'postgresql@*-main'")
            restarts.append(1)

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        found = json.loads(python(host, "kill_collectors.py", ERRORS, KILLS, 5000, collectors))
    finally:
        over.set()
        thread.join()
    written = found.pop("written")
    with capsys.disabled():
        print(f"\n{len(written)} tickets, {len(restarts)} restarts of the database: {found}")
    assert found["killed"] >= KILLS and len(written) > 50 * KILLS
    # The kills were between the steps, too.
    assert found["had removed files"] >= KILLS // 4 and found["already there"] >= 1
    assert len(restarts) > 1 or not restarting
    each_is_there_once(written)


UPSTREAM = {
    "from gluon.utils import md5_hash": "import pickle\nfrom gluon.restricted import safe_load",
    # Release 3.3.3 forbids the helpers that its own tickets hold.
    "open(filename).read()": 'pickle.dumps(safe_load(open(filename, "rb"), {"gluon.html": {"XML", "XML_unpickle"}}), 0)'
    '.decode("latin-1")',
    "    time.sleep(SLEEP_MINUTES * 60)": "    sys.exit()",
}


def test_its_rate_and_memory_beside_those_of_web2pys_script(empty, sites, tmp_path, capsys):
    """web2py's script with what Python 3 needs, on 2,000 tickets of another application; it makes its table itself.

    No two tickets have the same traceback. The time in which web2py starts is not counted, that of ours is.
    """
    site = sites[1]
    script = (pathlib.Path(os.environ["LAB_WEB2PY"]) / "scripts/tickets2db.py").read_text()
    for old, new in UPSTREAM.items():
        assert script.count(old) == 1
        script = script.replace(old, new)
    uri = json.loads(site.run("cat /etc/web2py/applications/faulty.json"))["tickets"]["uri"]
    script = script.replace("tk_db = DAL(", f"db_string = {uri!r}\ntk_db = DAL(")
    site.run("mkdir -p /opt/tests")
    site.host.check_output("printf %%s %s > /opt/tests/tickets2db.py", script)
    ticket = provoke(site, f"{FAULTS['controller'][0]}?number=x0000000")
    site.run(f"mv {ERRORS}/{ticket} /opt/tests/a-ticket")
    size = int(site.run("stat -c %s /opt/tests/a-ticket"))
    welcome = "/var/lib/web2py/data/welcome"
    sql("DROP TABLE IF EXISTS web2py_ticket_welcome")
    site.run(f"rm -rf {welcome}/errors/* {welcome}/databases/*")
    theirs_seconds, theirs_memory = {}, {}
    try:
        for number in (0, 2000):
            python(site.host, "multiply_ticket.py", "/opt/tests/a-ticket", f"{welcome}/errors", number)
            theirs_seconds[number], theirs_memory[number] = measured(
                site.host,
                "env",
                "PGSSLROOTCERT=/etc/web2py/database_ca.pem",
                "sh",
                "-c",
                "cd /var/lib/web2py && exec python3 web2py.py --no_banner -S welcome -R /opt/tests/tickets2db.py",
            )
        assert sql("SELECT count(*) FROM web2py_ticket_welcome") == "2000"
    finally:
        sql("DROP TABLE IF EXISTS web2py_ticket_welcome")
        site.run(f"rm -rf {welcome}/databases/*")
    ours = {}
    for number in (1000, MANY):
        python(site.host, "multiply_ticket.py", "/opt/tests/a-ticket", ERRORS, number)
        ours[number] = measured(site.host, "python3", "-m", "web2py_runtime.collect_tickets")
    assert sql("SELECT count(*) FROM ticket") == sql("SELECT count(*) FROM web2py_ticket_faulty") == str(1000 + MANY)
    seconds, memory = ours[MANY]
    assert sql("SELECT count(DISTINCT traceback), count(DISTINCT fingerprint) FROM ticket") == f"{MANY}|1"
    theirs, rate = 2000 / (theirs_seconds[2000] - theirs_seconds[0]), MANY / seconds
    with capsys.disabled():
        print(
            f"\nTickets of {size} bytes: web2py's script {theirs:.0f}/s ({theirs_memory[2000]:.0f} MiB), "
            f"ours {rate:.0f}/s ({memory:.0f} MiB; with 1,000 tickets {ours[1000][1]:.0f} MiB)"
        )
    # docs/tickets.md says what bounds it.
    assert rate > theirs
    assert memory < ours[1000][1] + 10
