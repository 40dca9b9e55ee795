# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Delete the sessions of an application that nobody has used for so long:
web2py.py -S <application> -R …/expire_sessions.py -A <seconds> <settings file of the application>

Takes the place of web2py's scripts/sessions2trash.py, which reads all sessions in the database at once, runs whatever
is pickled in them, and lets one user's "remember me" decide about the sessions after it. A session whose user is
remembered for longer lives for that long; of what cannot be read as a session the age alone decides.
"""

import collections
import contextlib
import datetime
import os
import re
import stat
import sys
import time
import traceback

from web2py_runtime import pickles
from web2py_runtime.application import configure

# Bytes of a session that is read; of one in the database, where it is base64; and of those that are read at once.
LARGEST = 1 << 20
LONGEST = LARGEST * 4 // 3
USUAL = 32 << 10
MOST_AT_ONCE = 16 << 20
# An `expiration` of at most 65,535 seconds, or none, as Python writes it after its key; and a key that was written
# before, followed by what may be more. Few sessions need more than a look at these.
SHORT = re.compile(rb"expiration(?:\x94|q.|r....)(?:K.|M..|N)", re.DOTALL)
REUSED = re.compile(rb"(?:h.|j....)[JGXIhjLFVc(\x8a-\x8d]", re.DOTALL)
ONE_FRAME = 60_000
# Objects that are looked at in one session; real ones have a few.
MOST_PARTS = 200
# web2py has one level of folders, with `separate`; each takes a file descriptor.
MOST_LEVELS = 32


class Anything:
    """Stands for an object of whatever class; nothing of the class itself is loaded or run."""

    def __init__(self, parts):
        self.parts, self.items = parts, {}


class Objects(pickles.Objects):
    """Keeps what objects were made of, as a session is one."""

    def find(self, module, name):
        return Anything([])

    def call(self, function, arguments):
        return Anything([*arguments] if isinstance(arguments, tuple) and len(arguments) < 10 else [])

    def create(self, kind, arguments, options):
        return self.call(kind, arguments)

    def build(self, value, state):
        if isinstance(value, Anything):
            value.parts.append(state)
        return value

    def set_items(self, target, keys, values):
        if isinstance(target, Anything):
            target.items.update((key, value) for key, value in zip(keys, values, strict=True) if isinstance(key, str))

    def append(self, target, values):
        """For a list of a class of its own."""

    def is_own_key(self, key):
        return isinstance(key, Anything)


class Search:
    """Finds what a dict, or an object made of dicts, has by a name; a few bytes can be objects without end."""

    def __init__(self):
        self.left = MOST_PARTS

    def __call__(self, value, name):
        self.left -= 1
        if self.left < 0:
            raise pickles.Unreadable(f"more than {MOST_PARTS} objects")
        if isinstance(value, dict):
            return value.get(name)
        if not isinstance(value, Anything):
            return None
        found = value.items.get(name)
        for part in value.parts if found is None else ():
            found = self(part, name)
            if found is not None:
                break
        return found


def lifetime(data, seconds):
    """How long this session lives, by what is in it."""
    try:
        content = data.encode("latin-1") if isinstance(data, str) else data
        # Most visitors have not logged in, or are not remembered.
        start = content.find(b"expiration")
        if len(content) > LARGEST or start < 0:
            return seconds
        simple = seconds > 0xFFFF and len(content) < ONE_FRAME and not REUSED.search(content, start)
        if simple and len(SHORT.findall(content)) == content.count(b"expiration"):
            return seconds
        search = Search()
        expiration = search(search(pickles.read(content, Objects()), "auth"), "expiration")
        return max(seconds, int(expiration or 0))
    except Exception:
        # Damaged.
        return seconds


def content_of(name, folder, size):
    """What is in a file, as far as it is known to go."""
    try:
        # Without O_NONBLOCK, opening a FIFO waits for a writer.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except PermissionError:
        return b""
    try:
        return os.read(file, size)
    finally:
        os.close(file)


def expire_file(folder, entry, seconds, now):
    """Delete one session, a link, a pipe or whatever else is there, unless it is young; say whether it is gone."""
    found = entry.stat(follow_symlinks=False)
    age = now - found.st_mtime
    if age <= seconds:
        return False
    readable = stat.S_ISREG(found.st_mode) and found.st_size <= LARGEST
    if age <= lifetime(content_of(entry.name, folder, found.st_size) if readable else b"", seconds):
        return False
    os.unlink(entry.name, dir_fd=folder)
    return True


def expire_files(path, seconds, now):
    """Sessions in files; also the empty folders that `separate` leaves. Returns how many were deleted, and failed."""
    deleted = failed = 0
    # Each folder that is being read: its descriptor, its entries, and its name in the one before.
    opened = []

    def enter(name, parent):
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        opened.append((folder, os.scandir(folder), name))

    try:
        with contextlib.suppress(FileNotFoundError):
            # The folder itself may be a link, to where the deployment keeps data.
            enter(os.path.realpath(path), None)
        while opened:
            folder, entries, own_name = opened[-1]
            try:
                entry = next(entries, None)
                if entry is None:
                    entries.close()
                    os.close(folder)
                    opened.pop()
                    if opened:
                        # Not empty, or a visitor has come meanwhile.
                        with contextlib.suppress(OSError):
                            os.rmdir(own_name, dir_fd=opened[-1][0])
                elif not entry.is_dir(follow_symlinks=False):
                    deleted += expire_file(folder, entry, seconds, now)
                elif len(opened) < MOST_LEVELS:
                    enter(entry.name, folder)
                else:
                    failed += 1
            except FileNotFoundError:
                # Its visitor has logged out meanwhile.
                continue
            except OSError:
                # One that cannot be deleted keeps no other one.
                failed += 1
    finally:
        for folder, entries, _name in opened:
            entries.close()
            os.close(folder)
    return deleted, failed


def expire_rows(table, seconds, now):
    """Sessions in the database, some at a time."""
    db = table._db
    size = table.session_data.len()
    # No time is read: the database may have some that Python has not.
    old = table.modified_datetime < now - datetime.timedelta(seconds=seconds)
    no_session = (table.session_data == None) | (size == 0) | (size > LONGEST)  # noqa: E711
    deleted = db(old & no_session).delete()
    for smallest, largest in ((0, USUAL), (USUAL, LONGEST)):
        last = 0
        while found := rows_of(
            table, old & (size > smallest) & (size <= largest) & (table.id > last), MOST_AT_ONCE // largest
        ):
            last = found[-1][0]
            by_lifetime = collections.defaultdict(list)
            for number, data in found:
                by_lifetime[lifetime(data or b"", seconds)].append(number)
            for lives, numbers in by_lifetime.items():
                # One that lives until a year that does not exist stays, and so does one that was used meanwhile.
                with contextlib.suppress(OverflowError):
                    dead = table.modified_datetime < now - datetime.timedelta(seconds=lives)
                    deleted += db(table.id.belongs(numbers) & dead).delete()
            db.commit()
    return deleted


def rows_of(table, query, most):
    """The number and the content of each row; what pydal cannot decode is no session, and is empty."""
    rows, options = table._db(query), {"orderby": table.id, "limitby": (0, most)}
    try:
        return [(row.id, row.session_data) for row in rows.select(table.id, table.session_data, **options)]
    except (ValueError, TypeError, RuntimeError):
        numbers = [row.id for row in rows.select(table.id, **options)]
    if most == 1:
        return [(number, b"") for number in numbers]
    return [row for number in numbers for row in rows_of(table, query & (table.id == number), 1)]


# web2py ends with 0 after an error in a script.
try:
    seconds, settings = int(sys.argv[1]), sys.argv[2]
    if os.path.exists(settings):
        # Not through the application's models: they may expect a visitor.
        configure(settings, request, response, session, cache)  # noqa: F821
    deleted, failed = expire_files(os.path.join(request.folder, "sessions"), seconds, time.time())  # noqa: F821
    if response.session_db_table:  # noqa: F821
        deleted += expire_rows(response.session_db_table, seconds, datetime.datetime.now())  # noqa: F821
except Exception:
    traceback.print_exc()
    sys.exit(1)
if failed:
    print(f"{failed} files or folders in {request.folder}/sessions could not be deleted", file=sys.stderr)  # noqa: F821
print(f"{deleted} sessions deleted")
