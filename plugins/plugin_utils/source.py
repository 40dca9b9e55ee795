# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Controller side of a release: find the source, check it, hash it, pack it.

A source is a zip or tar archive, a directory, a URL or a git repository. All of them are read into one `Tree`,
so that every check and the identity of a release are the same whatever it came from.

Its author is not trusted: number and sizes of what is in it have limits, which hold before something is unpacked where
a source says them, and while it is unpacked where it does not. No content is held in memory.
"""

from __future__ import annotations

import bz2
import calendar
import contextlib
import fcntl
import functools
import gzip
import hashlib
import io
import lzma
import os
import posixpath
import re
import stat
import subprocess
import tarfile
import tempfile
import unicodedata
import weakref
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.error import URLError

from ansible.module_utils.urls import open_url

SOURCE_KEYS = ("path", "url", "git")
# Never part of a release: version control, byte code caches, editors' leavings.
# Single `.pyc` files stay: a compiled application consists of them.
_IGNORED_NAMES = re.compile(r"^(\.git|\.hg|\.svn|\.gitmodules|__pycache__|.*~|\.DS_Store)\Z")
# A source tree someone has run web2py in also holds what belongs to that run.
_FRAMEWORK_STATE = re.compile(r"^(applications|deposit|logs)(/|$)|^(parameters_\d+\.py|routes\.py|httpserver\.\w+)$")
_APPLICATION_STATE = re.compile(r"^(sessions|errors|uploads|cache|databases)(/|$)")
_VERSION = re.compile(r"""^VERSION\s*=\s*["'](?P<version>\d+(?:\.\d+)+)""", re.MULTILINE)
MINIMUM_VERSION = (3, 3)
# Bytes of one file.
LARGEST_FILE = 256 << 20
# Smaller trees may be packed as tightly as they like: an empty database of 1 MB has some hundred bytes then.
RATIO_FROM = 16 << 20
# What an archive may say about one of its members: names, times, attributes.
LARGEST_HEADER = 64 << 10
# An unpacker of xz takes as much memory as the archive asks for; that of the strongest preset takes 65 MiB.
XZ_MEMORY = 100 << 20
LONGEST_NAME, LONGEST_STEP, DEEPEST = 1024, 255, 64
DEEPEST_SUBMODULE = 8
BLOCK = 1 << 16
# Control characters of ASCII and Latin-1, the line ends of Unicode, and bytes that are not UTF-8.
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class SourceError(Exception):
    """The source cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Limits:
    """What a source may hold; the names are those of the role's variables without `web2py_source_`."""

    max_files: int = 50_000
    max_bytes: int = 1 << 30
    max_ratio: int = 200

    def exceeded(self, origin: str, name: str, found: str) -> SourceError:
        return SourceError(
            f"web2py_source_{name} is {getattr(self, name)}; it must not be exceeded, and {origin} has {found}. If you "
            f"trust its author, raise web2py_source_{name}"
        )


def limits(values: Mapping[str, Any]) -> Limits:
    """The limits among the arguments of a module, by their names with `source_`."""
    found = {}
    for name, default in vars(Limits()).items():
        value = values.get(f"source_{name}", default)
        if isinstance(value, bool) or not re.fullmatch(r"[1-9][0-9]{0,17}", str(value)):
            raise SourceError(f"web2py_source_{name} is {value!r}; it must be a whole number from 1. Correct it")
        found[name] = int(str(value))
    return Limits(**found)


@dataclass(frozen=True, slots=True)
class Entry:
    """One regular file or symbolic link of a tree."""

    open: Callable[[], BinaryIO]
    size: int
    executable: bool = False
    mtime: int = 0
    link: str | None = None

    @classmethod
    def of(cls, content: bytes) -> Entry:
        return cls(lambda: io.BytesIO(content), len(content))

    @classmethod
    def link_to(cls, target: str, mtime: int = 0) -> Entry:
        return cls(io.BytesIO, 0, mtime=mtime, link=target)

    def read(self, most: int = 1 << 20) -> bytes:
        """The content of a small file, or the beginning of another one."""
        with self.open() as stream:
            return stream.read(most)


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
        """SHA-256 of names, kinds and contents: not of times, owners or the order in an archive.

        Of each entry one letter, the length of its name, the name, and 32 bytes of its content: no two trees give the
        same text.
        """
        total = hashlib.sha256(b"web2py.deployment 2\n")
        for name in sorted(self.entries):
            entry = self.entries[name]
            kind = b"l" if entry.link is not None else b"x" if entry.executable else b"f"
            encoded = name.encode("utf-8")
            content = hashlib.sha256(entry.link.encode("utf-8") if entry.link is not None else b"")
            if entry.link is None:
                for block in self._blocks(name):
                    content.update(block)
            total.update(kind + len(encoded).to_bytes(8, "big") + encoded + content.digest())
        return total.hexdigest()

    def _blocks(self, name: str) -> Iterator[bytes]:
        entry = self.entries[name]
        left = entry.size
        with entry.open() as stream:
            while left and (block := stream.read(min(BLOCK, left))):
                left -= len(block)
                yield block
            if left or stream.read(1):
                raise SourceError(f"{self.origin}: {name} has changed while it was read; run this again")

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
                member.size, member.mode = entry.size, 0o755 if entry.executable else 0o644
                with entry.open() as stream:
                    archive.addfile(member, stream)
                # It would keep all of them.
                archive.members.clear()


