# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an application's settings file makes of a request, with stand-ins for what web2py gives to models."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from web2py_runtime import application, stored_sessions

DATABASE = {
    "uri": "postgres://shop:a%40b@db:5432/shop?sslmode=verify-full",
    "driver_args": {"connect_timeout": 3},
    "pool_size": 5,
}


class Session:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.connected: list[dict[str, Any]] = []
        self.is_secure = False

    def connect(self, request: Any, response: Any, **options: Any) -> None:
        assert (request, response) == (REQUEST, RESPONSE)
        self.connected.append(options)

    def secure(self) -> None:
        self.is_secure = True


REQUEST = SimpleNamespace(is_https=True)
RESPONSE = SimpleNamespace()


@pytest.fixture
def settings_file(tmp_path: Path) -> Callable[..., str]:
    def write(**settings: Any) -> str:
        path = tmp_path / "shop.json"
        path.write_text(json.dumps({"application": "shop", **settings}))
        return str(path)

    return write


def configured(path: str, https: bool = True) -> tuple[dict[str, Any], Session, Any]:
    session, cache = Session(), SimpleNamespace(ram="ram", disk="disk")
    REQUEST.is_https = https
    return application.configure(path, REQUEST, RESPONSE, session, cache), session, cache


def test_settings_are_read_again_when_they_have_changed(settings_file: Any) -> None:
    path = settings_file(sessions="files")
    first = application.load_settings(path)
    assert application.load_settings(path) is first, "once for all requests"
    settings_file(sessions="cookie")
    os.utime(path, ns=(1, os.stat(path).st_mtime_ns + 1))
    assert application.load_settings(path)["sessions"] == "cookie"


def test_settings_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="FileNotFoundError"):
        configured(str(tmp_path / "missing.json"))


def test_an_application_that_asks_for_nothing(settings_file: Any) -> None:
    names, session, cache = configured(settings_file())
    assert names == {}
    assert session.connected == []
    assert (cache.ram, cache.disk) == ("ram", "disk")


@pytest.mark.parametrize(
    ("settings", "https", "secure"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"secure_cookies": True}, True, True),
        ({"secure_cookies": False}, True, False),
        ({"sessions": "cookie", "cookie_key": "k"}, True, True),
        ({"sessions": "files"}, True, True),
    ],
)
def test_a_cookie_that_came_by_https_goes_back_by_https_only(
    settings_file: Any, settings: dict[str, Any], https: bool, secure: bool
) -> None:
    _names, session, _cache = configured(settings_file(**settings), https)
    assert session.is_secure is secure


def test_sessions_in_files_are_left_to_web2py(settings_file: Any) -> None:
    assert configured(settings_file(sessions="files"))[1].connected == []


def test_sessions_in_cookies_are_encrypted(settings_file: Any) -> None:
    _names, session, _cache = configured(settings_file(sessions="cookie", cookie_key="the key"))
    assert session.connected == [{"cookie_key": "the key", "compression_level": 6}]


class TestSessionsInTheDatabase:
    def connect(self, **settings: Any) -> dict[str, Any]:
        session = Session()
        settings = {"application": "shop", "sessions": "database", **settings}
        application.connect_session(settings, REQUEST, RESPONSE, session, "the database")
        (options,) = session.connected
        return options

    def test_they_are_read_by_what_runs_no_code(self) -> None:
        options = self.connect()
        assert options["db"] == "the database"
        assert options["safe_unpickle"] is True
        assert options["pickle_allowed_classes"] == {}
        assert sys.modules["gluon.globals"].safe_loads is stored_sessions.loads

    def test_classes_of_the_application_are_taken(self) -> None:
        own = {"applications.shop.modules.basket": ["Basket"]}
        assert self.connect(session_classes=own)["pickle_allowed_classes"] == own


@pytest.mark.parametrize(("choice", "meant"), [("ram", "ram"), ("disk", "disk")])
def test_both_caches_are_the_one_that_was_chosen(settings_file: Any, choice: str, meant: str) -> None:
    _names, _session, cache = configured(settings_file(cache=choice))
    assert (cache.ram, cache.disk) == (meant, meant)


