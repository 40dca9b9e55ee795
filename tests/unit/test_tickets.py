# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tickets: what is read of a pickle and what is not, which errors are the same, and what a database gets (SQLite)."""

from __future__ import annotations

import contextlib
import datetime
import errno
import json
import os
import pickle
import re
import sqlite3
import time
import uuid
from collections import Counter

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils.tickets import collect as collector
from ansible_collections.web2py.deployment.plugins.module_utils.tickets import report as reports
from ansible_collections.web2py.deployment.plugins.module_utils.tickets import storage, ticket
from ansible_collections.web2py.deployment.plugins.plugin_utils import ticket_report
from hypothesis import given
from hypothesis import strategies as st

# What web2py puts into tickets, and all that the reader knows.
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(st.characters())
)
VALUES = st.recursive(
    SCALARS | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers(1 - 2**31, 2**31 - 1), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(VALUES, st.integers(2, 5))
def test_a_pickle_of_plain_values_is_read_as_pickle_reads_it(value, protocol):
    if (protocol == 2 and b"\nbytes\n" in pickle.dumps(value, 2)) or b"_codecs" in pickle.dumps(value, 2):
        # Bytes, which this protocol makes of a text by a function.
        return
    assert ticket.read_pickle(pickle.dumps(value, protocol)) == value


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))
def test_also_of_the_oldest_protocol(value):
    assert ticket.read_pickle(pickle.dumps(value, 0)) == value


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_or_plain_values(data):
    with contextlib.suppress(ticket.NotATicket):
        ticket.read_pickle(data)


@given(VALUES, st.data())
def test_a_cut_pickle_is_none(value, data):
    whole = pickle.dumps(value, 4)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ticket.NotATicket):
        ticket.read_pickle(whole[:cut])


@pytest.mark.parametrize("text", ["", "text", "grün ☃", "x" * 70000])
def test_an_xml_helper_is_its_text_in_the_form_of_every_release(text):
    import marshal

    for content in (text, marshal.dumps(text)):
        data = b"\x80\x04\x8c\x0agluon.html\x8c\x0cXML_unpickle\x93" + pickle.dumps(content, 4)[2:-1] + b"\x85R."
        found = ticket.read_pickle(data)
        assert (type(found), found) == (ticket.XML, text)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"cos\nsystem\n(Vtrue\ntR.", "names os.system"),
        (b"cgluon.html\nA\n.", "names gluon.html.A"),
        (b"\x80\x04Nr\xff\xff\xff\xffN.", "leaves something over"),
        (b"\x80\x09N.", "protocol 9"),
        (b"N.N.", "goes on after its end"),
        (b"\x81.", "takes more than it has"),
        (b"\x82\x01.", "operation 0x82"),
        (b"\x96" + b"\xff" * 8 + b".", "ends in the middle"),
        (b"\x80\x04})Ns.", "other keys"),
        (b"R.", "takes more than it has"),
    ],
)
def test_what_is_refused_has_a_reason(data, said):
    with pytest.raises(ticket.NotATicket, match=said):
        ticket.read_pickle(data)


ORDINARY = {"layer": "l", "code": "c", "output": "o", "traceback": "t"}


def ticket_with(snapshot: bytes) -> bytes:
    """A ticket that is whole but for the operations that make its snapshot."""
    return pickle.dumps(ORDINARY, 2)[:-1] + b"X\x08\0\0\0snapshot" + snapshot + b"s."


XML_CALL = b"cgluon.html\nXML_unpickle\n"


