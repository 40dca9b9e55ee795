# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What has run on a web host and passed its check, newest last: to there, and nowhere else, a host goes back.

A snapshot is what all links led to at one time. None is recorded before its check has passed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from typing import Any

from ansible_collections.web2py.deployment.plugins.module_utils.release import (
    ReleaseError,
    ensure_link,
    link_target,
    releases,
    surplus,
)

FILE = "deployments.json"
# Far more than there are releases to go back to; a file that only grows would be read in vain.
MOST = 50
# Names become parts of paths: a file that somebody edited must not lead anywhere else.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")

Snapshot = dict[str, Any]


@dataclasses.dataclass
class History:
    passed: list[Snapshot] = dataclasses.field(default_factory=list)
    # Where a rollback is going that has not passed its check yet. A run that is killed is repeated, not continued
    # with the release before that.
    rollback: Snapshot | None = None
    # The last one was put back, and has not passed its check again: processes may still run what failed.
    restored: bool = False


def is_snapshot(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {"framework", "applications"}:
        return False
    names = [value["framework"]]
    if not isinstance(value["applications"], dict):
        return False
    names += [name for pair in value["applications"].items() for name in pair]
    return all(isinstance(name, str) and NAME.fullmatch(name) for name in names)


def parse(text: str, path: str) -> History:
    """Read the history; anything but what this module writes is refused."""
    try:
        value = json.loads(text)
        passed, rollback, restored = value["passed"], value.get("rollback"), value.get("restored", False)
        good = isinstance(passed, list) and all(map(is_snapshot, passed)) and isinstance(restored, bool)
        good = good and (rollback is None or is_snapshot(rollback))
    except (ValueError, TypeError, KeyError, AttributeError):
        good = False
    if not good:
        raise ReleaseError(
            f"{path}: this is no history that the collection has written; restore the file from a backup or delete it, "
            "then the next run of playbooks/site.yml begins a new one"
        )
    return History(passed, rollback, restored)


def read(home: str) -> History:
    path = os.path.join(home, FILE)
    try:
        with open(path, encoding="utf-8") as stream:
            return parse(stream.read(), path)
    except FileNotFoundError:
        return History()
    except UnicodeDecodeError as error:
        raise ReleaseError(f"{path}: {error}; restore the file from a backup or delete it") from error


def write(home: str, history: History) -> None:
    """Replace the history in one step; its time says what was switched afterwards."""
    value = {name: found for name, found in dataclasses.asdict(history).items() if found or name == "passed"}
    descriptor, temporary = tempfile.mkstemp(prefix=f".{FILE}-", dir=home)
    try:
        with open(descriptor, "w", encoding="utf-8") as stream:
            stream.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o644)
        os.replace(temporary, os.path.join(home, FILE))
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def links(home: str, root: str) -> dict[str, str]:
    """The links of this collection to applications, with the release that each leads to."""
    found = {}
    folder = os.path.join(root, "applications")
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):
            parent, release = os.path.split(link_target(os.path.join(folder, name)) or "")
            if parent == os.path.join(home, "applications", name):
                found[name] = release
    return found


def present(home: str, root: str) -> Snapshot | None:
    """What all links lead to now; nothing on a host without a framework."""
    target = link_target(os.path.join(home, "current"))
    if target is None:
        return None
    return {"framework": os.path.basename(target), "applications": links(home, root)}


def application_folder(home: str, name: str, release: str) -> str:
    return os.path.join(home, "applications", name, release)


def exists(home: str, snapshot: Snapshot) -> bool:
    """Whether all of its releases are still on the host."""
    folders = [application_folder(home, *pair) for pair in snapshot["applications"].items()]
    return all(map(os.path.isdir, [os.path.join(home, "releases", snapshot["framework"]), *folders]))


def settled(history: History, home: str, root: str) -> bool:
    """Whether the last snapshot is there and passed its check after the last switch.

    Else processes may not have loaded what is there, for example after a run that was cut off.
    """
    if history.passed[-1:] != [present(home, root)] or history.rollback is not None or history.restored:
        return False
    paths = [os.path.join(home, "current"), *(os.path.join(root, "applications", name) for name in links(home, root))]
    try:
        written = os.stat(os.path.join(home, FILE)).st_mtime_ns
        return all(os.lstat(path).st_mtime_ns <= written for path in paths)
    except FileNotFoundError:
        return False


