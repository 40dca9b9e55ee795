# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the tests of a balancer have in common."""

from __future__ import annotations

import csv
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import uuid
from collections import Counter
from collections.abc import Callable

import testinfra
from browser import NAME, Answer, Site, address_of, wait_for

SERVERS = ("one", "two", "three")
CERTIFICATE = "/etc/ssl/tls_certificate/site/fullchain.pem"


class Balancer(Site):
    """One balancer, its visitors, and the servers behind it."""

    def fresh(self) -> Balancer:
        return Balancer(self.machine, self.address, self.context, self.host, None)

    def own_address(self) -> str:
        """The address from which this visitor comes."""
        with socket.create_connection((self.address, 80)) as connection:
            return connection.getsockname()[0]

    def seen(self, path: str = "/", *arguments, **more) -> dict:
        """What the server saw that answered."""
        answer = self.fresh().ask(path, *arguments, **more)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json()

    def command(self, command: str) -> str:
        """What HAProxy says on its socket."""
        program = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
            "s.sendall(sys.argv[1].encode() + b'\\n'); print(s.makefile().read())"
        )
        return self.host.check_output("python3 -c %s %s", program, command)

    def statistics(self) -> dict[str, dict[str, str]]:
        rows = csv.DictReader(self.command("show stat").removeprefix("# ").splitlines())
        return {row["svname"]: row for row in rows if row["pxname"] == "servers"}

    def status(self, server: str) -> str:
        return self.statistics()[server]["status"]

    def wait_for_status(self, server: str, status: str = "UP") -> None:
        wait_for(lambda: self.status(server) == status, 60, f"{server} is {status}")

    def wait_for_all(self) -> None:
        wanted = dict.fromkeys(SERVERS, "UP")
        wait_for(
            lambda: {name: row["status"] for name, row in self.statistics().items() if name in SERVERS} == wanted,
            60,
            "all servers are up",
        )

    def requests(self, mark: str) -> list[str]:
        """The requests with this in their path that reached servers, as "one GET /path"."""
        return [line for line in self.run("cat /var/lib/backends/requests").splitlines() if mark in line]

    def module(self, *arguments: str, **options: object) -> dict:
        """Run the module haproxy_server from the controller."""
        done = subprocess.run(
            [
                *("ansible", self.machine, "--module-name=web2py.deployment.haproxy_server"),
                *(f"--args={json.dumps(options)}", *arguments),
            ],
            check=False,
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            },
        )
        assert "=> {" in done.stdout, done.stdout + done.stderr
        failed = "FAILED! => {" in done.stdout
        result, _ = json.JSONDecoder().raw_decode(done.stdout, done.stdout.index("=> {") + 3)
        return {**result, "failed": failed}

    def release(self, mark: str) -> None:
        """Let the servers answer /hold/mark."""
        self.run(f"touch /var/lib/backends/release-{mark}")


class Visitors:
    """Visitors who come all the time: on new connections, on kept ones, and with forms that must not come twice."""

    def __init__(self, balancer: Balancer, number: int = 3, seconds: float = 0.01) -> None:
        self.seconds = seconds
        self.balancer = balancer
        self.outcomes: Counter = Counter()
        self.mark = uuid.uuid4().hex
        self.over = threading.Event()
        kinds = (self.new, self.kept, self.post)
        self.threads = [threading.Thread(target=kind) for kind in kinds for _ in range(number)]

    def path(self) -> str:
        return f"/slow/{self.seconds}/{self.mark}/{uuid.uuid4().hex}"

    def count(self, kind: str, ask: Callable[[], int]) -> None:
        try:
            self.outcomes[kind, ask()] += 1
        except (OSError, http.client.HTTPException) as error:
            self.outcomes[kind, repr(error)] += 1

    def new(self) -> None:
        while not self.over.is_set():
            self.count("new", lambda: self.balancer.fresh().ask(self.path()).status)

    def post(self) -> None:
        while not self.over.is_set():
            self.count("post", lambda: self.balancer.fresh().ask(self.path(), "https", "POST", b"x=1").status)

    def kept(self) -> None:
        connection = self.balancer.connect("https")

        def ask() -> int:
            nonlocal connection
            # As a browser does: a connection that the server announced to close is not used again.
            if connection.sock is None:
                connection = self.balancer.connect("https")
            connection.request("GET", self.path(), headers={"Host": NAME})
            response = connection.getresponse()
            response.read()
            return response.status

        while not self.over.is_set():
            self.count("kept", ask)
        connection.close()

    def __enter__(self) -> Visitors:
        for thread in self.threads:
            thread.start()
        wait_for(lambda: self.outcomes.total() > 30, 30, "visitors are there")
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def failures(self, *kinds: str) -> dict:
        return {
            outcome: number
            for outcome, number in self.outcomes.items()
            if outcome[1] != 200 and (not kinds or outcome[0] in kinds)
        }

    def sent_twice(self) -> list[str]:
        """Forms that reached a server more than once."""
        posts = Counter(line.split(" ")[2] for line in self.balancer.requests(self.mark) if " POST " in line)
        assert len(posts) >= self.outcomes["post", 200] > 0
        return [path for path, number in posts.items() if number > 1]


def balancer_of(name: str) -> Balancer:
    host = testinfra.get_host(f"docker://{name}")
    context = ssl.create_default_context(cadata=host.file(CERTIFICATE).content_string)
    return Balancer(name, address_of(name), context, host, None)


def restore(balancer: Balancer) -> None:
    """All servers as they were at the beginning."""
    units = " ".join(f"backend-{name}" for name in SERVERS)
    ready = ";".join(f"set server servers/{name} state ready" for name in SERVERS)
    balancer.run(f"rm -f /var/lib/backends/*.sick; systemctl reset-failed; systemctl start haproxy {units}")
    balancer.command(ready)


def in_flight(balancer: Balancer, path: str, number: int) -> tuple[list[threading.Thread], list[Answer]]:
    """Send so many requests at once; return when the servers have them."""
    answers: list[Answer] = []
    threads = [threading.Thread(target=lambda: answers.append(balancer.fresh().ask(path))) for _ in range(number)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(balancer.requests(path)) >= number, 30, "the requests are with the servers")
    return threads, answers
