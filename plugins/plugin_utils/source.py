# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of a release: find the source, check it, hash it, pack it.

A source is a zip or tar archive, a directory, a URL or a git repository. All of them are read into one `Tree`,
so that every check and the identity of a release are the same whatever it came from.
"""

from __future__ import annotations

import calendar
import contextlib
import fcntl
import hashlib
import io
import os
import posixpath
import re
import stat
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.error import URLError

from ansible.module_utils.urls import open_url

SOURCE_KEYS = ("path", "url", "git")
# Never part of a release: version control, byte code caches, editors' leavings.
# Single `.pyc` files stay: a compiled application consists of them.
_IGNORED_NAMES = re.compile(r"^(\.git|\.hg|\.svn|\.gitmodules|__pycache__|.*~|\.DS_Store)$")
# A source tree someone has run web2py in also holds what belongs to that run.
_FRAMEWORK_STATE = re.compile(r"^(applications|deposit|logs)(/|$)|^(parameters_\d+\.py|routes\.py|httpserver\.\w+)$")
_APPLICATION_STATE = re.compile(r"^(sessions|errors|uploads|cache|databases)(/|$)")
_VERSION = re.compile(r"""^VERSION\s*=\s*["'](?P<version>\d+(?:\.\d+)+)""", re.MULTILINE)
MINIMUM_VERSION = (3, 3)
MAXIMUM_MEMBER = 256 * 1024 * 1024  # bytes of one file
MAXIMUM_TREE = 1024 * 1024 * 1024  # bytes of all files