@pytest.mark.parametrize(
    ("snapshot", "said"),
    [
        (b"}X\x01\0\0\0x](as", "takes more than it has"),
        (b"}X\x01\0\0\0x" + XML_CALL + b"s", "part of its operations"),
        (b"}" + b"G" + b"\x3f" * 8 + b"Ns", "other keys"),
        (b"}\x8a\x05\0\0\0\x80\0Ns", "other keys"),
        (b"}C\x01xNs", "other keys"),
        (b"}X\x01\0\0\0x" + b"](" + b"]" * 200_000 + b"es", "200000 operations"),
        (
            b"}X\x01\0\0\0x" + XML_CALL + b"q\x64X\x10\x27\0\0" + b"x" * 10_000 + b"q\x65\x85R0]("
            b"" + b"h\x64h\x65\x85R" * 3000 + b"es",
            "more text than there is in the file",
        ),
        (
            b"}X\x01\0\0\0xX\x20\x4e\0\0" + "ü".encode() * 10_000 + b"q\x650](" + b"h\x65" * 3000 + b"es",
            "characters",
        ),
        (b"}X\x01\0\0\0x" + b"]" * 5000 + b"a" * 4999 + b"s", "too many levels"),
        (b"}X\x01\0\0\0xN" + b"\x85" * 5000 + b"s", "too many levels"),
        (b"}X\x01\0\0\0xX\x00\x00\x10\x00" + b"\0" * (1 << 20) + b"s", "as text it would have 6"),
    ],
)
def test_a_ticket_that_is_one_but_for_its_snapshot_is_refused(snapshot, said):
    assert ticket.parse(name(), ticket_with(b"}X\x01\0\0\0x" + XML_CALL + b"X\x01\0\0\0y\x85Rs"), "shop", "www1", 0)
    with pytest.raises(ticket.NotATicket, match=said):
        ticket.parse(name(), ticket_with(snapshot), "shop", "www1", 0)


def test_numbers_that_share_one_hash_take_no_time():
    keys = b"".join(b"\x8a\x0b" + (number * (2**61 - 1)).to_bytes(11, "little") + b"N" for number in range(1, 60_000))
    started = time.process_time()
    with pytest.raises(ticket.NotATicket, match="other keys"):
        ticket.parse(name(), ticket_with(b"}(" + keys + b"u"), "shop", "www1", 0)
    assert time.process_time() - started < 2


def test_the_ticket_of_an_endless_recursion_is_one():
    """Such as web2py makes: a thousand frames, each with ten lines of code and its variables."""
    frames = [
        {
            "file": f"{HERE} "[:-1],
            "func": "endless",
            "call": f"({number}, text={'x' * 30})",
            "lnum": 7,
            "lines": {line: f"    some_variable = some_function({number}, {line})" for line in range(2, 12)},
            "dump": {"text": f"'{'x' * 30}{number}'", "number": str(number), "other": f"[{number}]"},
        }
        for number in range(1000)
    ]
    content = pickle.dumps({**report(), "snapshot": {"frames": frames}})
    assert len(content) > 600_000
    assert ticket.parse(name(), content, "shop", "www1", 0).data.count("some_function") == 10_000


@pytest.mark.parametrize(
    "content", ["a" * 1_500_000, "\0" * 1_000_000, "☃" * 450_000, "\N{GRINNING FACE}" + "\0" * 1_000_000]
)
@pytest.mark.parametrize("place", ["traceback", "snapshot"])
def test_the_largest_texts_take_little_memory(content, place):
    import tracemalloc

    data = pickle.dumps({**report(), place: content if place == "traceback" else {"x": content}})
    assert len(data) <= ticket.LARGEST
    tracemalloc.start()
    try:
        with contextlib.suppress(ticket.NotATicket):
            ticket.parse(name(), data, "shop", "www1", 0)
        assert tracemalloc.get_traced_memory()[1] < 45 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("written", [253402300800, 1e18, -1e18, float(2**62)])
def test_a_time_that_no_calendar_has_is_none(written):
    with pytest.raises(ticket.NotATicket, match="year"):
        ticket.parse(name(), pickle.dumps(report()), "shop", "www1", written)


def test_a_name_fits_into_its_column():
    longest = "x" * 43 + name()[len("2001_db8__1") :]
    assert len(longest) == 100 and ticket.NAME.fullmatch(longest)
    assert not ticket.NAME.fullmatch("x" + longest)
    assert not ticket.NAME.fullmatch("ä" + longest[1:])


