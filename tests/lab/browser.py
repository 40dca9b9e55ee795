# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reach the deployed site as a browser on another machine would: by address, with a Host header, over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlencode

NAME = "probe.example"
PROBE = "/probe_2/default"
# None of these may ever reach a browser: text of private files, models, configuration and sessions.
SECRETS = (
    b"PRIVATE-FILE-OF-PROBE",
    b"MODEL-SOURCE-OF-PROBE",
    b"HIDDEN-STATIC-FILE",
    b"pbkdf2(",
    b"default_application",
    b"def download",
    b"root:x:0:0",
    b"BEGIN PRIVATE KEY",
    b"[forms]",
)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        return self.headers.get(name)

    def json(self) -> dict:
        return json.loads(self.body)


@dataclass
class Site:
    """The site on one machine, and a browser with cookies."""

    machine: str
    address: str
    context: ssl.SSLContext
    host: object
    cookies: dict[str, dict[str, str]] = field(default_factory=dict)

    def connect(self, scheme: str, port: int | None = None) -> http.client.HTTPConnection:
        port = port or (443 if scheme == "https" else 80)
        connection = http.client.HTTPConnection(self.address, port, timeout=60)
        connection.connect()
        if scheme == "https":
            plain = connection.sock
            try:
                connection.sock = self.context.wrap_socket(plain, server_hostname=NAME)
            except OSError:
                plain.close()
                raise
        return connection

    def ask(
        self,
        path: str,
        scheme: str = "http",
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        host: str | None = NAME,
        port: int | None = None,
    ) -> Answer:
        """Send exactly this path, whatever it is; http.client would only refuse control characters."""
        with contextlib.closing(self.connect(scheme, port)) as connection:
            connection._validate_path = lambda url: None
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if host is not None:
                connection.putheader("Host", host)
            jar = self.cookies.setdefault(scheme, {})
            if jar:
                connection.putheader("Cookie", "; ".join(f"{name}={value}" for name, value in jar.items()))
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
            for cookie in answer.headers.get_all("Set-Cookie") or []:
                name, value = cookie.split(";", 1)[0].split("=", 1)
                jar[name] = value
            return answer

    def post(self, path: str, fields: dict[str, str], scheme: str = "http", **more) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded", **more.pop("headers", {})}
        return self.ask(path, scheme, "POST", urlencode(fields).encode(), headers, **more)

    def fresh(self) -> Site:
        """Another visitor."""
        return Site(self.machine, self.address, self.context, self.host)

    def run(self, command: str) -> str:
        return self.host.check_output(command)

    def wsgi_processes(self) -> list[int]:
        found = self.host.run("ps -eo pid=,args= | grep '[(]wsgi:web2py)'").stdout
        return [int(line.split()[0]) for line in found.splitlines()]

    def wait(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.fresh().ask("/healthz").status == 200:
                    return
            assert time.monotonic() < deadline, f"the site of {self.machine} did not answer within {seconds} seconds"
            time.sleep(0.1)


def address_of(machine: str) -> str:
    inspected = subprocess.run(["docker", "inspect", machine], check=True, capture_output=True, text=True)
    networks = json.loads(inspected.stdout)[0]["NetworkSettings"]["Networks"]
    return next(iter(networks.values()))["IPAddress"]


def site_of(machine: str, host) -> Site:
    """The site of one machine, trusting just the certificate that lies there."""
    certificate = host.file("/etc/ssl/tls_certificate/web2py/fullchain.pem").content_string
    return Site(machine, address_of(machine), ssl.create_default_context(cadata=certificate), host)


def load(site: Site | list[Site], path: str, clients: int, during, seconds: float = 0) -> Counter:
    """Keep this many requests in flight (to each site) during `during()`; count the answers and the errors by kind.

    With `seconds`, each client goes on asking until `during()` is over and that time has passed.
    """
    sites = [site] if isinstance(site, Site) else site
    results: Counter = Counter()
    ready = threading.Barrier(clients * len(sites) + 1)
    over = threading.Event()

    def visitor(site: Site) -> None:
        ready.wait()
        while True:
            try:
                results[site.fresh().ask(path).status] += 1
            except (OSError, http.client.HTTPException) as error:
                results[type(error).__name__] += 1
            if not seconds or over.is_set():
                return

    threads = [threading.Thread(target=visitor, args=[site]) for site in sites for _ in range(clients)]
    for thread in threads:
        thread.start()
    ready.wait()
    started = time.monotonic()
    during()
    time.sleep(max(0.0, started + seconds - time.monotonic()))
    over.set()
    for thread in threads:
        thread.join()
    return results


@dataclass
class Run:
    """One run of the site playbook."""

    status: int
    output: str
    seconds: float

    def stats(self) -> dict[str, dict[str, int]]:
        found = re.findall(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+).*?failed=(\d+)", self.output, re.MULTILINE)
        return {
            name: {"ok": int(ok), "changed": int(changed), "failed": int(failed)} for name, ok, changed, failed in found
        }

    def tasks(self) -> int:
        return len(re.findall(r"^TASK \[", self.output, re.MULTILINE))

    def changed_tasks(self) -> list[str]:
        names, current = [], ""
        for line in self.output.splitlines():
            if match := re.match(r"(?:TASK|RUNNING HANDLER) \[(?:[\w.]+ : )?(.*)\]", line):
                current = match.group(1)
            elif line.startswith("changed: ") and current not in names:
                names.append(current)
        return names


PROJECT = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])


def machines() -> list[str]:
    """Names of the machines that this run of the scenario has."""
    group = os.environ.get("DISTRO") or "docker"
    listed = subprocess.run(["ansible", group, "--list-hosts"], check=True, capture_output=True, text=True)
    return [line.strip() for line in listed.stdout.splitlines()[1:]]


def play(*arguments: str, variables: dict | None = None) -> Run:
    """Run the site playbook as a user would, on the machines of this scenario."""
    command = ["ansible-playbook", f"--limit={os.environ.get('DISTRO') or 'all'}", *arguments]
    if variables:
        command += ["--extra-vars", json.dumps(variables)]
    started = time.monotonic()
    done = subprocess.run(
        [*command, str(PROJECT / "playbooks" / "site.yml")],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
    )
    return Run(done.returncode, done.stdout, time.monotonic() - started)


def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