class SourceError(Exception):
    """The source cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """One regular file or symbolic link of a tree."""

    read: Callable[[], bytes]
    executable: bool = False
    mtime: int = 0
    link: str | None = None


@dataclass
class Tree:
    """Files of a release by their relative POSIX path."""

    origin: str
    entries: dict[str, Entry] = field(default_factory=dict)

    def has(self, path: str) -> bool:
        return path in self.entries

    def any_below(self, folder: str, suffix: str) -> bool:
        return any(name.startswith(folder + "/") and name.endswith(suffix) for name in self.entries)

    def below(self, folder: str) -> Tree:
        prefix = folder.rstrip("/") + "/"
        return Tree(self.origin, {n[len(prefix) :]: e for n, e in self.entries.items() if n.startswith(prefix)})

    def without(self, pattern: re.Pattern[str]) -> Tree:
        return Tree(self.origin, {n: e for n, e in self.entries.items() if not pattern.match(n)})

    def digest(self) -> str:
        """SHA-256 of names, kinds and contents: not of times, owners or the order in an archive."""
        total = hashlib.sha256()
        for name in sorted(self.entries):
            entry = self.entries[name]
            content = f"-> {entry.link}".encode() if entry.link is not None else entry.read()
            kind = "l" if entry.link is not None else "x" if entry.executable else "f"
            total.update(f"{kind} {hashlib.sha256(content).hexdigest()} {name}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def write(self, path: str) -> None:
        """Pack the tree as the one archive form that the modules on the host read."""
        with tarfile.open(path, "w:gz", compresslevel=6) as archive:
            for name in sorted(self.entries):
                entry = self.entries[name]
                member = tarfile.TarInfo(name)
                member.mtime = entry.mtime
                if entry.link is not None:
                    member.type, member.linkname = tarfile.SYMTYPE, entry.link
                    archive.addfile(member)
                    continue
                content = entry.read()
                member.size, member.mode = len(content), 0o755 if entry.executable else 0o644
                archive.addfile(member, io.BytesIO(content))


def _check_name(origin: str, name: str) -> str:
    """The name as a safe relative path; archives are not trusted to hold one."""
    clean = posixpath.normpath(name.replace("\\", "/"))
    if clean.startswith(("/", "../")) or clean == ".." or "\0" in name or re.match(r"^[A-Za-z]:", clean):
        raise SourceError(f"{origin} holds the unsafe path {name!r}; no release is made from such an archive")
    return clean


def _ignored(name: str) -> bool:
    return any(_IGNORED_NAMES.match(part) for part in name.split("/"))


def _strip_common_folder(tree: Tree, marker: str) -> Tree:
    """Archives often wrap everything in one folder (`web2py/`): drop it when the marker is one level down."""
    tops = {name.split("/", 1)[0] for name in tree.entries}
    if len(tops) == 1 and not tree.any_below(marker, ""):
        inner = tree.below(next(iter(tops)))
        if inner.entries:
            return inner
    return tree


def read_directory(path: str) -> Tree:
    tree = Tree(path)
    for folder, folders, files in os.walk(path):
        relative_folder = os.path.relpath(folder, path)
        for name in list(folders):
            if _IGNORED_NAMES.match(name):
                folders.remove(name)
            elif os.path.islink(os.path.join(folder, name)):
                folders.remove(name)
                files.append(name)
        for name in files:
            full = os.path.join(folder, name)
            relative = posixpath.normpath(posixpath.join(relative_folder.replace(os.sep, "/"), name))
            if _ignored(relative):
                continue
            info = os.lstat(full)
            if stat.S_ISLNK(info.st_mode):
                target = os.readlink(full)
                tree.entries[relative] = Entry(read=bytes, link=target, mtime=int(info.st_mtime))
            elif stat.S_ISREG(info.st_mode):

                def read(full: str = full) -> bytes:
                    with open(full, "rb") as stream:
                        return stream.read()

                tree.entries[relative] = Entry(read, bool(info.st_mode & stat.S_IXUSR), int(info.st_mtime))
    return tree


def _read_zip(path: str) -> Tree:
    tree = Tree(path)
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            name = _check_name(path, info.filename)
            mode = info.external_attr >> 16
            if stat.S_ISLNK(mode):
                tree.entries[name] = Entry(read=bytes, link=archive.read(info).decode("utf-8"))
                continue
            if info.file_size > MAXIMUM_MEMBER:
                raise SourceError(f"{path} holds {name} of {info.file_size} bytes; at most {MAXIMUM_MEMBER} are taken")
            content = archive.read(info)
            # Zip knows local times only; read them as UTC so that every controller gives the same.
            when = calendar.timegm((*info.date_time, 0, 0, 0))
            tree.entries[name] = Entry(lambda content=content: content, bool(mode & stat.S_IXUSR), when)
    return tree


def _read_tar(path: str) -> Tree:
    tree = Tree(path)
    total = 0
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if member.isdir():
                continue
            name = _check_name(path, member.name)
            if member.issym():
                tree.entries[name] = Entry(read=bytes, link=member.linkname, mtime=int(member.mtime))
            elif member.isfile():
                total += member.size
                if member.size > MAXIMUM_MEMBER or total > MAXIMUM_TREE:
                    raise SourceError(f"{path} unpacks to more than is taken ({name}: {member.size} bytes)")
                stream = archive.extractfile(member)
                content = stream.read() if stream else b""
                tree.entries[name] = Entry(
                    lambda content=content: content, bool(member.mode & stat.S_IXUSR), int(member.mtime)
                )
            else:
                raise SourceError(f"{path} holds {name}, which is neither a file, a folder nor a symbolic link")
    return tree


def read_path(path: str) -> Tree:
    """Read a directory, a zip, a tar (any compression) or a `.w2p` package."""
    if os.path.isdir(path):
        return read_directory(path)
    if not os.path.isfile(path):
        raise SourceError(f"{path} does not exist on the controller; give a directory, a zip, a tar or a .w2p file")
    try:
        tree = _read_zip(path) if zipfile.is_zipfile(path) else _read_tar(path)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise SourceError(f"{path} is neither a readable zip nor a readable tar archive: {error}") from error
    tree.entries = {name: entry for name, entry in tree.entries.items() if not _ignored(name)}
    return tree


def cache_directory() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    path = os.path.join(base, "web2py-deployment")
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Ansible runs one process per host: let one of them fill the cache while the others wait for it."""
    with open(path + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sha256_of(path: str) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _without_secrets(text: str, url: str = "") -> str:
    """The text without what an address in it may hold as a secret: user, password, and the query of `url`."""
    query = url[url.index("?") :] if "?" in url else ""
    return re.sub(r"//[^/@\s]+@", "//***@", text.replace(query, "?***") if query else text)


def fetch_url(url: str, checksum: str) -> str:
    """Download once into the controller's cache and check the SHA-256; a wrong file is never kept."""
    expected = checksum.removeprefix("sha256:").lower()
    shown = _without_secrets(url, url)
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise SourceError(f"checksum of {shown}: found {checksum!r}, allowed are 64 hexadecimal digits of a SHA-256")
    target = os.path.join(cache_directory(), f"download-{expected[:16]}")
    with _locked(target):
        if os.path.exists(target) and _sha256_of(target) == expected:
            return target
        partial = target + ".part"
        try:
            with open_url(url, timeout=30, follow_redirects="safe") as response, open(partial, "wb") as stream:
                while block := response.read(1 << 20):
                    stream.write(block)
        except (URLError, OSError, ValueError) as error:
            raise SourceError(
                f"cannot download {shown}: {_without_secrets(str(error), url)}. Check the address and the controller's "
                "network, or fetch the archive by hand and give it as `path`"
            ) from error
        found = _sha256_of(partial)
        if found != expected:
            os.unlink(partial)
            raise SourceError(
                f"wrong checksum of {shown}: found sha256 {found}, expected {expected}. "
                "Correct `checksum` only after you know why the file is another one"
            )
        os.replace(partial, target)
    return target


def _git(*arguments: str, cwd: str | None = None) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0"},
        )
    except FileNotFoundError as error:
        raise SourceError("the controller has no git; install it or give the source as `path` or `url`") from error
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"git {arguments[0]} did not end within 600 seconds") from error
    except subprocess.CalledProcessError as error:
        # A URL may carry a token; git repeats it in its messages.
        message = _without_secrets((error.stderr or "").strip())
        raise SourceError(
            f"git {arguments[0]} failed: {message.splitlines()[-1] if message else 'no message'}"
        ) from error
    return done.stdout


