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
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
# What a client may claim of a connection that was plain.
FORGED = {"X-Forwarded-Proto": "https"}

PROJECT = pathlib.Path(os.environ["MOLECULE_PROJECT_DIRECTORY"])
# Paths as they go over the wire, one a line.
HOSTILE, ADMINISTRATION = (
    (PROJECT / "molecule/shared/frontend" / name).read_text().splitlines()
    for name in ("hostile_paths.txt", "administration_paths.txt")
)


@dataclass(frozen=True)
class FrontEnd:
    """What the shared tests have to know of a front end."""

    web_server: str  # its unit
    web2py: str  # the unit whose processes run web2py
    configuration: str  # the folder of the web server's configuration
    reload_web2py: str  # the command
    # What the command line of a process that runs web2py holds, where the unit has others, too.
    mark: str = ""
    # How many clients may read large answers slowly at the same time while others are served.
    slow_readers: int = 40
    # The same for clients that send their bodies slowly; more than web2py has threads or processes.
    slow_senders: int = 40


FRONT_ENDS = {
    "apache_wsgi": FrontEnd(
        "apache2.service",
        "apache2.service",
        "/etc/apache2",
        "touch /opt/web2py/runtime/wsgi.py",
        "(wsgi:web2py)",
        # Fewer than mod_wsgi has threads, see docs/frontends.md.
        slow_readers=12,
        slow_senders=12,
    ),
    "apache_proxy": FrontEnd(
        "apache2.service", "web2py@public.service", "/etc/apache2", "systemctl reload web2py@public.service"
    ),
    "lighttpd_fcgi": FrontEnd(
        "lighttpd.service", "web2py-fcgi.service", "/etc/lighttpd", "systemctl reload web2py-fcgi.service"
    ),
}


@dataclass(frozen=True)
class Process:
    id: int
    main: bool  # the one that systemd started
    web2py: bool


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        return self.headers.get(name)

    def json(self) -> dict:
        return json.loads(self.body)

    def is_login_page(self) -> bool:
        return self.status == 200 and b'type="password"' in self.body

    def is_web2py_page(self) -> bool:
        return self.status == 200 and b"web2py" in self.body and b"<!DOCTYPE html>" in self.body


@dataclass
class Site:
    """The site on one machine, and a browser with cookies."""

    machine: str
    address: str
    context: ssl.SSLContext
    host: object
    front_end: FrontEnd
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
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        host: str | None = NAME,
        port: int | None = None,
    ) -> Answer:
        """Send exactly this path, whatever it is; http.client would only refuse control characters.

        A body that is no bytes needs a Content-Length among the headers.
        """
        with contextlib.closing(self.connect(scheme, port)) as connection:
            connection._validate_path = lambda url: None
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            if host is not None:
                connection.putheader("Host", host)
            jar = self.cookies.setdefault(scheme, {})
            if jar:
                connection.putheader("Cookie", "; ".join(f"{name}={value}" for name, value in jar.items()))
            if isinstance(body, bytes):
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

    def send(self, data: bytes, scheme: str = "http", seconds: float = 5) -> bytes:
        """Send these bytes and return all that comes back until the server closes or says nothing for so long."""
        received = b""
        with contextlib.closing(self.connect(scheme)) as connection:
            connection.sock.settimeout(seconds)
            # A server that refuses what it has read may reset the connection before the rest.
            with contextlib.suppress(OSError):
                connection.sock.sendall(data)
            with contextlib.suppress(OSError):
                while part := connection.sock.recv(65536):
                    received += part
        return received

    def post(self, path: str, fields: dict[str, str], scheme: str = "http", **more) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded", **more.pop("headers", {})}
        return self.ask(path, scheme, "POST", urlencode(fields).encode(), headers, **more)

    def add_note(self, title: str, attachment: bytes = b"", application: str = "/notes/default", scheme="http") -> int:
        """Fill in the form of docs/examples/notes as a browser does; return the status, 0 where there is no form."""
        page = self.ask(f"{application}/index", scheme).body.decode()
        key = re.search(r'name="_formkey" type="hidden" value="([^"]*)"', page)
        if not key:
            return 0
        fields = {"title": title, "created": "2026-11-24 00:00:00", "_formkey": key[1], "_formname": "note/create"}
        parts = [
            f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()
        ]
        if attachment:
            disposition = b'Content-Disposition: form-data; name="attachment"; filename="a file.bin"\r\n'
            parts.append(disposition + b"Content-Type: application/octet-stream\r\n\r\n" + attachment)
        boundary = uuid.uuid4().hex.encode()
        body = b"".join(b"--%s\r\n%s\r\n" % (boundary, part) for part in parts) + b"--%s--\r\n" % boundary
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}
        return self.ask(f"{application}/index", scheme, "POST", body, headers).status

    def attachment(self, title: str, application: str = "/notes/default", scheme="http") -> bytes:
        """What was attached to this note, by the link on the page."""
        page = self.ask(f"{application}/index", scheme).body.decode()
        return self.ask(re.search(rf'{title}\s*<a href="([^"]+)"', page)[1], scheme).body

    def fresh(self) -> Site:
        """Another visitor."""
        return Site(self.machine, self.address, self.context, self.host, self.front_end)

    def run(self, command: str) -> str:
        return self.host.check_output(command)

    def processes(self) -> list[Process]:
        """All processes of the web server and of web2py."""
        found = {}
        for unit in {self.front_end.web_server, self.front_end.web2py}:
            listed = self.run(
                f"set -- $(systemctl show --property MainPID,ControlGroup --value {unit}); echo $1; "
                "for p in $(cat $(find /sys/fs/cgroup$2 -name cgroup.procs)); do "
                r"echo $p $(tr '\0' ' ' 2>/dev/null </proc/$p/cmdline); done"
            ).splitlines()
            for line in listed[1:]:
                number, _, command = line.partition(" ")
                # A process that has just ended is listed without a command line.
                if command:
                    web2py = unit == self.front_end.web2py and self.front_end.mark in command
                    found[int(number)] = Process(int(number), number == listed[0], web2py)
        return list(found.values())

    def web2py_processes(self) -> set[int]:
        return {process.id for process in self.processes() if process.web2py}

    def workers(self, web2py: bool) -> set[int]:
        """The processes that answer requests, of web2py or of the web server."""
        return {process.id for process in self.processes() if process.web2py == web2py and not process.main}

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


