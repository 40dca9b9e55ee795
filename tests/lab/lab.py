#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring up what the tests and the demo need: Python tools, Docker, machine images and a web2py to deploy.

Runs on Debian's own python3 with the standard library. Every command may be repeated: what is there is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
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
# Containers inherit the labels of their image, so what was built and what is running need one each.
LABEL = "web2py-deployment.lab"
INPUTS_LABEL = "web2py-deployment.inputs"

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
def only_one(lock_name: str = "lab.lock") -> Iterator[None]:
    """Let a second lab wait until the first has built what both need."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / lock_name, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run of the lab")
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
    # Made here, once, because two scenarios that start together would each make one of this name.
    network()


def docker_answers() -> bool:
    return succeeds("docker", "version", timeout=20)


def network() -> None:
    """Docker gives addresses of the lower half of this network; those of the upper half uml.py gives, and they stay."""
    options = ("--label", LABEL)
    if succeeds("docker", "network", "inspect", NETWORK):
        found = network_settings()
        # One from before is replaced, unless machines use it; Docker does not know of those that are no containers.
        used = Path("/sys/class/net", bridge(found), "brif")
        if has_fixed_addresses(found) or (used.is_dir() and any(used.iterdir())):
            return
        if not succeeds("docker", "network", "rm", NETWORK):
            return
    # Docker knows which subnet is free, but takes fixed addresses only in one that it was told.
    run("docker", "network", "create", *options, NETWORK)
    subnet = ipv4_settings(network_settings())["Subnet"]
    lower = next(ipaddress.ip_network(subnet).subnets())
    run("docker", "network", "rm", NETWORK)
    run("docker", "network", "create", *options, "--subnet", subnet, "--ip-range", str(lower), NETWORK)


def network_settings() -> dict:
    return json.loads(run("docker", "network", "inspect", NETWORK).stdout)[0]


def ipv4_settings(settings: dict) -> dict[str, str]:
    return next(entry for entry in settings["IPAM"]["Config"] if ":" not in entry["Subnet"])


def bridge(settings: dict) -> str:
    return (settings["Options"] or {}).get("com.docker.network.bridge.name") or f"br-{settings['Id'][:12]}"


def has_fixed_addresses(settings: dict) -> bool:
    return bool(ipv4_settings(settings).get("IPRange"))


def start_docker() -> None:
    if os.geteuid():
        raise LabError(
            "no Docker daemon answers, and only root may start one; start Docker and give this user access to it"
        )
    # In this order: up to Debian 12 docker.io brings the client along, and there is no package docker-cli.
    for program, package in (("dockerd", "docker.io"), ("docker", "docker-cli"), ("iptables", "iptables")):
        if not shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin"):
            apt_install(f"{program} is missing", package)
    log = str(CACHE / "dockerd.log")
    if Path("/run/systemd/system").is_dir():
        log = "journalctl -u docker"
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
    """Raise the kernel's limit of inotify instances: each systemd takes several, the usual 128 last for 15 machines."""
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
            ["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{INPUTS_LABEL}"}}}}', image],
            capture_output=True,
            text=True,
        )
        if have.stdout.strip() == inputs:
            continue
        say(f"building the image {image} (about half a minute)")
        started = time.monotonic()
        base = base_image(version, suite)
        arguments = ["--build-arg", f"BASE={base}", "--label", f"{INPUTS_LABEL}={inputs}", "--tag", image]
        # The legacy builder is in every Docker that Debian ships; buildx is not.
        run("docker", "build", "--network", "host", *arguments, LAB, env=os.environ | {"DOCKER_BUILDKIT": "0"})
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


# --- Machines with a kernel of their own ------------------------------------------------------------------------------


def kernels(*arguments: str) -> None:
    """Run uml.py, which imports this module."""
    if subprocess.call([sys.executable, LAB / "uml.py", *arguments], stdin=subprocess.DEVNULL):
        raise LabError("machines with a kernel of their own cannot be had; the reason is above")


# --- web2py -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Web2py:
    """A web2py to deploy: where it lies, how it was found and which version it says it is."""

    path: Path
    kind: str
    version: str

    def __str__(self) -> str:
        origin = {
            "environment": "real, named by WEB2PY_SOURCE",
            "cache": "real, from the cache",
            "download": "real, the official release just downloaded",
            "stand-in": "NOT REAL: the stand-in of this project's tests",
        }
        return f"web2py {self.version} ({origin[self.kind]}): {self.path}"