def test_one_value_in_many_places_is_not_written_out():
    value: list = []
    for _ in range(30):
        value = [value] * 10
    data = pickle.dumps({**report(), "snapshot": {"x": value}})
    started = time.monotonic()
    with pytest.raises(ticket.NotATicket, match="100000 values"):
        ticket.parse(name(), data, "shop", "www1", 0)
    assert time.monotonic() - started < 5


@given(st.text(st.characters()), st.text(st.characters()))
def test_what_is_written_is_read_by_admin(text, key):
    """By a restricted unpickler that knows nothing but gluon.html.XML_unpickle, from a text without NUL."""

    class Admins(pickle.Unpickler):
        def find_class(self, module, called):
            assert (module, called) == ("gluon.html", "XML_unpickle")
            return lambda data: ["XML", data]

    import io

    found = ticket.write_pickle({**report(), "snapshot": {key: ticket.XML(text), "bytes": b"\xff\0", "text": text}})
    assert "\0" not in found
    found.encode()
    read = Admins(io.BytesIO(found.encode("latin-1"))).load()
    escaped = text.encode("utf-8", "backslashreplace").decode()
    assert read["snapshot"]["text"] == escaped
    assert ["XML", escaped] in read["snapshot"].values() or key in ("bytes", "text")


# What is the same


def frame(path: str, line: int, function: str = "index", code: str = "") -> str:
    return f'  File "{path}", line {line}, in {function}\n' + (f"    {code}\n" if code else "")


def traceback(*frames: str, end: str = "ValueError: no") -> str:
    return "Traceback (most recent call last):\n" + "".join(frames) + end + "\n"


HERE = "/var/lib/web2py/applications/shop/controllers/default.py"
SAME = traceback(frame("/opt/web2py/a/gluon/restricted.py", 3), frame(HERE, 7, code="int(x)"))


def print_of(text: str, layer: str = "controllers/default.py") -> str:
    return ticket.fingerprint(ticket.exception_of(text)[0], text, layer, "shop")


@pytest.mark.parametrize(
    "other",
    [
        SAME.replace("ValueError: no", "ValueError: invalid literal 0x7f12 at 12:31"),
        SAME.replace("line 7", "line 9"),
        SAME.replace("/opt/web2py/a/", "/opt/web2py/b/").replace("line 3", "line 5"),
        SAME.replace("/var/lib/web2py/applications/shop/", "/opt/web2py/applications/shop/0123456789ab/"),
        SAME.replace("    int(x)\n", "    int(x)\n    ~~~^^^\n"),
        SAME.replace(f'  File "{HERE}"', f'{frame(HERE, 99, "<module>")}  File "{HERE}"'),
    ],
    ids=["message", "line", "release of web2py", "release of the application", "marks of Python", "web2py's own line"],
)
def test_the_same_error_elsewhere_and_later_is_the_same(other):
    assert other != SAME and print_of(other) == print_of(SAME)


@pytest.mark.parametrize(
    "other",
    [
        SAME.replace("ValueError", "KeyError"),
        SAME.replace("int(x)", "int(y)"),
        SAME.replace("controllers/default.py", "controllers/other.py"),
        SAME.replace("in index\n    int", "in other\n    int"),
    ],
)
def test_another_error_is_another(other):
    assert print_of(other) != print_of(SAME)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SAME, ("ValueError", "no")),
        (traceback(frame(HERE, 1), end="KeyError"), ("KeyError", "")),
        (traceback(frame(HERE, 1), end="a.b.Problem: two\nlines: of it"), ("a.b.Problem", "two\nlines: of it")),
        (traceback(frame(HERE, 1), end="something: else"), ("something", "else")),
        (traceback(frame(HERE, 1), end="no exception at all"), ("", "no exception at all")),
        (SAME + "\nDuring handling\n\n" + traceback(frame(HERE, 2), end="OSError: last"), ("OSError", "last")),
        ("", ("", "")),
        ("(no error)", ("", "(no error)")),
    ],
)
def test_type_and_message_of_the_last_exception(text, found):
    assert ticket.exception_of(text) == found


