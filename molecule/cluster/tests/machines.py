# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The machines of the cluster, and visitors who come through its balancer all the time."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import kernel
from browser import FRONT_ENDS, Site, wait_for

NOTES, NOTES_DB = "/notes/default", "/notes_db/default"
SHARED = "/var/lib/web2py/data/web2py-shared"
# Seconds that a visitor takes before the next request: a process costs thirty times as much in user-mode Linux.
PAUSE = 0.2


class Machine(kernel.Machine):
    def site(self) -> Site:
        """Its own web server, passed by the balancer."""
        certificate = self.host.file("/etc/ssl/tls_certificate/web2py/chain.pem").content_string
        context = ssl.create_default_context(cadata=certificate)
        return Site(self.name, self.address, context, self.host, FRONT_ENDS["apache_wsgi"])


def states(balancer) -> dict[str, str]:
    """What the balancer thinks of each web host."""
    rows = balancer.check_output(
        "python3 -c \"import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/haproxy/admin.sock'); "
        "s.sendall(b'show stat\\n'); print(s.makefile().read())\""
    )
    found = re.findall(r"^servers,(?!BACKEND)([^,]+),(?:[^,]*,){15}([^,]+),", rows, re.MULTILINE)
    return dict(found)


class Load:
    """Visitors who come again and again, each with a session of files and one of the database; all is checked."""

    def __init__(self, site: Site, visitors: int = 4) -> None:
        self.site = site
        self.answered = 0
        self.wrong: list[tuple[float, str]] = []
        self.waits: list[tuple[float, float]] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.visit, args=[number]) for number in range(visitors)]

    def visit(self, number: int) -> None:
        visitor = self.site.fresh()
        path = (NOTES, NOTES_DB)[number % 2] + "/visits"
        seen = 0
        while not self.over.wait(PAUSE):
            began = time.time()
            try:
                answer = visitor.ask(path, "https")
            except (OSError, http.client.HTTPException) as error:
                self.wrong.append((began, f"{path}: {type(error).__name__} {error}"))
                continue
            self.waits.append((began, time.time() - began))
            self.answered += 1
            if answer.status != 200:
                self.wrong.append((began, f"{path}: {answer.status} {answer.body[:80]!r}"))
            # More than one more where the balancer has asked again what a dying server had counted already.
            elif int(answer.body) <= seen:
                self.wrong.append((began, f"{path}: visit {answer.body!r} after {seen}"))
            else:
                seen = int(answer.body)

    def longest(self, since: float = 0) -> float:
        """How long the slowest request waited, of those that began after this moment."""
        return max((waited for began, waited in self.waits if began > since), default=0)

    def more(self, number: int = 20, seconds: float = 120) -> None:
        """Wait until so many more requests have been answered."""
        wanted = self.answered + number
        wait_for(lambda: self.answered >= wanted, seconds, f"{number} more answers under load")


@contextlib.contextmanager
def load(site: Site, what: str, visitors: int = 4) -> Iterator[Load]:
    running = Load(site, visitors)
    for thread in running.threads:
        thread.start()
    try:
        running.more()
        yield running
        running.more()
    finally:
        running.over.set()
        for thread in running.threads:
            thread.join()
    print(
        json.dumps(
            {
                "load": what,
                "requests": running.answered,
                "wrong": len(running.wrong),
                "longest": round(running.longest(), 1),
            }
        )
    )


def in_parallel(*calls: Callable[[], object]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
