# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An application that exchanges files and folders of its own under the hands of root, and canaries that tell of it."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from browser import wait_for

DATA = "/var/lib/web2py/data"
# What the application may write, besides the five folders of every application.
FOLDER = "extra"
MIB = 1 << 20
# Files and folders that are root's and none of the site's business, in the way of every attack.
CANARIES = "/etc/canaries"
MAKE_CANARIES = f"""
set -e
rm -rf {CANARIES}
mkdir -p {CANARIES}/folder {CANARIES}/cron.d
echo 'root:secret' > {CANARIES}/shadow
echo 'root:secret' > {CANARIES}/folder/shadow
echo '#!/bin/sh' > {CANARIES}/script
chown root:shadow {CANARIES}/shadow {CANARIES}/folder/shadow
chmod 0640 {CANARIES}/shadow {CANARIES}/folder/shadow
chmod 0755 {CANARIES}/script {CANARIES} {CANARIES}/folder {CANARIES}/cron.d
"""
# Owner, mode, links and content of the canaries and of what a system is taken over by; and what belongs to the service
# user outside of its own folders.
LOOK = rf"""
find {CANARIES} /etc/cron.d /etc/sudoers* /etc/passwd /etc/shadow /etc/group /etc/profile.d /usr/local /root \
  -not -path '/root/.ansible*' -printf '%p %y %U:%G %m %n %l\n' 2>/dev/null | sort
find {CANARIES} /etc/cron.d /etc/passwd /etc/shadow /etc/group -type f -exec sha256sum {{}} + | sort
find / /run /dev/shm -xdev -user web2py -not -path '/var/lib/web2py/data/*' -not -path '/var/lib/web2py/deposit*' \
  -not -path '/var/lib/web2py/instances/*' -not -path '/var/log/web2py*' -not -path '/var/tmp/*' -not -path '/tmp/*' \
  -not -path '/proc/*' | sort
"""
# Runs as web2py until its input ends: how, the folder that root is about to fill, a folder of its own.
ATTACKER = r"""
import ctypes, os, pathlib, select, sys, threading, time
way, folder, side, canaries = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
exchange = lambda one, other: libc.renameat2(-100, one.encode(), -100, other.encode(), 2) == 0
watch = libc.inotify_init1(os.O_NONBLOCK)
os.makedirs(side, exist_ok=True)
def fresh(name, make):
    path = f"{side}/{name}-{os.getpid()}"
    if os.path.lexists(path):
        os.rename(path, f"{path}.{time.monotonic_ns()}")
    make(path)
    return path
linked = lambda target: lambda path: os.symlink(target, path)
def filled(path):
    os.mkdir(path)
    for name in ("payload", "shadow", "f1"):
        os.symlink(f"{canaries}/shadow", f"{path}/{name}")
tries = done = 0
def attempt(succeeded):
    global tries, done
    tries += 1
    done += bool(succeeded)
other = {
    "folder": lambda: fresh("link", linked(f"{canaries}/cron.d")),
    "flip": lambda: fresh("link", linked(f"{canaries}/folder")),
    "file": lambda: fresh("file", linked(f"{canaries}/shadow")),
    "filled": lambda: fresh("filled", filled),
    "hard": lambda: fresh("file", linked(f"{canaries}/script")),
    "fifo": lambda: fresh("fifo", os.mkfifo),
    "top": lambda: fresh("link", linked(f"{canaries}/folder")),
}[way]()
names = {"folder": ["d"], "flip": ["d"], "filled": ["d"], "top": [""]}.get(way, ["f1", "f2", "d/payload"])
print("ready", flush=True)
over = False
while not over:
    # A sign of root means to be quick for a while; without one, exchange something now and then.
    libc.inotify_add_watch(watch, folder.encode(), 0x100 | 0x4)
    select.select([watch, sys.stdin], [], [], 0.02)
    over = bool(select.select([sys.stdin], [], [], 0)[0])
    until = time.monotonic()
    try:
        os.read(watch, 1 << 16)
        until += 0.3
    except BlockingIOError:
        pass
    again = True
    while again:
        again = time.monotonic() < until
        for name in names:
            path = f"{folder}/{name}" if name else folder
            if exchange(path, other):
                attempt(True)
                if way == "folder":
                    # Back and forth would show root the folder again.
                    other = fresh("link", linked(f"{canaries}/cron.d"))
                    time.sleep(0.2)
        if way in ("file", "hard", "fifo"):
            for name in ("f1", "f2", "f3"):
                path = f"{folder}/{name}"
                try:
                    if not os.listdir(folder):
                        break
                    if way == "hard":
                        os.link(f"{canaries}/script", path)
                    elif way == "fifo":
                        os.mkfifo(path)
                    else:
                        os.symlink(f"{canaries}/shadow", path)
                    attempt(True)
                except OSError:
                    attempt(False)
print(tries, done, flush=True)
"""
WAYS = ("folder", "flip", "file", "filled", "hard", "fifo", "top")


@dataclass(frozen=True)
class Attack:
    """One application that fights for a folder in one way; the tree that it brings there has so many bytes."""

    way: str
    size: int

    @property
    def application(self) -> str:
        return f"evil_{self.way}_{self.size}"

    @property
    def folder(self) -> str:
        return f"{DATA}/{self.application}/{FOLDER}"


def source(attack: Attack, place: pathlib.Path, version: int = 1) -> dict:
    """The application as an entry of web2py_applications; another version is another release."""
    folder = place / f"version_{version}" / attack.application
    (folder / "controllers").mkdir(parents=True, exist_ok=True)
    (folder / "controllers/default.py").write_text(f"def index():\n    return 'version {version}'\n")
    (folder / FOLDER / "d").mkdir(parents=True, exist_ok=True)
    for name in ("d/payload", "f1", "f2", "f3"):
        (folder / FOLDER / name).write_text("x")
        os.truncate(folder / FOLDER / name, max(1, attack.size // 4))
    return {"name": attack.application, "source": {"path": str(folder)}, "writable": [FOLDER]}


def look(host) -> list[str]:
    return host.check_output(LOOK).splitlines()


def empty(host, attacks: Iterable[Attack]) -> None:
    """As the application may do itself, so that the next release brings the folder's content again."""
    for attack in attacks:
        host.run(f"rm -rf {attack.folder}/* {attack.folder}/.[!.]*")


@contextlib.contextmanager
def attacked(machine: str, attacks: Iterable[Attack]) -> Iterator[list[str]]:
    """Have all these attacks go on, as web2py's user, while the block runs; gives what the attackers say at the end."""
    said: list[str] = []
    processes = []
    for attack in attacks:
        side = f"{DATA}/{attack.application}/uploads/side"
        command = ["docker", "exec", "--interactive", "--user", "web2py", machine, "python3", "-c", ATTACKER]
        command += [attack.way, attack.folder, side, CANARIES]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        yield said
    finally:
        for process in processes:
            process.stdin.close()
        for attack, process in zip(attacks, processes, strict=True):
            said.append(f"{attack.application}: {process.stdout.read().strip() or 'it failed'}")
            process.stdout.close()
            wait_for(lambda process=process: process.poll() is not None)
