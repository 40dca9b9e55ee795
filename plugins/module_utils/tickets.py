# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""web2py's tickets: out of the `errors` folders of applications, into a database.

A ticket is the pickle of a report of one exception (gluon/restricted.py), and pickles can run code. So what reads them
is no unpickler (pickles.py). The same file runs in the modules of the collection and, as `web2py_runtime.tickets`, on
the web hosts; it needs the standard library and psycopg2 only.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import itertools
import json
import os
import pickle
import re
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from . import pickles

# <address of the client>.<date>.<time>.<uuid>, as gluon.globals.Request.compute_uuid makes it.
# The whole is not longer than the column of web2py's table, which has 100 characters.
NAME = re.compile(
    r"([\w.-]{1,43}?)\.(\d{4}-\d\d-\d\d\.\d\d-\d\d-\d\d)\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.ASCII
)
# A real one has some ten kilobytes, as web2py cuts the variables in it. That of an endless recursion has a thousand
# frames: up to 900 kB, 60,000 operations (pickles.py), and 40,000 values.
LARGEST = 3 << 19
MOST_VALUES = 100_000
# Escapes make a text up to six times as long. In a database, neither its columns nor the pickle may have more.
MOST_STORED = 2 * LARGEST
# A file that has not changed for so long is whole, or will never be.
QUIET_SECONDS = 60
BATCH_TICKETS = 500
BATCH_CHARACTERS = 2 << 20
QUARANTINE = "quarantine"
SETTINGS = "/etc/web2py/applications"
DATA = "/var/lib/web2py/data"


class NotATicket(Exception):
    """This file is no ticket, or none yet. The text says why."""


# --- Reading ----------------------------------------------------------------------------------------------------------