def _folders(tree: Tree) -> set[str]:
    """All folders in which something lies."""
    found: set[str] = set()
    for name in tree.entries:
        folder = posixpath.dirname(name)
        while folder and folder not in found:
            found.add(folder)
            folder = posixpath.dirname(folder)
    return found


class Reader:
    """Collects the entries of one source, and refuses what no release may hold."""

    def __init__(self, origin: str, allowed: Limits) -> None:
        self.origin, self.allowed = origin, allowed
        self.tree = Tree(origin)
        self.members = self.bytes = 0
        self.folded: dict[str, str] = {}

    def count(self, size: int = 0, name: str = "") -> None:
        """One more member, of so many bytes; asked before anything of it is read."""
        self.members += 1
        if self.members > self.allowed.max_files:
            raise self.allowed.exceeded(self.origin, "max_files", "more files, folders and links than that")
        if not 0 <= size <= LARGEST_FILE:
            raise SourceError(
                f"{self.origin} holds {name!r} of {size} bytes; one file of a release has at most {LARGEST_FILE}. "
                "Leave it out, and put it on the hosts by other means"
            )
        self.bytes += size
        if self.bytes > self.allowed.max_bytes:
            raise self.allowed.exceeded(self.origin, "max_bytes", "more bytes than that, unpacked")

    def ratio(self, unpacked: int, packed: int) -> None:
        if unpacked > RATIO_FROM and unpacked > packed * self.allowed.max_ratio:
            raise self.allowed.exceeded(self.origin, "max_ratio", f"{unpacked} bytes or more in {packed}")

    def name(self, name: str) -> str:
        """The name as a safe relative path; sources are not trusted to hold one."""
        if _CONTROL.search(name):
            raise SourceError(
                f"{self.origin} holds {name[:200]!r}, a name with control characters or bytes that are not UTF-8; "
                "rename it"
            )
        clean = posixpath.normpath(name.replace("\\", "/")) if name else ""
        if clean in ("", ".", "..") or clean.startswith(("/", "../")) or re.match(r"^[A-Za-z]:", clean):
            raise SourceError(
                f"{self.origin} holds the unsafe path {name[:200]!r}; no release is made from such an archive"
            )
        steps = clean.split("/")
        if (
            len(clean.encode()) > LONGEST_NAME
            or len(steps) > DEEPEST
            or any(len(step.encode()) > LONGEST_STEP for step in steps)
        ):
            raise SourceError(
                f"{self.origin} holds {name[:200]!r}, a longer or deeper path than a release may have: at most "
                f"{LONGEST_NAME} bytes, {LONGEST_STEP} in each of at most {DEEPEST} steps"
            )
        return clean

    def add(self, name: str, entry: Entry) -> None:
        folded = unicodedata.normalize("NFC", name)
        if folded in self.folded:
            raise SourceError(
                f"{self.origin} holds {name!r} and {self.folded[folded]!r}, which are one name to many programs; "
                "leave one of them out"
            )
        if entry.link is not None and (
            not entry.link
            or _CONTROL.search(entry.link)
            or len(entry.link.encode()) > LONGEST_NAME
            or entry.link.count("/") >= DEEPEST
        ):
            raise SourceError(f"{self.origin} holds the symbolic link {name!r} with a malformed target; replace it")
        self.folded[folded] = name
        self.tree.entries[name] = entry

    def done(self) -> Tree:
        for folder in _folders(self.tree):
            if folder in self.tree.entries and self.tree.entries[folder].link is None:
                raise SourceError(f"{self.origin} holds {folder!r} as a file and as a folder; rename one")
        self.tree.entries = {name: entry for name, entry in self.tree.entries.items() if not _ignored(name)}
        return self.tree

    def other_kind(self, name: str) -> SourceError:
        return SourceError(f"{self.origin} holds {name!r}, which is neither a file, a folder nor a symbolic link")