def test_memcached_takes_the_place_of_both_caches(settings_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client itself is tested in test_cache.py; it needs a package that is on web hosts only."""
    module = ModuleType("web2py_runtime.cache")
    module.Memcached = lambda *arguments: arguments
    monkeypatch.setitem(sys.modules, "web2py_runtime.cache", module)
    path = settings_file(cache="memcached", cache_servers=["one:11211"], cache_key="the key")
    _names, _session, cache = configured(path)
    assert cache.ram is cache.disk
    assert cache.ram == (["one:11211"], "the key", "shop")


class Database:
    """Stands for pydal's DAL: remembers what it was made with, and adds to driver_args as pydal does."""

    def __init__(self, uri: str, **options: Any) -> None:
        self.uri, self.options = uri, options
        self.statements: list[str] = []
        self._adapter = SimpleNamespace(uploads_in_blob=None)
        self.made_with = dict(options["driver_args"])
        options["driver_args"].update(user="shop", password="a@b")

    def executesql(self, statement: str) -> list[tuple[str]]:
        self.statements.append(statement)
        return [("checksum",)]

    def commit(self) -> None:
        self.statements.append("COMMIT")


@pytest.fixture(autouse=True)
def pydal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(application.MIGRATE, raising=False)
    for name in (
        "gluon",
        "gluon.dal",
        "gluon.globals",
        "gluon.http",
        "pydal",
        "web2py_runtime.migrator",
        "pydal.helpers",
        "pydal.helpers.classes",
    ):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["gluon.dal"], "DAL", Database, raising=False)
    monkeypatch.setattr(sys.modules["gluon.http"], "HTTP", type("HTTP", (Exception,), {}), raising=False)
    monkeypatch.setattr(sys.modules["gluon"], "globals", sys.modules["gluon.globals"], raising=False)
    monkeypatch.setattr(sys.modules["web2py_runtime.migrator"], "Migrator", "in the database", raising=False)
    file = SimpleNamespace(try_create_web2py_filesystem=lambda db: db.statements.append("CREATE web2py_filesystem"))
    monkeypatch.setattr(sys.modules["pydal.helpers.classes"], "DatabaseStoredFile", file, raising=False)


def variables_of(error: BaseException) -> str:
    """What a ticket would show of this error: the variables of all frames, and the errors before it."""
    shown = repr((error.__cause__, error.__context__, vars(error)))
    traceback = error.__traceback__.tb_next
    while traceback:
        shown += repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next
    return shown


def test_no_secret_is_in_what_a_ticket_shows(settings_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise OSError("connection refused")

    monkeypatch.setattr(sys.modules["gluon.dal"], "DAL", refuse)
    with pytest.raises(RuntimeError, match="OSError: connection refused") as caught:
        configured(settings_file(database=DATABASE))
    assert "a%40b" in DATABASE["uri"] and "a%40b" not in variables_of(caught.value)


def test_an_answer_of_web2py_passes(settings_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = sys.modules["gluon.http"].HTTP

    def redirect(*_arguments: Any, **_options: Any) -> None:
        raise answer

    monkeypatch.setattr(sys.modules["gluon.dal"], "DAL", redirect)
    with pytest.raises(answer):
        configured(settings_file(database=DATABASE))


class TestDatabase:
    def test_the_models_find_it_as_db(self, settings_file: Any) -> None:
        names, session, _cache = configured(settings_file(database=DATABASE, sessions="database"))
        db = names["db"]
        assert list(names) == ["db"]
        assert db.uri == DATABASE["uri"]
        assert db.options["decode_credentials"] is True
        assert db.options["pool_size"] == 5
        assert db.options["attempts"] == 1
        assert db.options["table_hash"] == "shop", "tables are known by the application, whatever the password is"
        assert db.options["adapter_args"] == {"migrator": "in the database"}
        assert session.connected[0]["db"] is db

    def test_a_request_changes_no_table(self, settings_file: Any) -> None:
        db = configured(settings_file(database=DATABASE))[0]["db"]
        assert db.options["migrate_enabled"] is False
        assert db.statements == []

    @pytest.mark.parametrize("value", ["", "0", "yes"])
    def test_only_one_word_lets_tables_change(
        self, settings_file: Any, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        monkeypatch.setenv(application.MIGRATE, value)
        assert configured(settings_file(database=DATABASE))[0]["db"].options["migrate_enabled"] is False

    def test_who_migrates_takes_the_lock_before_anything_else(
        self, settings_file: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(application.MIGRATE, "1")
        db = configured(settings_file(database=DATABASE))[0]["db"]
        assert db.options["migrate_enabled"] is True
        assert "pg_advisory_lock" in db.statements[0]
        assert db.statements[1:3] == ["CREATE web2py_filesystem", "COMMIT"]
        assert db.web2py_tables_before == "checksum"

    def test_what_pydal_adds_for_one_connection_stays_out_of_the_settings(self, settings_file: Any) -> None:
        path = settings_file(database=DATABASE)
        for _ in range(2):
            assert configured(path)[0]["db"].made_with == {"connect_timeout": 3}
        assert application.load_settings(path)["database"] == DATABASE

    @pytest.mark.parametrize(("uploads", "in_blob"), [("database", True), ("files", False), (None, False)])
    def test_where_uploads_are_kept(self, settings_file: Any, uploads: str | None, in_blob: bool) -> None:
        given = {} if uploads is None else {"uploads": uploads}
        assert configured(settings_file(database=DATABASE, **given))[0]["db"]._adapter.uploads_in_blob is in_blob