def wait_for(condition: Callable[[], object], seconds: float = 30, what: str = "") -> float:
    """Wait for a condition, and return how long it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} seconds: {what or condition}"
        time.sleep(0.05)
    return time.monotonic() - started


def assert_secret(host, secrets: Iterable[str], *more: str) -> None:
    """None of them is in the journal, a process's command line or environment, or a file that everybody can read."""
    host.check_output("mkdir -p -m 700 /root/secrets")
    host.check_output("printf %%s %s > /root/secrets/all", "\n".join(secrets))
    for command in (
        "journalctl --no-pager",
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ",
        "find / -xdev -type f -perm -o+r -size -2M -not -path '/usr/*' -not -path '/root/*' -print0 | xargs -0 cat",
        *more,
    ):
        found = host.run(f"({command}) 2>/dev/null | grep -aFf /root/secrets/all | head -c 300")
        assert found.stdout == "", command
    host.check_output("rm -r /root/secrets")


@contextlib.contextmanager
def out_of_service(site: Site) -> Iterator[None]:
    """As an administrator stops web2py, behind a front end that goes on."""
    unit = site.front_end.web2py.removesuffix(".service")
    site.run(f"systemctl stop {unit}.socket {unit}.service")
    try:
        yield
    finally:
        site.run(f"systemctl start {unit}.socket {unit}.service")


def assert_unavailable_until_it_starts(site: Site, settings: str) -> None:
    """With settings that it cannot read, web2py is killed; the site says 503, and comes back by itself."""
    unit = site.front_end.web2py
    site.run(f"cp -p {settings} /root/settings.json && echo '{{' > {settings}")
    try:
        site.run(f"kill -KILL $(systemctl show --property MainPID --value {unit})")
        # Far less than the web server would wait for an answer.
        wait_for(lambda: site.fresh().ask("/welcome").status == 503, 60)
        answer = site.ask("/welcome")
        assert (answer.status, answer["Retry-After"]) == (503, "5")
    finally:
        site.run(f"cp -p /root/settings.json {settings}")
    wait_for(lambda: site.fresh().ask("/welcome").status == 200, 60, "it comes back by itself")
    site.run(f"systemctl reset-failed '{unit.removesuffix('.service')}.*'")


def requests_read(site: Site, port: int) -> int:
    """On how many connections the server has read all that has come."""
    sockets = site.run(f"ss -Htn --info state established '( sport = :{port} )'")
    # Recv-Q of each connection, and how many bytes came on it.
    return sum(
        queued == "0" and int(received) > 0
        for queued, received in re.findall(r"^(\d+) .*?\n.*?\bbytes_received:(\d+)", sockets, re.MULTILINE)
    )


def site_of(machine: str, host, front_end: str | None = None) -> Site:
    """The site of one machine, trusting just the certificate that lies there.

    Most scenarios are named after the front end they deploy.
    """
    front_end = front_end or pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]).name
    certificate = host.file("/etc/ssl/tls_certificate/web2py/fullchain.pem").content_string
    return Site(
        machine, address_of(machine), ssl.create_default_context(cadata=certificate), host, FRONT_ENDS[front_end]
    )


class Answers(Counter):
    """How many answers of each status and errors of each kind there were."""

    def __init__(self) -> None:
        super().__init__()
        # When the requests began that got no 200, in seconds since the epoch.
        self.failed_since: list[float] = []


