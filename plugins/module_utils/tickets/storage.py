# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where tickets are stored: the settings that name the database of an application, and its two tables."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import stat
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from .ticket import MOST_STORED, Ticket

SETTINGS = "/etc/web2py/applications"
DATA = "/var/lib/web2py/data"
# Of both modules; plugins/doc_fragments/tickets.py documents them.
OPTIONS = {
    "applications": {"type": "list", "elements": "str", "default": []},
    "settings": {"type": "path", "default": SETTINGS},
    "data": {"type": "path", "default": DATA},
    "user": {"type": "str", "default": "web2py"},
}
COLUMNS = tuple(field.name for field in fields(Ticket) if field.name not in ("data", "size"))
SCHEMA = """
CREATE TABLE IF NOT EXISTS ticket (
    application text NOT NULL,
    ticket_id text NOT NULL,
    server text NOT NULL,
    client text NOT NULL,
    created {time} NOT NULL,
    layer text NOT NULL,
    error_type text NOT NULL,
    message text NOT NULL,
    traceback text,
    code text,
    fingerprint text NOT NULL,
    PRIMARY KEY (application, ticket_id)
);
CREATE INDEX IF NOT EXISTS ticket_fingerprint ON ticket (application, fingerprint, created);
"""
# As TicketStorage defines it with pydal.
WEB2PYS_SCHEMA = """
CREATE TABLE IF NOT EXISTS "{table}" (
    id {id},
    ticket_id varchar(100),
    ticket_data text,
    created_datetime timestamp
);
CREATE INDEX IF NOT EXISTS "{table}_ticket_id" ON "{table}" (ticket_id);
"""


def web2pys_table(application: str) -> str:
    if not re.fullmatch(r"\w+", application, re.ASCII):
        raise ValueError(f"application is {application!r}; it must be letters, digits and underscores")
    return f"web2py_ticket_{application}"


# What a report is grouped by; they are as long as no text of a report needs to be.
SHORT = ("application", "fingerprint", "server")
LONGEST_SHORT = 300
LONGEST_QUERY = 300


def sound_texts(length: str) -> str:
    """That the texts of a row are no longer than those that the collector writes."""
    return " AND ".join(
        [f"{length}({column}) BETWEEN 1 AND {LONGEST_SHORT}" for column in (*SHORT, "ticket_id")]
        + [f"{length}(coalesce({column}, '')) <= {4 * MOST_STORED}" for column in ("layer", "message", "traceback")]
        + [f"{length}(error_type) <= {4 * MOST_STORED}"]
    )


class Database:
    """The two tables of tickets; as a context manager, until it is closed."""

    # The error of a database that does not take what is in a ticket.
    refused: type[Exception]

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_error: object) -> None:
        with contextlib.suppress(Exception):
            self.connection.close()

    @contextlib.contextmanager
    def transaction(self, lock: str = "") -> Iterator[Any]:
        """All or nothing; `lock` keeps out others that take the same. Without one nothing is written, and all that is
        read is of one moment."""
        cursor = self.connection.cursor()
        try:
            self.begin(cursor, lock)
            yield cursor
            self.connection.commit()
        except BaseException:
            with contextlib.suppress(Exception):
                self.connection.rollback()
            raise
        finally:
            with contextlib.suppress(Exception):
                cursor.close()

    def prepare(self, application: str) -> None:
        """Make the tables that are missing."""
        table = web2pys_table(application)
        # Asked first: as a rule they are there, and nobody has to wait for a lock.
        with self.transaction() as cursor:
            if {"ticket", table} <= self.tables(cursor):
                return
        with self.transaction("tables") as cursor:
            for statement in (SCHEMA + WEB2PYS_SCHEMA).format(table=table, id=self.ID, time=self.TIME).split(";\n"):
                if statement.strip():
                    cursor.execute(statement)

    def store(self, application: str, tickets: Iterable[Ticket], count_only: bool) -> Counter[str]:
        """In one transaction; each ticket that is there already stays as it is."""
        table = web2pys_table(application)
        with self.transaction(f"tickets of {application}") as cursor:
            tickets = list(tickets)
            whole = tickets
            if count_only:
                seen = self.fingerprints(cursor, application, {ticket.fingerprint for ticket in tickets})
                whole = []
                for ticket in sorted(tickets, key=lambda ticket: ticket.created):
                    if ticket.fingerprint not in seen:
                        seen.add(ticket.fingerprint)
                        whole.append(ticket)
            there = self.there(cursor, application, [ticket.ticket_id for ticket in tickets])
            new = [ticket for ticket in tickets if ticket.ticket_id not in there]
            with_text = {ticket.ticket_id for ticket in whole} - there
            self.insert(
                cursor,
                "ticket",
                COLUMNS,
                [
                    [
                        None
                        if column in ("traceback", "code") and ticket.ticket_id not in with_text
                        else getattr(ticket, column)
                        for column in COLUMNS
                    ]
                    for ticket in new
                ],
            )
            self.insert(
                cursor,
                table,
                ("ticket_id", "ticket_data", "created_datetime"),
                [
                    # web2py's times are those of the host's clock on the wall.
                    [ticket.ticket_id, ticket.data, ticket.created.astimezone().replace(tzinfo=None)]
                    for ticket in whole
                    if ticket.ticket_id in with_text
                ],
            )
        return Counter({"collected": len(new), "already there": len(there)})


