#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring up what the tests and the demo need: Python tools, Docker, machine images and a web2py to deploy.

Runs on Debian's own python3 with the standard library. Every command may be repeated: what is there is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

LAB = Path(__file__).resolve().parent
REPOSITORY = LAB.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "web2py-deployment"
STAND_IN = REPOSITORY / "tests" / "stand_in"

IMAGE = "web2py-deployment-lab"
SUITES = {"12": "bookworm", "13": "trixie"}
NETWORK = "web2py-lab"
LABEL = "web2py-deployment.lab"

RELEASE = "3.3.3"
RELEASE_URL = f"https://github.com/web2py/web2py/raw/v{RELEASE}/binaries/web2py_src.zip"
RELEASE_SHA256 = "d89edf57d31907bfdd2980239ff227e81e91125a28395667418d137725985afc"


class LabError(Exception):
    """Something the lab cannot do here; the message says what and what would help."""


def say(message: str) -> None:
    print(f"lab: {message}", file=sys.stderr, flush=True)


def run(*command: str | Path, **options) -> subprocess.CompletedProcess[str]:
    """Run a command; a failure becomes a LabError that carries what the command said."""
    result = subprocess.run(
        [str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options
    )
    if result.returncode:
        said = (result.stderr + result.stdout).strip()[-2000:]
        raise LabError(f"'{' '.join(map(str, command))}' ended with {result.returncode}:\n{said}")
    return result


def succeeds(*command: str | Path, **options) -> bool:
    try:
        return not subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **options,
        ).returncode
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Let a second lab wait until the first has built what both need."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lab.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def apt_install(why: str, *packages: str) -> None:
    names = " ".join(packages)
    if os.geteuid() or not shutil.which("apt-get"):
        raise LabError(f"{why}; as root on Debian this helps: apt-get install {names}")
    say(f"{why}; installing {names}")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", env=environment)
    run("apt-get", "install", "--yes", "--no-install-recommends", *packages, env=environment)


# --- Python tools -----------------------------------------------------------------------------------------------------


def venv() -> Path:
    requirements = LAB / "requirements.txt"
    place = CACHE / f"venv-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    # A virtual environment holds its own path and so cannot be built elsewhere and renamed; the mark says it is whole.
    complete = place / "complete"
    if not (complete.exists() and succeeds(place / "bin" / "python", "-c", "")):
        if not succeeds(sys.executable, "-c", "import ensurepip, venv"):
            apt_install("python3 cannot make virtual environments", "python3-venv")
        say(f"building the virtual environment {place} (about a minute)")
        started = time.monotonic()
        shutil.rmtree(place, ignore_errors=True)
        run(sys.executable, "-m", "venv", place)
        run(place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements)
        complete.touch()
        say(f"virtual environment ready after {time.monotonic() - started:.0f} s")
    link_collection()
    return place


def link_collection() -> None:
    """Make the working tree visible to Ansible under the collection's name."""
    link = REPOSITORY / ".ansible" / "collections" / "ansible_collections" / "web2py" / "deployment"
    link.parent.mkdir(parents=True, exist_ok=True)
    target = os.path.relpath(REPOSITORY, link.parent)
    if not (link.is_symlink() and os.readlink(link) == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


# --- Docker -----------------------------------------------------------------------------------------------------------


def docker() -> None:
    if not docker_answers():
        start_docker()
    allow_many_systemds()


def docker_answers() -> bool:
    return succeeds("docker", "version", timeout=20)


def start_docker() -> None:
    if os.geteuid():
        raise LabError(
            "no Docker daemon answers, and only root may start one; start Docker and give this user access to it"
        )
    missing = [
        package
        for package, program in (("docker.io", "dockerd"), ("iptables", "iptables"))
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    ]
    if missing:
        apt_install("Docker is not installed", *missing)
    log = CACHE / "dockerd.log"
    if Path("/run/systemd/system").is_dir():
        run("systemctl", "start", "docker")
    elif not docker_answers():
        say(f"starting dockerd, its log is {log}")
        with open(log, "ab") as output:
            subprocess.Popen(
                ["dockerd"], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
            )
    deadline = time.monotonic() + 60
    while not docker_answers():
        if time.monotonic() > deadline:
            raise LabError(f"dockerd does not answer after 60 seconds; its log: {log}")
        time.sleep(0.2)


def allow_many_systemds() -> None:
    """Raise the kernel's limit of inotify instances: each systemd takes several, and 128 lets about 15 machines boot."""
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(limit.read_text()) < 1024:
        try:
            limit.write_text("1024")
        except OSError as error:
            say(f"cannot raise {limit} ({error.strerror}); many machines at once may come up degraded")


# --- Images -----------------------------------------------------------------------------------------------------------


def images() -> None:
    inputs = hashlib.sha256(b"".join((LAB / name).read_bytes() for name in ("Dockerfile", "lab-init"))).hexdigest()[:12]
    for version, suite in SUITES.items():
        image = f"{IMAGE}:debian{version}"
        have = subprocess.run(
            ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', image],
            capture_output=True,
            text=True,
        )
        if have.stdout.strip() == inputs:
            continue
        say(f"building the image {image} (about half a minute)")
        started = time.monotonic()
        base = base_image(version, suite)
        # The legacy builder is in every Docker that Debian ships; buildx is not.
        run(
            "docker", "build", "--network", "host", "--build-arg", f"BASE={base}", "--label", f"{LABEL}={inputs}", "--tag", image, LAB,
            env=os.environ | {"DOCKER_BUILDKIT": "0"},
        )  # fmt: skip
        say(f"{image} ready after {time.monotonic() - started:.0f} s")


def base_image(version: str, suite: str) -> str:
    official = f"debian:{version}"
    if succeeds("docker", "image", "inspect", official) or succeeds("docker", "pull", official, timeout=120):
        return official
    own = f"{IMAGE}-base:debian{version}"
    if succeeds("docker", "image", "inspect", own):
        return own
    say(f"{official} cannot be pulled; making the base with mmdebstrap")
    if not shutil.which("mmdebstrap"):
        apt_install("mmdebstrap is missing", "mmdebstrap")
    # In memory and without fsync: a third faster. Neither setting may stay in the image.
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 2 * 1024**3
    bootstrap = subprocess.Popen(
        [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--dpkgopt=force-unsafe-io",
            '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"',
            suite,
            "-",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=os.environ | ({"TMPDIR": str(memory)} if roomy else {}),
    )
    unfinished = f"{own}-unfinished"
    load = subprocess.run(["docker", "import", "-", unfinished], stdin=bootstrap.stdout, stdout=subprocess.DEVNULL)
    if bootstrap.wait() or load.returncode:
        raise LabError(f"mmdebstrap could not make a base image of {suite}; what it said is above")
    run("docker", "tag", unfinished, own)
    run("docker", "rmi", unfinished)
    return own


COMMANDS = {"docker": docker, "images": images}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["venv", "docker", "images", "web2py", "up", "down"])
    arguments = parser.parse_args()
    try:
        with only_one():
            if arguments.command == "venv":
                print(venv())
            elif arguments.command == "docker":
                docker()
            else:
                docker()
                images()
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
