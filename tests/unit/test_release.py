# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Releases: what the controller reads and refuses, and what the host does with it."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import zipfile

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import release
from ansible_collections.web2py.deployment.plugins.plugin_utils import source
from hypothesis import given
from hypothesis import strategies as st

FRAMEWORK = {
    "gluon/main.py": "",
    "gluon/version.py": 'VERSION = "3.3.3-stable+timestamp"\n',
    "web2py.py": "",
    "gluon/packages/pydal/pydal/__init__.py": "",
    "gluon/packages/yatl/yatl/__init__.py": "",
    "applications/welcome/controllers/default.py": "",
    "applications/welcome/sessions/x": "someone's",
    "parameters_443.py": "secret",
    "routes.py": "",
    ".git/config": "",
    "gluon/__pycache__/main.pyc": "",
}


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


def tar_of(path, members):
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            if callable(content):
                content(member)
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return str(path)


def zip_of(path, files, prefix=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(prefix + name, text)
    return str(path)


def test_a_framework_is_the_same_whatever_it_came_from(tmp_path):
    folder = write(tmp_path / "tree", FRAMEWORK)
    zipped = zip_of(tmp_path / "a.zip", FRAMEWORK, "web2py/")
    tarred = tar_of(tmp_path / "a.tar", {f"./web2py/{name}": text.encode() for name, text in FRAMEWORK.items()})
    found = [source.framework(source.read_path(path)) for path in (folder, zipped, tarred)]
    assert {version for _tree, version in found} == {"3.3.3"}
    assert len({tree.digest() for tree, _version in found}) == 1
    names = set(found[0][0].entries)
    assert "gluon/main.py" in names
    assert not names & {"parameters_443.py", "routes.py", ".git/config", "gluon/__pycache__/main.pyc"}
    assert not any(name.startswith("applications/") for name in names)


def test_the_digest_follows_content_names_and_the_executable_bit(tmp_path):
    def digest():
        return source.read_directory(str(tmp_path)).digest()

    (tmp_path / "a").write_text("1")
    seen = {digest()}
    os.utime(tmp_path / "a", (1, 1))
    assert digest() in seen
    for change in (
        lambda: (tmp_path / "a").write_text("2"),
        lambda: (tmp_path / "a").chmod(0o755),
        lambda: (tmp_path / "a").rename(tmp_path / "b"),
        lambda: (tmp_path / "l").symlink_to("b"),
    ):
        change()
        assert digest() not in seen
        seen.add(digest())


@pytest.mark.parametrize(
    ("without", "words"),
    [
        ("gluon/main.py", "is not web2py"),
        ("gluon/packages/yatl/yatl/__init__.py", "submodules"),
    ],
)
def test_an_incomplete_framework_is_refused(tmp_path, without, words):
    path = write(tmp_path, {name: text for name, text in FRAMEWORK.items() if name != without})
    with pytest.raises(source.SourceError, match=words):
        source.framework(source.read_path(path))


def test_an_old_framework_is_refused(tmp_path):
    path = write(tmp_path, {**FRAMEWORK, "gluon/version.py": 'VERSION = "2.27.1"'})
    with pytest.raises(source.SourceError, match=r"2\.27\.1; 3\.3 or newer"):
        source.framework(source.read_path(path))


class TestApplications:
    def test_state_is_no_part_of_a_release(self, tmp_path):
        files = {"controllers/a.py": "", "private/key": "k", "sessions/s": "", "uploads/u": "", "databases/d": ""}
        tree = source.application(source.read_path(write(tmp_path, files)), "shop", bundled=False)
        assert set(tree.entries) == {"controllers/a.py", "private/key"}

    def test_a_package_of_web2py_s_own_making(self, tmp_path):
        path = tmp_path / "shop.w2p"
        with tarfile.open(path, "w:gz") as archive:
            archive.add(write(tmp_path / "shop", {"controllers/a.py": "", "static/x": "y"}), arcname="")
        tree = source.application(source.read_path(str(path)), "shop", bundled=False)
        assert set(tree.entries) == {"controllers/a.py", "static/x"}

    def test_compiled_code_is_enough(self, tmp_path):
        path = write(tmp_path, {"compiled/controllers.default.index.pyc": "", "views/x": ""})
        assert source.application(source.read_path(path), "shop", bundled=False).has(
            "compiled/controllers.default.index.pyc"
        )

    def test_no_controllers(self, tmp_path):
        with pytest.raises(source.SourceError, match=r"'shop'.*controllers"):
            source.application(source.read_path(write(tmp_path, {"models/db.py": ""})), "shop", bundled=False)

    def test_bundled_with_the_framework(self, tmp_path):
        tree = source.read_path(write(tmp_path, FRAMEWORK))
        assert set(source.application(tree, "welcome", bundled=True).entries) == {"controllers/default.py"}
        with pytest.raises(source.SourceError, match="'admin' is not part of"):
            source.application(tree, "admin", bundled=True)

    @pytest.mark.parametrize("target", ["../private/key", "/etc/passwd", "../../x", "../static/../private/key"])
    def test_a_link_out_of_its_folder_is_refused(self, tmp_path, target):
        write(tmp_path, {"controllers/a.py": "", "static/x": ""})
        (tmp_path / "static/link").symlink_to(target)
        with pytest.raises(source.SourceError, match="symbolic link static/link"):
            source.application(source.read_path(str(tmp_path)), "shop", bundled=False)

    def test_a_link_inside_its_folder_stays_a_link(self, tmp_path):
        write(tmp_path, {"controllers/a.py": "", "static/1.2/x": ""})
        (tmp_path / "static/latest").symlink_to("1.2")
        tree = source.application(source.read_path(str(tmp_path)), "shop", bundled=False)
        assert tree.entries["static/latest"].link == "1.2"


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "C:/x", "..\\x"])
def test_archives_with_unsafe_paths_are_refused(tmp_path, name):
    with pytest.raises(source.SourceError, match="unsafe path"):
        source.read_path(tar_of(tmp_path / "a.tar", {name: b""}))
    with pytest.raises(source.SourceError, match="unsafe path"):
        source.read_path(zip_of(tmp_path / "a.zip", {name: ""}))


