# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask a front end, on its own host, whether its applications are well: real requests, several at once."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import http.client
import os
import re
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

ADDRESS = "127.0.0.1"
USER_AGENT = "web2py.deployment"
# web2py names the ticket in a header of its own, and in its page where the site has no other (gluon.main,
# gluon.rewrite).
HEADER, HEADER_TICKET = "web2py_error", re.compile(r"ticket ([A-Za-z0-9_]+/[0-9A-Za-z._:-]+)")
PAGE_TICKET = re.compile(rb"Ticket issued: (?:<a [^>]*>)?([A-Za-z0-9_]+/[0-9A-Za-z._:-]+)")
LARGEST_BODY = 1 << 20


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    port: int
    https: bool
    # As in a Host header.
    host: str
    # Seconds that an answer may take.
    timeout: float


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    seconds: float
    ticket: str = ""
    # Why there was none.
    error: str = ""
    # A server that is just starting refuses connections, and what stands before it says 503.
    starting: bool = False

    @property
    def good(self) -> bool:
        return 0 < self.status < 500


def read_some(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """The body, up to a limit, within the time: a slow one must not hold the check for ever."""
    body = b""
    while len(body) < LARGEST_BODY and (part := response.read1(65536)):
        body += part
        if time.monotonic() > deadline:
            raise TimeoutError
    return body


def ticket_of(header: str, body: bytes) -> str:
    if found := HEADER_TICKET.fullmatch(header):
        return found.group(1)
    if named := PAGE_TICKET.search(body):
        return named.group(1).decode()
    return ""


def ask(front_end: FrontEnd, path: str) -> Answer:
    """Send one request on a connection of its own, and follow no redirect."""
    started = time.monotonic()

    def after() -> float:
        return time.monotonic() - started

    try:
        with contextlib.closing(http.client.HTTPConnection(ADDRESS, front_end.port, timeout=front_end.timeout)) as link:
            link.connect()
            if front_end.https:
                # Whether a browser would trust the certificate is not asked here: it may be self-signed, be meant for
                # a balancer, or not be valid yet. Nothing secret is sent, and what answers is on this host.
                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                plain = link.sock
                try:
                    link.sock = context.wrap_socket(plain, server_hostname=host_name(front_end.host))
                except OSError:
                    plain.close()
                    raise
            link.putrequest("GET", path, skip_host=True)
            for name, value in (("Host", front_end.host), ("User-Agent", USER_AGENT), ("Connection", "close")):
                link.putheader(name, value)
            link.endheaders()
            response = link.getresponse()
            body = read_some(response, started + front_end.timeout)
            ticket = ticket_of(response.headers.get(HEADER, ""), body) if response.status >= 500 else ""
            return Answer(response.status, after(), ticket, starting=response.status == 503)
    except ConnectionRefusedError:
        return Answer(0, after(), error="the connection was refused", starting=True)
    except TimeoutError:
        return Answer(0, after(), error=f"no answer within {front_end.timeout:g} seconds")
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, after(), error=f"no answer ({type(error).__name__}: {error})")


def host_name(host: str) -> str:
    """A Host header's name as TLS wants it: without the brackets of an IPv6 address."""
    return host.removeprefix("[").removesuffix("]")


def insistent(question: Callable[[], Answer], deadline: float, pause: float = 0.2) -> Answer:
    """Ask again, until the deadline, as long as the server is just starting."""
    while True:
        answer = question()
        if not answer.starting or time.monotonic() + pause > deadline:
            return answer
        time.sleep(pause)


def check_path(front_end: FrontEnd, path: str, requests: int, concurrency: int, deadline: float) -> list[Answer]:
    """Ask for one path, then several times at once; the first failure is enough.

    The first request of all is alone: it may make tables, and of several that make the same ones web2py fails some.
    """
    answers: list[Answer] = []

    def question(_number: int) -> None:
        if all(answer.good for answer in answers):
            answers.append(insistent(lambda: ask(front_end, path), deadline))

    question(0)
    with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
        list(pool.map(question, range(1, requests)))
    return answers


def problem(path: str, answers: Sequence[Answer]) -> str:
    """What is wrong with a path, or nothing."""
    bad = next((answer for answer in answers if not answer.good), None)
    if bad is None:
        return ""
    text = f"{path}: {bad.error}" if bad.error else f"{path}: the status is {bad.status}; it must be below 500"
    return f"{text}, with the ticket {bad.ticket}" if bad.ticket else text


def advice(failed: Sequence[Answer]) -> str:
    if any(answer.ticket for answer in failed):
        return (
            "The ticket says what went wrong: it is the file of that name in /var/lib/web2py/data/<application>/errors "
            "on the host, and playbooks/tickets.yml collects tickets that are kept in the database. Correct the "
            "application, or its key check_path in web2py_applications, and deploy again."
        )
    return (
        "See the logs of the web server and of web2py on the host (journalctl, /var/log). A path that cannot be asked "
        "for without a login or a parameter is replaced by the key check_path in web2py_applications."
    )


def report(path: str, answers: Sequence[Answer]) -> dict[str, Any]:
    counted = collections.Counter(str(answer.status or answer.error) for answer in answers)
    seconds = sorted(answer.seconds for answer in answers) or [0.0]
    return {"path": path, "statuses": dict(counted), "fastest": round(seconds[0], 3), "slowest": round(seconds[-1], 3)}


# Which processes have loaded the code: a reload ends them one by one, and until then the former code answers.


def started_before(pid: str, moment: float, user: int) -> bool:
    """Whether a process of this user is older than a moment (seconds since the epoch)."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != user:
            return False
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return False
    # Both count from the start of the kernel; the time of day may have been set since.
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    # Files get the time of the kernel's last tick.
    return age > time.time() - moment + 0.05


def processes(group: str) -> list[str]:
    found = []
    for folder, _folders, files in os.walk(group):
        if "cgroup.procs" in files:
            with contextlib.suppress(OSError), open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as stream:
                found += stream.read().split()
    return found


def old_processes(groups: Iterable[tuple[str, str]], moment: float, user: int) -> int:
    """How many processes of services, as (control group, main process), have not been replaced since a moment.

    The main process goes on over a reload, and runs no application.
    """
    return sum(pid != main and started_before(pid, moment, user) for group, main in groups for pid in processes(group))


def warm_up(
    front_end: FrontEnd, path: str, requests: int, concurrency: int, old: Callable[[], int], limit: float
) -> int:
    """Send requests until all processes have loaded the code, at most until the limit; tell how many have not.

    Some load it at their next request only. What is answered meanwhile is not judged.
    """
    while (left := old()) and time.monotonic() < limit:
        with concurrent.futures.ThreadPoolExecutor(concurrency) as pool:
            list(pool.map(lambda _number: ask(front_end, path), range(requests)))
        time.sleep(0.1)
    return left