class _Spool:
    """Unpacked contents, one after the other in a file without a name; on disk, as /tmp may be memory."""

    def __init__(self) -> None:
        self.descriptor, path = tempfile.mkstemp(prefix="unpacked-", dir=cache_directory())
        os.unlink(path)
        # When neither this nor a slice of it is needed any more.
        weakref.finalize(self, os.close, self.descriptor)
        self.end = 0

    def keep(self, stream: Any, size: int) -> Callable[[], BinaryIO]:
        """Take exactly so many bytes; gives how to read them again."""
        start = self.end
        while self.end < start + size and (block := stream.read(min(BLOCK, start + size - self.end))):
            while block:
                written = os.write(self.descriptor, block)
                self.end, block = self.end + written, block[written:]
        if self.end < start + size:
            raise EOFError("a file in it is shorter than it says")
        return functools.partial(_Slice, self, start, size)


class _Slice(io.RawIOBase):
    """A part of what is kept, as a file; any number of them can be open at once."""

    def __init__(self, spool: _Spool, start: int, size: int) -> None:
        self.spool, self.position, self.end = spool, start, start + size

    def read(self, size: int = -1) -> bytes:
        left = self.end - self.position
        # All of it: a raw file may give less than was asked for.
        wanted = left if size < 0 else min(size, left)
        parts = []
        while wanted and (part := os.pread(self.spool.descriptor, wanted, self.position)):
            parts.append(part)
            self.position += len(part)
            wanted -= len(part)
        return b"".join(parts)


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


def read_directory(path: str, allowed: Limits = Limits()) -> Tree:
    reader = Reader(path, allowed)
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        with os.scandir(os.path.join(path, folder)) as found:
            for item in found:
                relative = posixpath.join(folder, item.name)
                if _IGNORED_NAMES.match(item.name):
                    continue
                info = item.stat(follow_symlinks=False)
                regular = stat.S_ISREG(info.st_mode)
                reader.count(info.st_size if regular else 0, relative)
                name, mtime = reader.name(relative), _time(info.st_mtime)
                if stat.S_ISDIR(info.st_mode):
                    waiting.append(relative)
                elif stat.S_ISLNK(info.st_mode):
                    reader.add(name, Entry.link_to(os.readlink(item.path), mtime))
                elif regular:
                    opened = functools.partial(_open_file, item.path)
                    reader.add(name, Entry(opened, info.st_size, bool(info.st_mode & stat.S_IXUSR), mtime))
                else:
                    raise reader.other_kind(relative)
    return reader.done()


def _open_file(path: str) -> BinaryIO:
    """What was a regular file when it was listed: a link or a FIFO in its place is not opened, or gives nothing."""
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK))


def _time(seconds: float) -> int:
    """A time that every file system and archive takes."""
    try:
        return min(max(int(seconds), 0), 1 << 32)
    except (ValueError, OverflowError):
        return 0


class _Index:
    """A zip archive as `zipfile` reads it, which takes its whole index into memory at once."""

    def __init__(self, stream: BinaryIO, reader: Reader) -> None:
        self.stream, self.reader = stream, reader
        self.seek, self.tell, self.close, self.seekable = stream.seek, stream.tell, stream.close, stream.seekable

    def read(self, size: int = -1) -> bytes:
        allowed = self.reader.allowed
        most = max(LARGEST_HEADER * 4, allowed.max_files * 320)
        data = self.stream.read(most + 1 if size < 0 else min(size, most + 1))
        if len(data) > most:
            raise allowed.exceeded(self.reader.origin, "max_files", f"an index of more than {most} bytes")
        # Each member's entry begins with this.
        if len(data) > BLOCK and data.count(b"PK\1\2") > allowed.max_files:
            raise allowed.exceeded(self.reader.origin, "max_files", "more files, folders and links than that")
        return data


