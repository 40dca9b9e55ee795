# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Old sessions: which of them are deleted, in files and in a database."""

from __future__ import annotations

import json
import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hostile_pickles as hostile
import pytest

RUNTIME = Path(__file__).resolve().parents[3] / "roles" / "web2py" / "files"
SHARED = RUNTIME.parents[2] / "plugins" / "module_utils"
SCRIPT = RUNTIME / "web2py_runtime" / "expire_sessions.py"
HOUR = 3600


class Evil:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo never > /nonexistent/never",)


class Basket(list):
    """Something of the application's own in a session."""


class Item:
    """So is this."""

    def __init__(self) -> None:
        self.price = 1


def remembered(seconds: Any, protocol: int | None = None) -> bytes:
    session = {"auth": {"expiration": seconds, "remember_me": True}}
    if protocol is not None:
        session |= {"basket": Basket([Item(), Item()]), Basket: {Item()}}
    return pickle.dumps(session, protocol)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the script as web2py does, on the sessions of an application, and return what it said."""
    (tmp_path / "sessions").mkdir()

    def runner(*arguments: str, table: Any = None) -> str:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments, str(tmp_path / "settings.json")])
        names = {
            "request": SimpleNamespace(folder=str(tmp_path)),
            "response": SimpleNamespace(session_db_table=table),
        }
        # As web2py's shell does it, with its own names beside those of the script.
        exec(compile(SCRIPT.read_bytes(), SCRIPT, "exec"), names)  # noqa: S102
        return capsys.readouterr().out

    return runner


@pytest.fixture
def session(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, hours: float, content: bytes = pickle.dumps({})) -> Path:
        path = tmp_path / "sessions" / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(content)
        when = time.time() - hours * HOUR
        os.utime(path, (when, when))
        return path

    return write


def test_old_sessions_are_deleted_and_young_ones_stay(run: Any, session: Any) -> None:
    old, young = session("old", 1.1), session("young", 0.9)
    assert run(str(HOUR)) == "1 sessions deleted\n"
    assert not old.exists() and young.exists()
    assert run(str(HOUR)) == "0 sessions deleted\n"


@pytest.mark.parametrize(
    ("content", "stays"),
    [
        pytest.param(remembered(10 * HOUR), True, id="remembered for longer"),
        pytest.param(remembered(str(10 * HOUR)), True, id="remembered for longer, as text"),
        *(
            pytest.param(remembered(10 * HOUR, version), True, id=f"with an object of its own, protocol {version}")
            for version in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        pytest.param(remembered(4 * HOUR), False, id="no longer remembered"),
        pytest.param(remembered(60), False, id="remembered for less than a session lives"),
        pytest.param(remembered(None), False, id="no time"),
        pytest.param(remembered("for ever"), False, id="time that is no number"),
        pytest.param(pickle.dumps({"auth": None}), False, id="nobody"),
        pytest.param(pickle.dumps({"auth": "text"}), False, id="user that is a text"),
        pytest.param(pickle.dumps(["no", "session"]), False, id="list"),
        pytest.param(pickle.dumps(Evil()), False, id="code"),
        pytest.param(b"not a pickle", False, id="no pickle"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_who_asked_to_be_remembered_is_for_as_long_as_the_application_says(
    run: Any, session: Any, content: bytes, stays: bool
) -> None:
    path = session("visitor", 5, content)
    run(str(HOUR))
    assert path.exists() is stays


DAY = 86400


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("session_content", "stays"),
    [
        ({"auth": {"expiration": 3600, "name": "John Hjh (G"}}, False),
        ({"auth": {"expiration": 30 * DAY}}, True),
        ({"auth": {"expiration": float(30 * DAY)}}, True),
        ({"auth": {"expiration": 1 << 40}}, True),
        ({"auth": {"expiration": str(30 * DAY)}}, True),
        ({"coupon": {"expiration": 5}, "auth": {"expiration": 30 * DAY}}, True),
        ({"auth": {"user": {"expiration": None}, "expiration": 30 * DAY}}, True),
        ({"auth": {"expiration": 30 * DAY}, "coupon": {"expiration": 5}}, True),
        ({"coupon": {"expiration": 30 * DAY}, "auth": {"expiration": 5}}, False),
        ({"list": ["expiration"] * 300, "auth": {"expiration": 30 * DAY}}, True),
        ({"text": "x" * 70_000, "coupon": {"expiration": 5}, "auth": {"expiration": 30 * DAY}}, True),
        ({(1, "a"): 5, None: 6, 1.5: {1, 2}, "auth": {"expiration": 30 * DAY}}, True),
    ],
)
def test_a_look_at_a_session_says_the_same_as_reading_it(
    run: Any, session: Any, session_content: dict[Any, Any], stays: bool, protocol: int
) -> None:
    path = session("visitor", 48, pickle.dumps(session_content, protocol))
    run(str(DAY))
    assert path.exists() is stays


def test_what_is_no_session_is_deleted_when_it_is_old_and_stops_nothing(
    run: Any, session: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sessions"
    os.mkfifo(folder / "fifo")
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "folder").symlink_to("/")
    session("unreadable", 5).chmod(0)
    os.link(session("whole", 5), folder / "hard")
    with open(folder / "sparse", "wb") as sparse:
        sparse.truncate(1 << 30)
    for name, data in {**hostile.RUN, **hostile.OTHERS}.items():
        session(name.replace(" ", "-"), 5, b"}X\x0a\0\0\0expiration" + data[-1 << 19 :])
    deep = folder
    for _ in range(100):
        deep = deep / "deep"
        deep.mkdir()
    for path in folder.iterdir():
        os.utime(path, (1, 1), follow_symlinks=False)
    number = sum(1 for path in folder.iterdir() if path.name != "deep")
    before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run(str(HOUR)).splitlines()[-1] == f"{number} sessions deleted"
    assert time.monotonic() - before[0] < 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[1] < 150 << 10
    assert [path.name for path in folder.iterdir()] == ["deep"], "beyond so many levels it is no folder of sessions"
    assert not Path(hostile.MARK).exists()


def test_a_short_time_in_a_session_does_not_shorten_its_life(run: Any, session: Any) -> None:
    path = session("visitor", 0.5, remembered(60))
    run(str(HOUR))
    assert path.exists()


def test_one_visitor_who_is_remembered_decides_for_nobody_else(run: Any, session: Any) -> None:
    """What scripts/sessions2trash.py got wrong."""
    paths = [session(f"{number}", 5, remembered(10 * HOUR) if number == 2 else pickle.dumps({})) for number in range(5)]
    assert run(str(HOUR)) == "4 sessions deleted\n"
    assert [path.exists() for path in paths] == [False, False, True, False, False]


def test_folders_of_separate_sessions_go_when_they_are_empty(run: Any, session: Any, tmp_path: Path) -> None:
    session("ab/old", 5), session("cd/old", 5), session("cd/young", 0), session("ef/gh/old", 5)
    assert run(str(HOUR)) == "3 sessions deleted\n"
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["sessions", "sessions/cd", "sessions/cd/young"]


def test_the_folder_of_the_sessions_itself_stays(run: Any, session: Any, tmp_path: Path) -> None:
    session("old", 5)
    run(str(HOUR))
    assert (tmp_path / "sessions").is_dir()


def test_a_visitor_who_logs_out_meanwhile_is_no_error(
    run: Any, session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both before the session is looked at, and between that and its end."""
    before, between, old = session("a", 5, b"before"), session("b", 5, b"between"), session("c", 5)
    opened, read = os.open, os.read

    def open_and_gone(path: Any, *arguments: Any, **options: Any) -> int:
        if path == "a":
            before.unlink()
        return opened(path, *arguments, **options)

    def read_and_gone(file: int, size: int) -> bytes:
        data = read(file, size)
        if data == b"between":
            between.unlink()
        return data

    monkeypatch.setattr(os, "open", open_and_gone)
    monkeypatch.setattr(os, "read", read_and_gone)
    assert run(str(HOUR)) == "1 sessions deleted\n"
    assert not old.exists()


