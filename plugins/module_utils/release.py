# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Host side of a release: unpack beside the others, switch a link by rename, keep the newest few.

A release folder appears under its final name only when it is complete, so that one that exists can be trusted.
"""

from __future__ import annotations

import contextlib
import grp
import os
import posixpath
import pwd
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.module_utils import beneath

INCOMING = ".incoming-"
SEEDING = ".web2py-deployment-seeding"
# What web2py writes per application (gluon.fileutils.create_missing_app_folders and web2py-book, "Scalability").
STATE_FOLDERS = ("sessions", "errors", "uploads", "cache", "databases")
# What web2py would create at each request if it could, and complains of when it cannot.
CODE_FOLDERS = ("models", "views", "controllers", "modules", "cron", "languages", "static", "private")
# The options that modules have in common; plugins/doc_fragments/release.py documents them.
PLACES = {
    "home": {"type": "path", "default": "/opt/web2py"},
    "root": {"type": "path", "default": "/var/lib/web2py"},
}
ARCHIVE = {"_release": {"type": "str"}, "_archive": {"type": "path"}}
SOURCE = {
    "user": {"type": "str", "default": "web2py"},
    "group": {"type": "str", "default": "web2py"},
    "keep": {"type": "int", "default": 3},
    "source_max_files": {"type": "int", "default": 50_000},
    "source_max_bytes": {"type": "int", "default": 1 << 30},
    "source_max_ratio": {"type": "int", "default": 200},
}


class ReleaseError(Exception):
    """The release cannot be put in place; what runs stays as it is."""


def fault_of(module: str, options: Mapping[str, Any]) -> str:
    """What is wrong with the options of a module that installs a release."""
    if options["_release"] is None:
        return f"{module} runs through its action plugin only; call it from a playbook"
    if options.get("keep", 1) < 1:
        return f"keep is {options['keep']}; it must be at least 1"
    return ""


def user_id(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def group_id(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def link_target(path: str) -> str | None:
    return os.readlink(path) if os.path.islink(path) else None


def switch(link: str, target: str) -> None:
    """Point `link` at `target` in one atomic step."""
    if os.path.lexists(link) and not os.path.islink(link):
        raise ReleaseError(f"{link} exists and is not a symbolic link; move it away, this collection did not make it")
    folder, name = os.path.split(link)
    temporary = f"{name}.new-{os.getpid()}"
    with beneath.opened(folder) as parent:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        os.symlink(target, temporary, dir_fd=parent)
        os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


def ensure_link(link: str, target: str, check: bool) -> bool:
    """Make a link to exactly this target; tell whether anything was (or would be) changed."""
    if link_target(link) == target:
        return False
    if not check:
        switch(link, target)
    return True


def unpack(archive: str, folder: str) -> None:
    """Unpack an archive written by the controller; anything it would not write is refused.

    Links are made last, so that no file can be written through one.
    """
    links = []
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            if member.name.startswith("/") or ".." in member.name.split("/") or not (member.isfile() or member.issym()):
                raise ReleaseError(f"the archive holds the unexpected member {member.name!r}")
            path = os.path.join(folder, member.name)
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            if member.issym():
                links.append((member.linkname, path))
                continue
            source = members.extractfile(member)
            with open(path, "xb") as target:
                if source is not None:
                    shutil.copyfileobj(source, target)
            os.chmod(path, 0o755 if member.mode & 0o100 else 0o644)
            os.utime(path, (member.mtime, member.mtime))
    for target, path in links:
        os.symlink(target, path)


def releases(folder: str) -> list[str]:
    """Names of the complete releases, the newest installation first."""
    with contextlib.suppress(FileNotFoundError):
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        complete = [name for name in names if not name.startswith(".")]
        return sorted(complete, key=lambda name: os.stat(os.path.join(folder, name)).st_mtime_ns, reverse=True)
    return []


def surplus(names: Iterable[str], keep: int, in_use: Iterable[str], preferred: Iterable[str] = ()) -> list[str]:
    """Which of the releases (newest first) go when `keep` of them stay; one in use always stays and counts.

    Of the others the preferred ones stay first, in their order.
    """
    names, used = list(names), set(in_use)
    there = set(names)
    room = keep - len(used & there)
    stay = set(used)
    for name in [*(name for name in preferred if name in there), *names]:
        if name not in stay and room > 0:
            stay.add(name)
            room -= 1
    return [name for name in names if name not in stay]


@contextlib.contextmanager
def staging(folder: str):
    """A private folder beside the releases, gone afterwards unless it was renamed; also sweeps earlier leftovers."""
    for entry in list(os.scandir(folder)):
        if entry.name.startswith(INCOMING):
            shutil.rmtree(entry.path)
    path = tempfile.mkdtemp(prefix=INCOMING, dir=folder)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def commit(staged: str, final: str) -> None:
    """Give a staged release its name; the folder's time becomes the time of installation."""
    os.utime(staged)
    os.rename(staged, final)


