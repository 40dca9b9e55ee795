# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A ticket: web2py's report of one exception, and what is read of it.

It is a pickle (gluon/restricted.py), and pickles can run code. So what reads it is no unpickler (pickles.py). This
package runs in the modules of the collection and, as `web2py_runtime.tickets`, on the web hosts; it needs the standard
library and psycopg2 only.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import pickles

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


class NotATicket(Exception):
    """This file is no ticket, or none yet. The text says why."""


class XML(str):
    """The one object in tickets: gluon.html.XML, of which only the text counts."""

    def __reduce__(self) -> tuple[Callable[[str], Any], tuple[str]]:
        return XML_unpickle, (str(self),)


def XML_unpickle(data: str | bytes) -> XML:
    """Release 3.3.3 writes the text with marshal, later versions as it is."""
    return XML(data if isinstance(data, str) else pickles.marshalled_text(data))


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