def web2py(head: bool = False) -> Web2py:
    """Find the release, or with head the newest development tree where the cache has one."""
    named = os.environ.get("WEB2PY_SOURCE")
    if named:
        path = Path(named).expanduser().resolve()
        return Web2py(path, "stand-in" if path == STAND_IN else "environment", version_of(path))
    if head and (CACHE / "web2py-head").is_dir():
        return Web2py(CACHE / "web2py-head", "cache", version_of(CACHE / "web2py-head"))
    archive = CACHE / f"web2py_src-{RELEASE}.zip"
    if archive.exists():
        if sha256(archive) == RELEASE_SHA256:
            return Web2py(archive, "cache", version_of(archive))
        say(f"ignoring {archive}: its SHA-256 is not that of the official release")
    folders = sorted(path for path in CACHE.glob("web2py-*") if path.is_dir())
    release = CACHE / f"web2py-v{RELEASE}"
    if release in folders or len(folders) == 1:
        path = release if release in folders else folders[0]
        return Web2py(path, "cache", version_of(path))
    if download(archive):
        return Web2py(archive, "download", version_of(archive))
    return Web2py(STAND_IN, "stand-in", version_of(STAND_IN))


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@functools.cache  # an address that cannot be reached is asked once
def download(archive: Path) -> bool:
    unfinished = archive.with_suffix(".unfinished")
    say(f"fetching {RELEASE_URL}")
    try:
        with urllib.request.urlopen(RELEASE_URL, timeout=10) as answer, open(unfinished, "wb") as file:
            shutil.copyfileobj(answer, file)
    except OSError as error:
        say(f"the official release cannot be reached ({error})")
        return False
    if sha256(unfinished) != RELEASE_SHA256:
        unfinished.unlink()
        raise LabError(f"what {RELEASE_URL} delivered does not have the SHA-256 {RELEASE_SHA256}; nothing was kept")
    unfinished.replace(archive)
    return True


def version_of(path: Path) -> str:
    """Read the version a tree or an archive says it is; this also proves that it holds a web2py."""
    name = "gluon/version.py"
    text = ""
    if (path / name).is_file():
        text = (path / name).read_text()
    elif zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            text = "".join(archive.read(member).decode() for member in archive.namelist() if member.endswith(name))
    elif path.is_file() and tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            found = (archive.extractfile(member) for member in archive if member.name.endswith(name))
            text = "".join(file.read().decode() for file in found if file)
    match = re.search(r"""^VERSION = ["']([^"']+)["']""", text, re.MULTILINE)
    if not match:
        raise LabError(f"{path} is no web2py tree or archive: it has no {name}; correct WEB2PY_SOURCE or the cache")
    return match[1]


# --- The whole --------------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """What programs of the lab run with: its tools first in the path, and the web2py to deploy."""
    tools = venv()
    return os.environ | {
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(tools),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".ansible" / "collections"),
        "LAB_WEB2PY": str(web2py().path),
        "LAB_WEB2PY_HEAD": str(web2py(head=True).path),
        # How to reach machines with a kernel of their own; uml.py writes it.
        "LAB_SSH_CONFIG": str(CACHE / "uml" / "ssh_config"),
        # Names the place of the scenarios, else Molecule asks at each call to move them elsewhere.
        "MOLECULE_GLOB": "molecule/*/molecule.yml",
        "MOLECULE_COMMAND_BORDERS": "0",
    }


def up() -> None:
    venv()
    docker()
    images()
    for found in dict.fromkeys((web2py(), web2py(head=True))):
        say(str(found))


def down() -> None:
    """Remove the machines and the network; images, virtual environment, cache and the daemon stay."""
    kernels("stop")
    if not docker_answers():
        return
    machines = run("docker", "ps", "--all", "--quiet", "--filter", f"label={LABEL}").stdout.split()
    if machines:
        run("docker", "rm", "--force", "--volumes", *machines)
        say(f"removed {len(machines)} machine{'s' if len(machines) > 1 else ''}")
    if succeeds("docker", "network", "inspect", NETWORK):
        run("docker", "network", "rm", NETWORK)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="all of the below that tests need; repeat it as you like")
    commands.add_parser("venv", help="the virtual environment of the tools; prints its path")
    commands.add_parser("docker", help="a running Docker daemon with the lab's network")
    commands.add_parser("images", help="machine images of Debian 12 and 13 with systemd")
    commands.add_parser("kernels", help="the disk of machines with a kernel of their own; for scenarios that have some")
    source = commands.add_parser("web2py", help="find the web2py to deploy")
    source.add_argument("--head", action="store_true", help="prefer the newest development tree of the cache")
    source.add_argument("--json", action="store_true", help="one line of JSON instead of a sentence")
    execute = commands.add_parser("run", help="run a program with the lab's tools and web2py in its environment")
    execute.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM [ARGUMENT...]")
    commands.add_parser("down", help="remove the lab's machines and network")
    arguments = parser.parse_args()
    try:
        with only_one():
            match arguments.command:
                case "up":
                    up()
                case "venv":
                    print(venv())
                case "docker":
                    docker()
                case "images":
                    docker()
                    images()
                case "kernels":
                    kernels("image")
                case "web2py":
                    found = web2py(arguments.head)
                    fields = {"path": str(found.path), "kind": found.kind, "version": found.version}
                    print(json.dumps(fields) if arguments.json else found)
                case "run":
                    variables = environment()
                case "down":
                    down()
        if arguments.command == "run":
            if not arguments.program:
                execute.error("name the program to run")
            return subprocess.call(arguments.program, env=variables)
    except FileNotFoundError as error:
        print(f"lab: there is no program {error.filename}", file=sys.stderr)
        return 1
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
