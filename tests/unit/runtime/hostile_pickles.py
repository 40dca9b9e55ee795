# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Pickles with which somebody who can write into a database attacks the host that reads them.

Those named in RUN make a file MARK where they are unpickled; the others take memory or time, end the process, change
the classes of web2py, or are none. Run as a program, it says what becomes of them: see `outcomes`.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

MARK = "/tmp/web2py-hostile-pickle-ran"
COMMAND = f"touch {MARK}"


def text(value: bytes) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value


def column(**changes: object) -> bytes:
    found = {"type": "string", "sql": "TEXT", "sortable": 1, "rname": '"x"', "raw_rname": "x", **changes}
    return pickle.dumps({"x": found})


def integer(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def of_one_hash(number: int) -> list[bytes]:
    """Pairs of numbers, pickled, whose tuples have the same hash (CPython's tuplehash, a form of xxHash)."""
    one, two, five, mask = 11400714785074694791, 14029467366897019727, 2870177450012600261, (1 << 64) - 1
    back, found = pow(two, -1, 1 << 64), []
    for first in range(1, 1 << 31):
        state = (five + first * two) & mask
        state = ((state << 31 | state >> 33) * one) & mask
        second = (12345 - state) * back & mask
        if second < (1 << 61) - 1:
            found.append(integer(first) + integer(second) + b"\x86")
            if len(found) == number:
                return found
    raise AssertionError


PAIRS = of_one_hash(20_000)
RUN = {
    "REDUCE of os.system": b"cos\nsystem\n" + text(COMMAND.encode()) + b"\x85R.",
    "STACK_GLOBAL of posix.system": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text(COMMAND.encode()) + b"\x85R.",
    "INST of os.system": b"(" + text(COMMAND.encode()) + b"ios\nsystem\n.",
    "OBJ of os.system": b"(cos\nsystem\n" + text(COMMAND.encode()) + b"o.",
    "exec": b"cbuiltins\nexec\n" + text(f"import os; os.system({COMMAND!r})".encode()) + b"\x85R.",
    "below a key": b"}" + text(b"x") + b"cos\nsystem\n" + text(COMMAND.encode()) + b"\x85Rs.",
    "function of marshalled code": (
        b"ctypes\nFunctionType\ncmarshal\nloads\n"
        + (lambda code: b"B" + len(code).to_bytes(4, "little") + code)(
            __import__("marshal").dumps(compile(f"import os; os.system({COMMAND!r})", "x", "exec"))
        )
        + b"\x85R}\x86R)R."
    ),
    "NEWOBJ of a class with a state that calls": (
        b"cfunctools\npartial\n" + b"cos\nsystem\n" + text(COMMAND.encode()) + b"\x86\x81)R."
    ),
}
OTHERS = {
    "EXT1": b"\x80\x02\x82\x01.",
    "EXT4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "persistent id": b"P1\n.",
    "persistent id of a value": b"K\x01Q.",
    "state of a class": (
        b"cgluon.storage\nStorage\n" + b"N}" + text(b"__contains__") + b"cgluon.storage\nStorage\ns\x86b0}."
    ),
    "marshal of a tuple of 2 thousand million": (
        b"cpydal.helpers.classes\nReference_unpickler\nC\x05(\xff\xff\xff\x7f\x85R0}."
    ),
    "marshal of something else than a number": (
        b"}" + text(b"x") + b"cpydal.helpers.classes\nReference_unpickler\nC\x02[\x00\x85Rs."
    ),
    "memo of 2 thousand million": b"\x80\x04}r\xff\xff\xff\x7f.",
    "bytearray of 1.5 GiB": b"}" + text(b"x") + b"cbuiltins\nbytearray\nJ\x00\x00\x00\x60\x85Rs.",
    "integer of a decimal with a thousand million digits": (
        b"}" + text(b"x") + b"cbuiltins\nint\ncdecimal\nDecimal\n" + text(b"1E+999999999") + b"\x85R\x85Rs."
    ),
    "copies of a list": (
        b"}" + text(b"x") + b"](" + b"N" * 50_000 + b"eq\x010](" + b"cbuiltins\nlist\nh\x01\x85R" * 20_000 + b"es."
    ),
    "key that is hashed for ever": b"}" + b")" + b"2\x86" * 70 + b"Ns.",
    "tuples of one hash": b"}(" + b"N".join(PAIRS) + b"Nu.",
    "tuples of one hash in a set": b"}" + text(b"x") + b"\x8f(" + b"".join(PAIRS) + b"\x90s.",
    "tuples of one hash in several sets": (
        b"}" + text(b"x") + b"](](" + b"".join(PAIRS) + b"eq\xff" + b"cbuiltins\nset\nh\xff\x85R" * 8 + b"es."
    ),
    "decimals of one hash": (
        b"}"
        + text(b"x")
        + b"\x8f("
        + b"".join(b"cdecimal\nDecimal\n" + text(b"%d" % (1 + k * ((1 << 61) - 1))) + b"\x85R" for k in range(5000))
        + b"\x90s."
    ),
    "a list in place of a text": pickle.dumps({"x": {"type": "string", "sql": "TEXT", "sortable": 1}})[:-2]
    + (text(b"rname") + b"]" + b"2\x86" * 60 + b"su."),
    "levels without end": b"}" + text(b"x") + b"]" * 60_000 + b"a" * 59_999 + b"s.",
    "operations without end": b"}" + text(b"x") + b"](" + b"]" * 300_000 + b"es.",
    "integer of 2 MB": b"}" + text(b"x") + b"\x8b" + (2 << 20).to_bytes(4, "little") + b"\x7f" * (2 << 20) + b"s.",
    "3 million bytes": b"}" + text(b"x") + text(b"y" * (5 << 20)) + b"s.",
    "other type": b"]K\x01a.",
    "invalid UTF-8": b"}" + text(b"\xff\xfe") + b"Ns.",
    "nothing": b"",
    "half": pickle.dumps({"x": "y"})[:-5],
    "more than one": pickle.dumps({}) + pickle.dumps({}),
    "text": b"no pickle at all",
}
# What only a table's columns may not be.
COLUMNS = {
    "no column": pickle.dumps({"x": "TEXT"}),
    "column of a list": pickle.dumps({"x": ["TEXT"]}),
    "keys that a column has not": column(drop="note"),
    "number as type": column(type=1),
    "statement as name": column(rname='"x"; DROP TABLE note; --'),
    "statement as geometry": column(type="geometry('); DROP TABLE note; --,4326,2)"),
    "statement as name of a geometry": column(type="geometry(public,4326,2)", raw_rname="x'); DROP TABLE note; --"),
    "NUL": column(rname='"x\0"'),
    "lone surrogate": column(sql="\udc80"),
    "too many columns": pickle.dumps({f"x{n}": {"type": "string", "sql": "TEXT", "sortable": n} for n in range(1700)}),
    "long name": pickle.dumps({"x" * 5000: {"type": "string", "sql": "TEXT", "sortable": 1}}),
    "number as name": pickle.dumps({1: {"type": "string", "sql": "TEXT", "sortable": 1}}),
    "large number": column(sortable=1 << 40),
}

# Readers: those of this collection, and what they take the place of.
TABLE, SESSION, PYDALS, WEB2PYS = "table", "session", "table, by pydal", "session, by web2py"


def outcomes(reader: str, path: str, names: Iterable[str]) -> dict[str, str]:
    """What a process with a gigabyte of memory and ten seconds makes of each: refused and why, or something else."""
    done = subprocess.run(
        [sys.executable, __file__, reader, *names],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return dict(json.loads(line) for line in done.stdout.splitlines())


def main() -> None:
    import gluon.globals
    import gluon.storage  # noqa: F401

    reader, *names = sys.argv[1:]
    read, refusals = reader_of(reader)
    for name in names:
        Path(MARK).unlink(missing_ok=True)
        # Each in a process of its own, which may end as it likes.
        receiving, sending = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(sending, outcome(read, refusals, {**RUN, **OTHERS, **COLUMNS}[name]).encode()[:4000])
            os._exit(0)
        os.close(sending)
        with open(receiving, encoding="utf-8", errors="replace") as file:
            said = file.read()
        status = os.waitpid(child, 0)[1]
        if Path(MARK).exists():
            said = "ran"
        print(json.dumps([name, said or f"ended with {os.waitstatus_to_exitcode(status)}"]), flush=True)


def outcome(read: Callable[[bytes], object], refusals: tuple[type[Exception], ...], data: bytes) -> str:
    from gluon.storage import Storage

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (10, 10))
    try:
        said = f"read {type(read(data)).__name__}"
    except refusals as error:
        said = f"refused: {error}"
    except BaseException as error:
        said = f"failed with {type(error).__name__}: {str(error)[:100]}"
    if Storage.__contains__ is not dict.__contains__:
        return "changed a class of web2py"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 400 << 10:
        return "took more than 400 MB"
    return said


def reader_of(name: str) -> tuple[Callable[[bytes], object], tuple[type[Exception], ...]]:
    # What gluon.globals.Session.connect takes for the end of a session.
    web2pys = (pickle.UnpicklingError, EOFError, ValueError, AttributeError, ImportError)
    if name == PYDALS:
        return pickle.loads, ()
    if name == WEB2PYS:
        from gluon.restricted import safe_loads

        classes = {
            "gluon.globals": ["Session"],
            "gluon.storage": ["List", "Messages", "Storage"],
            "pydal.helpers.classes": ["Reference", "Reference_unpickler"],
            "copyreg": ["_reconstructor"],
        }
        return lambda data: pickle.dumps(safe_loads(data, classes)), web2pys
    import web2py_runtime

    web2py_runtime.__path__.append(str(Path(__file__).resolve().parents[3] / "plugins" / "module_utils"))
    if name == TABLE:
        from web2py_runtime import migrator, pickles

        return migrator.columns, (pickles.Unreadable,)
    from web2py_runtime import stored_sessions

    return stored_sessions.loads, (pickle.UnpicklingError,)


if __name__ == "__main__":
    main()