def _read_zip(path: str, allowed: Limits) -> Tree:
    reader = Reader(path, allowed)
    with open(path, "rb") as stream, zipfile.ZipFile(_Index(stream, reader)) as archive:
        members = archive.infolist()
        for info in members:
            reader.count(info.file_size, info.filename)
        reader.ratio(reader.bytes, os.path.getsize(path))
        # Members that share bytes give more than the archive has.
        end = 0
        for info in sorted(members, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise SourceError(f"{path} holds {info.filename!r}, which overlaps another file of the archive")
            # 30 bytes of a header, and the name, of one byte a character or more.
            end = info.header_offset + 30 + len(info.orig_filename) + info.compress_size
        spool = _Spool()
        for info in members:
            if info.is_dir():
                continue
            # zipfile ends the other one at a NUL.
            name = reader.name(info.orig_filename)
            mode = info.external_attr >> 16
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise SourceError(f"{path} holds {name!r}, compressed in a rare way; pack it with deflate")
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK):
                raise reader.other_kind(name)
            with archive.open(info) as content:
                if stat.S_ISLNK(mode):
                    if info.file_size >= 4096:
                        raise SourceError(
                            f"{path} holds the symbolic link {name!r} with a malformed target; replace it"
                        )
                    reader.add(name, Entry.link_to(content.read(4096).decode("utf-8")))
                    continue
                # No more comes than was counted, and what is cut off or short has another checksum.
                opened = spool.keep(content, info.file_size)
            try:
                # Zip knows local times only; read them as UTC so that every controller gives the same.
                when = _time(calendar.timegm((*info.date_time, 0, 0, 0)))
            except ValueError:
                when = 0
            reader.add(name, Entry(opened, info.file_size, bool(mode & stat.S_IXUSR), when))
    return reader.done()


class _Unpacked:
    """The text of a file that bzip2 or xz has packed, never more of it at once than is asked for."""

    def __init__(self, stream: BinaryIO, decompressor: Callable[[], Any]) -> None:
        self.stream, self.make, self.decompressor = stream, decompressor, decompressor()

    def read(self, size: int) -> bytes:
        while True:
            packed = b""
            if self.decompressor.eof:
                packed = (self.decompressor.unused_data or self.stream.read(BLOCK)).lstrip(b"\0")
                if not packed:
                    return b""
                self.decompressor = self.make()
            elif self.decompressor.needs_input:
                packed = self.stream.read(BLOCK)
                if not packed:
                    raise EOFError("it ends in the middle")
            if text := self.decompressor.decompress(packed, size):
                return text


_PACKED: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": lambda stream: _Unpacked(stream, bz2.BZ2Decompressor),
    b"\xfd7zXZ\0": lambda stream: _Unpacked(stream, functools.partial(lzma.LZMADecompressor, memlimit=XZ_MEMORY)),
    b"\x5d\0\0": lambda stream: _Unpacked(stream, functools.partial(lzma.LZMADecompressor, memlimit=XZ_MEMORY)),
}


class _Metered:
    """The text of a tar archive as `tarfile` reads it: forwards only, and no further than the limits."""

    def __init__(self, stream: BinaryIO, packed: int, reader: Reader) -> None:
        magic = stream.read(6)
        stream.seek(0)
        unpack = next((unpack for start, unpack in _PACKED.items() if magic.startswith(start)), lambda stream: stream)
        self.text, self.packed, self.reader = unpack(stream), packed, reader
        self.position = 0
        # Bytes that may still be read before the next header.
        self.allowance = LARGEST_HEADER

    def tell(self) -> int:
        return self.position

    def read(self, size: int = -1) -> bytes:
        self.allowance -= size
        if size < 0 or self.allowance < 0:
            raise SourceError(f"{self.reader.origin} is malformed: a header in it has more than {LARGEST_HEADER} bytes")
        return self._text(size)

    def seek(self, position: int, whence: int = os.SEEK_SET) -> int:
        if position < self.position or whence != os.SEEK_SET:
            raise SourceError(f"{self.reader.origin} is malformed: it leads back to what has been read")
        while self.position < position and self._text(min(BLOCK, position - self.position)):
            pass
        return self.position

    def _text(self, size: int) -> bytes:
        allowed = self.reader.allowed
        found = bytearray()
        while len(found) < size and (part := self.text.read(size - len(found))):
            found += part
            self.position += len(part)
            self.reader.ratio(self.position, self.packed)
            if self.position > allowed.max_bytes + 4096 * allowed.max_files:
                raise allowed.exceeded(self.reader.origin, "max_bytes", "more bytes than that, unpacked")
        return bytes(found)