def recorded(history: History, now: Snapshot, usable: Callable[[Snapshot], bool]) -> History:
    """The history when what is there now has passed its check."""
    passed = list(history.passed)
    if history.rollback == now and now in passed:
        while passed[-1] != now:
            passed.pop()
    else:
        passed.append(now)
    kept: list[Snapshot] = []
    for snapshot in passed:
        if (snapshot == now or usable(snapshot)) and kept[-1:] != [snapshot]:
            kept.append(snapshot)
    return History(kept[-MOST:])


def previous(history: History, now: Snapshot | None, usable: Callable[[Snapshot], bool]) -> Snapshot | None:
    """Where a rollback goes."""
    if history.rollback is not None and usable(history.rollback):
        return history.rollback
    passed = list(history.passed)
    while passed and passed[-1] == now:
        passed.pop()
    return next((snapshot for snapshot in reversed(passed) if snapshot != now and usable(snapshot)), None)


def wanted(history: History, application: str | None = None) -> list[str]:
    """Releases of the framework, or of one application, that a host may go back to, the most recent first."""
    names = (
        snapshot["framework"] if application is None else snapshot["applications"].get(application)
        for snapshot in reversed(history.passed)
    )
    return list(dict.fromkeys(name for name in names if name))


def doomed(
    history: History, names: Iterable[str], keep: int, current: Iterable[str], application: str | None = None
) -> list[str]:
    """Which of the releases (newest first) go: never a current one, and none that the last snapshot has."""
    last = wanted(History(history.passed[-1:]), application)
    return surplus(names, keep, {*current, *last}, wanted(history, application))


def surplus_of(home: str, folder: str, release: str, keep: int, application: str | None = None) -> list[str]:
    """Which releases in a folder go when this one is the current one, whether it is there yet or not."""
    names = releases(folder)
    if release not in names:
        names.insert(0, release)
    return doomed(read(home), names, keep, [release], application)


def prune(home: str, now: Snapshot, history: History, keep: int) -> list[str]:
    """Folders of releases that go, of the framework and of the applications that are present."""
    folder = os.path.join(home, "releases")
    found = [os.path.join(folder, name) for name in doomed(history, releases(folder), keep, [now["framework"]])]
    for application, release in now["applications"].items():
        folder = os.path.join(home, "applications", application)
        found += [
            os.path.join(folder, name) for name in doomed(history, releases(folder), keep, [release], application)
        ]
    return found


def switch_all(home: str, root: str, snapshot: Snapshot, check: bool) -> list[str]:
    """Point every link at what the snapshot has, each in one step; tell which links were (or would be) changed.

    An application that the snapshot does not have is unlinked; one whose code was removed since stays away.
    """
    missing = [
        name
        for name, release in snapshot["applications"].items()
        if not os.path.isdir(application_folder(home, name, release))
    ]
    before = links(home, root)
    lost = [os.path.join(home, "releases", snapshot["framework"])]
    lost += [application_folder(home, name, snapshot["applications"][name]) for name in missing if name in before]
    lost = [path for path in lost if not os.path.isdir(path)]
    if lost:
        raise ReleaseError(f"{' and '.join(lost)} is not there any more; deploy with playbooks/site.yml instead")
    changed = []
    for name, release in snapshot["applications"].items():
        link = os.path.join(root, "applications", name)
        if name not in missing and ensure_link(link, application_folder(home, name, release), check):
            changed.append(link)
    link = os.path.join(home, "current")
    if ensure_link(link, os.path.join("releases", snapshot["framework"]), check):
        changed.append(link)
    for name in before:
        if name not in snapshot["applications"]:
            changed.append(os.path.join(root, "applications", name))
            if not check:
                os.unlink(changed[-1])
    return changed


def describe(snapshot: Snapshot | None) -> str:
    if not snapshot:
        return "nothing"
    names = [f"web2py {snapshot['framework']}"]
    return ", ".join(names + [f"{name} {release}" for name, release in sorted(snapshot["applications"].items())])


def nothing_before(snapshots: Iterable[Snapshot | None]) -> str:
    """Why there is no rollback, on the host or on several."""
    return (
        f"no release before {' / '.join(sorted(set(map(describe, snapshots))))} is left that has passed its check (see "
        "/opt/web2py/deployments.json on the hosts, and web2py_releases_to_keep); deploy the one you want with "
        "playbooks/release.yml"
    )
