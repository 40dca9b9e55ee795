# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A running copy of each web2py that the lab may give to the scenarios, and always of the stand-in."""

from __future__ import annotations

import http.client
import importlib.util
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def load_lab():
    """Import the lab by its place: it is a program, not a package."""
    spec = importlib.util.spec_from_file_location("lab", HERE.parent / "lab" / "lab.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["lab"] = module
    spec.loader.exec_module(module)
    return module


LAB = load_lab()
TREES = {"release": LAB.web2py().path, "head": LAB.web2py(head=True).path, "stand-in": LAB.STAND_IN}
# Where only one web2py can be had, two of the names mean the same tree.
NAMES = {path: name for name, path in TREES.items()}


@dataclass
class Site:
    """A web2py of which the tests may change everything."""

    root: Path
    port: int
    process: subprocess.Popen[str]
    version: str
    password = "correct horse"
    application: Path = field(init=False)

    def __post_init__(self) -> None:
        self.application = self.root / "applications" / "contract"

    def files(self, folder: str) -> set[Path]:
        """Return the files the application has written below a folder; the folder may not be there yet."""
        return {path for path in (self.application / folder).rglob("*") if path.is_file()}

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=named)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode("utf-8", "replace"), answer.headers)
        finally:
            connection.close()


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: http.client.HTTPMessage

    @property
    def cookie(self) -> str:
        """The session cookie as a browser would send it back."""
        return next(
            value.split(";")[0]
            for value in self.headers.get_all("Set-Cookie") or []
            if value.startswith("session_id_contract=")
        )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def copy_tree(source: Path, root: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, root, ignore=shutil.ignore_patterns(".git"))
        return
    unpacked = root.with_name("unpacked")
    if zipfile.is_zipfile(source):
        shutil.unpack_archive(source, unpacked, "zip")
    else:
        shutil.unpack_archive(source, unpacked, "tar", filter="data")
    next(unpacked.glob("**/web2py.py")).parent.rename(root)


@pytest.fixture(scope="session", params=NAMES.values())
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    source = TREES[request.param]
    root = tmp_path_factory.mktemp(request.param) / "web2py"
    copy_tree(source, root)
    shutil.copytree(HERE / "application", root / "applications" / "contract")
    (root / "routes.py").write_text(
        'default_application = "contract"\nroutes_in = (("/short.css", "/contract/static/css/contract.css"),)\n'
    )
    port = free_port()
    log = root / "console.log"
    with open(log, "w") as output:
        process = subprocess.Popen(
            [
                *(sys.executable, "web2py.py", "--no_gui", "--no_banner", "-i", "127.0.0.1", "-p", str(port)),
                *("-a", Site.password, "-d", str(root / "contract.pid"), "-l", str(root / "contract.log")),
            ],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            text=True,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{source} does not serve; it said:\n{log.read_text()}")
            time.sleep(0.05)
        yield Site(root, port, process, LAB.version_of(source))
    finally:
        process.kill()
        process.wait()
