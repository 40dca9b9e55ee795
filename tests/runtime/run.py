#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Test the runtime package under real web2py: each tree that the lab has, on the Python of each distribution.

LAB_WEB2PY and LAB_WEB2PY_HEAD name the trees, or archives of them; without these variables the lab is asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGES = ("debian12", "debian13")

# web2py may write below /tmp only, reach nothing but itself, and is started by root for another user.
ISOLATION = (
    "--network=none",
    "--read-only",
    "--tmpfs=/tmp:exec,mode=1777",
    "--security-opt=no-new-privileges",
    "--cap-drop=ALL",
    *(f"--cap-add={name}" for name in ("CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID")),
)


def sources() -> list[Path]:
    """The web2py trees or archives to test with, each once."""
    found = []
    for variable, options in (("LAB_WEB2PY", []), ("LAB_WEB2PY_HEAD", ["--head"])):
        path = os.environ.get(variable)
        if not path:
            command = [sys.executable, "tests/lab/lab.py", "web2py", *options, "--json"]
            answer = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE)
            path = json.loads(answer.stdout)["path"]
        found.append(Path(path).resolve())
    return list(dict.fromkeys(found))


def tree(source: Path, temporary: Path) -> Path:
    """The folder that holds gluon, unpacked where the source is an archive."""
    if source.is_dir():
        return source
    unpacked = temporary / source.name
    shutil.unpack_archive(source, unpacked)
    return next(unpacked.rglob("gluon/version.py")).parents[1]


def test(source: Path, folder: Path, image: str) -> tuple[int, int]:
    """Run all tests in a container, say how they went and return how many passed and failed."""
    volumes = (
        f"--volume={REPOSITORY}:/repository:ro",
        f"--volume={folder}:/web2py:ro",
        "--env=WEB2PY=/web2py",
        "--env=SERVICE_USER=65534",
    )
    command = "python3 --version && cd /repository/tests/runtime && exec python3 -B -m unittest --buffer"
    container = ("docker", "run", "--rm", "--init", *ISOLATION, *volumes, f"web2py-deployment-lab:{image}")
    done = subprocess.run(
        [*container, "sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    version = re.match(r"Python \S+", done.stdout)
    ran = re.search(r"^Ran (\d+) tests? in (\S+)", done.stdout, re.MULTILINE)
    if not version or not ran:
        print(f"{done.stdout}\n{source.name} on {image}: the tests did not run", flush=True)
        return 0, 1
    failed = min(int(ran[1]), sum(map(int, re.findall(r"(?:failures|errors)=(\d+)", done.stdout))))
    if done.returncode:
        failed = max(failed, 1)
        print(done.stdout)
    passed = int(ran[1]) - failed
    print(f"{source.name}, {version[0]} ({image}): {passed} passed, {failed} failed in {ran[2]}", flush=True)
    return passed, failed


def main() -> int:
    passed = failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        for source in sources():
            folder = tree(source, Path(temporary))
            if folder.is_relative_to(REPOSITORY):
                print(f"{folder.name} is no web2py: there is nothing that the runtime package could be tested under")
                continue
            for image in IMAGES:
                counts = test(source, folder, image)
                passed, failed = passed + counts[0], failed + counts[1]
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