@given(st.text())
def test_any_text_has_a_fingerprint(text):
    ticket.exception_of(text)
    assert len(print_of(text)) == 16


# Folders and databases


def report(text: str = SAME) -> dict:
    return {"layer": HERE, "code": "code", "output": "output", "traceback": text, "snapshot": {"a": "b"}}


def name() -> str:
    return f"2001_db8__1.2026-11-24.10-00-00.{uuid.uuid4()}"


@pytest.fixture
def folder(tmp_path):
    errors = tmp_path / "errors"
    errors.mkdir()
    return errors


@pytest.fixture
def database(tmp_path):
    with storage.connect({"sqlite": str(tmp_path / "tickets.sqlite")}) as found:
        yield found


def put(folder, text: str = SAME, **changes) -> str:
    file = folder / name()
    file.write_bytes(pickle.dumps({**report(text), **changes}))
    return file.name


def rows(database, statement: str) -> list:
    return database.connection.execute(statement).fetchall()


def put_aside(folder, content: bytes):
    """A file that nobody writes any more."""
    file = folder / name()
    file.write_bytes(content)
    os.utime(file, (1, 1))
    return file


def collect(folder, database, **options) -> Counter:
    return collector.collect(str(folder), "shop", database, server="www1", **options)


def test_tickets_are_rows_of_both_tables_and_their_files_are_gone(folder, database):
    names = sorted(put(folder) for _ in range(3))
    os.utime(folder / names[0], (1000, 1000.5))
    assert collect(folder, database) == {"collected": 3}
    assert list(folder.iterdir()) == []
    assert sorted(row[0] for row in rows(database, "SELECT ticket_id FROM ticket")) == names
    assert sorted(row[0] for row in rows(database, "SELECT ticket_id FROM web2py_ticket_shop")) == names
    [(created, client, layer, kind, message, server)] = rows(
        database,
        f"SELECT created, client, layer, error_type, message, server FROM ticket WHERE ticket_id = '{names[0]}'",
    )
    assert datetime.datetime.fromisoformat(created).timestamp() == 1000.5
    assert (client, layer, kind, message, server) == (
        "2001:db8::1",
        "controllers/default.py",
        "ValueError",
        "no",
        "www1",
    )


def test_what_a_killed_collector_left_is_one_row(folder, database):
    put(folder)
    content = {file.name: file.read_bytes() for file in folder.iterdir()}
    collect(folder, database)
    for called, data in content.items():
        (folder / called).write_bytes(data)
    assert collect(folder, database) == {"already there": 1}
    assert (
        rows(database, "SELECT count(*) FROM ticket")
        == rows(database, "SELECT count(*) FROM web2py_ticket_shop")
        == [(1,)]
    )
    assert list(folder.iterdir()) == []


def test_an_error_of_the_database_leaves_every_file_and_no_row(folder, database):
    database.prepare("shop")
    database.connection.execute(
        "CREATE TRIGGER no BEFORE INSERT ON web2py_ticket_shop BEGIN SELECT raise(ABORT, 'no'); END"
    )
    put(folder)
    with pytest.raises(sqlite3.Error):
        collect(folder, database)
    assert len(list(folder.iterdir())) == 1
    assert rows(database, "SELECT count(*) FROM ticket") == [(0,)]


def test_duplicates_may_be_counted_only(folder, database):
    for _ in range(3):
        put(folder)
    put(folder, SAME.replace("ValueError", "KeyError"))
    assert collect(folder, database, count_only=True) == {"collected": 4}
    put(folder)
    assert collect(folder, database, count_only=True) == {"collected": 1}
    assert rows(database, "SELECT count(*), count(traceback), count(code) FROM ticket") == [(5, 2, 2)]
    assert rows(database, "SELECT count(*) FROM web2py_ticket_shop") == [(2,)]


def test_where_the_whole_one_was_deleted_another_is_kept(folder, database):
    put(folder)
    collect(folder, database, count_only=True)
    put(folder)
    collect(folder, database, count_only=True)
    database.connection.execute("DELETE FROM ticket WHERE traceback IS NOT NULL")
    put(folder)
    assert collect(folder, database, count_only=True) == {"collected": 1}
    assert rows(database, "SELECT count(*), count(traceback) FROM ticket") == [(2, 1)]