class PostgreSQL(Database):
    ID, TIME, MARK = "serial PRIMARY KEY", "timestamptz", "%s"
    HOUR = "to_char(created AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24')"
    # PostgreSQL has times that Python has not.
    SOUND = "created >= '1970-01-01' AND created < '9999-01-01' AND " + sound_texts("octet_length")
    AS_TEXT = 'left("{column}"::text, {most})'

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        import psycopg2

        super().__init__(psycopg2.connect(**arguments))
        with contextlib.suppress(psycopg2.Error), self.connection.cursor() as cursor:
            # Takes a fraction of the time of the default; not every server is built with it.
            cursor.execute("SET default_toast_compression = 'lz4'")
        # Commits the setting; after the error there is nothing to commit.
        self.connection.commit()
        # Of lines of COPY, too.
        self.connection.set_client_encoding("UTF8")
        self.refused = psycopg2.DataError

    def begin(self, cursor: Any, lock: str) -> None:
        if not lock:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            # Somebody may lock the table, or have a view without end in its place.
            cursor.execute("SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '5min'")
            cursor.execute("SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'")
        else:
            cursor.execute("SELECT pg_advisory_xact_lock(hashtext('web2py.deployment'), hashtext(%s))", [lock])

    def tables(self, cursor: Any) -> set[str]:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))")
        return {row[0] for row in cursor.fetchall()}

    def columns(self, cursor: Any) -> dict[str, str]:
        cursor.execute(
            "SELECT attname, relkind::text || ' ' || format_type(atttypid, NULL) FROM pg_class JOIN pg_attribute "
            "ON attrelid = pg_class.oid WHERE pg_class.oid = to_regclass('ticket') AND attnum > 0 AND NOT attisdropped"
        )
        return dict(cursor.fetchall())

    def as_made(self, columns: Mapping[str, str]) -> bool:
        made = {column: "r timestamp with time zone" if column == "created" else "r text" for column in COLUMNS}
        return {column: columns.get(column) for column in COLUMNS} == made

    def fingerprints(self, cursor: Any, application: str, among: set[str]) -> set[str]:
        cursor.execute(
            "SELECT DISTINCT fingerprint FROM ticket "
            "WHERE application = %s AND fingerprint = ANY (%s) AND traceback IS NOT NULL",
            [application, list(among)],
        )
        return {row[0] for row in cursor.fetchall()}

    def there(self, cursor: Any, application: str, ids: list[str]) -> set[str]:
        cursor.execute(
            "SELECT ticket_id FROM ticket WHERE application = %s AND ticket_id = ANY (%s)", [application, ids]
        )
        return {row[0] for row in cursor.fetchall()}

    def insert(self, cursor: Any, table: str, columns: tuple[str, ...], rows: list[list]) -> None:
        # Several times as fast as INSERT.
        cursor.copy_expert(f'COPY "{table}" ({", ".join(columns)}) FROM STDIN', Lines(rows))

    def time(self, value: datetime.datetime) -> str:
        return value.astimezone(datetime.timezone.utc).isoformat(timespec="seconds")


class Lines:
    """A file of rows for COPY, which exists one line at a time: the whole would take several times the rows' memory."""

    def __init__(self, rows: Iterable[list[Any]]) -> None:
        self.lines = (b"\t".join(map(copied, row)) + b"\n" for row in rows)

    def read(self, _size: int) -> bytes:
        return next(self.lines, b"")


def copied(value: Any) -> bytes:
    """As PostgreSQL's text format of COPY has it."""
    if value is None:
        return b"\\N"
    text = str(value).encode()
    return text.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r").replace(b"\t", b"\\t")