def fetch_git(repository: str, version: str) -> Tree:
    """Clone with submodules into the cache; web2py keeps pydal, yatl and rocket3 in submodules."""
    if repository.startswith("-") or version.startswith("-"):
        raise SourceError("git repository and version must not start with '-'")
    name = hashlib.sha256(repository.encode()).hexdigest()[:16]
    clone = os.path.join(cache_directory(), f"git-{name}")
    with _locked(clone):
        if not os.path.isdir(os.path.join(clone, ".git")):
            _git("clone", "--quiet", "--no-checkout", "--", repository, clone)
        known = subprocess.run(
            ["git", "cat-file", "-e", f"{version}^{{commit}}"], cwd=clone, check=False, capture_output=True
        )
        if not re.fullmatch(r"[0-9a-f]{40}", version) or known.returncode != 0:
            _git("fetch", "--quiet", "--tags", "--force", "origin", "+refs/heads/*:refs/remotes/origin/*", cwd=clone)
        commit = None
        for candidate in (f"refs/remotes/origin/{version}", version):
            with contextlib.suppress(SourceError):
                commit = _git("rev-parse", "--verify", "--quiet", f"{candidate}^{{commit}}", cwd=clone).strip()
                break
        if not commit:
            raise SourceError(f"the git repository has no branch, tag or commit {version!r}")
        _git("checkout", "--quiet", "--force", "--detach", commit, cwd=clone)
        _git("clean", "--quiet", "-ffdx", cwd=clone)
        _git("submodule", "--quiet", "update", "--init", "--recursive", "--force", cwd=clone)
        when = int(_git("show", "-s", "--format=%ct", commit, cwd=clone))
        tree = read_directory(clone)
        # Read now: another host's process may check out another version as soon as the lock is free.
        tree.entries = {
            name: Entry(lambda content=entry.read(): content, entry.executable, when, entry.link)
            for name, entry in tree.entries.items()
        }
        tree.origin = f"git commit {commit[:12]}"
    return tree


def read_source(source: Any, variable: str) -> Tree:
    """Read what an inventory gives as a source: exactly one of `path`, `url` (with `checksum`), `git`."""
    allowed = "{path: …}, {url: …, checksum: sha256} or {git: …, version: …}"
    if not isinstance(source, Mapping):
        raise SourceError(f"{variable}: found {type(source).__name__}, allowed is one of {allowed}")
    given = [key for key in SOURCE_KEYS if source.get(key)]
    known = {"path": set(), "url": {"checksum"}, "git": {"version"}}
    if len(given) != 1 or set(source) - {given[0]} - known[given[0]]:
        raise SourceError(f"{variable}: found the keys {sorted(source)}, allowed is one of {allowed}")
    kind = given[0]
    try:
        if kind == "path":
            return read_path(os.path.abspath(os.path.expanduser(str(source["path"]))))
        if kind == "url":
            if not source.get("checksum"):
                raise SourceError("`url` needs `checksum`, the SHA-256 of the file")
            return read_path(fetch_url(str(source["url"]), str(source["checksum"])))
        if not source.get("version"):
            raise SourceError("`git` needs `version`, a branch, tag or commit")
        return fetch_git(str(source["git"]), str(source["version"]))
    except SourceError as error:
        raise SourceError(f"{variable}: {error}") from error


def framework(tree: Tree) -> tuple[Tree, str]:
    """Check that the tree is a complete web2py 3.3+ and give its code without applications, and its version."""
    tree = _strip_common_folder(tree, "gluon")
    for needed in ("gluon/main.py", "gluon/version.py", "web2py.py"):
        if not tree.has(needed):
            raise SourceError(f"{tree.origin} is not web2py: {needed} is missing")
    for package in ("pydal", "yatl"):
        if not tree.has(f"gluon/packages/{package}/{package}/__init__.py"):
            raise SourceError(
                f"{tree.origin} lacks gluon/packages/{package}: a git export without its submodules is not complete"
            )
    match = _VERSION.search(tree.entries["gluon/version.py"].read().decode("utf-8", "replace"))
    if not match:
        raise SourceError(f"{tree.origin}: gluon/version.py names no version")
    version = match.group("version")
    if tuple(int(part) for part in version.split(".")) < MINIMUM_VERSION:
        raise SourceError(f"{tree.origin} is web2py {version}; 3.3 or newer is needed")
    code = tree.without(_FRAMEWORK_STATE)
    _check_links(code)
    return code, version