def test_check_mode_says_the_same_and_changes_nothing(folder, database):
    put(folder)
    put_aside(folder, b"cos\nsystem\n(tR.")
    before = sorted(folder.iterdir())
    assert collect(folder, database, check=True) == {"collected": 1, "quarantined": 1}
    assert sorted(folder.iterdir()) == before
    assert rows(database, "SELECT name FROM sqlite_master") == []
    assert collect(folder, database) == {"collected": 1, "quarantined": 1}


def test_what_is_no_ticket_goes_aside_with_the_reason_or_stays(folder, database):
    whole, odd, other = pickle.dumps(report()), put_aside(folder, b"N."), folder / name()
    (folder / "README").write_text("mine")
    other.write_bytes(whole[:-20])
    assert collect(folder, database) == {"quarantined": 1, "left": 2}
    aside = folder / "quarantine"
    assert (aside / f"{odd.name}.reason").read_text() == "NotATicket: the pickle of something else than a ticket\n"
    os.utime(other, (1, 1))
    assert collect(folder, database) == {"quarantined": 1, "left": 1}
    assert (aside / f"{other.name}.quarantined").read_bytes() == whole[:-20]
    assert rows(database, "SELECT count(*) FROM ticket") == [(0,)]


def test_a_quarantine_that_is_a_link_is_not_followed(folder, database, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (folder / "quarantine").symlink_to(tmp_path / "elsewhere")
    put_aside(folder, b"N.")
    with pytest.raises(OSError, match="quarantine"):
        collect(folder, database)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_admin_reads_nothing_that_is_in_quarantine(folder, database):
    """Its page of errors walks through folders below `errors`, and takes what has such a name."""
    odd = folder / f"192.0.2.1.2026-11-24.10-00-00.{uuid.uuid4()}"
    odd.write_bytes(pickle.dumps(["layer"]))
    os.utime(odd, (1, 1))
    assert re.match(r"^[a-fA-F0-9.\-]+$", odd.name)
    collect(folder, database)
    found = [file.name for file in (folder / "quarantine").iterdir()]
    assert len(found) == 2 and not any(re.match(r"^[a-fA-F0-9.\-]+$", called) for called in found)


def test_what_is_in_the_way_in_quarantine_stops_nobody(folder, database, monkeypatch):
    aside = folder / "quarantine"
    aside.mkdir()
    blocked, piped, full = (put_aside(folder, b"N.") for _ in range(3))
    (aside / f"{blocked.name}.quarantined").mkdir()
    os.mkfifo(aside / f"{piped.name}.reason")
    write_reason = collector.write_reason

    def on_a_full_disk(quarantine, called, error):
        if called == full.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_reason(quarantine, called, error)

    monkeypatch.setattr(collector, "write_reason", on_a_full_disk)
    put(folder)
    assert collect(folder, database) == {"collected": 1, "left": 2, "quarantined": 1}
    assert sorted(file.name for file in aside.iterdir()) == sorted(
        [f"{blocked.name}.quarantined", f"{piped.name}.reason", f"{piped.name}.quarantined"]
    )


def test_a_reason_is_a_new_file(folder):
    quarantine = os.open(folder, os.O_RDONLY)
    os.symlink("/dev/full", folder / "full.reason")
    try:
        with pytest.raises(FileExistsError):
            collector.write_reason(quarantine, "full", ValueError("x"))
        assert collector.write_reason(quarantine, "other", ValueError("x\ud800")) == "other.reason"
    finally:
        os.close(quarantine)
    assert (folder / "other.reason").read_text() == "ValueError: x\\ud800\n"


@pytest.mark.parametrize("trouble", [errno.EMFILE, errno.EIO, errno.ESTALE, errno.ENOMEM])
def test_trouble_of_the_host_sets_no_ticket_aside(folder, database, monkeypatch, trouble):
    file = put_aside(folder, pickle.dumps(report()))
    opened = os.open

    def open_(path, *arguments, **options):
        if path == file.name:
            raise OSError(trouble, os.strerror(trouble))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", open_)
    assert collect(folder, database) == {"left": 1}
    monkeypatch.undo()
    monkeypatch.setattr(ticket, "read_pickle", lambda _content: (_ for _ in ()).throw(MemoryError))
    assert collect(folder, database) == {"left": 1}
    monkeypatch.undo()
    assert collect(folder, database) == {"collected": 1}


def test_one_that_the_database_refuses_does_not_keep_the_others_out(folder, database):
    database.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 20_000)
    put(folder)
    put(folder)
    refused = put_aside(folder, pickle.dumps({**report(), "code": "x" * 30_000}))
    assert collect(folder, database) == {"collected": 2, "quarantined": 1}
    assert (folder / "quarantine" / f"{refused.name}.reason").read_text().startswith("DataError: ")
    assert rows(database, "SELECT count(*) FROM ticket") == [(2,)]


