# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What pydal knows of an application's tables, in its database: rows of `web2py_filesystem`.

pydal unpickles them. Who can write into the database must not be able to run code here, so a row is read and judged
first (pickles.py), and pydal gets a pickle that was made here of nothing but names and numbers.
"""

from __future__ import annotations

import pickle
import re
from typing import Any

from pydal.helpers.classes import DatabaseStoredFile
from pydal.migrator import InDBMigrator

from web2py_runtime import pickles

# A table has at most 1,600 columns in PostgreSQL, and each takes some 300 bytes.
LARGEST = 2 << 20
MOST_COLUMNS = 1600
LONGEST = 4000
# sql.log, to which pydal writes the statements; beyond it a new one begins.
LARGEST_LOG = 8 << 20
# What pydal writes of a column, and of which types.
KEYS = {
    "length": (int, str, type(None)),
    "unique": (bool, int, type(None)),
    "notnull": (bool, int, type(None)),
    "sortable": (int,),
    "type": (str,),
    "sql": (str,),
    "rname": (str,),
    "raw_rname": (str,),
}
# pydal puts these into statements as they are: quoted or plain names, with a schema before them or not.
NAME = re.compile(r'(?:"(?:[^"\0]|"")+"|[^\W\d][\w$]*)(?:\.(?:"(?:[^"\0]|"")+"|[^\W\d][\w$]*))?')
# Of a column with geometry, pydal puts type and name between single quotes.
GEOMETRY = re.compile(r"[\w(), .:-]*")


class BadRow(Exception):
    """A row of web2py_filesystem is not what pydal writes. The text says which, and what to do."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"web2py_filesystem has a row with path {name[:200]!r} that pydal has not written: {reason}. The table was "
            "not changed. Restore the row from a backup, or delete it and deploy once with fake_migrate=True in "
            "define_table of this table"
        )


def columns(data: bytes) -> dict[str, dict[str, Any]]:
    """What a pickle says of a table's columns; pickles.Unreadable says why it does not."""
    if len(data) > LARGEST:
        raise pickles.Unreadable(f"it has {len(data)} bytes, the most that is read is {LARGEST}")
    found = pickles.read(data, pickles.Plain())
    if type(found) is not dict or not found:
        raise pickles.Unreadable("it is no dict of columns")
    if len(found) > MOST_COLUMNS:
        raise pickles.Unreadable(f"it has {len(found)} columns, the most that a table has is {MOST_COLUMNS}")
    for name, column in found.items():
        if type(name) is not str or not name or len(name) > LONGEST or "\0" in name:
            raise pickles.Unreadable("a column has no name")
        if type(column) is not dict or not {"type", "sql", "sortable"} <= set(column) <= set(KEYS):
            raise pickles.Unreadable(f"column {name[:80]!r} has other keys than {', '.join(KEYS)}")
        for key, value in column.items():
            if type(value) not in KEYS[key] or (type(value) is str and (len(value) > LONGEST or "\0" in value)):
                raise pickles.Unreadable(f"column {name[:80]!r}: {key} is {shown(value)}")
            # The length of a blob is 2147483648.
            if type(value) is int and abs(value) > 1 << 31:
                raise pickles.Unreadable(f"column {name[:80]!r}: {key} is too large")
        if "rname" in column and not NAME.fullmatch(column["rname"]):
            raise pickles.Unreadable(f"column {name[:80]!r}: rname is {column['rname'][:80]!r}, which is no name")
        geometry = column["type"].startswith("geo")
        for key in ("type", "raw_rname"):
            if geometry and not GEOMETRY.fullmatch(column.get(key, name)):
                raise pickles.Unreadable(f"column {name[:80]!r}: {key} is {column.get(key, name)[:80]!r}")
        try:
            f"{name}{''.join(value for value in column.values() if type(value) is str)}".encode()
        except UnicodeEncodeError:
            raise pickles.Unreadable(f"column {name[:80]!r} has text that is no Unicode") from None
    return found


def shown(value: Any) -> str:
    """For a message; the text of a small list can be more than there is memory."""
    if isinstance(value, str):
        return repr(value[:80])
    return repr(value) if isinstance(value, int) and abs(value) < 1 << 64 else f"of type {type(value).__name__}"


class StoredFile(DatabaseStoredFile):
    """A row of web2py_filesystem, which pydal reads and writes as a file."""

    def __init__(self, db: Any, filename: str, mode: str) -> None:
        self.db, self.filename, self.mode = db, filename, mode
        self.p, self.data = 0, b""
        self.try_create_web2py_filesystem(db)
        if mode.startswith("r"):
            self.data = pickle.dumps(self.read_columns())

    def read_columns(self) -> dict[str, dict[str, Any]]:
        """Not more of it than is allowed: a row may have a gigabyte."""
        try:
            rows = self.db.executesql(
                "SELECT octet_length(content), CASE WHEN octet_length(content) <= %s THEN content END "
                "FROM web2py_filesystem WHERE path = %s LIMIT 2",
                (LARGEST, self.filename),
            )
        except Exception as error:
            raise BadRow(self.filename, f"it cannot be read ({type(error).__name__}: {str(error).strip()})") from None
        if len(rows) != 1:
            raise BadRow(self.filename, "it is there more than once" if rows else "it is gone")
        ((size, content),) = rows
        try:
            if size is not None and size > LARGEST:
                raise pickles.Unreadable(f"it has {size} bytes, the most that is read is {LARGEST}")
            if not isinstance(content, (bytes, bytearray, memoryview)):
                raise pickles.Unreadable(f"its content is no bytea, but {type(content).__name__}")
            return columns(bytes(content))
        except pickles.Unreadable as error:
            raise BadRow(self.filename, str(error)) from None

    def close_connection(self) -> None:
        """Write what was written; nothing where it was only read."""
        if self.db is None:
            return
        if self.mode.startswith("a"):
            # The log: added to by the server, and never read here.
            self.db.executesql(
                "UPDATE web2py_filesystem SET content = "
                "CASE WHEN octet_length(content) > %s THEN '' ELSE content END || %s WHERE path = %s",
                (LARGEST_LOG, self.data, self.filename),
            )
            self.db.executesql(
                "INSERT INTO web2py_filesystem (path, content) SELECT %s, %s "
                "WHERE NOT EXISTS (SELECT 1 FROM web2py_filesystem WHERE path = %s)",
                (self.filename, self.data, self.filename),
            )
            self.db.commit()
        elif self.mode.startswith("w"):
            self.db.executesql("DELETE FROM web2py_filesystem WHERE path = %s", (self.filename,))
            self.db.executesql(
                "INSERT INTO web2py_filesystem (path, content) VALUES (%s, %s)", (self.filename, self.data)
            )
            self.db.commit()
        self.db = None


class Migrator(InDBMigrator):
    """Keeps all that pydal opens for an application's tables in their database."""

    def file_exists(self, filename: str) -> bool:
        StoredFile.try_create_web2py_filesystem(self.db)
        return bool(self.db.executesql("SELECT 1 FROM web2py_filesystem WHERE path = %s LIMIT 1", (filename,)))

    def file_open(self, filename: str, mode: str = "rb", lock: bool = True) -> StoredFile:
        return StoredFile(self.db, filename, mode)

    def file_delete(self, filename: str) -> None:
        self.db.executesql("DELETE FROM web2py_filesystem WHERE path = %s", (filename,))
        self.db.commit()
