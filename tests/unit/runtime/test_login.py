# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The count of wrong passwords: what it forgets, what it keeps out, and what damages it."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from web2py_runtime import login
from web2py_runtime.login import Attempts, Refused

START = 1_800_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets the time, in seconds since the start."""

    def at(seconds: int) -> None:
        monkeypatch.setattr(login.time, "time", lambda: float(START + seconds))

    at(0)
    return at


@pytest.fixture
def attempts(tmp_path: Path, clock: Callable[[int], None]) -> Attempts:
    return Attempts(str(tmp_path))


def fail(attempts: Attempts, client: str) -> None:
    with attempts.one(client):
        pass


def succeed(attempts: Attempts, client: str) -> None:
    with attempts.one(client) as forget:
        forget()


def refused(attempts: Attempts, client: str) -> int:
    """The seconds for which a try of this client is refused, 0 where it counts."""
    try:
        fail(attempts, client)
    except Refused as refusal:
        assert refusal.status.startswith("429")
        return refusal.seconds
    return 0


def test_five_tries_and_then_none_for_an_hour_after_the_last(attempts: Attempts, clock: Callable[[int], None]) -> None:
    for second in (0, 10, 20, 30, 100):
        clock(second)
        attempts.check("192.0.2.1")
        assert not refused(attempts, "192.0.2.1")
    for second, left in ((100, 3600), (1000, 2700), (3699, 1)):
        clock(second)
        assert refused(attempts, "192.0.2.1") == left
        with pytest.raises(Refused):
            attempts.check("192.0.2.1")
        assert not refused(attempts, "192.0.2.2") or second > 100
    clock(3700)
    attempts.check("192.0.2.1")
    assert attempts.failures("192.0.2.1") == 0
    assert not refused(attempts, "192.0.2.1")


def test_a_lock_out_is_logged_once(attempts: Attempts, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(7):
        refused(attempts, "192.0.2.1")
    succeed(attempts, "192.0.2.2")
    assert [record.getMessage() for record in caplog.records] == [
        "192.0.2.1 is locked out of the administration after 5 wrong passwords"
    ]


def test_a_success_forgets_what_was_wrong_before(attempts: Attempts) -> None:
    for _ in range(4):
        fail(attempts, "192.0.2.1")
    succeed(attempts, "192.0.2.1")
    assert attempts.failures("192.0.2.1") == 0


def test_an_exception_while_a_password_is_checked_counts(attempts: Attempts) -> None:
    with pytest.raises(ValueError, match="odd hash"), attempts.one("192.0.2.1"):
        raise ValueError("odd hash")
    assert attempts.failures("192.0.2.1") == 1


def test_another_try_is_refused_while_one_is_checked(attempts: Attempts, tmp_path: Path) -> None:
    with attempts.one("192.0.2.1"):
        with pytest.raises(Refused) as caught:
            fail(Attempts(str(tmp_path)), "192.0.2.2")
        assert (caught.value.status, caught.value.seconds) == ("503 SERVICE UNAVAILABLE", 5)
    assert not refused(attempts, "192.0.2.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:0:ffff::", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::1", "127.0.0.1", False),
    ],
)
def test_clients(one: str, other: str, same: bool) -> None:
    assert (login.counted_as(one) == login.counted_as(other)) is same


def test_many_clients_together_are_slowed_down_but_never_locked_out(
    attempts: Attempts, clock: Callable[[int], None]
) -> None:
    """An attacker with as many addresses as it likes, for three hours."""
    succeed(attempts, "192.0.2.1")
    tried = [0, 0, 0]
    for second in range(0, 3 * 3600, 5):
        clock(second)
        count = 60 if second == 0 else 2
        for number in range(count):
            tried[second // 3600] += not refused(attempts, f"10.{second // 1280}.{second // 5 % 256}.{number}")
    assert tried[0] <= login.COMMON_LIMIT + 3600 // login.COMMON_INTERVAL
    assert max(tried) == tried[0]
    # The limits bound the file.
    assert Path(attempts.file).stat().st_size < login.MAXIMUM_SIZE / 4
    # An address that nobody knows can try again soon, and the administrator's own at once.
    assert 0 < refused(attempts, "198.51.100.1") <= login.COMMON_INTERVAL
    assert not refused(attempts, "192.0.2.1")
    clock(3 * 3600 + login.COMMON_INTERVAL)
    assert not refused(attempts, "198.51.100.1")
    # The known one has no more tries than others.
    for _ in range(4):
        assert not refused(attempts, "192.0.2.1")
    assert refused(attempts, "192.0.2.1") > login.COMMON_INTERVAL


def test_few_clients_are_known_and_not_for_ever(attempts: Attempts, clock: Callable[[int], None]) -> None:
    for number in range(login.KNOWN_CLIENTS + 5):
        clock(number)
        succeed(attempts, f"192.0.2.{number}")
    known = json.loads(Path(attempts.file).read_text())["known"]
    assert sorted(known, key=known.get) == [f"192.0.2.{number}" for number in range(5, login.KNOWN_CLIENTS + 5)]
    clock(31 * 86400)
    succeed(attempts, "198.51.100.1")
    assert list(json.loads(Path(attempts.file).read_text())["known"]) == ["198.51.100.1"]


@pytest.mark.parametrize("seconds", [-7200, -10])
def test_a_clock_that_was_wrong_locks_nobody_out_for_longer(
    attempts: Attempts, clock: Callable[[int], None], seconds: int
) -> None:
    for _ in range(5):
        fail(attempts, "192.0.2.1")
    clock(seconds)
    assert refused(attempts, "192.0.2.1") in (0, 3600)


def text(path: Path, content: bytes) -> None:
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: text(path, b""),
    "cut": lambda path: text(path, b'{"failed": {"192.0.2.1": [5, 18'),
    "no JSON": lambda path: text(path, b"\xff\x00"),
    "a list": lambda path: text(path, b"[]"),
    "nothing known": lambda path: text(path, b'{"failed": {}}'),
    "other values": lambda path: text(path, b'{"failed": {"192.0.2.1": "5"}, "known": []}'),
    "no numbers": lambda path: text(path, b'{"failed": {"192.0.2.1": [null, {}]}, "known": {}}'),
    "not a number": lambda path: text(path, b'{"failed": {"192.0.2.1": [NaN, Infinity]}, "known": {}}'),
    "deep": lambda path: text(path, b"[" * 100_000),
    "large": lambda path: text(path, b" " * (login.MAXIMUM_SIZE + 1)),
    "a link": lambda path: path.symlink_to("/etc/passwd"),
    "a loop": lambda path: path.symlink_to(path),
    "a FIFO": os.mkfifo,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_replaced_by_the_next_try(attempts: Attempts, name: str) -> None:
    path = Path(attempts.file)
    DAMAGE[name](path)
    attempts.check("192.0.2.1")
    assert attempts.failures("192.0.2.1") == 0
    fail(attempts, "192.0.2.1")
    assert attempts.failures("192.0.2.1") == 1
    assert (path.is_symlink(), path.stat().st_mode & 0o7777) == (False, 0o600)
    assert os.listdir(attempts.folder) == [path.name]


def test_what_cannot_be_counted_is_not_tried(attempts: Attempts) -> None:
    """A folder in the place of the file, and none in that of the folder."""
    os.mkdir(attempts.file)
    for broken in (attempts, Attempts("/nowhere")):
        broken.check("192.0.2.1")
        with pytest.raises(Refused, match="503"):
            fail(broken, "192.0.2.1")


def try_many(folder: str, number: int) -> int:
    """How many passwords one process can try."""
    attempts = Attempts(folder)
    counted = 0
    for _ in range(number):
        try:
            fail(attempts, "192.0.2.1")
            counted += 1
        except Refused:
            pass
    return counted


def test_all_processes_together_have_no_more_tries_than_one(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        counted = pool.starmap(try_many, [(str(tmp_path), 200)] * 8)
    assert sum(counted) == login.LIMIT