def test_archives_with_devices_are_refused(tmp_path):
    def device(member):
        member.type = tarfile.CHRTYPE

    with pytest.raises(source.SourceError, match="neither a file"):
        source.read_path(tar_of(tmp_path / "a.tar", {"null": device}))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("x.zip", "is a str; it must be"),
        ({}, "has the keys"),
        ({"path": "a", "git": "b"}, "has the keys"),
        ({"path": "a", "checksum": "b"}, "has the keys"),
        ({"url": "http://127.0.0.1/x"}, "needs `checksum`"),
        ({"url": "http://127.0.0.1/x", "checksum": "12"}, "64 hexadecimal digits"),
        ({"git": "x"}, "needs `version`"),
        ({"git": "--upload-pack=x", "version": "main"}, "must not start"),
        ({"path": "/nonexistent"}, "does not exist"),
    ],
)
def test_faulty_sources_name_the_variable(value, words):
    with pytest.raises(source.SourceError, match=r"^web2py_source\b") as caught:
        source.read_source(value, "web2py_source")
    assert words in str(caught.value)


def test_a_git_source_by_branch_tag_and_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = tmp_path / "repository"
    write(repository, {"controllers/a.py": "1"})

    def git(*words):
        identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "init.defaultBranch=main")
        done = subprocess.run(["git", *identity, *words], cwd=repository, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "1")
    git("tag", "v1")
    first = git("rev-parse", "HEAD")

    def text(version):
        tree = source.read_source({"git": str(repository), "version": version}, "source")
        return tree.entries["controllers/a.py"].read()

    assert text("v1") == text("main") == text(first) == b"1"
    write(repository, {"controllers/a.py": "2"})
    git("commit", "--quiet", "-am", "2")
    assert text("main") == b"2", "a branch is followed"
    assert text("v1") == text(first[:10]) == b"1"
    with pytest.raises(source.SourceError, match="no branch, tag or commit 'nothing'"):
        text("nothing")


def test_a_password_in_a_git_address_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(source.SourceError) as caught:
        source.read_source({"git": "http://me:hunter22@127.0.0.1:1/x.git", "version": "main"}, "source")
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize("checksum", ["0" * 64, "12"])
def test_what_is_secret_in_the_address_of_an_archive_is_not_repeated(tmp_path, monkeypatch, checksum):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    url = "http://me:hunter22@127.0.0.1:1/x.zip?private_token=hunter33"
    with pytest.raises(source.SourceError) as caught:
        source.read_source({"url": url, "checksum": checksum}, "source")
    assert "127.0.0.1:1/x.zip" in str(caught.value)
    assert "hunter" not in str(caught.value)


