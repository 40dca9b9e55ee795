# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Collect tickets: out of the `errors` folders of applications, into a database.

It runs as the service user, who can write into these folders, and works by descriptors that follow no link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from .storage import Application, Database, connect
from .ticket import LARGEST, NAME, NotATicket, Ticket, parse

# A file that has not changed for so long is whole, or will never be.
QUIET_SECONDS = 60
BATCH_TICKETS = 500
BATCH_CHARACTERS = 2 << 20
QUARANTINE = "quarantine"


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


def collect_all(found: Iterable[Application], check: bool = False) -> tuple[dict[str, dict[str, int]], dict[str, str]]:
    """Outcomes and errors by application; one that fails does not keep the others from being collected."""
    done: dict[str, dict[str, int]] = {}
    failed: dict[str, str] = {}
    for one in found:
        try:
            with contextlib.nullcontext() if check else connect(one.database) as database:
                outcomes = collect(one.errors, one.application, database, count_only=one.count_only, check=check)
            done[one.application] = dict(outcomes)
        except Exception as error:
            failed[one.application] = f"{type(error).__name__}: {error}".strip()
    return done, failed