def test_a_file_of_the_far_future_does_not_stay_for_ever(folder, database):
    file = folder / name()
    file.write_bytes(pickle.dumps(report()))
    os.utime(file, (2**33, 2**33))
    assert collect(folder, database) == {"collected": 1}
    file.write_bytes(b"N.")
    os.utime(file, (2**33, 2**33))
    assert collect(folder, database) == {"quarantined": 1}


def application_with(database: dict, folder) -> storage.Application:
    return storage.Application("shop", str(folder), database, False)


@pytest.mark.parametrize("there", [{"sqlite": "new.sqlite"}, {"host": "no.such.host.invalid"}])
def test_check_mode_asks_no_database(folder, tmp_path, monkeypatch, there):
    monkeypatch.chdir(tmp_path)
    put(folder)
    assert collector.collect_all([application_with(there, folder)], check=True) == ({"shop": {"collected": 1}}, {})
    assert not (tmp_path / "new.sqlite").exists()


def test_who_reads_makes_neither_a_file_nor_a_table(tmp_path, folder):
    path = tmp_path / "tickets.sqlite"
    with storage.connect({"sqlite": str(path)}, reading=True) as database:
        assert reports.summary(database)["total"] == 0
    assert not path.exists()
    with storage.connect({"sqlite": str(path)}) as database:
        assert reports.summary(database)["problems"] == []
        assert rows(database, "SELECT name FROM sqlite_master") == []
        put(folder)
        collect(folder, database)
    with storage.connect({"sqlite": str(path)}, reading=True) as database:
        assert reports.summary(database)["total"] == 1


def test_what_comes_while_a_report_is_read_is_not_in_it(folder, tmp_path, monkeypatch):
    path = str(tmp_path / "tickets.sqlite")
    put(folder)
    with storage.connect({"sqlite": path}) as database, storage.connect({"sqlite": path}) as other:
        collect(folder, database)
        columns = database.columns

        def and_meanwhile(cursor):
            found = columns(cursor)
            put(folder, SAME.replace("ValueError", "KeyError"))
            collect(folder, other)
            return found

        monkeypatch.setattr(database, "columns", and_meanwhile)
        found = reports.summary(database)
        monkeypatch.undo()
        assert (found["total"], len(found["problems"]), len(found["timeline"])) == (1, 1, 1)
        assert reports.summary(database)["total"] == 2


def test_nobody_waits_for_tables_that_are_there(folder, tmp_path):
    path = str(tmp_path / "tickets.sqlite")
    with storage.connect({"sqlite": path}) as database, storage.connect({"sqlite": path}) as other:
        database.prepare("shop")
        other.connection.execute("PRAGMA busy_timeout = 0")
        with database.transaction("tickets of shop"):
            other.prepare("shop")
            assert reports.summary(other)["total"] == 0