class TestHost:
    def test_what_is_packed_is_unpacked(self, tmp_path):
        write(tmp_path / "a", {"x/y": "text", "run.sh": ""})
        (tmp_path / "a/run.sh").chmod(0o700)
        (tmp_path / "a/x/link").symlink_to("y")
        archive = source.packed(source.read_directory(str(tmp_path / "a")))
        (tmp_path / "b").mkdir()
        release.unpack(archive, str(tmp_path / "b"))
        os.unlink(archive)
        assert (tmp_path / "b/x/y").read_text() == "text"
        assert os.readlink(tmp_path / "b/x/link") == "y"
        assert (tmp_path / "b/run.sh").stat().st_mode & 0o777 == 0o755

    def test_a_foreign_archive_is_refused(self, tmp_path):
        path = tmp_path / "a.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(tarfile.TarInfo("../x"))
        with pytest.raises(release.ReleaseError, match="unexpected member"):
            release.unpack(str(path), str(tmp_path))

    def test_the_link_is_switched_and_a_folder_is_not_replaced(self, tmp_path):
        link = str(tmp_path / "current")
        for target in ("a", "b"):
            release.switch(link, target)
            assert os.readlink(link) == target
        (tmp_path / "folder").mkdir()
        with pytest.raises(release.ReleaseError, match="not a symbolic link"):
            release.switch(str(tmp_path / "folder"), "a")

    def test_a_release_that_fails_leaves_nothing(self, tmp_path):
        (tmp_path / ".incoming-left-by-a-crash").mkdir()
        with pytest.raises(OSError), release.staging(str(tmp_path)) as staged:
            (tmp_path / staged / "x").write_text("")
            raise OSError
        assert list(tmp_path.iterdir()) == []

    def test_the_newest_come_first_and_unfinished_ones_do_not_count(self, tmp_path):
        for number, name in enumerate(("old", "new", "newest", ".incoming-x")):
            (tmp_path / name).mkdir()
            os.utime(tmp_path / name, (number, number))
        assert release.releases(str(tmp_path)) == ["newest", "new", "old"]
        assert release.releases(str(tmp_path / "nowhere")) == []

    @given(st.lists(st.integers(), unique=True, min_size=1), st.integers(min_value=1, max_value=5), st.data())
    def test_what_goes_when_some_stay(self, names, keep, data):
        names = [str(name) for name in names]
        current = data.draw(st.sampled_from(names))
        gone = release.surplus(names, keep, {current})
        stay = [name for name in names if name not in gone]
        assert current in stay and len(stay) == min(keep, len(names))
        others = [name for name in names if name != current]
        assert [name for name in stay if name != current] == others[: len(stay) - 1], "the newest stay"


def chain_of_links(member_target):
    def link(member):
        member.type, member.linkname = tarfile.SYMTYPE, member_target

    return link


def test_a_chain_of_links_cannot_lead_out(tmp_path):
    """By its words, `static/e` ends in the tree; on the disk, through `static/d`, it ends in /etc."""
    path = tar_of(
        tmp_path / "evil.w2p",
        {
            "controllers/a.py": b"",
            "static/0/keep": b"",
            "static/1/2/3/d": chain_of_links("../../../0"),
            "static/e": chain_of_links("1/2/3/d/../../etc"),
        },
    )
    with pytest.raises(source.SourceError, match="passes through another link"):
        source.application(source.read_path(path), "evil", bundled=False)


def test_no_file_lies_below_a_link(tmp_path):
    path = tar_of(
        tmp_path / "evil.w2p",
        {"controllers/a.py": b"", "static/e": chain_of_links("."), "static/e/file": b""},
    )
    with pytest.raises(source.SourceError, match="below a symbolic link"):
        source.application(source.read_path(path), "evil", bundled=False)


def test_the_host_writes_no_file_through_a_link(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        link = tarfile.TarInfo("x/link")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "outside")
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("x/link/file"))
    (tmp_path / "outside").mkdir()
    (tmp_path / "release").mkdir()
    with pytest.raises(OSError):
        release.unpack(str(tmp_path / "a.tar.gz"), str(tmp_path / "release"))
    assert list((tmp_path / "outside").iterdir()) == []
