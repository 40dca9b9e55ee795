# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run that was interrupted has left is found by the next."""

from __future__ import annotations

import datetime
import functools
import os

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import interruption

START = datetime.datetime(2026, 11, 28, 16, 4, 20, 131349, datetime.timezone.utc).timestamp()


def test_a_run_that_was_interrupted_is_known_to_the_next(tmp_path):
    runs = str(tmp_path / "runs")
    assert not interruption.mark_run("web", "begun", check=True, folder=runs) and not os.path.exists(runs)
    assert not interruption.mark_run("web", "begun", check=False, folder=runs)
    assert not interruption.mark_run("cache", "begun", check=False, folder=runs)
    assert interruption.mark_run("web", "begun", check=True, folder=runs)
    assert interruption.mark_run("web", "begun", check=False, folder=runs)
    interruption.mark_run("web", "finished", check=True, folder=runs)
    assert sorted(os.listdir(runs)) == ["cache", "web"]
    interruption.mark_run("web", "finished", check=False, folder=runs)
    interruption.mark_run("web", "finished", check=False, folder=runs)
    assert os.listdir(runs) == ["cache"]


def show(fragment: object, drop_ins: str = "", started: str = "Sat 2026-11-28 16:04:20.131349 UTC", reload: str = "no"):
    """As systemctl prints it."""
    return (
        f"FragmentPath={fragment}\nDropInPaths={drop_ins}\nActiveEnterTimestamp={started}\nNeedDaemonReload={reload}\n"
    )


@pytest.fixture
def unit(tmp_path):
    return written(tmp_path / "web2py@public.socket", START - 1)


@pytest.fixture
def is_outdated(tmp_path):
    """With units in another folder than systemd's."""
    return functools.partial(interruption.is_outdated, folder=f"{tmp_path}/")


def written(path, when: float):
    path.write_text("[Unit]\n")
    os.utime(path, (when, when))
    return path


def test_a_unit_runs_with_files_that_are_older_than_its_start(unit, tmp_path, is_outdated):
    older, newer = (written(tmp_path / f"{when}.conf", START + when) for when in (-0.001, 0.001))
    assert not is_outdated(show(unit))
    assert not is_outdated(show(unit, f"{older} {tmp_path}/gone.conf"), [str(older), "/no/such/file"])
    assert is_outdated(show(unit, f"{older} {newer}"))
    assert is_outdated(show(unit), [str(older), str(newer)])
    assert is_outdated(show(newer, str(older)))


def test_a_drop_in_that_systemd_has_not_read_is_newer(unit, is_outdated):
    assert is_outdated(show(unit, reload="yes"))


@pytest.mark.parametrize("fragment", ["", "/etc/systemd/system/web2py@.service"])
def test_a_unit_that_has_never_run_is_not_outdated(fragment, is_outdated):
    assert not is_outdated(show(fragment, started="", reload="yes"))


def test_a_drop_in_of_a_mount_has_a_backslash_in_its_name(unit, tmp_path, is_outdated):
    path = written(tmp_path / r"var-lib-all\x2dnotes.conf", START + 1)
    quoted = str(path).replace("\\", "\\\\")
    assert is_outdated(show(unit, f'"{quoted}" /no/such/file'))


def test_what_a_generator_writes_anew_is_no_reason_to_restart(unit, is_outdated, tmp_path_factory):
    path = written(tmp_path_factory.mktemp("generator") / "order.conf", START + 1)
    assert not is_outdated(show(unit, str(path)))
    assert is_outdated(show(unit), [str(path)])