def own(folder: str, uid: int, gid: int, directory_mode: int, file_mode: int) -> None:
    """Set owner and modes below a folder; a file that may be executed keeps that for those who may read it.

    By path: for folders that nobody but the caller's user can write.
    """
    for path, folders, files in os.walk(folder):
        os.chown(path, uid, gid)
        os.chmod(path, directory_mode)
        for name in [*folders, *files]:
            full = os.path.join(path, name)
            os.chown(full, uid, gid, follow_symlinks=False)
            if name in files and not os.path.islink(full):
                executable = os.stat(full).st_mode & 0o100
                os.chmod(full, file_mode | (file_mode & 0o444) >> 2 if executable else file_mode)


def ensure_shared(path: str, target: str, uid: int, gid: int, check: bool) -> bool:
    """Make a folder that several hosts share, and a link to it; tell whether anything was (or would be) changed."""

    def provide() -> bool:
        missing = not os.path.isdir(target)
        if missing and not check:
            # Another host may be about to make it, too.
            os.makedirs(target, mode=0o700, exist_ok=True)
        return missing

    # On a server that squashes root, root may not even look; and what is there belongs to the user.
    missing = beneath.as_user(uid, gid, provide)
    if os.path.isdir(path) and not os.path.islink(path):
        if os.listdir(path):
            raise ReleaseError(
                f"{path} is to be shared, but it holds files of this host alone; "
                f"stop the web server, move them to {target} and run the play again"
            )
        if check:
            return True
        with beneath.opened(os.path.dirname(path)) as parent:
            os.rmdir(os.path.basename(path), dir_fd=parent)
    return ensure_link(path, target, check) or missing


def unshare(path: str, shared: str, check: bool) -> bool:
    """Remove a link into what hosts share, where a folder of this host's own is to be."""
    target = link_target(path)
    if target is None or not target.startswith(f"{shared}/"):
        return False
    if not check:
        with beneath.opened(os.path.dirname(path)) as parent:
            os.unlink(os.path.basename(path), dir_fd=parent)
    return True


def seed(source: str, target: str, uid: int, gid: int) -> None:
    """Copy what an application brings in a folder that it may write, as its user, unless something is there.

    A mark says that a copy has begun: where that was killed, the next run must not take a part for the whole.
    """
    mark = os.path.join(target, SEEDING)

    def copy() -> None:
        there = os.listdir(target)
        if there and SEEDING not in there:
            return
        try:
            # A pipe of this name would be waited for.
            os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
            own(target, uid, gid, 0o700, 0o600)
            os.unlink(mark)
        except OSError as error:
            if not there:
                clear(target)
            # Of many errors the first.
            causes = error.args[0] if isinstance(error, shutil.Error) else [(source, target, error)]
            raise beneath.BeneathError(f"{target} could not be filled: {causes[0][2]}") from None

    beneath.as_user(uid, gid, copy)


def clear(folder: str) -> None:
    """Remove what is in a folder of the caller's own."""
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            os.unlink(entry.path)


def link_state(staged: str, data: str, writable: Iterable[str]) -> None:
    """Inside a staged application, replace each writable folder by a link to its place outside the release."""
    for name in writable:
        path = os.path.join(staged, name)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        os.symlink(posixpath.join(data, name), path)


def complete_application(staged: str) -> None:
    """Add what web2py expects in every application and would otherwise try to create in read-only code."""
    for name in CODE_FOLDERS:
        os.makedirs(os.path.join(staged, name), exist_ok=True)
    with contextlib.suppress(FileExistsError), open(os.path.join(staged, "cron", "crontab"), "x") as stream:
        stream.write("#crontab\n")
    with contextlib.suppress(FileExistsError):
        open(os.path.join(staged, "__init__.py"), "x").close()
