# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sources of an author who is not trusted: each is refused soon, and in little memory; what is legitimate is not."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import time
import unicodedata
import zipfile
import zlib
from pathlib import Path

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import release
from ansible_collections.web2py.deployment.plugins.plugin_utils import source

MIB = 1 << 20
# What the lab names; other runners of these tests have no web2py.
TREES = ("LAB_WEB2PY", "LAB_WEB2PY_HEAD")
# What the issue allows the controller, and how long it may take to refuse something on a busy machine.
MOST_MEMORY, MOST_SECONDS = 300 * MIB, 20
COLLECTIONS = Path(source.__file__).parents[5]
# Reads each source in a process of its own; says what came of it, the seconds, and the most memory of that process.
RUNNER = """
import json, os, sys, time
from ansible_collections.web2py.deployment.plugins.plugin_utils import source
for path in sys.argv[2:]:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        started = time.monotonic()
        try:
            tree = source.read_path(path)
            found = {"digest": tree.digest(), "files": len(tree.entries)}
            if sys.argv[1] == "pack":
                packed = source.packed(tree)
                found["packed"] = os.path.getsize(packed)
                os.unlink(packed)
        except source.SourceError as error:
            found = {"refused": str(error)}
        except BaseException as error:
            found = {"failed": repr(error)[:300]}
        found["seconds"] = time.monotonic() - started
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    found = json.loads(os.read(reading, 65536) or b'{"failed": "it was killed"}')
    os.close(reading)
    found["memory"] = os.wait4(child, 0)[2].ru_maxrss * 1024
    print(json.dumps(found), flush=True)
"""


def measured(work: str, *paths: Path, cache: Path) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, work, *map(str, paths)],
        # ansible-test finds Ansible by it.
        env={
            **os.environ,
            "PYTHONPATH": f"{COLLECTIONS}:{os.environ.get('PYTHONPATH', '')}",
            "XDG_CACHE_HOME": str(cache),
        },
        check=True,
        capture_output=True,
        text=True,
        timeout=600,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


# --- Making them ------------------------------------------------------------------------------------------------------


def deflated(data: bytes, times: int = 1) -> tuple[bytes, int]:
    """The same bytes many times over, packed, and their checksum."""
    packer, checksum, packed = zlib.compressobj(9, zlib.DEFLATED, -15), 0, []
    for _ in range(times):
        packed.append(packer.compress(data))
        checksum = zlib.crc32(data, checksum)
    return b"".join([*packed, packer.flush()]), checksum


ZEROS = deflated(bytes(MIB), 200)


def raw_zip(path: Path, members: list[dict], **end: int) -> None:
    """A zip archive that says of itself whatever it is told to."""
    entries = []
    with open(path, "wb") as stream:
        for member in members:
            name = member["name"].encode("utf-8", "surrogateescape")
            data = member.get("data", b"")
            size = member.get("size", len(data))
            crc = member.get("crc", zlib.crc32(data))
            flags, method = 0x800 | member.get("flags", 0), member.get("method", 0)
            offset = member.get("offset", stream.tell())
            common = (20, flags, method, 0, 0x5921, crc, len(data), size, len(name), 0)
            if "offset" not in member:
                stream.write(struct.pack("<4s5H3L2H", b"PK\3\4", *common) + name + data)
            mode = member.get("mode", stat.S_IFREG | 0o644) << 16
            entries.append(struct.pack("<4s6H3L5H2L", b"PK\1\2", 0x031E, *common, 0, 0, 0, mode, offset) + name)
        start, index = stream.tell(), b"".join(entries)
        stream.write(index)
        count = end.get("count", len(members)) & 0xFFFF
        stream.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(index), start, 0))


def plain_zip(*names: str, **more: object):
    return lambda path: raw_zip(path, [{"name": name, **more} for name in names])