def load(
    site: Site | list[Site],
    path: str,
    clients: int,
    during: Callable[[], object],
    seconds: float = 0,
    after: int = 1,
    scheme: str = "http",
) -> Answers:
    """Keep this many requests in flight (to each site) during `during()`; count the answers and the errors by kind.

    It begins when `after` requests have been answered. With `seconds`, each client goes on asking until `during()` is
    over and that time has passed.
    """
    sites = [site] if isinstance(site, Site) else site
    results = Answers()
    over = threading.Event()

    def visitor(site: Site) -> None:
        while True:
            began = time.time()
            outcome: int | str
            try:
                outcome = site.fresh().ask(path, scheme).status
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            results[outcome] += 1
            if outcome != 200:
                results.failed_since.append(began)
            if not seconds or over.is_set():
                return

    threads = [threading.Thread(target=visitor, args=[site]) for site in sites for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: results.total() >= after, 60, f"{after} answers under load")
        started = time.monotonic()
        during()
        time.sleep(max(0.0, started + seconds - time.monotonic()))
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return results


# Prints, until its input ends, the memory (KiB) of all processes of the units, shared pages by their share, and of all
# files that are in memory, too.
MEASURE = """
import os, pathlib, select, subprocess, sys
mounts = [line.split() for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
in_memory = [mount[1] for mount in mounts if mount[2] == "tmpfs" and mount[1] in ("/tmp", "/run", "/dev/shm")]
assert in_memory
groups = subprocess.check_output(["systemctl", "show", "--property=ControlGroup", "--value", *sys.argv[1:]], text=True)
while not select.select([sys.stdin], [], [], 0.1)[0]:
    found = map(os.statvfs, in_memory)
    total = sum((one.f_blocks - one.f_bfree) * one.f_frsize for one in found) // 1024
    for group in set(groups.split()):
        for listing in pathlib.Path("/sys/fs/cgroup" + group).rglob("cgroup.procs"):
            for process in listing.read_text().split():
                try:
                    lines = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
                except (OSError, StopIteration):
                    pass
    print(total, flush=True)
"""


class Memory:
    """What some units of a machine take together while the block runs, in MiB."""

    def __init__(self, machine: str, units: Iterable[str]) -> None:
        self.units = units
        self.machine = machine
        self.readings: list[float] = []

    def __enter__(self) -> Memory:
        self.process = subprocess.Popen(
            ["docker", "exec", "--interactive", self.machine, "python3", "-c", MEASURE, *self.units],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.reader = threading.Thread(
            target=lambda: self.readings.extend(int(line) / 1024 for line in self.process.stdout)
        )
        self.reader.start()
        self.read_more(1)
        return self

    def __exit__(self, *_error: object) -> None:
        self.process.stdin.close()
        self.reader.join()
        self.process.stdout.close()
        self.process.wait()

    def read_more(self, times: int) -> None:
        wanted = len(self.readings) + times
        wait_for(lambda: len(self.readings) >= wanted, what="a reading of the memory")

    @property
    def growth(self) -> float:
        return max(self.readings) - self.readings[0]


@dataclass
class Run:
    """One run of the site playbook."""

    status: int
    output: str
    seconds: float

    def stats(self) -> dict[str, dict[str, int]]:
        recap = re.findall(r"^(\S+)\s+: (ok=.*)$", self.output, re.MULTILINE)
        return {host: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in recap}

    def changes(self) -> int:
        return sum(host["changed"] for host in self.stats().values())

    def assert_refused(self, words: Iterable[str]) -> None:
        """It failed before it changed anything, and says these words."""
        assert self.status != 0
        assert self.changed_tasks() == []
        assert [word for word in words if word not in self.output] == [], self.output

    def tasks(self) -> int:
        lines = re.findall(r"^TASK \[.*", self.output, re.MULTILINE)
        # Flushed handlers are shown once for each machine.
        return sum(line != before for before, line in zip(["", *lines], lines, strict=False))

    def changed_tasks(self) -> list[str]:
        names, current = [], ""
        for line in self.output.splitlines():
            if match := re.match(r"(?:TASK|RUNNING HANDLER) \[(?:[\w.]+ : )?(.*)\]", line):
                current = match.group(1)
            elif line.startswith("changed: ") and current not in names:
                names.append(current)
        return names


def machines() -> list[str]:
    """Names of the machines that this run of the scenario has."""
    group = os.environ.get("DISTRO") or "docker"
    listed = subprocess.run(["ansible", group, "--list-hosts"], check=True, capture_output=True, text=True)
    return [line.strip() for line in listed.stdout.splitlines()[1:]]


def as_text(value):
    """A value as an INI inventory gives it, however deep it is."""
    if isinstance(value, dict):
        return {key: as_text(item) for key, item in value.items()}
    return [as_text(item) for item in value] if isinstance(value, list) else str(value)


def play(
    *arguments: str,
    variables: dict | None = None,
    playbook: pathlib.Path | None = None,
    environment: dict[str, str] | None = None,
) -> Run:
    """Run the site playbook (or another) as a user would, on the machines of this scenario."""
    command = ["ansible-playbook", f"--limit={os.environ.get('DISTRO') or 'all'}", *arguments]
    if variables:
        command += ["--extra-vars", json.dumps(variables)]
    started = time.monotonic()
    done = subprocess.run(
        [*command, str(playbook or PROJECT / "playbooks" / "site.yml")],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", **(environment or {})},
    )
    return Run(done.returncode, done.stdout, time.monotonic() - started)


def closed_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