def test_an_application_without_a_folder_of_sessions(run: Any, tmp_path: Path) -> None:
    (tmp_path / "sessions").rmdir()
    assert run(str(HOUR)) == "0 sessions deleted\n"


@pytest.mark.parametrize("arguments", [[], ["soon"], [""]])
def test_a_failure_is_told_to_systemd(run: Any, session: Any, arguments: list[str]) -> None:
    """web2py itself ends with 0 after an error in a script."""
    path = session("old", 5)
    with pytest.raises(SystemExit) as caught:
        run(*arguments)
    assert caught.value.code == 1
    assert path.exists()


# Runs the script on a table as gluon.globals.Session.connect defines it, in a database in memory.
PROGRAM = """
import datetime, json, runpy, sys, types
from pathlib import Path
from pydal import DAL, Field
import web2py_runtime

folder, script, seconds, shared = sys.argv[1:]
web2py_runtime.__path__.append(shared)
now = datetime.datetime.now()
db = DAL("sqlite:memory")
table = db.define_table(
    "web2py_session_shop",
    Field("locked", "boolean", default=False),
    Field("client_ip", length=64),
    Field("created_datetime", "datetime"),
    Field("modified_datetime", "datetime"),
    Field("unique_key", length=64),
    Field("session_data", "blob"),
)
for key, hours, data in json.loads(Path(folder, "rows.json").read_text()):
    when = None if hours is None else now - datetime.timedelta(hours=hours)
    table.insert(unique_key=key, modified_datetime=when, session_data=None if data is None else bytes.fromhex(data))
db.executesql("UPDATE web2py_session_shop SET session_data = 'abc' WHERE unique_key LIKE 'no base64%'")
db.commit()
sys.argv = [script, seconds, "/nonexistent"]
runpy.run_path(script, init_globals={
    "request": types.SimpleNamespace(folder=folder), "response": types.SimpleNamespace(session_db_table=table),
})
print(json.dumps([row.unique_key for row in db(table).select(orderby=table.id)]))
"""