class XML(str):
    """The one object in tickets: gluon.html.XML, of which only the text counts."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return XML_unpickle, (str(self),)


def XML_unpickle(data: str | bytes) -> XML:
    """Release 3.3.3 writes the text with marshal, later versions as it is."""
    return XML(data if isinstance(data, str) else marshalled_text(data))


def marshalled_text(data: bytes) -> str:
    kind = chr(data[0] & 0x7F) if data else ""
    length_bytes = {"z": 1, "Z": 1, "a": 4, "A": 4, "u": 4, "t": 4}.get(kind, 0)
    body = data[1 + length_bytes :]
    if not length_bytes or len(body) != int.from_bytes(data[1 : 1 + length_bytes], "little"):
        raise NotATicket("an XML helper that holds something else than text")
    return body.decode("utf-8", "surrogatepass")


class Helpers(pickles.Plain):
    """The one object in tickets: an XML helper."""

    def __init__(self, size: int) -> None:
        self.left = size

    def find(self, module: str, name: str) -> Any:
        if (module, name) != ("gluon.html", "XML_unpickle"):
            raise NotATicket(f"names {module[:80]}.{name[:80]}, which no ticket does")
        return XML_unpickle

    def call(self, function: Any, arguments: Any) -> XML:
        if function is not XML_unpickle or not isinstance(arguments, tuple) or len(arguments) != 1:
            raise NotATicket("calls something, which no ticket does")
        if not isinstance(arguments[0], (str, bytes)):
            raise NotATicket("an XML helper that holds something else than text")
        # Each is a copy, and it takes few bytes to call for another one of the same text.
        self.left -= len(arguments[0])
        if self.left < 0:
            raise NotATicket("XML helpers with more text than there is in the file")
        return XML_unpickle(arguments[0])


def read_pickle(data: bytes) -> Any:
    """Return what is pickled, if it consists of texts, bytes, numbers, dicts, lists, tuples, and XML helpers."""
    try:
        return pickles.read(data, Helpers(len(data)))
    except pickles.Unreadable as error:
        raise NotATicket(str(error)) from None


# --- Understanding ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ticket:
    """One exception, as web2py has reported it."""

    application: str
    ticket_id: str
    server: str
    client: str
    created: datetime.datetime
    layer: str
    error_type: str
    message: str
    traceback: str
    code: str
    fingerprint: str
    # The report as admin reads it from a database: a pickle in protocol 0, which is text.
    data: str
    size: int

    def row(self) -> list[Any]:
        return [getattr(self, column) for column in COLUMNS]


def parse(name: str, content: bytes, application: str, server: str, written: float) -> Ticket:
    """Return the ticket in a file; NotATicket says what else it is."""
    match = NAME.fullmatch(name)
    if not match:
        raise NotATicket("its name is not that of a ticket")
    # A year is left at either end, as local time may be of another one.
    if not datetime.MINYEAR + 1 <= 1970 + written / 31_556_952 < datetime.MAXYEAR:
        raise NotATicket(f"it was written in a year that no calendar has, {written:.0f} seconds after 1970")
    created = datetime.datetime.fromtimestamp(written, datetime.timezone.utc)
    report = read_pickle(content)
    if not isinstance(report, dict) or not isinstance(report.get("snapshot"), dict):
        raise NotATicket("the pickle of something else than a ticket")
    texts = {}
    for key in ("layer", "code", "output", "traceback"):
        if not isinstance(report.get(key), str):
            raise NotATicket(f"the pickle of something else than a ticket: it has no {key}")
        texts[key] = storable(report[key])
    error_type, message = exception_of(texts["traceback"])
    layer = relative(texts["layer"], application)
    data = write_pickle(report)
    size = len(layer) + len(message) + len(texts["traceback"]) + len(texts["code"])
    if size > MOST_STORED:
        raise NotATicket(f"its columns would have {size} characters, the most that is stored is {MOST_STORED}")
    return Ticket(
        application=application,
        ticket_id=name,
        server=server,
        client=match.group(1).replace("_", ":"),
        created=created,
        layer=layer,
        error_type=error_type,
        message=message,
        traceback=texts["traceback"],
        code=texts["code"],
        fingerprint=fingerprint(error_type, texts["traceback"], layer, application),
        data=data,
        size=size + len(data),
    )


def storable(text: str) -> str:
    """Without what PostgreSQL takes in no text."""
    if len(text) + 3 * text.count("\0") > MOST_STORED:
        raise NotATicket(f"a text that has more than {MOST_STORED} characters without NUL")
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


class Cleaner:
    """What admin's own unpickler refuses in protocol 0, and what its page cannot show, as text.

    A small pickle can hold one value in so many places that nobody could write it out, or show it.
    """

    def __init__(self) -> None:
        self.values = MOST_VALUES
        self.characters = MOST_STORED
        # By identity: what is one text in the report stays one, to which the pickle refers.
        self.texts: dict[int, str] = {}

    def clean(self, value: Any) -> Any:
        self.values -= 1
        if self.values < 0:
            raise NotATicket(f"holds more than {MOST_VALUES} values")
        kind = type(value)
        if kind in (str, XML, bytes):
            text = self.texts.get(id(value))
            if text is None:
                text = self.texts[id(value)] = self.text(value, kind)
            self.characters -= len(text)
            if self.characters < 0:
                raise NotATicket(f"its values have more than {MOST_STORED} characters")
            return text
        if kind is dict:
            return {self.clean(key): self.clean(item) for key, item in value.items()}
        if kind in (list, tuple):
            return kind([self.clean(item) for item in value])
        if value is None or kind in (bool, int, float):
            return value
        raise NotATicket("a pickle that leaves a part of its operations among the values")

    def text(self, value: Any, kind: type) -> str:
        if kind is bytes:
            return value.decode("utf-8", "backslashreplace")
        if not value.isascii():
            value = value.encode("utf-8", "backslashreplace").decode()
        return XML(value) if kind is XML else value


_OWN_NAME, _WEB2PYS_NAME = f"c{__name__}\nXML_unpickle\n".encode(), b"cgluon.html\nXML_unpickle\n"


def write_pickle(report: dict[str, Any]) -> str:
    """The form in which admin reads a ticket from a text column."""
    try:
        data = pickle.dumps(Cleaner().clean(report), protocol=0)
    except RecursionError:
        raise NotATicket("a pickle of too many levels") from None
    if len(data) > MOST_STORED:
        raise NotATicket(f"as text it would have {len(data)} characters, the most that is stored is {MOST_STORED}")
    # In protocol 0 a line feed inside a text is written as an escape, so this is nothing but the name.
    return data.replace(_OWN_NAME, _WEB2PYS_NAME).decode("latin-1")


TRACEBACK = "Traceback (most recent call last):"
FRAME = re.compile(r'^  File "([^"\n]+)", line (\d+)(?:, in (.+))?(?:\n    +(.*))?', re.MULTILINE)
EXCEPTION = re.compile(r"^(?![ \t\n])([\w.]*)(.*)", re.MULTILINE | re.DOTALL)


def exception_of(traceback: str) -> tuple[str, str]:
    """Type and message of the exception that a traceback ends with."""
    match = EXCEPTION.search(traceback.rpartition(TRACEBACK)[2])
    if not match:
        return "", ""
    name, rest = match.groups()
    if name and (not rest.strip() or rest.startswith(":")):
        return name, rest[1:].strip()
    return "", (name + rest).strip()


def relative(path: str, application: str) -> str:
    """The part of a path below the application, whatever its release and the web2py root."""
    found, rest = path.replace("\\", "/").rpartition(f"/applications/{application}/")[1:]
    # Of `/opt/web2py/applications/<name>/<hash>/models/db.py`.
    return re.sub(r"^[0-9a-f]{8,64}/", "", rest) if found else path


def fingerprint(error_type: str, traceback: str, layer: str, application: str) -> str:
    """The same for the same error on every server, Python and release: type and the application's frames.

    A frame counts with its file, function and line of code. The line's number, which any other change of the file
    moves, counts only where no frame has its code. Without a frame of the application it is where web2py was (`layer`)
    and the innermost frame's function.
    """
    frames: list[str] = []
    numbered: list[str] = []
    last = ""
    # Of the exceptions before it, too: the last one may be of a library alone.
    for path, number, function, code in FRAME.findall(traceback):
        last = f"{os.path.basename(path)} {function}"
        inside = relative(path, application)
        if inside != path and code.strip():
            frames.append(f"{inside} {function} {code.strip()}")
        elif inside != path:
            numbered.append(f"{inside} {function} {number}")
    parts = [error_type, *(frames or numbered or [layer, last])]
    return hashlib.sha256("\0".join(parts).encode("utf-8", "backslashreplace")).hexdigest()[:16]


# --- Storing ----------------------------------------------------------------------------------------------------------

COLUMNS = (
    "application",
    "ticket_id",
    "server",
    "client",
    "created",
    "layer",
    "error_type",
    "message",
    "traceback",
    "code",
    "fingerprint",
)
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
        raise ValueError(f"application {application!r}: allowed are letters, digits and underscores")
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
                        None if column in ("traceback", "code") and ticket.ticket_id not in with_text else value
                        for column, value in zip(COLUMNS, ticket.row(), strict=True)
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


# --- Reporting --------------------------------------------------------------------------------------------------------


COUNTS = (
    "SELECT application, fingerprint, server, count(*), min(created), max(created) FROM ticket WHERE {where} "
    "GROUP BY application, fingerprint, server ORDER BY max(created) DESC LIMIT {groups}"
)
# Of those with a text the newest; others only where none has one.
NEWEST = (
    "SELECT application, fingerprint, substr(error_type, 1, {most}), substr(message, 1, {most}), "
    "substr(layer, 1, {most}), ticket_id, substr(traceback, 1, {most}) FROM ("
    "SELECT *, row_number() OVER (PARTITION BY application, fingerprint "
    "ORDER BY CASE WHEN traceback IS NULL THEN 1 ELSE 0 END, created DESC) AS place FROM ticket WHERE {where}"
    ") AS ranked WHERE place = 1 ORDER BY created DESC LIMIT {problems}"
)
TIMELINE = "SELECT {hour}, application, count(*) FROM ticket WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2 LIMIT {groups}"
UNSOUND = (
    "SELECT substr(coalesce(CAST(application AS text), ''), 1, 60), count(*) FROM ticket "
    "WHERE NOT coalesce({sound}, false) GROUP BY 1 ORDER BY 2 DESC LIMIT 20"
)
# Applications write into the database, too: a report has an end, whatever is in there.
MOST_GROUPS = 100_000
MOST_PROBLEMS = 2000
MOST_ROWS = 200_000
LONGEST_TEXT = 40_000
TEXTS = ("error_type", "message", "layer", "ticket_id", "traceback")


class Findings:
    """What a report is made of, and what had to be left out of it."""

    def __init__(self) -> None:
        self.problems: dict[tuple[str, str], dict[str, Any]] = {}
        self.timeline: Counter[tuple[str, str]] = Counter()
        self.left_out: list[dict[str, Any]] = []

    def leave_out(self, application: str, tickets: int, reason: str) -> None:
        self.left_out.append({"application": application, "tickets": tickets, "reason": reason})

    def count(self, application: str, fingerprint: str, server: str, number: int, first: str, last: str) -> dict:
        problem = self.problems.setdefault(
            (application, fingerprint),
            {
                "application": application,
                "fingerprint": fingerprint,
                "count": 0,
                "servers": {},
                "first_seen": "9",
                "last_seen": "",
            },
        )
        problem["count"] += number
        problem["servers"][server] = problem["servers"].get(server, 0) + number
        problem["first_seen"] = min(problem["first_seen"], first)
        problem["last_seen"] = max(problem["last_seen"], last)
        return problem


def report(database: Database, applications: Iterable[str] = (), since: datetime.datetime | None = None) -> dict:
    """What is in the database, by application, server, hour and problem; a problem is one fingerprint.

    Of each problem the newest ticket that was kept whole is given. All times are UTC. A row that no collector has
    written is left out, and `left_out` says so.
    """
    found = Findings()
    with database.transaction() as cursor:
        columns = database.columns(cursor)
        # Before the first ticket was collected there is no table.
        if columns and database.as_made(columns):
            read_groups(database, cursor, found, list(applications), since)
        elif columns:
            found.leave_out("", 0, "the table of tickets is not as the collector made it, and was read row by row")
            read_rows(database, cursor, found, columns, set(applications), since)
        elif any(name.startswith("web2py_ticket_") for name in database.tables(cursor)):
            found.leave_out("", 0, "the table of tickets is gone; the next run of the collector makes another")
    without_text = [key for key, problem in found.problems.items() if "traceback" not in problem]
    for key in without_text:
        problem = found.problems.pop(key)
        found.leave_out(problem["application"], problem["count"], f"a report has at most {MOST_PROBLEMS} problems")
    # A thousand times the same is said once.
    reasons: Counter[tuple[str, str]] = Counter()
    for one in found.left_out:
        reasons[one["application"], one["reason"]] += one["tickets"]
    by_application: Counter[str] = Counter()
    by_server: Counter[str] = Counter()
    for problem in found.problems.values():
        by_application[problem["application"]] += problem["count"]
        by_server.update(problem["servers"])
    return {
        "since": since and since.astimezone(datetime.timezone.utc).isoformat(timespec="seconds"),
        "total": by_application.total(),
        "applications": dict(sorted(by_application.items())),
        "servers": dict(sorted(by_server.items())),
        "timeline": [
            {"time": f"{hour}:00:00+00:00", "application": application, "count": count}
            for (hour, application), count in sorted(found.timeline.items())
            if application in by_application
        ],
        "problems": sorted(found.problems.values(), key=lambda problem: problem["last_seen"], reverse=True),
        "left_out": [
            {"application": application, "tickets": count, "reason": reason}
            for (application, reason), count in reasons.most_common(100)
        ],
    }


def read_groups(
    database: Database, cursor: Any, found: Findings, names: list[str], since: datetime.datetime | None
) -> None:
    """From a table that is as the collector made it: the database counts."""
    conditions, values = [database.SOUND], []
    if names:
        conditions.append(f"application IN ({', '.join([database.MARK] * len(names))})")
        values += names
    if since:
        conditions.append(f"created >= {database.MARK}")
        values.append(since)
    limits = {"groups": MOST_GROUPS, "problems": MOST_PROBLEMS, "most": LONGEST_TEXT, "hour": database.HOUR}

    def rows(statement: str) -> list[tuple]:
        cursor.execute(statement.format(where=" AND ".join(conditions), **limits), values)
        return cursor.fetchall()

    for application, fingerprint, server, number, first, last in rows(COUNTS):
        found.count(application, fingerprint, server, number, database.time(first), database.time(last))
    for application, fingerprint, *texts in rows(NEWEST):
        if (application, fingerprint) in found.problems:
            found.problems[application, fingerprint] |= {
                name: value or "" for name, value in zip(TEXTS, texts, strict=True)
            }
    for hour, application, number in rows(TIMELINE):
        found.timeline[hour, application] += number
    cursor.execute(UNSOUND.format(sound=f"({database.SOUND})"))
    for application, number in cursor.fetchall():
        found.leave_out(application, number, "a time, a type or a length that no ticket has")


def read_rows(
    database: Database,
    cursor: Any,
    found: Findings,
    columns: Mapping[str, str],
    names: set[str],
    since: datetime.datetime | None,
) -> None:
    """From whatever else is named like the table: each row is judged."""
    wanted = [
        database.AS_TEXT.format(column=column, most=LONGEST_TEXT) if column in columns else "''" for column in COLUMNS
    ]
    cursor.execute(f"SELECT {', '.join(wanted)} FROM ticket LIMIT {MOST_ROWS + 1}")  # noqa: S608 (names of ours)
    for number in itertools.count():
        row = cursor.fetchone()
        if row is None:
            return
        if number == MOST_ROWS:
            found.leave_out("", 0, f"the rest of more than {MOST_ROWS} rows")
            return
        values = {name: value or "" for name, value in zip(COLUMNS, row, strict=True)}
        application, fingerprint, server = (values[name] for name in SHORT)
        if names and application not in names:
            continue
        try:
            if not all(1 <= len(values[name]) <= LONGEST_SHORT for name in SHORT):
                raise ValueError("no name")
            created = datetime.datetime.fromisoformat(values["created"])
            if created.tzinfo is None:
                created = created.replace(tzinfo=datetime.timezone.utc)
            created = created.astimezone(datetime.timezone.utc)
            if not 1970 <= created.year < datetime.MAXYEAR:
                raise ValueError("no time")
        except (ValueError, OverflowError):
            found.leave_out(application[:60], 1, "a time, a type or a length that no ticket has")
            continue
        if since and created < since:
            continue
        if len(found.problems) >= MOST_PROBLEMS and (application, fingerprint) not in found.problems:
            found.leave_out(application, 1, f"a report has at most {MOST_PROBLEMS} problems")
            continue
        moment = created.isoformat(timespec="seconds")
        problem = found.count(application, fingerprint, server, 1, moment, moment)
        if "traceback" not in problem or (problem["last_seen"] == moment and values["traceback"]):
            problem |= {name: values[name] for name in TEXTS}
        found.timeline[f"{created:%Y-%m-%dT%H}", application] += 1


# --- Collecting -------------------------------------------------------------------------------------------------------


def collect(
    folder: str,
    application: str,
    database: Database | None,
    server: str = "",
    count_only: bool = False,
    check: bool = False,
    now: Callable[[], float] = time.time,
) -> Counter[str]:
    """Move the tickets in an application's `errors` folder into the database; return how many there were of what.

    A file goes only after the transaction with its ticket has been committed. Killed at any moment, the next run finds
    the file or the row or both, and makes one row of it. With `check` nothing is changed, and no database is needed.
    """
    outcomes: Counter[str] = Counter()
    server = server or socket.gethostname()
    with contextlib.ExitStack() as stack:
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        stack.callback(os.close, directory)
        if not check:
            database.prepare(application)
        batch: list[Ticket] = []
        size = 0

        def store(some: list[Ticket]) -> None:
            try:
                stored = database.store(application, some, count_only)
            except database.refused as error:
                if len(some) > 1:
                    # One of them would keep the others from the database for ever.
                    for ticket in some:
                        store([ticket])
                else:
                    outcomes[set_aside(directory, some[0].ticket_id, error, check, now())] += 1
                return
            outcomes.update(stored)
            for ticket in some:
                # Another collector may have been faster.
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(ticket.ticket_id, dir_fd=directory)

        def flush() -> None:
            if check:
                outcomes["collected"] += len(batch)
            elif batch:
                store(batch)
            batch.clear()

        for name in names_of(directory):
            try:
                content, written = read_file(directory, name)
                ticket = parse(name, content, application, server, written)
            except FileNotFoundError:
                continue
            except (OSError, MemoryError):
                # The host's trouble, not the file's: it may well be a ticket.
                outcomes["left"] += 1
                continue
            except (NotATicket, RecursionError) as error:
                outcomes[set_aside(directory, name, error, check, now())] += 1
                continue
            batch.append(ticket)
            size += ticket.size
            if len(batch) >= BATCH_TICKETS or size >= BATCH_CHARACTERS:
                flush()
                size = 0
        flush()
    return +outcomes


def names_of(directory: int) -> Iterator[str]:
    """Names in a folder, oldest or newest alike; those that come meanwhile may be left for the next time."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name != QUARANTINE:
                yield entry.name


