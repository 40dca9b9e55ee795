# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Connects an application to its database, sessions, uploads and cache, as its settings file says.

The managed model of an application, which runs before its own, calls `configure` and gets the names it defines.
"""

from __future__ import annotations

import functools
import json
import logging
import os
from typing import Any

logger = logging.getLogger("web2py_runtime")
# Set for the one process that may change tables; see migrate.py.
MIGRATE = "WEB2PY_RUNTIME_MIGRATE"


@functools.lru_cache(maxsize=64)
def _load(path: str, _modified: int) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def load_settings(path: str) -> dict[str, Any]:
    """The settings of an application; read again when the file has changed."""
    return _load(path, os.stat(path).st_mtime_ns)


def configure(path: str, request: Any, response: Any, session: Any, cache: Any) -> dict[str, Any]:
    """Do what the settings say for this request; return the names that the application's models find."""
    from gluon.http import HTTP

    try:
        return apply(load_settings(path), request, response, session, cache)
    except HTTP:
        raise
    except Exception as error:
        logger.exception("%s cannot be applied", path)
        problem = RuntimeError(f"{type(error).__name__}: {error}")
    # A ticket shows the variables of every frame, and those of the frames behind this hold passwords and keys.
    raise problem


def apply(settings: dict[str, Any], request: Any, response: Any, session: Any, cache: Any) -> dict[str, Any]:
    names: dict[str, Any] = {}
    if "database" in settings:
        names["db"] = connect(settings)
    connect_session(settings, request, response, session, names.get("db"))
    if settings.get("cache") == "memcached":
        from web2py_runtime.cache import Memcached

        cache.ram = cache.disk = Memcached(settings["cache_servers"], settings["cache_key"], settings["application"])
    elif settings.get("cache") == "ram":
        cache.disk = cache.ram
    elif settings.get("cache") == "disk":
        cache.ram = cache.disk
    return names


def connect(settings: dict[str, Any]) -> Any:
    """The application's database. Only the process that migrates may change its tables."""
    from gluon.dal import DAL

    from web2py_runtime.migrator import Migrator

    migrate = os.environ.get(MIGRATE) == "1"
    database = settings["database"]
    db = DAL(
        database["uri"],
        decode_credentials=True,
        # pydal adds to it what it reads from the URI.
        driver_args=dict(database["driver_args"]),
        pool_size=database["pool_size"],
        # web2py's own error page at once, instead of a visitor that waits for five attempts.
        attempts=1,
        migrate_enabled=migrate,
        table_hash=settings["application"],
        # What pydal knows of the tables belongs to the database, not to a folder of one of several hosts.
        adapter_args={"migrator": Migrator},
    )
    if migrate:
        prepare_migration(db)
    # On the class, as adapter_args sets it, it would be so for every application of this process.
    db._adapter.uploads_in_blob = settings.get("uploads") == "database"
    return db


def prepare_migration(db: Any) -> None:
    """Be the only one that migrates this database until the connection ends, and remember how its tables were."""
    from pydal.helpers.classes import DatabaseStoredFile

    db.executesql("SELECT pg_advisory_lock(hashtext('web2py.deployment: migration'))")
    DatabaseStoredFile.try_create_web2py_filesystem(db)
    db.commit()
    db.web2py_tables_before = known_tables(db)


def known_tables(db: Any) -> str:
    """A checksum of what pydal knows of all tables of the database."""
    rows = db.executesql(
        "SELECT md5(coalesce(string_agg(path || md5(content), ',' ORDER BY path), '')) "
        "FROM web2py_filesystem WHERE path LIKE '%.table'"
    )
    return rows[0][0]


def connect_session(settings: dict[str, Any], request: Any, response: Any, session: Any, db: Any) -> None:
    storage = settings.get("sessions")
    if storage == "database":
        from gluon import globals as web2py_globals

        from web2py_runtime import stored_sessions

        # Who can write into the database must not be able to run code here. web2py's own reader lets what is pickled
        # change the classes it names, and use up memory and time.
        web2py_globals.safe_loads = stored_sessions.loads
        classes = {module: list(names) for module, names in settings.get("session_classes", {}).items()}
        session.connect(request, response, db=db, safe_unpickle=True, pickle_allowed_classes=classes)
    elif storage == "cookie":
        session.connect(request, response, cookie_key=settings["cookie_key"], compression_level=6)
    if settings.get("secure_cookies", True) and request.is_https:
        session.secure()