@pytest.fixture(scope="module")
def pydal(web2py: Path) -> Path:
    return web2py / "gluon" / "packages" / "pydal"


def expire(folder: Path, pydal: Path, rows: list[tuple[str, float, bytes | None]]) -> tuple[str, list[str]]:
    """What the script says of these sessions, by their key, age in hours and content, and which of them stay."""
    (folder / "sessions").mkdir()
    data = [(key, hours, None if content is None else content.hex()) for key, hours, content in rows]
    (folder / "rows.json").write_text(json.dumps(data))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), str(SCRIPT), str(HOUR), str(SHARED)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{pydal}:{RUNTIME}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said, left = done.stdout.splitlines()
    return said, json.loads(left)


def test_sessions_in_a_database(pydal: Path, tmp_path: Path) -> None:
    empty = pickle.dumps({})
    rows = [
        ("old", 1.1, empty),
        ("young", 0.9, empty),
        ("remembered", 5, remembered(10 * HOUR)),
        ("remembered and old", 11, remembered(10 * HOUR)),
        ("nothing", 5, None),
        ("unreadable", 5, b"no pickle"),
        ("evil", 5, pickle.dumps(Evil())),
        ("no base64", 5, empty),
        ("no base64 either", 5, empty),
        ("last", 5, empty),
    ]
    assert expire(tmp_path, pydal, rows) == ("8 sessions deleted", ["young", "remembered"])


def test_more_sessions_in_a_database_than_are_read_at_once(pydal: Path, tmp_path: Path) -> None:
    """Those that stay are not read again for ever."""
    kinds = [("old", 5, pickle.dumps({})), ("remembered", 5, remembered(10 * HOUR)), ("young", 0.5, pickle.dumps({}))]
    rows = [(f"{kind} {number}", hours, content) for number in range(600) for kind, hours, content in kinds]
    said, left = expire(tmp_path, pydal, rows)
    assert said == "600 sessions deleted"
    assert len(left) == 1200 and not [key for key in left if key.startswith("old")]
