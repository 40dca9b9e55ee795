# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which web2py the tests deploy, and what makes a step of the suite fail: both decide what a green run is worth."""

from __future__ import annotations

import functools
import hashlib
import http.server
import importlib.util
import os
import sys
import threading
import zipfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def load(name):
    """Import a program of this folder by its place; it is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


lab = load("lab")
suite = load("suite")


def make_tree(folder, version):
    (folder / "gluon").mkdir(parents=True)
    (folder / "gluon" / "version.py").write_text(f'VERSION = "{version}"\n')
    return folder


def make_archive(path, version):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("web2py/gluon/version.py", f'VERSION = "{version}"\n')
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, no named source, and a download address where nobody answers."""
    monkeypatch.delenv("WEB2PY_SOURCE", raising=False)
    monkeypatch.setattr(lab, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(lab, "RELEASE_URL", "http://127.0.0.1:9/web2py_src.zip")
    lab.CACHE.mkdir()
    return lab.CACHE


@pytest.fixture
def download(cache, tmp_path, monkeypatch):
    """The official release as a server on loopback offers it."""
    archive = make_archive(tmp_path / "web2py_src.zip", "3.3.3-stable+offered")
    monkeypatch.setattr(lab, "RELEASE_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setattr(lab, "RELEASE_URL", f"http://127.0.0.1:{server.server_port}/{archive.name}")
        threading.Thread(target=server.serve_forever).start()
        yield archive
        server.shutdown()


def test_a_named_source_comes_first(cache, tmp_path, monkeypatch):
    make_tree(cache / "web2py-v3.3.3", "3.3.3-stable")
    monkeypatch.setenv("WEB2PY_SOURCE", str(make_tree(tmp_path / "mine", "3.4.0-mine")))
    for head in (False, True):
        found = lab.web2py(head)
        assert (found.path, found.kind, found.version) == (tmp_path / "mine", "environment", "3.4.0-mine")


def test_a_named_source_without_web2py_is_an_error_and_never_replaced(cache, tmp_path, monkeypatch):
    make_tree(cache / "web2py-v3.3.3", "3.3.3-stable")
    monkeypatch.setenv("WEB2PY_SOURCE", str(tmp_path))
    with pytest.raises(lab.LabError, match="WEB2PY_SOURCE"):
        lab.web2py()


def test_the_stand_in_does_not_pass_for_real_by_being_named(cache, monkeypatch):
    monkeypatch.setenv("WEB2PY_SOURCE", str(lab.STAND_IN))
    assert "NOT REAL" in str(lab.web2py())


def test_the_cached_archive_counts_only_with_the_official_checksum(cache, download):
    make_tree(cache / "web2py-v3.3.3", "3.3.3-stable+tree")
    archive = make_archive(cache / "web2py_src-3.3.3.zip", "3.3.3-stable+tampered")
    assert lab.web2py().version == "3.3.3-stable+tree"
    archive.write_bytes(download.read_bytes())
    assert lab.web2py().version == "3.3.3-stable+offered"


def test_the_only_tree_of_the_cache_is_used_but_none_of_several(cache):
    make_tree(cache / "web2py-3.4.1", "3.4.1-stable")
    assert lab.web2py().version == "3.4.1-stable"
    make_tree(cache / "web2py-3.4.2", "3.4.2-stable")
    assert lab.web2py().kind == "stand-in"


def test_head_is_the_development_tree_where_there_is_one(cache):
    make_tree(cache / "web2py-v3.3.3", "3.3.3-stable")
    assert lab.web2py(head=True).version == "3.3.3-stable"
    make_tree(cache / "web2py-head", "3.3.4-dev")
    assert lab.web2py(head=True).version == "3.3.4-dev"
    assert lab.web2py().version == "3.3.3-stable"


def test_the_download_is_kept_for_the_next_time(download):
    assert [lab.web2py().kind, lab.web2py().kind] == ["download", "cache"]


def test_a_download_with_another_checksum_is_an_error_and_not_kept(download, monkeypatch):
    monkeypatch.setattr(lab, "RELEASE_SHA256", "0" * 64)
    with pytest.raises(lab.LabError, match="SHA-256"):
        lab.web2py()
    assert list(lab.CACHE.iterdir()) == []


def test_the_stand_in_is_the_last_resort_and_says_so(cache):
    found = lab.web2py()
    assert (found.path, found.kind) == (lab.STAND_IN, "stand-in")
    assert "NOT REAL" in str(found)


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("print('fine')", ""),
        ("raise SystemExit(3)", "ended with 3"),
        ("print('\\x1b[35m[DEPRECATION WARNING]: old\\x1b[0m')", "uses something deprecated"),
        ("print('WARNING  Skipping, no tests found.')", "has no tests"),
    ],
)
def test_what_makes_a_step_fail(program, problem):
    outcome = suite.execute(suite.Step("step", (sys.executable, "-c", program)), os.environ, "")
    assert outcome.problem == problem


def test_the_summary_says_what_failed_last(capfd):
    def failure(task, reason):
        return f"TASK [{task}]\nfatal: [host]: FAILED! =>\n  msg: {reason}\n"

    program = f"""print({failure("mended", "old")!r} + "noise\\n" * 99 + {failure("broken", "new")!r}); exit(2)"""
    outcome = suite.execute(suite.Step("step", (sys.executable, "-c", program)), os.environ, "")
    capfd.readouterr()
    assert not suite.report([outcome], [], 1.0)
    summary = capfd.readouterr().out.partition("Summary")[2]
    assert "TASK [broken]" in summary and "msg: new" in summary and "msg: old" not in summary


def test_a_step_that_hangs_is_stopped_with_what_it_started():
    outcome = suite.execute(suite.Step("step", ("sh", "-c", "sleep 300 & sleep 300"), limit=0.5), os.environ, "")
    assert "stopped" in outcome.problem
    assert outcome.seconds < 60


def test_every_scenario_is_part_of_the_suite():
    folders = {path.parent.name for path in (lab.REPOSITORY / "molecule").rglob("molecule.yml")}
    assert set(suite.scenario_names()) == folders
