# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Delete the sessions of an application that nobody has used for so long:
web2py.py -S <application> -R …/expire_sessions.py -A <seconds> <settings file of the application>

Takes the place of web2py's scripts/sessions2trash.py, which reads all sessions in the database at once, runs whatever
is pickled in them, and lets one user's "remember me" decide about the sessions after it. A session whose user is
remembered for longer lives for that long.
"""

import contextlib
import datetime
import io
import os
import pickle
import sys
import time
import traceback

from web2py_runtime.application import configure

BATCH = 500


class Anything(dict):
    """Stands for an object of whatever class and holds its items; nothing of the class itself is loaded or run."""

    def __init__(self, *arguments):
        super().__init__()
        for argument in arguments:
            self.__setstate__(argument)

    def __setstate__(self, state):
        if isinstance(state, dict):
            self.update(state)

    def append(self, item):
        """For a list of a class of its own."""

    extend = append
    __hash__ = object.__hash__


class Reader(pickle.Unpickler):
    def find_class(self, module, name):
        return Anything


def lifetime(data, seconds):
    """How long this session lives, by what is in it."""
    try:
        content = data.encode("latin-1") if isinstance(data, str) else data
        auth = Reader(io.BytesIO(content)).load().get("auth")
        return max(seconds, int((auth or {}).get("expiration") or 0))
    except Exception:
        # Damaged.
        return seconds


def expire_files(folder, seconds, now):
    """Sessions in files; also the empty folders that `separate` leaves."""
    deleted = 0
    for path, _folders, files in os.walk(folder, topdown=False):
        for name in files:
            file = os.path.join(path, name)
            try:
                age = now - os.lstat(file).st_mtime
                if age <= seconds:
                    continue
                with open(file, "rb") as session:
                    data = session.read()
                if age > lifetime(data, seconds):
                    os.unlink(file)
                    deleted += 1
            except FileNotFoundError:
                # Its visitor has logged out meanwhile.
                continue
        if path != folder:
            # Not empty, or a visitor has come meanwhile.
            with contextlib.suppress(OSError):
                os.rmdir(path)
    return deleted


def expire_rows(table, seconds, now):
    """Sessions in the database, some at a time."""
    db, deleted, last = table._db, 0, 0
    before = now - datetime.timedelta(seconds=seconds)
    while True:
        old = (table.id > last) & (table.modified_datetime < before)
        rows = db(old).select(
            table.id, table.session_data, table.modified_datetime, orderby=table.id, limitby=(0, BATCH)
        )
        if not rows:
            return deleted
        last = rows.last().id
        dead = [
            row.id
            for row in rows
            if (now - row.modified_datetime).total_seconds() > lifetime(row.session_data or b"", seconds)
        ]
        # One that was used meanwhile stays.
        deleted += db(table.id.belongs(dead) & (table.modified_datetime < before)).delete()
        db.commit()


# web2py ends with 0 after an error in a script.
try:
    seconds, settings = int(sys.argv[1]), sys.argv[2]
    if os.path.exists(settings):
        # Not through the application's models: they may expect a visitor.
        configure(settings, request, response, session, cache)  # noqa: F821
    deleted = expire_files(os.path.join(request.folder, "sessions"), seconds, time.time())  # noqa: F821
    if response.session_db_table:  # noqa: F821
        deleted += expire_rows(response.session_db_table, seconds, datetime.datetime.now())  # noqa: F821
except Exception:
    traceback.print_exc()
    sys.exit(1)
print(f"{deleted} sessions deleted")
