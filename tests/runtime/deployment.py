# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A web2py deployed as on a web host, in a temporary folder, and a client that talks to it over sockets."""

from __future__ import annotations

import atexit
import hashlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from functools import cache
from http.cookies import SimpleCookie
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlencode

HERE = Path(__file__).resolve().parent
FILES = HERE.parents[1] / "roles" / "web2py" / "files"
SHARED = HERE.parents[1] / "plugins" / "module_utils" / "pickles.py"
WEB2PY = Path(os.environ["WEB2PY"])
# The user that web2py runs as, where the tests may start a program as another one.
SERVICE_USER = int(os.environ["SERVICE_USER"]) if "SERVICE_USER" in os.environ else None
PASSWORD = "correct horse battery staple"

CODE = ("models", "views", "controllers", "modules", "cron", "languages", "static", "private")
STATE = ("databases", "errors", "sessions", "uploads", "cache")

# What the front ends of these tests tell web2py; each one has a port of its own.
VISITOR = {"REMOTE_ADDR": "203.0.113.7", "SERVER_PORT": "80"}
HTTPS = {"REMOTE_ADDR": "203.0.113.7", "SERVER_PORT": "443", "wsgi.url_scheme": "https"}
FRONT_ENDS = {
    "http": VISITOR,
    "https": HTTPS,
    "admin_http": VISITOR | {"WEB2PY_ADMINISTRATION": "https"},
    "admin_https": HTTPS | {"WEB2PY_ADMINISTRATION": "https"},
    "admin_misspelled": HTTPS | {"WEB2PY_ADMINISTRATION": "on"},
    "probe_only": HTTPS | {"WEB2PY_ADMINISTRATION": "https", "WEB2PY_APPLICATIONS": "probe, nothing"},
    "nothing": VISITOR | {"WEB2PY_APPLICATIONS": ""},
    "proxied": {"REMOTE_ADDR": "127.0.0.1"},
    "unix_socket": {"REMOTE_ADDR": ""},
    "cut_path": VISITOR | {"SCRIPT_NAME": "/probe/default", "PATH_INFO": "/facts"},
}


