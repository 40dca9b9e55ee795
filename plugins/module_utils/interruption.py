# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a run that was interrupted has left: its mark, and units that run with older files than there are now."""

from __future__ import annotations

import contextlib
import datetime
import os
import shlex
from collections.abc import Iterable, Mapping

# Gone after a boot, as is all that was not loaded.
RUNS = "/run/web2py.deployment"
# Where administrators, and roles, put units; what generators write below /run is newer after each reload of systemd.
UNITS = "/etc/systemd/system/"
PROPERTIES = "--property=ActiveEnterTimestamp,FragmentPath,DropInPaths,NeedDaemonReload"
SHOW = ("systemctl", "show", "--timestamp=us+utc", PROPERTIES, "--")


def mark_run(name: str, state: str, check: bool, folder: str = RUNS) -> bool:
    """Set or remove the mark of a run that is under way; tell whether an earlier one has left it."""
    path = os.path.join(folder, name)
    interrupted = state == "begun" and os.path.exists(path)
    if check:
        return interrupted
    if state == "begun":
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return interrupted


def is_outdated(shown: str, files: Iterable[str] = (), folder: str = UNITS) -> bool:
    """Whether one of its files is newer than the start of a unit, of which this is what `SHOW` says."""
    unit: Mapping[str, str] = dict(line.split("=", 1) for line in shown.splitlines())
    if not unit.get("ActiveEnterTimestamp"):
        # It has never run.
        return False
    if unit["NeedDaemonReload"] == "yes":
        return True
    started = datetime.datetime.strptime(unit["ActiveEnterTimestamp"], "%a %Y-%m-%d %H:%M:%S.%f UTC")
    started = started.replace(tzinfo=datetime.timezone.utc)
    # As in a shell: names with a backslash, as units of mounts have, are in quotes.
    listed = [unit["FragmentPath"], *shlex.split(unit["DropInPaths"])]
    for path in (*files, *(path for path in listed if path.startswith(folder))):
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_mtime > started.timestamp():
                return True
    return False