def application(tree: Tree, name: str, bundled: bool) -> Tree:
    """Check that the tree is a web2py application and give its code without what it collects while running."""
    if bundled:
        tree = _strip_common_folder(tree, "gluon").below(f"applications/{name}")
        if not tree.entries:
            raise SourceError(f"application {name!r} is not part of {tree.origin}; give its `source`")
    else:
        tree = _strip_common_folder(tree, "controllers")
    if not tree.any_below("controllers", ".py") and not tree.any_below("compiled", ".pyc"):
        raise SourceError(
            f"application {name!r}: {tree.origin} has no controllers/*.py (nor compiled code), "
            "so web2py could not serve it"
        )
    code = tree.without(_APPLICATION_STATE)
    _check_links(code)
    return code


MODEL = "models/000_web2py_deployment.py"
MODEL_TEXT = """\
# Written by Ansible (web2py.deployment.web2py_application): connects the application to its database, sessions, uploads
# and cache, before its own models run. The settings are in the file that is named below.
import sys

if "/opt/web2py/runtime" not in sys.path:
    sys.path.append("/opt/web2py/runtime")
from web2py_runtime.application import configure

globals().update(configure({settings_file!r}, request, response, session, cache))
"""

# The one that shows tickets of other applications, and how it learns that an application has some in a database.
ADMIN_MODEL_TEXT = """\
# Written by Ansible (web2py.deployment.web2py_application): opens the database into which tickets are collected.
import sys

if "/opt/web2py/runtime" not in sys.path:
    sys.path.append("/opt/web2py/runtime")
from web2py_runtime.ticket_storage import storage_dal

DAL = storage_dal(DAL)
# This page fails in web2py 3: it takes the checksum of a text.
if request.function == "errors" and request.args(1) == "dbnew":
    redirect(URL("errors", args=[request.args(0), "dbold"]))
"""
TICKET_STORAGE = "private/ticket_storage.txt"


def with_ticket_storage(tree: Tree, settings_file: str) -> Tree:
    """The application with the file that makes admin look for its tickets in a database."""
    content = f"web2py.deployment:{settings_file}\n".encode()
    return Tree(tree.origin, {**tree.entries, TICKET_STORAGE: Entry(lambda: content)})


def with_ticket_pages(tree: Tree) -> Tree:
    """admin with a model that understands this file."""
    return Tree(tree.origin, {**tree.entries, MODEL: Entry(ADMIN_MODEL_TEXT.encode)})


def with_model(tree: Tree, settings_file: str) -> Tree:
    """The application with a model of ours that runs before its own."""
    earlier = sorted(name for name in tree.entries if re.fullmatch(r"models/\w+\.py", name) and name <= MODEL)
    if earlier:
        raise SourceError(
            f"{tree.origin}: {earlier[0]} would run before {MODEL}, which this collection adds; rename it"
        )
    if tree.any_below("compiled", ".pyc"):
        raise SourceError(
            f"{tree.origin} is compiled: web2py would not run {MODEL}, which connects it to its database, sessions, "
            "uploads and cache; deploy the source, or take these keys out of web2py_applications"
        )
    content = MODEL_TEXT.format(settings_file=settings_file).encode()
    return Tree(tree.origin, {**tree.entries, MODEL: Entry(lambda: content)})


def _check_links(tree: Tree) -> None:
    """A link may lead only to files of its own top folder: `static/x` never out of `static`.

    No path may pass through another link, neither a link's target nor the place of any file: only then does what the
    names say hold on the disk, too.
    """
    links = {name for name, entry in tree.entries.items() if entry.link is not None}

    def through_link(parts: list[str]) -> bool:
        return any("/".join(parts[:end]) in links for end in range(1, len(parts) + 1))

    for name in tree.entries:
        if through_link(name.split("/")[:-1]):
            raise SourceError(f"{tree.origin} holds {name}, which lies below a symbolic link; no release is made of it")
    for name in links:
        target = str(tree.entries[name].link)
        walked = name.split("/")[:-1]
        top = walked[:1]
        outside = target.startswith("/") or not walked
        for part in target.split("/"):
            if part == "..":
                walked = walked[:-1]
            elif part not in ("", "."):
                walked = [*walked, part]
            outside = outside or walked[:1] != top or through_link(walked)
        if outside:
            raise SourceError(
                f"{tree.origin} holds the symbolic link {name} -> {target}, which leaves its folder or passes through "
                "another link; replace it by the file that it means"
            )


def packed(tree: Tree) -> str:
    """Pack into a private temporary file; the caller removes it."""
    handle, path = tempfile.mkstemp(prefix="web2py-release-", suffix=".tar.gz")
    os.close(handle)
    tree.write(path)
    return path
