#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Machines with a kernel of their own, for what a container cannot show: NFS, mounts, reboots and power cuts.

Each is a user-mode Linux: one process of this machine, with a disk that holds what differs from the common base disk,
and a tap on the bridge of the containers' network. It survives its own reboot, and its disk survives `kill`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import inspect
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lab

HOME = lab.CACHE / "uml"
MACHINES = HOME / "machines"
SSH_CONFIG = HOME / "ssh_config"
KEY = HOME / "id_ed25519"
BOOT = lab.LAB / "uml-boot"
MODULES = Path("/usr/lib/uml/modules")
BOOT_LIMIT = 180

SUITE = "bookworm"
PROGRAMS = {
    "linux.uml": "user-mode-linux",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
}
# As in the Dockerfile what Ansible needs and nothing the roles should install; then what a kernel and SSH need.
PACKAGES = (
    *("ca-certificates", "curl", "dbus", "iproute2", "procps", "python3", "python3-apt", "sudo", "systemd"),
    *("systemd-sysv", "kmod", "netbase", "openssh-server"),
)
# Fetched but not installed: what is slow here is the network, and a role must name what it needs.
FETCHED = ("apache2", "libapache2-mod-wsgi-py3", "nfs-kernel-server")
FILES = {
    # Reading descriptions that nobody reads takes seconds.
    "etc/apt/apt.conf.d/languages": 'Acquire::Languages "none";\n',
    "etc/fstab": "/dev/ubda / ext4 defaults 0 0\n",
    "etc/machine-id": "",
    "etc/hostname": "localhost\n",
    "etc/systemd/system/lab-network.service": """\
[Unit]
Description=Address, gateway and name servers from the kernel's command line
Wants=network.target
Before=network.target network-online.target

[Service]
Type=oneshot
RemainAfterExit=true
ExecStart=/usr/local/sbin/lab-network
""",
    "usr/local/sbin/lab-network": """\
#!/bin/sh
set -e
for word in $(cat /proc/cmdline); do
    case $word in
        lab.address=*) address=${word#*=} ;;
        lab.gateway=*) gateway=${word#*=} ;;
        lab.nameservers=*) nameservers=${word#*=} ;;
    esac
done
ip link set vec0 up
ip address replace "$address" dev vec0
ip route replace default via "$gateway"
for server in $(echo "$nameservers" | tr , ' '); do echo "nameserver $server"; done > /etc/resolv.conf
""",
}
# Nobody logs in at a terminal, and nothing may take the processor from a test.
MASKED = (
    *("getty.target", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer"),
    *("fstrim.timer", "systemd-tmpfiles-clean.timer", "e2scrub_reap.service"),
)


# --- The base disk ----------------------------------------------------------------------------------------------------


def image() -> Path:
    """The disk that all machines begin with; made once, about 40 seconds."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    with lab.only_one("uml-image.lock"):
        for program, package in PROGRAMS.items():
            if not shutil.which(program):
                lab.apt_install(f"{program} is missing", package)
        HOME.mkdir(parents=True, exist_ok=True)
        if not KEY.exists():
            lab.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "web2py-lab", "-f", KEY)
        kernels = sorted(path.name for path in MODULES.iterdir())
        key = KEY.with_suffix(".pub").read_text()
        recipe = (SUITE, PACKAGES, FETCHED, FILES, MASKED, inspect.getsource(build), key, kernels)
        disk = HOME / f"base-{hashlib.sha256(repr(recipe).encode()).hexdigest()[:12]}.img"
        if not disk.exists():
            if os.geteuid():
                raise lab.LabError("only root can make the disk of machines with a kernel of their own")
            lab.say(f"building {disk} (about a minute)")
            started = time.monotonic()
            build(disk, kernels)
            if not Machine.all():
                for old in set(HOME.glob("base-*.img")) - {disk}:
                    old.unlink()
            lab.say(f"{disk} ready after {time.monotonic() - started:.0f} s")
    return disk


def build(disk: Path, kernels: list[str]) -> None:
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 1024**3
    with tempfile.TemporaryDirectory(dir=memory if roomy else None) as folder:
        # apt gives up root to download.
        Path(folder).chmod(0o755)
        root = Path(folder) / "root"
        lab.run(
            *("mmdebstrap", "--quiet", "--variant=minbase", "--dpkgopt=force-unsafe-io"),
            *(f"--include={','.join(PACKAGES)}", "--aptopt=Acquire::Languages none", "--skip=cleanup/apt"),
            '--customize-hook=chroot "$1" apt-get clean',
            '--customize-hook=chroot "$1" apt-get install --yes --no-install-recommends --download-only '
            f"{' '.join(FETCHED)} >/dev/null",
            '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"',
            *(SUITE, root),
        )
        for kernel in kernels:
            shutil.copytree(MODULES / kernel, root / "usr/lib/modules" / kernel, symlinks=True)
            lab.run("chroot", root, "depmod", kernel)
        for name, text in FILES.items():
            (root / name).write_text(text)
        (root / "usr/local/sbin/lab-network").chmod(0o755)
        units = root / "etc/systemd/system"
        for target in ("multi-user", "network-online"):
            (units / f"{target}.target.wants").mkdir(exist_ok=True)
            (units / f"{target}.target.wants/lab-network.service").symlink_to("../lab-network.service")
        for unit in MASKED:
            (units / unit).unlink(missing_ok=True)
            (units / unit).symlink_to("/dev/null")
        (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(KEY.with_suffix(".pub"), root / "root/.ssh/authorized_keys")
        # With its journal, without which a power cut damages what NFS remembers of its clients.
        unfinished = disk.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        lab.run("mke2fs", "-q", "-t", "ext4", "-d", root, unfinished, "4G")
        unfinished.replace(disk)


# --- Machines ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Network:
    """The containers' network."""

    bridge: str
    subnet: ipaddress.IPv4Network
    gateway: str

    @classmethod
    def find(cls) -> Network:
        found = lab.network_settings()
        config = lab.ipv4_settings(found)
        subnet = ipaddress.IPv4Network(config["Subnet"])
        return cls(lab.bridge(found), subnet, config.get("Gateway") or str(subnet[1]))

    def address(self, number: int) -> str:
        return str(self.subnet[-1 - number])


@dataclasses.dataclass(frozen=True)
class Machine:
    """A container has only the name and the address."""

    name: str
    number: int
    address: str

    @classmethod
    def all(cls) -> list[Machine]:
        return [cls(**json.loads(file.read_text())) for file in sorted(MACHINES.glob("*/machine.json"))]

    @classmethod
    def named(cls, name: str) -> Machine | None:
        return next((machine for machine in cls.all() if machine.name == name), None)

    @property
    def folder(self) -> Path:
        return MACHINES / self.name

    @property
    def host_name(self) -> str:
        """Without the underscores that a scenario's name may have, and no host name."""
        return self.name.replace("_", "-")

    @property
    def tap(self) -> str:
        return f"web2py-uml{self.number}"

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def process(self) -> int | None:
        """The machine's process if it runs; its start time tells it from another that got its number later."""
        with contextlib.suppress(OSError, ValueError):
            number, since = (self.folder / "process").read_text().split()
            if since_of(int(number)) == since:
                return int(number)
        return None

    def boot(self, network: Network, base: Path) -> None:
        if not Path("/sys/class/net", self.tap).exists():
            lab.run("ip", "tuntap", "add", "dev", self.tap, "mode", "tap")
        lab.run("ip", "link", "set", self.tap, "master", network.bridge, "up")
        # The base that its own disk was begun with, also when the recipe has changed since.
        begun = self.folder / "base.img"
        if not begun.is_symlink():
            begun.symlink_to(base)
        mac = f"02:77:32:70:{self.number >> 8:02x}:{self.number & 255:02x}"
        with open(self.console, "ab") as console:
            process = subprocess.Popen(
                [
                    BOOT,
                    *("mem=384M", f"ubda={self.folder / 'disk.cow'},{begun.resolve()}", "root=/dev/ubda", "rw"),
                    f"vec0:transport=tap,ifname={self.tap},mac={mac},depth=128,gro=1",
                    *("con=null", "con0=null,fd:1", "con1=null", "ssl=null", f"uml_dir={self.folder}/"),
                    f"systemd.hostname={self.host_name}",
                    f"lab.address={self.address}/{network.subnet.prefixlen}",
                    f"lab.gateway={network.gateway}",
                    f"lab.nameservers={','.join(nameservers())}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                # A group of its own: with it end the processes of the machine's programs.
                start_new_session=True,
            )
        (self.folder / "process").write_text(f"{process.pid} {since_of(process.pid)}")

    def wait(self) -> None:
        """Until its sshd says its first words."""
        deadline = time.monotonic() + BOOT_LIMIT
        while True:
            with contextlib.suppress(OSError), socket.create_connection((self.address, 22), timeout=5) as connection:
                if connection.recv(4) == b"SSH-":
                    return
            if time.monotonic() > deadline or not self.process():
                ended = "does not answer" if self.process() else "has ended"
                raise lab.LabError(f"machine {self.name} {ended}; its console: {self.console}")
            time.sleep(0.2)

    def kill(self) -> None:
        """As if its power were cut."""
        process = self.process()
        if not process:
            return
        os.killpg(process, signal.SIGKILL)
        while self.process():
            time.sleep(0.05)

    def remove(self) -> None:
        self.kill()
        if Path("/sys/class/net", self.tap).exists():
            lab.run("ip", "link", "delete", self.tap)
        shutil.rmtree(self.folder)


def since_of(process: int) -> str:
    """When a process began, in the kernel's ticks; an error where there is none, or one that has ended."""
    state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    if state in "ZX":
        raise ProcessLookupError(process)
    return fields[18]


def nameservers() -> list[str]:
    """Name servers that can be asked from another machine, too; those of this machine may be on loopback."""
    for file in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        found = re.findall(r"^nameserver\s+([\d.]+)\s*$", file.read_text() if file.exists() else "", re.MULTILINE)
        reachable = [address for address in found if not ipaddress.ip_address(address).is_loopback]
        if reachable:
            return reachable
    return []


def write_ssh_config() -> None:
    lines = [line for machine in Machine.all() for line in (f"Host {machine.name}", f"  HostName {machine.address}")]
    lines += [
        "Host *",
        "  User root",
        f'  IdentityFile "{KEY}"',
        "  IdentitiesOnly yes",
        "  StrictHostKeyChecking no",
        "  UserKnownHostsFile /dev/null",
        "  LogLevel ERROR",
        # A machine whose power was cut closes no connection.
        "  ServerAliveInterval 3",
        "  ServerAliveCountMax 10",
    ]
    unfinished = SSH_CONFIG.with_suffix(".unfinished")
    unfinished.write_text("\n".join(lines) + "\n")
    unfinished.replace(SSH_CONFIG)


def settle(name: str, network: Network) -> Machine:
    """The machine of this name, a new one with an address that nobody has."""
    machine = Machine.named(name)
    if not machine:
        taken = {other.number for other in Machine.all()}
        number = next(number for number in range(1, len(taken) + 2) if number not in taken)
        machine = Machine(name, number, network.address(number))
        machine.folder.mkdir(parents=True)
        (machine.folder / "machine.json").write_text(json.dumps(dataclasses.asdict(machine)))
    return machine


def reserve(names: list[str]) -> list[Machine]:
    """Addresses for containers that machines here know by name: Docker's may change whenever a container starts."""
    if not lab.has_fixed_addresses(lab.network_settings()):
        raise lab.LabError(f"network {lab.NETWORK} is old and has no fixed addresses; `make lab-down` removes it")
    with lab.only_one("uml.lock"):
        network = Network.find()
        return [settle(name, network) for name in names]


def start(names: list[str]) -> list[Machine]:
    """Boot machines, new ones or those that were killed, and wait for them; those that run are left alone."""
    base = image()
    with lab.only_one("uml.lock"):
        network = Network.find()
        for machine in [settle(name, network) for name in names]:
            if not machine.process():
                machine.boot(network, base)
        write_ssh_config()
    machines = [machine for machine in Machine.all() if machine.name in names]
    for machine in machines:
        machine.wait()
    return machines


def kill(names: list[str]) -> None:
    for machine in Machine.all():
        if machine.name in names:
            machine.kill()


def stop(names: list[str]) -> None:
    """End machines and forget them with their disks; without a name, all."""
    with lab.only_one("uml.lock"):
        for machine in Machine.all():
            if machine.name in names or not names:
                machine.remove()
        if HOME.exists():
            write_ssh_config()


def listed() -> list[dict]:
    return [dataclasses.asdict(machine) | {"process": machine.process()} for machine in Machine.all()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("image", help="the base disk; prints its path")
    for command, text, number in (
        ("start", "boot machines and wait for their sshd; prints them as JSON", "+"),
        ("reserve", "keep addresses for containers; prints them as JSON", "+"),
        ("kill", "cut the power: nothing is written any more, the disk stays for the next start", "+"),
        ("stop", "end machines and delete their disks; without a name all of them", "*"),
    ):
        commands.add_parser(command, help=text).add_argument("names", nargs=number, metavar="NAME")
    commands.add_parser("list", help="all machines as JSON; `process` is null where the power is off")
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "image":
                print(image())
            case "start":
                print(json.dumps([dataclasses.asdict(machine) for machine in start(arguments.names)]))
            case "reserve":
                print(json.dumps([dataclasses.asdict(machine) for machine in reserve(arguments.names)]))
            case "kill":
                kill(arguments.names)
            case "stop":
                stop(arguments.names)
            case "list":
                print(json.dumps(listed()))
    except lab.LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