class SQLite(Database):
    ID, TIME, MARK = "integer PRIMARY KEY AUTOINCREMENT", "timestamp", "?"
    HOUR = "replace(substr(created, 1, 13), ' ', 'T')"
    # SQLite keeps a value of any type in any column.
    SOUND = (
        "typeof(created) = 'text' AND length(created) < 40 AND created >= '1970-' AND created < '9999-' "
        "AND substr(datetime(created, '+0 days'), 1, 10) = substr(created, 1, 10) AND "
        + " AND ".join(f"typeof({column}) = 'text'" for column in SHORT)
        + " AND "
        + sound_texts("length")
    )
    AS_TEXT = 'substr(CAST("{column}" AS text), 1, {most})'

    def __init__(self, path: str, reading: bool) -> None:
        import sqlite3

        for name in (path, f"{path}-wal", f"{path}-shm", f"{path}-journal"):
            # Opening a FIFO waits for ever, and a link leads somewhere else.
            with contextlib.suppress(FileNotFoundError):
                found = os.lstat(name)
                if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                    raise OSError(
                        f"{name} is no regular file with one name; move it away, and the next run makes another"
                    )
        sqlite3.register_adapter(datetime.datetime, lambda time: time.isoformat(" "))
        # Who only reads makes no file, and then sees a database without tables.
        file = path if not reading or os.path.exists(path) else ":memory:"
        super().__init__(sqlite3.connect(file, timeout=10 if reading else 60, isolation_level=None))
        self.connection.text_factory = lambda data: data.decode("utf-8", "replace")
        if reading:
            # A view without end may be in the place of the table.
            end = time.monotonic() + LONGEST_QUERY
            self.connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
        else:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.Error:
                self.connection.close()
                raise
        self.refused = sqlite3.DataError

    def begin(self, cursor: Any, lock: str) -> None:
        cursor.execute("BEGIN IMMEDIATE" if lock else "BEGIN")

    def tables(self, cursor: Any) -> set[str]:
        return {row[0] for row in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def columns(self, cursor: Any) -> dict[str, str]:
        kinds = [row[0] for row in cursor.execute("SELECT type FROM sqlite_master WHERE name = 'ticket'")]
        return {row[1]: kinds[0] for row in cursor.execute("PRAGMA table_info(ticket)")} if kinds else {}

    def as_made(self, columns: Mapping[str, str]) -> bool:
        return {column: columns.get(column) for column in COLUMNS} == dict.fromkeys(COLUMNS, "table")

    def fingerprints(self, cursor: Any, application: str, among: set[str]) -> set[str]:
        statement = "SELECT 1 FROM ticket WHERE application = ? AND fingerprint = ? AND traceback IS NOT NULL LIMIT 1"
        return {one for one in among if cursor.execute(statement, [application, one]).fetchone()}

    def time(self, value: str) -> str:
        return datetime.datetime.fromisoformat(value).isoformat(timespec="seconds")

    def there(self, cursor: Any, application: str, ids: list[str]) -> set[str]:
        statement = "SELECT 1 FROM ticket WHERE application = ? AND ticket_id = ?"
        return {one for one in ids if cursor.execute(statement, [application, one]).fetchone()}

    def insert(self, cursor: Any, table: str, columns: tuple[str, ...], rows: list[list]) -> None:
        marks = ", ".join("?" * len(columns))
        statement = f'INSERT INTO "{table}" ({", ".join(columns)}) VALUES ({marks})'  # noqa: S608 (names of ours)
        cursor.executemany(statement, rows)


def connect(settings: Mapping[str, Any], reading: bool = False) -> Database:
    """The database for tickets that a settings file names: `{sqlite: path}`, or parameters of libpq."""
    if "sqlite" in settings:
        return SQLite(settings["sqlite"], reading)
    return PostgreSQL({"connect_timeout": 5, "application_name": "web2py tickets", **settings})


@dataclass(frozen=True)
class Application:
    """An application with tickets in a database, as its settings file describes it."""

    application: str
    errors: str
    database: Mapping[str, Any]
    count_only: bool


def applications(settings: str, data: str) -> list[Application]:
    """From the settings files in a folder; those of applications without such tickets do not count."""
    found = []
    for file in sorted(os.listdir(settings)) if os.path.isdir(settings) else []:
        if not file.endswith(".json"):
            continue
        with open(os.path.join(settings, file), encoding="utf-8") as opened:
            content = json.load(opened)
        if "tickets" in content:
            name, tickets = content["application"], content["tickets"]
            folder = os.path.join(data, name, "errors")
            found.append(Application(name, folder, tickets["database"], tickets["duplicates"] == "count"))
    return found