def test_failures_have_the_name_of_their_host():
    found = ticket_report.outcomes(
        {
            "www1": {"applications": {"shop": {"quarantined": 2}}, "errors": {"wiki": "away"}},
            "www2": {"applications": {"shop": {"quarantined": 1}}, "errors": {"wiki": "full"}},
            "www3": {"applications": {"shop": {"collected": 1}}, "errors": {}},
            "www4": {"unreachable": True, "msg": "no route"},
            "www5": {},
        }
    )
    assert found["quarantined"] == {"shop": 3}
    assert [tuple(one.values()) for one in found["failed"]] == [
        ("www1", "wiki", "away"),
        ("www2", "wiki", "full"),
        ("www4", "", "no route"),
        ("www5", "", "the host was not reached"),
    ]


def test_the_report_counts_what_is_there(folder, database):
    for _ in range(3):
        put(folder)
    collect(folder, database)
    put(folder, SAME.replace("ValueError: no", "KeyError: '<b>'"))
    collector.collect(str(folder), "shop", database, server="www2")
    found = reports.summary(database)
    assert (found["total"], found["applications"], found["servers"]) == (4, {"shop": 4}, {"www1": 3, "www2": 1})
    assert sorted((problem["error_type"], problem["count"]) for problem in found["problems"]) == [
        ("KeyError", 1),
        ("ValueError", 3),
    ]
    assert sum(bucket["count"] for bucket in found["timeline"]) == 4
    assert {bucket["time"][13:] for bucket in found["timeline"]} == {":00:00+00:00"}
    tomorrow = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    assert reports.summary(database, since=tomorrow)["total"] == 0
    assert reports.summary(database, ["intranet"])["problems"] == []


@pytest.mark.parametrize("wrong", ["a; DROP TABLE ticket", 'a"b', "", "ä"])
def test_a_name_that_no_application_has_makes_no_table(database, wrong):
    with pytest.raises(ValueError, match="application"):
        database.prepare(wrong)


# Rows and files that no collector has written


ROW = dict(
    zip(
        storage.COLUMNS,
        ("evil", "1", "www9", "c", "2026-11-24 08:00:00+00:00", "l", "E", "m", "t", "c", "f"),
        strict=True,
    )
)
HOSTILE = {
    "infinity": {"created": "infinity"},
    "before Christ": {"created": "0044-03-15 BC"},
    "the year 0": {"created": "0000-00-00 00:00:00"},
    "the 31st of February": {"created": "2026-02-31 08:00:00+00:00"},
    "the year 10000": {"created": "10000-01-01 08:00:00+00:00"},
    "number as time": {"created": 5},
    "text as time": {"created": "now"},
    "time without end": {"created": "2026-11-24 08:00:00" + "0" * 1000},
    "bytes as time": {"created": b"2026-11-24 08:00:00+00:00"},
    "bytes as application": {"application": b"\xff\0"},
    "long application": {"application": "x" * 100_000},
    "long server": {"server": "x" * 1000},
    "huge message": {"message": "x" * (13 << 20)},
    "no fingerprint": {"fingerprint": ""},
}


def insert(database, **changes) -> None:
    marks = ", ".join("?" * len(ROW))
    database.connection.execute(f"INSERT INTO ticket VALUES ({marks})", list({**ROW, **changes}.values()))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_row_that_no_collector_has_written_is_left_out_and_named(folder, database, name):
    put(folder)
    collect(folder, database)
    insert(database, **HOSTILE[name])
    found = reports.summary(database)
    assert (found["total"], found["applications"], len(found["timeline"])) == (1, {"shop": 1}, 1)
    (left_out,) = found["left_out"]
    assert left_out["tickets"] == 1 and "no ticket has" in left_out["reason"] and len(str(left_out)) < 200
    assert ticket_report_of(found)


def ticket_report_of(found) -> str:
    page = ticket_report.html(json.loads(json.dumps({**found, "generated": found["since"] or ""})))
    assert ("left out" in page) is bool(found["left_out"])
    return page


def test_texts_that_are_no_utf8_and_have_nul_are_shown(folder, database):
    database.prepare("shop")
    insert(database)
    database.connection.execute(
        "UPDATE ticket SET message = CAST(X'61FF62' AS text), traceback = CAST(X'610062' AS text)"
    )
    found = reports.summary(database)
    assert found["total"] == 1 and found["problems"][0]["message"] == "a\ufffdb"
    assert ticket_report_of(found)


