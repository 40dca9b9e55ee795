# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What root does in and around folders that a service user can write, without following where that user leads.

Such a user can exchange any name in its own folders at any moment. So root uses no path through one: what belongs into
it is done as that user (`as_user`), and what only root can do is done by descriptors (`opened`), which are reached
through folders that root alone can write. One step after the other with O_NOFOLLOW is complete, as each step has one
name and no `..`; openat2 would add nothing but a kernel to ask for it.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import secrets
import select
import signal
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# As many as the kernel follows in one path.
MOST_LINKS = 40
# An answer is a few numbers or a report, never data.
LARGEST_ANSWER = 64 << 20
# Seconds for one tree. Its user can go on making files in it for ever.
REMOVAL_LIMIT = 600


class BeneathError(OSError):
    """It was not done, because another user than root could decide where, or because that user's process failed."""


def account(user: str) -> tuple[int, int]:
    """User and group id of a service user, as the host's list of users has them; never as a folder's owner says."""
    try:
        found = pwd.getpwnam(user)
    except KeyError:
        raise BeneathError(f"user is {user}; it must be a user of this host. The role web2py creates it") from None
    return found.pw_uid, found.pw_gid


def as_user(uid: int, gid: int, work: Callable[[], Any], limit: float = 600) -> Any:
    """Do `work` in a process that is this user for good, and return its result (as JSON has it).

    A module of Ansible cannot give up root itself, as it still has to read its own parts. The kernel lets no other
    process of the user look into this one, since it was root and runs no other program. One that the user has stopped
    is ended after `limit` seconds.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            try:
                if os.geteuid() == 0:
                    os.setgroups([])
                    os.setgid(gid)
                    os.setuid(uid)
                os.umask(0o077)
                os.chdir("/")
                # libpq looks for certificates there, and must be allowed to.
                with contextlib.suppress(KeyError):
                    os.environ["HOME"] = pwd.getpwuid(os.getuid()).pw_dir
                answer = {"result": work()}
            except Exception as error:
                kind = "" if isinstance(error, BeneathError) else f"{type(error).__name__}: "
                answer = {"error": f"{kind}{error}".strip()}
            with open(writing, "w", encoding="utf-8") as file:
                json.dump(answer, file)
            status = 0
        finally:
            # Without what the parent has arranged for its own end.
            os._exit(status)
    os.close(writing)
    answer: dict[str, Any] = {}
    try:
        # Of one that was killed there is nothing, or the beginning.
        with contextlib.suppress(ValueError):
            answer = json.loads(_received(reading, time.monotonic() + limit))
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if "result" not in answer:
        raise BeneathError(
            answer.get("error")
            or f"the process that works as user {uid} gave no result within {limit:g} seconds; another process of that "
            "user has ended or stopped it, or a pipe in its folders was waited for"
        )
    return answer["result"]


def _received(pipe: int, deadline: float) -> str:
    """All that comes before the pipe is closed; nothing when it is too late or too much."""
    text = b""
    while len(text) <= LARGEST_ANSWER and select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
        part = os.read(pipe, 1 << 16)
        if not part:
            return text.decode("utf-8")
        text += part
    return ""


@contextlib.contextmanager
def opened(path: str) -> Iterator[int]:
    """A descriptor of the folder at an absolute path, reached through folders that only root can write.

    A link in such a folder is root's own, and is followed.
    """
    steps = path.split("/")[::-1]
    links = 0
    folder = os.open("/", FOLDER)
    try:
        while True:
            _refuse_if_shared(folder, path)
            while steps and steps[-1] in ("", "."):
                steps.pop()
            if not steps:
                break
            name = steps.pop()
            try:
                inner = os.open(name, FOLDER, dir_fd=folder)
            except OSError as error:
                # In a folder like /tmp a link may be anybody's.
                anybodys = os.fstat(folder).st_mode & (stat.S_IWGRP | stat.S_IWOTH)
                if error.errno not in (errno.ELOOP, errno.ENOTDIR) or links == MOST_LINKS or anybodys:
                    raise OSError(error.errno, error.strerror, path) from None
                links += 1
                # Fails for what is no link.
                target = os.readlink(name, dir_fd=folder)
                steps += target.split("/")[::-1]
                if not target.startswith("/"):
                    continue
                inner = os.open("/", FOLDER)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _refuse_if_shared(folder: int, path: str) -> None:
    found = os.fstat(folder)
    others = found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and found.st_gid != 0)
    if found.st_uid not in (0, os.geteuid()) or (others and not found.st_mode & stat.S_ISVTX):
        raise BeneathError(
            f"{path} passes through a folder that user {found.st_uid} or group {found.st_gid} can write; root works "
            "only where root alone decides what a name means. Give that folder back to root"
        )


def ensure_folder(path: str, uid: int, gid: int, mode: int, check: bool) -> bool:
    """Make a folder with exactly this owner and mode; tell whether anything was (or would be) changed."""
    name = os.path.basename(path)
    with contextlib.ExitStack() as stack:
        try:
            parent = stack.enter_context(opened(os.path.dirname(path)))
        except FileNotFoundError:
            if check:
                return True
            raise
        try:
            folder = _open_in(parent, name, path)
        except FileNotFoundError:
            if check:
                return True
            os.mkdir(name, 0o700, dir_fd=parent)
            folder = _open_in(parent, name, path)
        stack.callback(os.close, folder)
        found = os.fstat(folder)
        if (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (uid, gid, mode):
            return False
        if not check:
            os.fchown(folder, uid, gid)
            os.fchmod(folder, mode)
        return True


def _open_in(parent: int, name: str, path: str) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise BeneathError(f"{path} is not a folder; move it away") from None
        raise


def remove(path: str, limit: float = REMOVAL_LIMIT) -> None:
    """Remove a file, or a folder with all that is in it, however deep that is."""
    name = os.path.basename(path)
    with opened(os.path.dirname(path)) as parent:
        if _unlinked(parent, name):
            return
        folder = _open_in(parent, name, path)
        try:
            if not _emptied(folder, time.monotonic() + limit):
                raise BeneathError(
                    f"{path} could not be removed within {limit:g} seconds; it is large, or a process of its user goes "
                    "on making files in it. Stop the services that run as this user, and run this again"
                )
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=parent)


def _emptied(top: int, deadline: float) -> bool:
    """Remove what is in a folder; tell whether that was done in time.

    Folders further below are moved up first, so that no depth is too deep.
    """
    _take(top)
    left = True
    while left:
        left = False
        for name in _names(top):
            if time.monotonic() > deadline:
                return False
            left = True
            if _unlinked(top, name):
                continue
            folder = os.open(name, FOLDER, dir_fd=top)
            try:
                _take(folder)
                for inner in _names(folder):
                    if time.monotonic() > deadline:
                        return False
                    if not _unlinked(folder, inner):
                        os.rename(inner, f".{secrets.token_hex(16)}", src_dir_fd=folder, dst_dir_fd=top)
            finally:
                os.close(folder)
            try:
                os.rmdir(name, dir_fd=top)
            except OSError as error:
                # Some file systems skip names while others are removed; the next round finds them.
                if error.errno != errno.ENOTEMPTY:
                    raise
    return True


def _take(folder: int) -> None:
    """From here on its user can add nothing to it."""
    if os.geteuid() == 0:
        os.fchown(folder, 0, 0)
    os.fchmod(folder, 0o700)


def _names(folder: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry.name


def _unlinked(folder: int, name: str) -> bool:
    """Remove what is no folder; tell whether it was."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        return False
    return True
