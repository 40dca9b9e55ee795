# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machines of this scenario, and programs that run on them while a test does something else."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import threading

import pytest
import testinfra
import uml
from browser import wait_for

SERVER, FIRST, SECOND = "nfs-shared-server", "nfs-shared-client-1", "nfs-shared-client-2"
SSH_CONFIG = os.environ["LAB_SSH_CONFIG"]
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


class Machine:
    def __init__(self, name: str) -> None:
        self.name = name
        self.host = testinfra.get_host(f"ssh://root@{name}", ssh_config=SSH_CONFIG)

    def run(self, command: str) -> str:
        """As root; it has to succeed."""
        return self.host.check_output(command)

    def attempt(self, command: str, shop: bool = False):
        """As root or as the service's user; it may fail."""
        return self.host.run((AS_SHOP if shop else "") + "sh -c " + shlex.quote(command))

    def shop(self, command: str) -> str:
        """As the service's user; it has to succeed."""
        done = self.attempt(command, shop=True)
        assert done.rc == 0, (command, done.stderr)
        return done.stdout

    @property
    def address(self) -> str:
        return next(machine["address"] for machine in uml.listed() if machine["name"] == self.name)

    def is_active(self, unit: str) -> bool:
        return self.host.run("systemctl is-active --quiet %s", unit).rc == 0

    def boot_id(self) -> str:
        """Which boot this is; nothing while it cannot be asked."""
        asked = subprocess.run(
            ["ssh", "-F", SSH_CONFIG, "-o", "ConnectTimeout=5", self.name, "cat /proc/sys/kernel/random/boot_id"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return asked.stdout.strip()

    def begin_reboot(self) -> str:
        """Returns which boot it was."""
        before = self.boot_id()
        # The connection ends with the machine, sooner or later than the command.
        subprocess.run(["ssh", "-F", SSH_CONFIG, self.name, "systemctl reboot"], check=False, capture_output=True)
        return before

    def wait_for_reboot(self, before: str) -> None:
        wait_for(lambda: self.boot_id() not in ("", before), 180, f"{self.name} boots")

    def reboot(self) -> None:
        self.wait_for_reboot(self.begin_reboot())

    def cut_power(self) -> None:
        self.power("kill")

    def power_on(self) -> None:
        self.power("start")

    def power(self, what: str) -> None:
        subprocess.run([sys.executable, uml.__file__, what, self.name], check=True, stdout=subprocess.DEVNULL)


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