@pytest.mark.parametrize(
    ("change", "total"),
    [
        (["ALTER TABLE ticket RENAME TO other", "CREATE VIEW ticket AS SELECT * FROM other"], 1),
        (["ALTER TABLE ticket RENAME COLUMN message TO more"], 1),
        (["ALTER TABLE ticket RENAME COLUMN created TO since"], 0),
        (["DROP TABLE ticket", "CREATE TABLE ticket (x)", "INSERT INTO ticket VALUES (1)"], 0),
    ],
)
def test_another_table_is_read_row_by_row_as_far_as_it_goes(folder, database, change, total):
    put(folder)
    collect(folder, database)
    for statement in change:
        database.connection.execute(statement)
    found = reports.summary(database)
    assert found["total"] == total
    assert "not as the collector made it" in found["left_out"][0]["reason"] + found["left_out"][-1]["reason"]
    assert ticket_report_of(found)


def test_a_view_without_end_is_ended(folder, database, tmp_path, monkeypatch):
    database.prepare("shop")
    database.connection.execute("DROP TABLE ticket")
    columns = ", ".join(f"'x' AS {column}" for column in storage.COLUMNS)
    database.connection.execute(
        f"CREATE VIEW ticket AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
        f"SELECT {columns} FROM n WHERE x < 0"
    )
    monkeypatch.setattr(storage, "LONGEST_QUERY", 0.5)
    path = str(tmp_path / "tickets.sqlite")
    with storage.connect({"sqlite": path}, reading=True) as reading, pytest.raises(Exception, match="interrupted"):
        reports.summary(reading)


def test_a_report_has_an_end(folder, database, monkeypatch):
    monkeypatch.setattr(reports, "MOST_PROBLEMS", 5)
    database.prepare("shop")
    for number in range(20):
        insert(database, ticket_id=str(number), fingerprint=f"f{number}", created=f"2026-11-24 08:00:{number:02}+00:00")
    found = reports.summary(database)
    assert found["total"] == 5 and {one["fingerprint"] for one in found["problems"]} == {f"f{n}" for n in range(15, 20)}
    assert found["left_out"] == [{"application": "evil", "tickets": 15, "reason": "a report has at most 5 problems"}]


@pytest.mark.parametrize("kind", ["fifo", "link", "hard link", "folder", "corrupt", "empty", "wal"])
@pytest.mark.parametrize("reading", [True, False])
def test_a_file_that_is_no_database_is_an_error_at_once(tmp_path, kind, reading):
    path, other = tmp_path / "tickets.sqlite", tmp_path / "other.sqlite"
    with storage.connect({"sqlite": str(other)}) as database:
        database.prepare("shop")
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(other)
    elif kind == "hard link":
        os.link(other, path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "wal":
        os.mkfifo(f"{path}-wal")
    else:
        path.write_bytes(b"no database " * 1000 if kind == "corrupt" else b"")
    before = time.monotonic()
    if kind == "empty":
        with storage.connect({"sqlite": str(path)}, reading) as database:
            assert reports.summary(database)["total"] == 0
    else:
        reason = r"regular file|unable to open|not a database"
        with pytest.raises(Exception, match=reason), storage.connect({"sqlite": str(path)}, reading) as database:
            reports.summary(database)
    assert time.monotonic() - before < 5


def test_a_database_that_somebody_has_locked_is_an_error_after_seconds(tmp_path, monkeypatch):
    path = str(tmp_path / "tickets.sqlite")
    with storage.connect({"sqlite": path}) as database:
        database.prepare("shop")
        database.connection.execute("PRAGMA journal_mode = DELETE")
        database.connection.execute("BEGIN EXCLUSIVE")
        before = time.monotonic()
        with pytest.raises(Exception, match="locked"), storage.connect({"sqlite": path}, reading=True) as reading:
            reports.summary(reading)
        assert time.monotonic() - before < 15