def read_file(directory: int, name: str) -> tuple[bytes, float]:
    """Content of a regular file, and when it was written."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        # A link, a socket, or not for web2py's user.
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES):
            raise NotATicket(f"it cannot be opened as a file: {error.strerror}") from None
        raise
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise NotATicket("it is no regular file")
        if found.st_size > LARGEST:
            raise NotATicket(f"it has {found.st_size} bytes, the largest that is read is {LARGEST}")
        if found.st_nlink > 1:
            raise NotATicket("it has another name, too (a hard link)")
        content = b""
        while len(content) <= LARGEST and (piece := os.read(file, 1 << 20)):
            content += piece
    finally:
        os.close(file)
    return content, found.st_mtime


def set_aside(directory: int, name: str, error: Exception, check: bool, now: float) -> str:
    """Put what is no ticket where no collector looks, with the reason beside it; say what has been done."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return "left"
    # What is not named like a ticket was put there by somebody else. What is new may still be written; a clock may be
    # ahead, but not for a day.
    if stat.S_ISDIR(found.st_mode) or not NAME.fullmatch(name) or -86400 < now - found.st_mtime < QUIET_SECONDS:
        return "left"
    if check:
        return "quarantined"
    with contextlib.ExitStack() as stack:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(QUARANTINE, 0o700, dir_fd=directory)
        except OSError:
            return "left"
        quarantine = os.open(QUARANTINE, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        stack.callback(os.close, quarantine)
        reason = ""
        try:
            # First: what is in quarantine has one. It may be there of a collector that was killed.
            with contextlib.suppress(FileExistsError):
                reason = write_reason(quarantine, name, error)
            # admin reads what is named like a ticket in folders below `errors`, too.
            os.rename(name, f"{name}.quarantined", src_dir_fd=directory, dst_dir_fd=quarantine)
        except OSError:
            # A full disk, a folder of that name, or another collector was faster. It does not end this one.
            if reason:
                with contextlib.suppress(OSError):
                    os.unlink(reason, dir_fd=quarantine)
            return "left"
    return "quarantined"


def write_reason(quarantine: int, name: str, error: Exception) -> str:
    """Return the name of the new file; nothing of that name is written into, whatever it is."""
    reason = f"{name}.reason"
    file = os.open(
        reason, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600, dir_fd=quarantine
    )
    try:
        with open(file, "w", encoding="utf-8", errors="backslashreplace") as opened:
            opened.write(f"{type(error).__name__}: {error}\n")
    except OSError:
        os.unlink(reason, dir_fd=quarantine)
        raise
    return reason


@dataclass(frozen=True)
class Site:
    """An application with tickets in a database, as its settings file describes it."""

    application: str
    errors: str
    database: Mapping[str, Any]
    count_only: bool


def sites(settings: str, data: str) -> list[Site]:
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
            found.append(Site(name, folder, tickets["database"], tickets["duplicates"] == "count"))
    return found


def collect_all(found: Iterable[Site], check: bool = False) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Outcomes and errors by application; one that fails does not keep the others from being collected."""
    done: dict[str, dict[str, int]] = {}
    failed: dict[str, str] = {}
    for site in found:
        try:
            with contextlib.nullcontext() if check else connect(site.database) as database:
                outcomes = collect(site.errors, site.application, database, count_only=site.count_only, check=check)
            done[site.application] = dict(outcomes)
        except Exception as error:
            failed[site.application] = f"{type(error).__name__}: {error}".strip()
    return done, failed


def outcomes(results: Mapping[str, Mapping[str, Any]], hosts: Iterable[str] = ()) -> dict[str, Any]:
    """What web hosts have collected, for the report: the module's result of each, and the names of all."""
    quarantined: Counter[str] = Counter()
    failed: list[dict[str, str]] = []
    for host in sorted({*results, *hosts}):
        result = results.get(host, {})
        for name, numbers in result.get("applications", {}).items():
            quarantined[name] += numbers.get("quarantined", 0)
        errors = result.get("errors")
        if errors is None:
            # Not reached, or the module did not get as far as that.
            errors = {"": str(result.get("msg") or "the host was not reached")}
        failed += [{"server": host, "application": name, "error": errors[name]} for name in sorted(errors)]
    generated = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"generated": generated, "quarantined": dict(+quarantined), "failed": failed}
