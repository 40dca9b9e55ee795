# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A machine with a kernel of its own, as tests see it: it reboots, and its power is cut."""

from __future__ import annotations

import os
import subprocess
import sys

import testinfra
import uml
from browser import wait_for

SSH_CONFIG = os.environ["LAB_SSH_CONFIG"]


class Machine:
    """A machine with a kernel of its own, that SSH reaches."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = testinfra.get_host(f"ssh://root@{name}", ssh_config=SSH_CONFIG)

    def run(self, command: str) -> str:
        """As root; it has to succeed."""
        return self.host.check_output(command)

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
        wait_for(lambda: self.boot_id() not in ("", before), 240, f"{self.name} boots")

    def reboot(self) -> None:
        self.wait_for_reboot(self.begin_reboot())

    def cut_power(self) -> None:
        self.power("kill")

    def power_on(self) -> None:
        self.power("start")

    def power(self, what: str) -> None:
        subprocess.run([sys.executable, uml.__file__, what, self.name], check=True, stdout=subprocess.DEVNULL)
