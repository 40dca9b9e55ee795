# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machines of this scenario, and programs that run on them while a test does something else."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import threading

import kernel
import pytest
from kernel import SSH_CONFIG

SERVER, FIRST, SECOND = "nfs-shared-server", "nfs-shared-client-1", "nfs-shared-client-2"
AS_SHOP = "setpriv --reuid=2001 --regid=2001 --clear-groups "


class Program:
    """A program that runs on a machine as the service's user and is told what to do by lines."""

    def __init__(self, machine: str, text: str, *arguments: str) -> None:
        command = AS_SHOP + shlex.join(["python3", "-c", text, *arguments])
        self.process = subprocess.Popen(
            ["ssh", "-F", SSH_CONFIG, machine, command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.follower: threading.Thread | None = None

    def read(self) -> str:
        """The next line that it prints."""
        line = self.process.stdout.readline()
        assert line, f"ended with {self.process.wait()}"
        return line.strip()

    def follow(self) -> list[str]:
        """All lines that it prints from now on, as they come."""
        lines: list[str] = []

        def collect() -> None:
            for line in self.process.stdout:
                lines.append(line.strip())

        self.follower = threading.Thread(target=collect)
        self.follower.start()
        return lines

    def tell(self) -> None:
        """What it reads as the end of its input."""
        self.process.stdin.close()

    def end(self) -> int:
        """How it ended."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        status = self.process.wait(timeout=120)
        if self.follower:
            self.follower.join()
        self.process.stdout.close()
        return status


class Machine(kernel.Machine):
    def attempt(self, command: str, shop: bool = False):
        """As root or as the service's user; it may fail."""
        return self.host.run((AS_SHOP if shop else "") + "sh -c " + shlex.quote(command))

    def shop(self, command: str) -> str:
        """As the service's user; it has to succeed."""
        done = self.attempt(command, shop=True)
        assert done.rc == 0, (command, done.stderr)
        return done.stdout


@pytest.fixture(scope="session")
def server() -> Machine:
    return Machine(SERVER)


@pytest.fixture(scope="session")
def first() -> Machine:
    return Machine(FIRST)


@pytest.fixture(scope="session")
def second() -> Machine:
    return Machine(SECOND)


@pytest.fixture
def program():
    """Starts programs, and ends those that a test has left."""
    started = []

    def start(machine: Machine, text: str, *arguments: str) -> Program:
        started.append(Program(machine.name, text, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.end()
