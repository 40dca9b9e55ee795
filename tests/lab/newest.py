#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a program with the newest ansible-core of the package index, under Python 3.13, in place of the lab's own.

Programs named ansible… in its PATH are the newest ones, and `newest-python` is the Python that they run with: one of
this machine, else that of the lab's Debian 13, in a container.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import lab

VERSION = "3.13"
IMAGE = f"{lab.IMAGE}:controller"
# What is as old as in the other tests, because it is not what is tested here.
PINNED = ("cryptography==", "hypothesis==", "passlib==", "pytest==", "requests==")
# Programs in the container see of their caller's environment what begins so.
PASSED_ON = ("ANSIBLE_", "DISTRO", "HOME", "LAB_", "LANG", "LC_", "MOLECULE_", "NO_COLOR", "PYTEST_", "PYTHON", "XDG_")


def pythons() -> Iterator[str]:
    yield from filter(None, [shutil.which(f"python{VERSION}")])
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted(pyenv.glob(f"versions/{VERSION}.*/bin/python{VERSION}")))


def python() -> str:
    """The command that begins a program in Python 3.13, for a shell in which PACKAGES says where its packages are."""
    for found in pythons():
        # pyenv has a program of this name for each Python that it may be told to use.
        if lab.succeeds(found, "-c", f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{VERSION}')"):
            return f'PYTHONPATH="$PACKAGES${{PYTHONPATH:+:$PYTHONPATH}}" exec {shlex.quote(found)}'
    lab.docker()
    lab.images()
    base = f"{lab.IMAGE}:debian13"
    lab.say(f"this machine has no Python {VERSION}; building the image {IMAGE} from {base} where it is not current")
    lab.run(
        *("docker", "build", "--network", "host", "--build-arg", f"BASE={base}", "--tag", IMAGE),
        *("--file", lab.LAB / "Dockerfile.controller", lab.LAB),
        env=os.environ | {"DOCKER_BUILDKIT": "0"},
    )
    # The same places as here, because inventories and results name them.
    places = dict.fromkeys([str(lab.REPOSITORY), str(lab.CACHE), str(Path.home()), "/tmp", "/var/run/docker.sock"])
    users = [f"--volume=/etc/{name}:/etc/{name}:ro" for name in ("passwd", "group")]
    options = [
        *("--rm", "--init", "--interactive", "--network=host", f"--label={lab.LABEL}"),
        f"--user={os.geteuid()}:{os.getegid()}",
        f"--group-add={os.stat('/var/run/docker.sock').st_gid}",
        *(f"--volume={place}:{place}" for place in places),
        *users,
    ]
    names = "|".join(PASSED_ON)
    return (
        'export PYTHONPATH="$PACKAGES${PYTHONPATH:+:$PYTHONPATH}"\n'
        f"""variables=$(env | sed -nE 's/^(({names})[A-Za-z0-9_]*)=.*/--env=\\1/p')\n"""
        f'exec docker run {shlex.join(options)} --workdir="$PWD" $variables {IMAGE} python3'
    )


def packages() -> Path:
    """Folder with the newest ansible-core, the newest community collections and what the unit tests need."""
    pip = lab.venv() / "bin" / "pip"
    pins = [pin for pin in (lab.LAB / "requirements.txt").read_text().splitlines() if pin.startswith(PINNED)]
    target = ("--python-version", VERSION, "--only-binary=:all:", "--quiet", "--disable-pip-version-check")
    with tempfile.TemporaryDirectory() as wheels:
        download = (pip, "download", *target, "--dest", wheels)
        lab.run(*download, "ansible-core", *pins)
        # Without what it asks for: a new ansible-core comes out before the package of collections that goes with it.
        lab.run(*download, "--no-deps", "ansible")
        found = sorted(Path(wheels).iterdir())
        key = hashlib.sha256("\n".join(file.name for file in found).encode()).hexdigest()[:12]
        place = lab.CACHE / f"newest-{key}"
        if not (place / "complete").exists():
            lab.say("installing " + ", ".join(file.name for file in found if file.name.startswith("ansible")))
            for old in lab.CACHE.glob("newest-*/complete"):
                # A younger one may be in use.
                if old.stat().st_mtime < time.time() - 86400:
                    shutil.rmtree(old.parent)
            install = (pip, "install", *target, "--no-index", "--no-deps", "--ignore-requires-python")
            lab.run(*install, "--no-compile", "--target", place / "packages", *found)
            (place / "complete").touch()
    return place


def prepare() -> Path:
    """Folder of the programs."""
    place = packages()
    programs = place / "bin"
    begin = f"#!/bin/sh\nPACKAGES={shlex.quote(str(place / 'packages'))}\n{python()}"
    programs.mkdir(exist_ok=True)
    scripts = {file.name: shlex.quote(str(file)) for file in (place / "packages" / "bin").glob("ansible*")}
    for name, script in {**scripts, "newest-python": ""}.items():
        unfinished = programs / f".{name}"
        unfinished.write_text(f'{begin} {script} "$@"\n')
        unfinished.chmod(0o755)
        # In one step, for another process may just begin it.
        unfinished.replace(programs / name)
    return programs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM [ARGUMENT...]")
    program = parser.parse_args().program or parser.error("name the program to run")
    try:
        with lab.only_one():
            variables = lab.environment()
            variables["PATH"] = f"{prepare()}{os.pathsep}{variables['PATH']}"
    except lab.LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return subprocess.call(program, env=variables)


if __name__ == "__main__":
    sys.exit(main())