def header(name: str, size: int = 0, kind: bytes = b"0", patch: dict[int, bytes] | None = None) -> bytes:
    member = tarfile.TarInfo(name)
    member.type = kind
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"%011o\0" % size
    for start, value in (patch or {}).items():
        block[start : start + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records: dict[str, str], kind: bytes = b"x") -> bytes:
    text = b""
    for key, value in records.items():
        body = f" {key}={value}\n".encode()
        length = len(body) + 1
        while len(str(length)) + len(body) != length:
            length = len(str(length)) + len(body)
        text += str(length).encode() + body
    return header("pax", len(text), kind) + text.ljust(-(-len(text) // 512) * 512, b"\0")


def gzipped(path: Path, parts) -> None:
    with gzip.open(path, "wb", compresslevel=1) as stream:
        for part in parts:
            stream.write(part)


def tar(*parts: bytes):
    return lambda path: path.write_bytes(b"".join(parts) + bytes(1024))


def of_zeros(first: bytes, size: int, opener=gzip.open):
    def make(path: Path) -> None:
        with opener(path, "wb") as stream:
            stream.write(first)
            for _ in range(size // MIB):
                stream.write(bytes(MIB))

    return make


def large_dictionary(path: Path) -> None:
    packed = bytearray(lzma.compress(header("a") + bytes(MIB), lzma.FORMAT_ALONE))
    packed[1:5] = (3 << 29).to_bytes(4, "little")
    path.write_bytes(packed)


def endless_sparse(path: Path) -> None:
    """A header that goes on and on with places of holes."""
    place = b"%011o\0" % 0
    more = (place * 42 + b"\1").ljust(512, b"\0")
    gzipped(path, [header("a", kind=b"S", patch={386: place * 8, 482: b"\1"}), *[more * 2048] * 40])


def link_bomb(path: Path) -> None:
    raw_zip(path, [{"name": "a", "data": ZEROS[0], "crc": ZEROS[1], "size": 200 * MIB, "method": 8, "mode": 0o120777}])


def folder_with(make):
    def build(path: Path) -> None:
        path.mkdir()
        (path / "controllers").mkdir()
        make(path)

    return build


def large_file(path: Path) -> None:
    with open(path / "a", "wb") as stream:
        stream.truncate(300 * MIB)


def many_large_files(path: Path) -> None:
    for number in range(5):
        with open(path / str(number), "wb") as stream:
            stream.truncate(250 * MIB)


def quoted(path: Path) -> None:
    """Each member holds the header of the next, and so its content, too (David Fifield's bomb)."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("b", b"x" * 1000)
    body = inner.getvalue()[: inner.getvalue().index(b"PK\1\2")]
    members = [{"name": "a", "data": body}, {"name": "b", "data": b"x" * 1000, "offset": 31}]
    raw_zip(path, members)


BOMB = {"data": ZEROS[0], "crc": ZEROS[1], "size": 200 * MIB, "method": 8}
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "é.py") for form in ("NFC", "NFD"))
# What is made, and words of why it is refused.
HOSTILE = {
    "zip: a file of 200 MB in 200 kB": (plain_zip("a", **BOMB), "max_ratio"),
    "zip: more than 1 GB": (plain_zip(*"abcdef", **{**BOMB, "data": ZEROS[0] + os.urandom(8 * MIB)}), "max_bytes"),
    "zip: a file of more than 256 MiB": (plain_zip("a", size=300 * MIB, method=8), "at most 268435456"),
    "zip: a link of 200 MB": (link_bomb, "max_ratio"),
    "zip: a link of 5 kB": (plain_zip("a", data=b"x" * 5000, mode=0o120777), "malformed target"),
    "zip: larger than it says": (plain_zip("a", **{**BOMB, "size": 10}), "cannot be read"),
    "zip: smaller than it says": (plain_zip("a", data=b"x" * 10, size=10000), "shorter than it says"),
    "zip: all members are one": (
        lambda path: raw_zip(
            path, [{"name": "a", **BOMB, "size": MIB}, *({"name": n, **BOMB, "size": MIB, "offset": 0} for n in "bcd")]
        ),
        "overlaps",
    ),
    "zip: a member in another": (quoted, "overlaps"),
    "zip: 60,000 empty files": (plain_zip(*map(str, range(60_000))), "max_files"),
    "zip: 500,000 names, said to be one": (
        lambda path: raw_zip(path, [{"name": "a", "offset": 0}] * 500_000, count=1),
        "max_files",
    ),
    "zip: 60,000 entries for one folder": (lambda path: raw_zip(path, [{"name": "a/"}] * 60_000), "max_files"),
    "zip: one name twice": (plain_zip("a", "a"), "one name to many"),
    "zip: one name twice, in other words": (plain_zip("x/../a", "./a"), "one name to many"),
    "zip: names that differ by normalisation": (plain_zip(COMPOSED, DECOMPOSED), "one name to many"),
    "zip: a line end in a name": (plain_zip("a\nb"), "control characters"),
    "zip: NUL in a name": (plain_zip("a\0b"), "control characters"),
    "zip: DEL in a name": (plain_zip("a\x7f"), "control characters"),
    "zip: a control character of Latin-1": (plain_zip("a\x85b"), "control characters"),
    "zip: a line separator": (plain_zip("a\u2028b"), "control characters"),
    "zip: an escape sequence in a link": (plain_zip("a", data=b"\x1b[2J", mode=0o120777), "malformed target"),
    "zip: a FIFO": (plain_zip("a", mode=stat.S_IFIFO | 0o644), "neither a file"),
    "zip: encrypted": (plain_zip("a", data=b"x" * 20, flags=1), "cannot be read"),
    "zip: packed with bzip2": (plain_zip("a", data=bz2.compress(bytes(100 * MIB)), size=100, method=12), "rare way"),
    "zip: a file that is a folder, too": (plain_zip("a", "a/b"), "as a file and as a folder"),
    "zip: 200 folders deep": (plain_zip("a/" * 200 + "b"), "longer or deeper"),
    "zip: a name of 60,000 bytes": (plain_zip("a" * 60_000), "longer or deeper"),
    "zip: out of its folder": (plain_zip("../a"), "unsafe path"),
    "zip: the folder itself": (plain_zip("a/.."), "unsafe path"),
    "tar: 100,000 folders": (lambda path: gzipped(path, [header("a", kind=b"5") * 2000] * 50), "max_"),
    "tar: 60,000 files": (
        lambda path: path.write_bytes(b"".join(header(str(number)) for number in range(60_000)) + bytes(1024)),
        "max_files",
    ),
    "tar: a file of 200 MB in 200 kB": (of_zeros(header("a", 200 * MIB), 40 * MIB), "max_ratio"),
    "tar: the same with bzip2": (of_zeros(header("a", 200 * MIB), 40 * MIB, bz2.open), "max_ratio"),
    "tar: the same with xz": (of_zeros(header("a", 200 * MIB), 40 * MIB, lzma.open), "max_ratio"),
    "tar: a folder with content to be skipped": (of_zeros(header("a", 200 * MIB, b"9"), 20 * MIB), "neither a file"),
    "tar: a pax header of 500 MB": (of_zeros(header("a", 500 * MIB, b"x"), 20 * MIB), "a header in it"),
    "tar: a name of 500 MB": (of_zeros(header("a", 500 * MIB, b"L"), 20 * MIB), "a header in it"),
    "tar: 10,000 headers for one file": (tar(pax({"comment": "x"}) * 10_000, header("a")), "a header in it"),
    "tar: what is said of all files": (
        lambda path: gzipped(path, [pax({f"k{number}": "" for number in range(4000)}, b"g"), header("a")]),
        "global headers",
    ),
    "tar: more and more is said of all files": (
        lambda path: gzipped(
            path, [pax({f"k{number}": "x" * 9000}, b"g") + header(str(number)) for number in range(3000)]
        ),
        "global headers",
    ),
    "tar: 8 TB of holes": (
        tar(header("a", kind=b"S", patch={483: b"\x80" + (8 << 40).to_bytes(11, "big")})),
        "at most",
    ),
    "tar: 100 MB of holes": (tar(header("a", kind=b"S", patch={483: b"%011o\0" % (100 * MIB)})), "neither a file"),
    "tar: holes in a pax header": (
        tar(pax({"GNU.sparse.map": "0,1", "GNU.sparse.size": str(100 * MIB), "GNU.sparse.name": "a"}), header("a")),
        "neither a file",
    ),
    "tar: endless places of holes": (endless_sparse, "a header in it"),
    "tar: an unpacker of 1.5 GB": (large_dictionary, "cannot be read"),
    "tar: a size below nothing": (tar(header("a", patch={124: b"\xff" * 12})), ""),
    "tar: a size below nothing in a pax header": (tar(pax({"size": "-1024"}), header("a"), header("b")), ""),
    "tar: a device": (tar(header("a", kind=b"3")), "neither a file"),
    "tar: a FIFO": (tar(header("a", kind=b"6")), "neither a file"),
    "tar: a hard link": (tar(header("a", kind=b"1", patch={157: b"/etc/passwd"})), "neither a file"),
    "tar: a link of 40 kB": (tar(pax({"linkpath": "x" * 40_000}), header("a", kind=b"2")), "malformed target"),
    "tar: a line end in a name": (tar(header("a\nb")), "control characters"),
    "tar: bytes that are not UTF-8": (tar(header("a", patch={0: b"\xe9"})), "control characters"),
    "tar: one name twice": (tar(header("a"), header("a")), "one name to many"),
    "tar: cut off": (
        lambda path: path.write_bytes(gzip.compress(header("a", 5000) + os.urandom(5000))[:-600]),
        "cannot",
    ),
    "folder: a FIFO": (folder_with(lambda path: os.mkfifo(path / "a")), "neither a file"),
    "folder: a socket": (folder_with(lambda path: os.mknod(path / "a", stat.S_IFSOCK)), "neither a file"),
    "folder: a line end in a name": (folder_with(lambda path: (path / "a\nb").write_text("")), "control characters"),
    "folder: a file of 300 MB": (folder_with(large_file), "at most 268435456"),
    "folder: more than 1 GB": (folder_with(many_large_files), "max_bytes"),
}


@pytest.fixture(scope="module")
def refused(tmp_path_factory) -> dict[str, dict]:
    """What came of each, read one after the other."""
    place = tmp_path_factory.mktemp("hostile")
    paths = {}
    for number, (name, (make, _words)) in enumerate(HOSTILE.items()):
        paths[name] = place / str(number)
        make(paths[name])
    found = measured("read", *paths.values(), cache=place / "cache")
    assert not list((place / "cache/web2py-deployment").iterdir()), "something was left"
    return dict(zip(paths, found, strict=True))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_source_is_refused(refused, name):
    found = refused[name]
    assert HOSTILE[name][1] in found.get("refused", ""), found
    assert found["seconds"] < MOST_SECONDS and found["memory"] < MOST_MEMORY, found


def test_many_links_and_deep_folders_take_little_time():
    folder = "/".join("d" * 60)
    entries = {"controllers/a.py": source.Entry.of(b""), f"{folder}/file": source.Entry.of(b"")}
    entries |= {f"{folder}/{number}": source.Entry.link_to(f"../{'../d/' * 25}x") for number in range(20_000)}
    started = time.monotonic()
    source.application(source.Tree("x", entries), "shop", bundled=False)
    assert time.monotonic() - started < MOST_SECONDS


def test_what_is_cut_by_its_own_word_is_no_more_than_it_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    raw_zip(tmp_path / "a.zip", [{"name": "a", **BOMB, "size": 10, "crc": zlib.crc32(bytes(10))}])
    assert source.read_path(str(tmp_path / "a.zip")).entries["a"].read() == bytes(10)


# --- What is legitimate -----------------------------------------------------------------------------------------------


def large_folder(path: Path) -> None:
    path.mkdir()
    for number in range(4):
        with open(path / str(number), "wb") as stream:
            stream.truncate(225 * MIB)


def large_zip(path: Path) -> None:
    # Not packed at all: nothing that one may be suspicious of.
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(4):
            with archive.open(str(number), "w") as stream:
                for _ in range(100):
                    stream.write(bytes(MIB))


def large_tar(path: Path) -> None:
    with open(path, "wb") as stream:
        for number in range(4):
            stream.write(header(str(number), 225 * MIB))
            stream.seek(225 * MIB, os.SEEK_CUR)
        stream.truncate(stream.tell() + 1024)


def full_zip(path: Path) -> None:
    """Nearly as many files as are allowed."""
    plain_zip(*(f"{number % 50:02}/{number:040}" for number in range(49_000)))(path)


@pytest.mark.parametrize(
    ("work", "make", "files"),
    [("pack", large_folder, 4), ("read", large_zip, 4), ("read", large_tar, 4), ("read", full_zip, 49_000)],
)
def test_a_large_source_takes_little_memory(tmp_path, work, make, files):
    make(tmp_path / "source")
    [found] = measured(work, tmp_path / "source", cache=tmp_path / "cache")
    assert found["files"] == files, found
    assert found["memory"] < MOST_MEMORY, found


@pytest.mark.parametrize("path", sorted({os.environ[name] for name in TREES if name in os.environ}))
def test_web2py_itself_is_taken(tmp_path, path):
    [found] = measured("pack", Path(path), cache=tmp_path / "cache")
    assert found["files"] > 0 and found["memory"] < MOST_MEMORY, found
    tree, _version = source.framework(source.read_path(path))
    assert source.application(source.read_path(path), "welcome", bundled=True).entries
    assert len(tree.digest()) == 64


def test_one_tree_is_one_release_in_every_form(tmp_path, monkeypatch):
    """Names that are not ASCII, executable files, links, empty files: unpacked, they are what they were."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "shop"
    for name, text in {
        "controllers/größe.py": "1",
        "static/日本/x.js": "",
        "static/a b'c.txt": "2",
        "private/run": "3",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "private/run").chmod(0o755)
    (folder / "static/latest").symlink_to("日本")
    with tarfile.open(tmp_path / "shop.w2p", "w:gz") as archive:
        archive.add(folder, arcname="")
    for kind in ("bz2", "xz", ""):
        with tarfile.open(tmp_path / f"shop.tar.{kind or 'plain'}", f"w:{kind}") as archive:
            archive.add(folder, arcname="shop")
    with zipfile.ZipFile(tmp_path / "shop.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            member = zipfile.ZipInfo(str(path.relative_to(folder)) + "/" * (path.is_dir() and not path.is_symlink()))
            member.external_attr, member.create_system = path.lstat().st_mode << 16, 3
            # Some programs write this where they know no time.
            member.date_time = (1980, 0, 0, 0, 0, 0)
            content = os.readlink(path) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
            archive.writestr(member, content)
    forms = [folder, *sorted(tmp_path.glob("shop.*"))]
    assert len(forms) == 6
    trees = [source.application(source.read_path(str(form)), "shop", bundled=False) for form in forms]
    assert len({tree.digest() for tree in trees}) == 1
    for number, tree in enumerate(trees):
        archive, target = source.packed(tree), tmp_path / f"release-{number}"
        target.mkdir()
        release.unpack(archive, str(target))
        os.unlink(archive)
        assert (target / "controllers/größe.py").read_text() == "1" and (target / "static/latest").is_dir()
        assert (target / "private/run").stat().st_mode & 0o777 == 0o755


# --- Digest, limits, git ----------------------------------------------------------------------------------------------


def tree_of(**entries: source.Entry) -> source.Tree:
    return source.Tree("x", {name.replace("_NL_", "\n"): entry for name, entry in entries.items()})


def test_no_two_trees_have_one_digest():
    one, two = source.Entry.of(b"1"), source.Entry.of(b"2")
    hexadecimal = source.hashlib.sha256(b"2").hexdigest()
    pairs = [
        # The former form of a digest had one line for each file.
        (source.Tree("x", {"a": one, "b": two}), source.Tree("x", {f"a\nf {hexadecimal} b": one})),
        (source.Tree("x", {"a": one, "b": two}), source.Tree("x", {"ab": one, "": two})),
        (tree_of(a=one), tree_of(a=two)),
        (tree_of(a=one), tree_of(b=one)),
        (tree_of(a=one), source.Tree("x", {"a": source.Entry(one.open, 1, executable=True)})),
        (tree_of(a=source.Entry.link_to("b")), tree_of(a=source.Entry.of(b"b"))),
        (tree_of(a=source.Entry.link_to("b")), tree_of(a=source.Entry.of(b"-> b"))),
        (tree_of(a=source.Entry.link_to("b")), tree_of(a=source.Entry.link_to("c"))),
        (tree_of(), tree_of(a=source.Entry.of(b""))),
        (tree_of(a=one, b=two), tree_of(a=two, b=one)),
    ]
    for left, right in pairs:
        assert left.digest() != right.digest(), (left, right)


def test_the_writable_folders_are_part_of_a_release_s_name(tmp_path):
    from ansible_collections.web2py.deployment.plugins.action import web2py_application

    (tmp_path / "controllers").mkdir()
    (tmp_path / "controllers/a.py").touch()

    def name(*writable: str) -> str:
        action = web2py_application.ActionModule.__new__(web2py_application.ActionModule)
        return action.prepare({"name": "shop", "source": {"path": str(tmp_path)}, "writable": list(writable)})[0]

    assert name("a", "b") == name("b", "a")
    assert len({name(), name("a"), name("a", "b"), name("ab"), name("a_b")}) == 5
    with pytest.raises(source.SourceError, match="writable"):
        name("a,b")
    for nested in ("static/temp", "a/b", "../a"):
        with pytest.raises(source.SourceError, match="writable"):
            name(nested)


@pytest.mark.parametrize("value", [0, -1, "many", 1.5, True, None])
def test_a_limit_is_a_whole_number(value):
    with pytest.raises(source.SourceError, match=r"^web2py_source_max_files is .*; it must be a whole number from 1\."):
        source.limits({"source_max_files": value})
    assert source.limits({"source_max_files": "7"}).max_files == 7
    assert source.limits({}) == source.Limits()


def git(folder: Path, *words: str, text: str | None = None) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True, input=text
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


def read_git(repository: Path, allowed: source.Limits | None = None) -> source.Tree:
    return source.read_source({"git": str(repository), "version": "main"}, "web2py_source", allowed or source.Limits())


def test_a_git_tree_that_holds_itself_is_refused_before_it_is_checked_out(repository, tmp_path):
    """Ten lines in each of ten trees are ten thousand million files."""
    found = f"100644 blob {git(repository, 'hash-object', '-w', '--stdin', text='x')}\tf"
    for _ in range(10):
        lines = "\n".join(found.rsplit("\t", 1)[0] + f"\t{number}" for number in range(10))
        found = f"040000 tree {git(repository, 'mktree', text=lines)}\tf"
    git(
        repository,
        "update-ref",
        "refs/heads/main",
        git(repository, "commit-tree", "-m", "x", found.split()[2].split("\t")[0]),
    )
    with pytest.raises(source.SourceError, match="max_files"):
        read_git(repository)
    clone = next((tmp_path / "cache/web2py-deployment").glob("git-*[0-9a-f]"))
    assert [entry.name for entry in clone.iterdir()] == [".git"]


def test_the_sizes_of_a_git_source_are_asked_before_it_is_checked_out(repository, tmp_path):
    (repository / "a").write_bytes(bytes(2000))
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "1")
    with pytest.raises(source.SourceError, match=r"^web2py_source: web2py_source_max_bytes is 1000; "):
        read_git(repository, source.Limits(max_bytes=1000))
    clone = next((tmp_path / "cache/web2py-deployment").glob("git-*[0-9a-f]"))
    assert [entry.name for entry in clone.iterdir()] == [".git"]
    assert read_git(repository).entries["a"].size == 2000


@pytest.fixture
def with_submodule(repository, tmp_path):
    """A repository with a submodule in a submodule, which may be cloned from a folder for once."""
    inner, innermost = tmp_path / "inner", tmp_path / "innermost"
    allow = ("-c", "protocol.file.allow=always")
    for folder, module in ((innermost, None), (inner, innermost), (repository, inner)):
        folder.mkdir(exist_ok=True)
        git(folder, "init", "--quiet")
        (folder / "a").write_text(folder.name)
        if module:
            git(folder, *allow, "submodule", "--quiet", "add", str(module), "module")
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", "1")
    return repository


def test_submodules_are_part_of_a_git_source(with_submodule, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.file.allow")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "always")
    for _ in range(2):
        tree = read_git(with_submodule)
        assert {name: tree.entries[name].read() for name in tree.entries if name.endswith("a")} == {
            "a": b"repository",
            "module/a": b"inner",
            "module/module/a": b"innermost",
        }
    with pytest.raises(source.SourceError, match="max_files"):
        read_git(with_submodule, source.Limits(max_files=5))
    # A later commit of the submodule is followed.
    inner = with_submodule.parent / "inner"
    (inner / "a").write_text("later")
    git(inner, "commit", "--quiet", "-am", "2")
    git(with_submodule / "module", "pull", "--quiet")
    git(with_submodule, "commit", "--quiet", "-am", "2")
    assert read_git(with_submodule).entries["module/a"].read() == b"later"


@pytest.mark.parametrize("url", ["ext::sh -c touch% /tmp/never", "file:///etc", "--upload-pack=touch /tmp/never"])
def test_a_submodule_chooses_no_other_protocol(repository, url):
    (repository / ".gitmodules").write_text(f'[submodule "m"]\n\tpath = m\n\turl = "{url}"\n')
    (repository / "a").write_text("")
    git(repository, "add", ".")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},m")
    git(repository, "commit", "--quiet", "-m", "1")
    with pytest.raises(source.SourceError, match=r"git submodule failed"):
        read_git(repository)
    assert not os.path.exists("/tmp/never")
