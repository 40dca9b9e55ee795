# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machines of this scenario, and visitors who never stop asking and notice everything that goes wrong."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import testinfra
from browser import NAME, PROJECT, site_of, wait_for

WEB = {f"release-{name}": testinfra.get_host(f"docker://release-{name}") for name in ("web1", "web2")}
BALANCER = testinfra.get_host("docker://release-balancer")
COUNTER = PROJECT / "molecule/release/applications/counter"
# A connection is kept for so many requests, as browsers keep theirs.
KEPT = 20
# Seconds that a visitor takes before the next request: the playbook needs the two cores of a test machine, too.
PAUSE = 0.03


@dataclass
class Load:
    """What all visitors have seen."""

    address: str
    # Only release.yml and rollback.yml take a host out while it changes; site.yml changes it in service.
    in_service: bool = False
    pause: float = PAUSE
    answered: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    @property
    def requests(self) -> int:
        return sum(self.answered.values()) + len(self.failures)

    def __str__(self) -> str:
        versions = ", ".join(f"{number} of {version}" for version, number in sorted(self.answered.items()))
        return (
            f"{self.requests} requests in {self.seconds:.0f} s, {len(self.failures)} failed, {versions}; "
            f"the slowest took {self.slowest:.2f} s"
        )

    def visitor(self, over: threading.Event) -> None:
        cookie, visits = "", 0
        while not over.is_set():
            connection = http.client.HTTPConnection(self.address, 80, timeout=60)
            with contextlib.closing(connection):
                for _ in range(KEPT):
                    began = time.monotonic()
                    try:
                        connection.request("GET", "/counter/default/visits", headers={"Host": NAME, "Cookie": cookie})
                        response = connection.getresponse()
                        body = response.read().decode()
                    except (OSError, http.client.HTTPException) as error:
                        self.failures.append(f"{type(error).__name__}: {error}")
                        break
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    for header in response.headers.get_all("Set-Cookie") or []:
                        cookie = header.partition(";")[0]
                    number, *versions = body.split(" ", 2)
                    # The session goes on, and no answer is made of two versions of the application.
                    read, _, loaded = versions[0].partition(" ") if versions else ("", "", "")
                    loaded = versions[1].split()[0] if len(versions) > 1 else ""
                    if response.status != 200 or number != str(visits + 1) or (read != loaded and not self.in_service):
                        self.failures.append(f"{response.status}, visit {visits + 1}: {body[:200]}")
                        visits = int(number) if number.isdecimal() else visits
                        break
                    visits += 1
                    self.answered[read] += 1
                    if over.wait(self.pause):
                        break


def under_load(
    address: str,
    visitors: int,
    requests: int,
    during: Callable[[], object],
    limit: float = 600,
    in_service: bool = False,
    pause: float = PAUSE,
) -> Load:
    """Have the site visited during `during()`, and until there were so many requests."""
    load = Load(address, in_service, pause)
    over = threading.Event()
    threads = [threading.Thread(target=load.visitor, args=[over]) for _ in range(visitors)]
    for thread in threads:
        thread.start()
    try:
        wait_for(lambda: load.requests > 10 * visitors, 60, "the first requests")
        during()
        wait_for(lambda: load.requests >= requests, limit, f"{requests} requests")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    load.seconds = time.monotonic() - load.started
    return load


def page(machine: str) -> str:
    """What a web host answers itself, without the balancer."""
    site = site_of(machine, WEB[machine], "apache_wsgi")
    return site.ask("/counter/default/index").body.decode()


def pages() -> list[str]:
    return [page(machine) for machine in WEB]


def ask_haproxy(command: str) -> str:
    return BALANCER.check_output(
        "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        f"s.sendall(b'{command}\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())\""
    )


def at_balancer() -> dict[str, str]:
    """What the balancer thinks of each web host."""
    rows = [line.split(",") for line in ask_haproxy("show stat").splitlines()]
    return {row[1]: row[17] for row in rows if row[0] == "servers" and row[1] in WEB}