def _read_tar(path: str, allowed: Limits) -> Tree:
    reader, spool = Reader(path, allowed), _Spool()
    with open(path, "rb") as stream:
        metered = _Metered(stream, os.path.getsize(path), reader)
        with tarfile.open(fileobj=metered, mode="r:") as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                # It would keep all of them, each with what is said of all.
                archive.members.clear()
                if len(archive.pax_headers) > 16:
                    raise SourceError(f"{path} is malformed: it has {len(archive.pax_headers)} global headers")
                reader.count(member.size if member.isfile() else 0, member.name)
                name = member.name if member.isdir() else reader.name(member.name)
                if member.issym():
                    reader.add(name, Entry.link_to(member.linkname, _time(member.mtime)))
                elif member.isfile() and not member.issparse():
                    metered.allowance = member.size
                    opened = spool.keep(metered, member.size)
                    reader.add(name, Entry(opened, member.size, bool(member.mode & stat.S_IXUSR), _time(member.mtime)))
                elif not member.isdir():
                    raise reader.other_kind(name)
                metered.allowance = LARGEST_HEADER
    return reader.done()


def read_path(path: str, allowed: Limits = Limits()) -> Tree:
    """Read a directory, a zip, a tar (any compression) or a `.w2p` package."""
    try:
        if os.path.isdir(path):
            return read_directory(path, allowed)
        if not os.path.isfile(path):
            raise SourceError(f"{path} does not exist on the controller; give a directory, a zip, a tar or a .w2p file")
        return _read_zip(path, allowed) if zipfile.is_zipfile(path) else _read_tar(path, allowed)
    except SourceError:
        raise
    except Exception as error:
        # Their readers raise all kinds for what somebody has malformed with care.
        raise SourceError(f"{path} cannot be read as a directory, a zip or a tar archive: {error}") from error


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


def fetch_url(url: str, checksum: str, allowed: Limits = Limits()) -> str:
    """Download once into the controller's cache and check the SHA-256; a wrong file is never kept."""
    expected = checksum.removeprefix("sha256:").lower()
    shown = _without_secrets(url, url)
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise SourceError(f"checksum of {shown} is {checksum!r}; it must be 64 hexadecimal digits of a SHA-256")
    target = os.path.join(cache_directory(), f"download-{expected[:16]}")
    with _locked(target):
        if os.path.exists(target) and _sha256_of(target) == expected:
            return target
        partial = target + ".part"
        try:
            with open_url(url, timeout=30, follow_redirects="safe") as response, open(partial, "wb") as stream:
                while block := response.read(1 << 20):
                    stream.write(block)
                    if stream.tell() > allowed.max_bytes:
                        os.unlink(partial)
                        raise allowed.exceeded(shown, "max_bytes", "more bytes than that")
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


# Larger files are not held in memory.
_GIT = ("git", "-c", "core.bigFileThreshold=16m")
_GIT_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0"}


def _git(*arguments: str, cwd: str | None = None) -> str:
    try:
        done = subprocess.run(
            [*_GIT, *arguments],
            cwd=cwd,
            check=True,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=600,
            env={**os.environ, **_GIT_ENVIRONMENT},
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


def _counted(reader: Reader, folder: str, commit: str) -> list[tuple[str, str]]:
    """Count the files of a commit by their sizes, before any is unpacked; gives its submodules and their commits."""
    submodules = []
    with subprocess.Popen(
        [*_GIT, "ls-tree", "-r", "-l", "-z", commit],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_GIT_ENVIRONMENT},
    ) as listing:
        try:
            left = b""
            # A tree that holds itself many times over is listed without an end.
            while block := listing.stdout.read(BLOCK) if listing.stdout else b"":
                *lines, left = (left + block).split(b"\0")
                if len(left) > LARGEST_HEADER:
                    raise SourceError(
                        f"{reader.origin} is malformed: it has a name of more than {LARGEST_HEADER} bytes"
                    )
                for line in lines:
                    about, path = line.decode("utf-8", "surrogateescape").split("\t", 1)
                    mode, _kind, identity, size = about.split()
                    name = reader.name(path)
                    if mode == "160000":
                        submodules.append((name, identity))
                    reader.count(int(size) if size.isdecimal() else 0, name)
        finally:
            listing.kill()
    return submodules


