# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Folders that several hosts share: links into what is mounted, and never over files of one host."""

from __future__ import annotations

import os
import tempfile

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import release

ME = (os.geteuid(), os.getegid())


@pytest.fixture
def places(tmp_path):
    """A folder of an application, and its place in the shared file system."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shared").mkdir()
    return str(tmp_path / "shop" / "sessions"), str(tmp_path / "shared" / "shop" / "sessions")


def test_a_folder_is_made_in_the_shared_place_and_linked(places):
    path, target = places
    assert release.ensure_shared(path, target, *ME, check=True)
    assert not os.path.lexists(path) and not os.path.exists(target)
    assert release.ensure_shared(path, target, *ME, check=False)
    assert os.readlink(path) == target and os.stat(target).st_mode & 0o777 == 0o700
    assert not release.ensure_shared(path, target, *ME, check=False)


def test_an_empty_folder_gives_way_and_one_with_files_does_not(places):
    path, target = places
    os.mkdir(path)
    assert release.ensure_shared(path, target, *ME, check=True) and not os.path.islink(path)
    assert release.ensure_shared(path, target, *ME, check=False) and os.path.islink(path)
    os.unlink(path)
    os.mkdir(path)
    open(os.path.join(path, "a file"), "x").close()
    for check in (True, False):
        with pytest.raises(release.ReleaseError, match=f"{path} is to be shared.*move them to {target}"):
            release.ensure_shared(path, target, *ME, check=check)


def test_a_host_gets_its_own_folder_back(places, tmp_path):
    path, target = places
    release.ensure_shared(path, target, *ME, check=False)
    assert release.unshare(path, str(tmp_path / "shared"), check=True) and os.path.islink(path)
    assert release.unshare(path, str(tmp_path / "shared"), check=False) and not os.path.lexists(path)
    assert os.path.isdir(target)
    assert not release.unshare(path, str(tmp_path / "shared"), check=False)


def test_a_link_of_somebody_else_is_left_alone(places, tmp_path):
    path, _target = places
    os.symlink("/srv/else", path)
    assert not release.unshare(path, str(tmp_path / "shared"), check=False) and os.path.islink(path)


def test_folders_are_made_by_the_one_who_may():
    if os.geteuid() == 0:
        # Folders of pytest are for root alone.
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            shared, path = os.path.join(folder, "shared"), os.path.join(folder, "sessions")
            os.mkdir(shared)
            os.chown(shared, 4711, 4712)
            release.ensure_shared(path, os.path.join(shared, "shop", "sessions"), 4711, 4712, check=False)
            made = os.stat(path)
            assert (made.st_uid, made.st_gid) == (4711, 4712) and (os.geteuid(), os.getegid()) == ME