@cache
def workspace() -> Path:
    """A folder for all deployments of this run, with one release of the framework and one runtime package."""
    folder = Path(tempfile.mkdtemp(prefix="web2py-runtime-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)
    shutil.copytree(WEB2PY / "gluon", folder / "releases" / "one" / "gluon", ignore=shutil.ignore_patterns("tests"))
    shutil.copytree(FILES, folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SHARED, folder / "runtime" / "web2py_runtime")
    shutil.copy(HERE / "server.py", folder / "server.py")
    for name in ("admin", "welcome"):
        shutil.copytree(WEB2PY / "applications" / name, folder / "applications" / name)
    shutil.copytree(HERE / "applications" / "probe", folder / "applications" / "probe")
    (folder / "applications" / "admin" / "static" / "favicon.ico").write_text("an icon")
    for application in (folder / "applications").iterdir():
        for name in CODE:
            (application / name).mkdir(exist_ok=True)
    make_read_only(folder)
    (folder / "bytecode").mkdir()
    (folder / "bytecode").chmod(0o777)
    return folder


def make_read_only(folder: Path) -> None:
    for parent, _folders, files in os.walk(folder):
        os.chmod(parent, 0o755)
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o444)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Deployment:
    """Deploys and serves when entered; `without` names fixes to leave out, `stock` takes web2py as it comes."""

    routes: str = 'default_application = "probe"\n'
    settings: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    stock: bool = False
    own_user: bool = False

    def __enter__(self) -> Deployment:
        self.base = Path(tempfile.mkdtemp(prefix="site-", dir=workspace()))
        self.base.chmod(0o755)
        self.root = self.base / "root"
        self.state = self.base / "state"
        user = None if self.own_user else SERVICE_USER
        for name in ("applications", "deposit", "logs", "site-packages"):
            (self.root / name).mkdir(parents=True)
        for application in ("admin", "probe", "welcome"):
            self._link_application(application)
        for name in ("home", "temporary"):
            (self.state / name).mkdir()
        (self.base / "current").symlink_to(workspace() / "releases" / "one")
        (self.root / "routes.py").write_text(self.routes)
        salt = secrets.token_hex(8)
        digest = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), salt.encode(), 1000, 20).hex()
        for port in (80, 443):
            (self.root / f"parameters_{port}.py").write_text(f'password="pbkdf2(1000,20,sha512)${salt}${digest}"\n')
        settings = {"root": str(self.root), "framework": str(self.base / "current")} | self.settings
        (self.base / "runtime.json").write_text(json.dumps(settings))
        if user is not None:
            for path in (self.state, *self.state.rglob("*")):
                os.chown(path, user, user)
        self._start(user)
        return self

    def _link_application(self, name: str) -> None:
        """An application as the role deploys it: its code read-only, its state elsewhere."""
        release = self.base / "applications" / name
        release.mkdir(parents=True)
        code = workspace() / "applications" / name
        for entry in code.iterdir():
            (release / entry.name).symlink_to(entry)
        for folder in STATE:
            (self.state / name / folder).mkdir(parents=True)
            (release / folder).symlink_to(self.state / name / folder)
        if name == "admin":
            # Its login keeps the list of refused clients there.
            (release / "private").unlink()
            (self.state / name / "private").mkdir()
            (release / "private").symlink_to(self.state / name / "private")
        (self.root / "applications" / name).symlink_to(release)

    def _start(self, user: int | None) -> None:
        plan = {
            "runtime": str(workspace() / "runtime"),
            "config": str(self.base / "runtime.json"),
            "root": str(self.root),
            "framework": str(workspace() / "releases" / "one"),
            "front_ends": FRONT_ENDS,
            "without": self.without,
            "stock": self.stock,
        }
        environ = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C.UTF-8",
            "HOME": str(self.state / "home"),
            "TMPDIR": str(self.state / "temporary"),
            "PYTHONPYCACHEPREFIX": str(workspace() / "bytecode"),
        }
        self.log = (self.base / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, str(workspace() / "server.py"), json.dumps(plan)],
            cwd=self.base,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            umask=0o027,
        )
        started = self.process.stdout.readline()
        if not started:
            self.__exit__(None, None, None)
            raise RuntimeError(f"web2py did not start:\n{(self.base / 'log').read_text()}")
        self.ports, self.fixes = json.loads(started).values()

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.process.stdout.close()
        self.log.close()

    def get(self, target: str, front_end: str = "http", **options: Any) -> Answer:
        return self.request("GET", target, front_end, **options)

    def request(
        self,
        method: str,
        target: str,
        front_end: str = "http",
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Answer:
        """Send the target as it stands: http.client refuses some that an attacker would send."""
        lines = {"Host": "site.example", "Connection": "close"} | (headers or {})
        if body:
            lines["Content-Length"] = str(len(body))
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        with socket.create_connection(("127.0.0.1", self.ports[front_end]), timeout=60) as connection:
            connection.sendall(head.encode("latin-1") + b"\r\n" + body)
            response = http.client.HTTPResponse(connection, method=method)
            response.begin()
            return Answer(response.status, response.headers, response.read())

    def files(self, *parts: str) -> list[Path]:
        """The files in a folder of the state."""
        return sorted(path for path in self.state.joinpath(*parts).rglob("*") if path.is_file())

    def errors(self) -> str:
        return (self.base / "log").read_text()


@dataclass
class Browser:
    """Keeps the cookies of one visitor."""

    site: Deployment
    front_end: str = "http"
    cookies: dict[str, str] = field(default_factory=dict)

    def request(self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())} if self.cookies else {}
        answer = self.site.request(method, target, self.front_end, headers=sent | (headers or {}), body=body)
        for line in answer.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.coded_value
        return answer

    def get(self, target: str) -> Answer:
        return self.request("GET", target)

    def post(self, target: str, fields: dict[str, str]) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", target, headers, urlencode(fields).encode())

    def post_file(self, target: str, fields: dict[str, str], name: str, filename: str, content: bytes) -> Answer:
        boundary = secrets.token_hex(16)
        parts = [
            f'Content-Disposition: form-data; name="{key}"\r\n\r\n{value}'.encode() for key, value in fields.items()
        ]
        disposition = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"'
        parts.append(f"{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode() + content)
        body = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), part) for part in parts)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.request("POST", target, headers, body + b"--%s--\r\n" % boundary.encode())


def form_fields(page: str) -> dict[str, str]:
    """The hidden fields of a web2py form, without which it does not accept an answer."""
    return {
        name: re.search(rf'name="{name}" type="hidden" value="([^"]*)"', page)[1] for name in ("_formkey", "_formname")
    }