def _check_out(reader: Reader, folder: str, commit: str, depth: int = 0) -> None:
    """Put the files of a commit and of its submodules in place, each repository after its files have been counted."""
    submodules = _counted(reader, folder, commit)
    _git("checkout", "--quiet", "--force", "--detach", commit, cwd=folder)
    _git("clean", "--quiet", "-ffdx", cwd=folder)
    if not submodules:
        return
    if depth == DEEPEST_SUBMODULE:
        raise SourceError(f"{reader.origin} has submodules within submodules, more than {DEEPEST_SUBMODULE} deep")
    _git("submodule", "--quiet", "init", cwd=folder)
    known = _git("config", "--local", "--name-only", "--list", cwd=folder).splitlines()
    for name in {line[: -len(".url")] for line in known if re.fullmatch(r"submodule\..*\.url", line)}:
        # git clones it then, by its own rules of which addresses may be asked, and checks nothing out.
        _git("config", "--local", f"{name}.update", "!true", cwd=folder)
    _git("submodule", "--quiet", "update", cwd=folder)
    for path, identity in submodules:
        inner = os.path.join(folder, path)
        if os.path.realpath(inner) != os.path.join(os.path.realpath(folder), path):
            raise SourceError(f"{reader.origin} holds the submodule {path!r} below a symbolic link")
        if os.path.exists(os.path.join(inner, ".git")):
            _check_out(reader, inner, identity, depth + 1)


def fetch_git(repository: str, version: str, allowed: Limits = Limits()) -> Tree:
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
        origin = f"git commit {commit[:12]}"
        _check_out(Reader(origin, allowed), clone, commit)
        when = int(_git("show", "-s", "--format=%ct", commit, cwd=clone))
        tree, spool = read_directory(clone, allowed), _Spool()
        # Kept now: another host's process may check out another version as soon as the lock is free.
        for path, entry in tree.entries.items():
            with entry.open() as stream:
                opened = spool.keep(stream, entry.size)
            tree.entries[path] = Entry(opened, entry.size, entry.executable, _time(when), entry.link)
        tree.origin = origin
    return tree


def read_source(source: Any, variable: str, allowed: Limits = Limits()) -> Tree:
    """Read what an inventory gives as a source: exactly one of `path`, `url` (with `checksum`), `git`."""
    forms = "{path: …}, {url: …, checksum: sha256} or {git: …, version: …}"
    if not isinstance(source, Mapping):
        raise SourceError(f"{variable} is a {type(source).__name__}; it must be one of {forms}")
    given = [key for key in SOURCE_KEYS if source.get(key)]
    known = {"path": set(), "url": {"checksum"}, "git": {"version"}}
    if len(given) != 1 or set(source) - {given[0]} - known[given[0]]:
        raise SourceError(f"{variable} has the keys {sorted(source)}; it must be one of {forms}")
    kind = given[0]
    try:
        if kind == "path":
            return read_path(os.path.abspath(os.path.expanduser(str(source["path"]))), allowed)
        if kind == "url":
            if not source.get("checksum"):
                raise SourceError("`url` needs `checksum`, the SHA-256 of the file")
            return read_path(fetch_url(str(source["url"]), str(source["checksum"]), allowed), allowed)
        if not source.get("version"):
            raise SourceError("`git` needs `version`, a branch, tag or commit")
        return fetch_git(str(source["git"]), str(source["version"]), allowed)
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
    return Tree(tree.origin, {**tree.entries, TICKET_STORAGE: Entry.of(content)})


def with_ticket_pages(tree: Tree) -> Tree:
    """admin with a model that understands this file."""
    return Tree(tree.origin, {**tree.entries, MODEL: Entry.of(ADMIN_MODEL_TEXT.encode())})


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
    return Tree(tree.origin, {**tree.entries, MODEL: Entry.of(content)})


def _check_links(tree: Tree) -> None:
    """A link may lead only to files of its own top folder: `static/x` never out of `static`.

    No path may pass through another link, neither a link's target nor the place of any file: only then does what the
    names say hold on the disk, too.
    """
    links = {name for name, entry in tree.entries.items() if entry.link is not None}
    if below := links & _folders(tree):
        folder = min(below)
        name = min(name for name in tree.entries if name.startswith(folder + "/"))
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
            outside = outside or walked[:1] != top or "/".join(walked) in links
        if outside:
            raise SourceError(
                f"{tree.origin} holds the symbolic link {name} -> {target}, which leaves its folder or passes through "
                "another link; replace it by the file that it means"
            )


def packed(tree: Tree) -> str:
    """Pack into a private temporary file; the caller removes it."""
    handle, path = tempfile.mkstemp(prefix="web2py-release-", suffix=".tar.gz")
    os.close(handle)
    try:
        tree.write(path)
    except BaseException:
        os.unlink(path)
        raise
    return path
