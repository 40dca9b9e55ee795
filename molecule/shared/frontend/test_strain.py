# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the site makes of large, slow, many, malformed and broken connections, whichever front end serves it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import hashlib
import http.client
import io
import itertools
import json
import os
import shlex
import socket
import statistics
import threading
import time
import uuid

import pytest
from browser import NAME, PROBE, Memory, load, wait_for

STATIC = "/welcome/static/css/bootstrap.min.css"
MiB = 1 << 20
MAXIMUM_BODY = 256 * MiB  # the default of web2py_max_request_body
SIZE = 200  # MiB
MAXIMUM_GROWTH = 40  # MiB
both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {NAME}", *headers, "", ""]).encode() + body


class Received(io.BytesIO):
    """What a server has sent, as the socket that http.client reads one answer after the other from."""

    def makefile(self, _mode: str) -> Received:
        return self

    def close(self) -> None:
        """Stay open for the next answer."""

    def answers(self) -> list[tuple[int, bytes]]:
        found = []
        while self.tell() < len(self.getbuffer()):
            response = http.client.HTTPResponse(self)
            response.begin()
            try:
                found.append((response.status, response.read()))
            except http.client.IncompleteRead as cut:
                found.append((response.status, cut.partial))
        return found


def others_get_their_answers(site, scheme: str = "http", visitors: int = 8) -> None:
    """As many at once as may meet all connections that the web server keeps to web2py."""

    def ask(number: int) -> str:
        return site.fresh().ask(f"{PROBE}/echo/{number}", scheme).body.decode()

    with concurrent.futures.ThreadPoolExecutor(visitors) as pool:
        assert list(pool.map(ask, range(visitors))) == [f"echo of {number}" for number in range(visitors)]


def memory_of(site) -> Memory:
    """Of web server and web2py together."""
    return Memory(site.machine, {site.front_end.web_server, site.front_end.web2py})


class TestLargeBodies:
    part = os.urandom(MiB)

    def parts(self, memory: Memory):
        """The content, with a pause in which a server that keeps it all would go on growing."""
        for number in range(SIZE):
            if number == SIZE // 2:
                memory.read_more(5)
            yield self.part

    def uploaded(self, site, scheme, action, content_type, before=b"", after=b"") -> Memory:
        headers = {"Content-Type": content_type, "Content-Length": str(len(before) + SIZE * MiB + len(after))}

        def body(memory: Memory):
            yield before
            yield from self.parts(memory)
            yield after

        with memory_of(site) as memory:
            answer = site.ask(f"{PROBE}/{action}", scheme, "POST", body(memory), headers)
        assert (answer.status, answer.body.decode()) == (200, hashlib.sha256(self.part * SIZE).hexdigest())
        return memory

    @both_schemes
    def test_an_upload_arrives_whole_at_constant_memory(self, site, scheme):
        memory = self.uploaded(site, scheme, "digest", "application/octet-stream")
        assert memory.growth < MAXIMUM_GROWTH, memory.readings

    @both_schemes
    def test_a_form_upload_arrives_whole(self, site, scheme):
        """web2py itself holds the files of a form in memory, once; nothing else may."""
        before = b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="big"\r\n\r\n'
        content_type = "multipart/form-data; boundary=frontier"
        memory = self.uploaded(site, scheme, "upload", content_type, before, b"\r\n--frontier--\r\n")
        assert memory.growth < SIZE + MAXIMUM_GROWTH, memory.readings

    @both_schemes
    def test_a_download_streams_at_constant_memory(self, site, scheme):
        expected = hashlib.sha256(bytes(range(256)) * 4096 * SIZE).hexdigest()
        digest, size = hashlib.sha256(), 0
        with memory_of(site) as memory, contextlib.closing(site.connect(scheme)) as connection:
            connection.request("GET", f"{PROBE}/stream/{SIZE}", headers={"Host": NAME})
            response = connection.getresponse()
            assert response.status == 200
            while part := response.read(MiB):
                digest.update(part)
                # A server that reads ahead does so while its client does not read.
                if size // (50 * MiB) != (size := size + len(part)) // (50 * MiB):
                    memory.read_more(5)
        assert (size, digest.hexdigest()) == (SIZE * MiB, expected)
        assert memory.growth < MAXIMUM_GROWTH, memory.readings

    @both_schemes
    def test_a_chunked_upload_arrives_whole_or_is_refused(self, site, scheme):
        def body():
            for _ in range(3):
                yield b"%x\r\n%s\r\n" % (MiB, self.part)
            yield b"0\r\n\r\n"

        headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/octet-stream"}
        with contextlib.closing(site.connect(scheme)) as connection:
            connection.putrequest("POST", f"{PROBE}/digest", skip_host=True)
            for name, value in {"Host": NAME, **headers}.items():
                connection.putheader(name, value)
            connection.endheaders()
            # A server that refuses may close before it has read everything.
            with contextlib.suppress(OSError):
                for part in body():
                    connection.send(part)
            response = connection.getresponse()
            content = response.read()
        if response.status != 411:
            assert (response.status, content.decode()) == (200, hashlib.sha256(self.part * 3).hexdigest())

    @both_schemes
    def test_a_body_over_the_limit_is_refused(self, site, scheme):
        answer = site.ask(f"{PROBE}/upload", scheme, "POST", headers={"Content-Length": str(MAXIMUM_BODY + 1)})
        assert answer.status == 413

    @both_schemes
    def test_a_client_that_asks_first_is_told_to_go_on_or_refused(self, site, scheme):
        for size, expected in ((5, 200), (MAXIMUM_BODY + 1, 413)):
            with contextlib.closing(site.connect(scheme)) as connection:
                head = request(
                    "POST", f"{PROBE}/digest", "Content-Type: text/plain", f"Content-Length: {size}",
                    "Expect: 100-continue", "Connection: close",
                )  # fmt: skip
                connection.sock.sendall(head)
                connection.sock.settimeout(2)
                received = b""
                with contextlib.suppress(TimeoutError):
                    received = connection.sock.recv(65536)
                interim = received.startswith(b"HTTP/1.1 100")
                if expected == 200:
                    # Without an interim answer a client sends its body after a while.
                    assert interim or not received
                    connection.sock.settimeout(30)
                    connection.sock.sendall(b"hello")
                else:
                    assert not interim
                with contextlib.suppress(TimeoutError):
                    while part := connection.sock.recv(65536):
                        received += part
            status, body = Received(received).answers()[-1]
            assert status in ((413, 417) if expected == 413 else (200,))
            assert expected == 413 or body.decode() == hashlib.sha256(b"hello").hexdigest()


class SlowClients(threading.Thread):
    """As many as `connections`, each of which sends a byte, or reads one, a second."""

    def __init__(self, site, scheme: str, head: bytes, trickle: bytes | None, number: int = 12) -> None:
        super().__init__()
        self.trickle = trickle
        self.connections = [site.connect(scheme) for _ in range(number)]
        for connection in self.connections:
            # Or the kernel would read for the client.
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sock.sendall(head)
        self.rounds = 0
        self.over = threading.Event()

    def run(self) -> None:
        while True:
            for connection in self.connections:
                # One that the server has had enough of is not this test's concern.
                with contextlib.suppress(OSError):
                    if self.trickle:
                        connection.sock.sendall(self.trickle[self.rounds : self.rounds + 1])
                    else:
                        connection.sock.recv(1)
            self.rounds += 1
            if self.over.wait(1):
                return

    def __enter__(self) -> SlowClients:
        self.start()
        wait_for(lambda: self.rounds >= 2, what="slow clients at work")
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        self.join()
        for connection in self.connections:
            connection.close()


@both_schemes
@pytest.mark.parametrize("kind", ["body", "headers", "answer"])
def test_slow_clients_do_not_block_others(site, scheme, kind):
    head, trickle = {
        "body": (request("POST", f"{PROBE}/digest", "Content-Type: text/plain", "Content-Length: 100"), b"x" * 100),
        "headers": (f"GET /welcome HTTP/1.1\r\nHost: {NAME}\r\n".encode(), b"X-Slow: " + b"x" * 92),
        "answer": (request("GET", f"{PROBE}/page/5000000"), None),
    }[kind]
    times = []
    number = {"answer": site.front_end.slow_readers, "body": site.front_end.slow_senders}.get(kind, 12)
    with SlowClients(site, scheme, head, trickle, number):
        for number in range(20):
            started = time.monotonic()
            assert site.fresh().ask(f"{PROBE}/echo/{number}", scheme).body == f"echo of {number}".encode()
            times.append(time.monotonic() - started)
    assert max(times) < 2, times


def test_silent_tls_clients_do_not_block_others_for_long(site):
    """More than Apache has workers, each with the beginning of a handshake."""
    before = len(site.workers(web2py=False))
    with contextlib.ExitStack() as stack:
        for _ in range(420):
            client = stack.enter_context(contextlib.closing(socket.create_connection((site.address, 443))))
            client.sendall(b"\x16\x03\x01")
        for scheme in ("http", "https"):
            # As long as a handshake may take, and a moment.
            site.wait(15)
            others_get_their_answers(site, scheme)
    # All processes that Apache may have, of 25 threads each, stay in reserve (MaxSpareThreads); none waits for its end.
    wait_for(lambda: len(site.workers(web2py=False)) <= max(before, 16), 60, "the web server is as it was")


ATTEMPTS = "/var/lib/web2py/data/admin/private/login_attempts.json"


def test_wrong_logins_do_not_block_others(site):
    """web2py lets each of them wait for seconds in the thread of its request, and counts no parallel ones."""
    wrong, times = {"password": "wrong horse"}, []
    try:
        with concurrent.futures.ThreadPoolExecutor(36) as pool:
            logins = [pool.submit(site.fresh().post, "/admin/default/index", dict(wrong), "https") for _ in range(36)]
            while not all(login.done() for login in logins):
                started = time.monotonic()
                assert site.fresh().ask(f"{PROBE}/echo/1").body == b"echo of 1"
                times.append(time.monotonic() - started)
        statuses = [login.result().status for login in logins]
        assert set(statuses) <= {200, 429, 503} and 1 <= statuses.count(200) <= 5, statuses
        # Three dozen handshakes take their time, too.
        assert max(times) < 10, times
    finally:
        site.run(f"rm {ATTEMPTS}")


def test_a_client_that_is_locked_out_slows_nobody_down(site, capsys):
    """Its requests come all at once, again and again while a visitor reads pages."""

    def page() -> float:
        started = time.monotonic()
        assert site.fresh().ask("/welcome").is_web2py_page()
        return time.monotonic() - started

    try:
        for _ in range(5):
            site.fresh().post("/admin/default/index", {"password": "wrong horse"}, "https")
        refused = site.fresh().post("/admin/default/index", {"password": "right horse 443"}, "https")
        assert refused.status == 429 and 0 < int(refused["Retry-After"]) <= 3600
        for _ in range(20):
            page()
        alone, found = [], {}
        for number in (16, 64, 256):
            times = []
            for _ in range(4):
                # Alternating, for whatever else the machine has to do.
                alone += [page() for _ in range(10)]
                with contextlib.ExitStack() as stack:
                    clients = [stack.enter_context(contextlib.closing(site.connect("https"))) for _ in range(number)]
                    for client, cookie in zip(clients, itertools.cycle(({}, {"Cookie": "session_id_admin=1"}))):
                        client.request("GET", "/admin/default/index", headers={"Host": NAME} | cookie)
                    times += [page() for _ in range(20)]
                    answers = [client.getresponse() for client in clients]
                    assert {answer.status for answer in answers} == {429}
                    for answer in answers:
                        answer.read()
            found[number] = statistics.median(times), max(times)
        alone = statistics.median(alone)
        with capsys.disabled():
            print(
                f"\n{site.machine}: a page takes {alone * 1000:.1f} ms, beside requests of a locked-out client", end=""
            )
            for number, (median, longest) in found.items():
                print(f", {number}: {median * 1000:.1f} (at most {longest * 1000:.0f})", end="")
            print()
        assert all(median < 2 * alone for median, _ in found.values()), (alone, found)
        # Without the lock-out, the same client is let in again: as an administrator ends it.
        site.run(f"runuser -u web2py -- rm {ATTEMPTS}")
        assert site.fresh().post("/admin/default/index", {"password": "right horse 443"}, "https").status == 303
    finally:
        site.run(f"rm -f {ATTEMPTS}")


@both_schemes
def test_500_connections_are_kept_and_answered_twice(site, scheme):
    number = 500

    async def read_answer(reader) -> int:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split()[1])
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        else:
            await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        return status

    async def visit(answered: asyncio.Barrier, busy: asyncio.Semaphore) -> list[int]:
        secure = {"ssl": site.context, "server_hostname": NAME} if scheme == "https" else {}
        found, writer = [], None
        try:
            for path in ("/probe_2/static/css/probe.css", f"{PROBE}/echo/1"):
                async with busy:
                    if writer is None:
                        reader, writer = await asyncio.open_connection(site.address, 443 if secure else 80, **secure)
                    writer.write(request("GET", path))
                    found.append(await read_answer(reader))
                await answered.wait()
        finally:
            if writer:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        return found

    async def visit_all() -> list[list[int]]:
        # No more than so many ask at one time: each is to be answered long before its connection counts as idle.
        answered, busy = asyncio.Barrier(number), asyncio.Semaphore(20)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            visits = [group.create_task(visit(answered, busy)) for _ in range(number)]
        return [task.result() for task in visits]

    assert asyncio.run(visit_all()) == [[200, 200]] * number


@pytest.mark.parametrize("path", [f"{PROBE}/echo/2", STATIC])
def test_a_real_client_speaks_http_2(site, path):
    answer = site.run(
        "curl --silent --show-error --http2 --max-time 20 --cacert /etc/ssl/tls_certificate/web2py/fullchain.pem "
        f"--resolve {NAME}:443:{site.address} --output /dev/null --write-out '%{{http_version}} %{{response_code}}' "
        f"https://{NAME}{path}"
    )
    assert answer == "2 200"


# --- Requests that two servers may read differently -------------------------------------------------------------------

TRANSFER_ENCODINGS = {
    "plain": "Transfer-Encoding: chunked",
    "space": "Transfer-Encoding:  chunked",
    "tab": "Transfer-Encoding: chunked\t",
    "tab before": "Transfer-Encoding:\tchunked",
    "vertical tab": "Transfer-Encoding: \x0bchunked",
    "unknown": "Transfer-Encoding: xchunked",
    "quoted": 'Transfer-Encoding: "chunked"',
    "not last": "Transfer-Encoding: chunked, identity",
    "twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
    "upper case": "Transfer-Encoding: CHUNKED",
    "space before colon": "Transfer-Encoding : chunked",
    "folded": "Transfer-Encoding:\r\n chunked",
    "bare line feed": "X-Any: x\nTransfer-Encoding: chunked",
    "bare carriage return": "X-Any: x\rTransfer-Encoding: chunked",
}
CONTENT_LENGTHS = {
    "plus": "Content-Length: +5",
    "hexadecimal": "Content-Length: 0x5",
    "negative": "Content-Length: -5",
    "fraction": "Content-Length: 5.0",
    "list": "Content-Length: 5, {all}",
    "short, then long": "Content-Length: 5\r\nContent-Length: {all}",
    "long, then short": "Content-Length: {all}\r\nContent-Length: 5",
    "space before colon": "Content-Length : 5\r\nContent-Length: {all}",
}


def smuggling(hidden: bytes):
    """Name and bytes of each request; whoever finds its end too early takes `hidden` for the next one."""
    post = f"{PROBE}/digest"
    for name, header in TRANSFER_ENCODINGS.items():
        outside = b"0\r\n\r\n" + hidden
        yield f"length over {name}", request("POST", post, f"Content-Length: {len(outside)}", header, body=outside)
        inside = b"%x\r\n" % len(hidden)
        chunked = inside + hidden + b"\r\n0\r\n\r\n"
        yield f"{name} over length", request("POST", post, f"Content-Length: {len(inside)}", header, body=chunked)
    for name, header in CONTENT_LENGTHS.items():
        body = b"hello" + hidden
        yield name, request("POST", post, header.format(all=len(body)), body=body)


def test_no_request_is_smuggled_in_another(site):
    cases = []
    for name, _ in smuggling(b""):
        key = uuid.uuid4().hex
        cases.append((name, key, dict(smuggling(request("GET", f"{PROBE}/count/{key}")))[name]))
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        received = list(pool.map(lambda case: site.fresh().send(case[2], seconds=1.5), cases))
    others_get_their_answers(site)
    wrong = []
    for (name, key, _), data in zip(cases, received, strict=True):
        reached = int(site.ask(f"{PROBE}/counted/{key}").body)
        found = [status for status, _ in Received(data).answers()]
        if reached or b"counted" in data or 200 in found[1:]:
            wrong.append((name, reached, found))
    assert not wrong
    # The probe can fail: the same request is counted where it is one.
    key = uuid.uuid4().hex
    site.ask(f"{PROBE}/count/{key}")
    assert site.ask(f"{PROBE}/counted/{key}").body == b"1"


@both_schemes
def test_an_unread_body_is_nobody_s_request(site, scheme):
    wrong = []
    key = uuid.uuid4().hex
    hidden = request("GET", f"{PROBE}/count/{key}")
    for path in ("/healthz", STATIC, "/admin/default/index", "/unknown", "/welcome/%255c", f"{PROBE}/echo/unread"):
        for body in (hidden, hidden * (300_000 // len(hidden))):
            first = request("POST", path, f"Content-Length: {len(body)}", "Content-Type: text/plain", body=body)
            data = site.send(first + request("GET", f"{PROBE}/echo/next", "Connection: close"), scheme, seconds=10)
            answers = Received(data).answers()
            # A server may rather close the connection than read a body that nobody wants.
            if not answers or b"counted" in data or [body for _, body in answers[1:]] not in ([], [b"echo of next"]):
                wrong.append((path, len(body), answers))
    others_get_their_answers(site, scheme)
    assert site.ask(f"{PROBE}/counted/{key}").body == b"0"
    assert not wrong


def test_the_host_in_an_absolute_address_is_the_host(site):
    path = f"{PROBE}/request_info"
    ours = f"GET http://{NAME}{path} HTTP/1.1\r\nHost: unknown.example\r\nConnection: close\r\n\r\n"
    others = f"GET http://unknown.example{path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
    [(status, body)] = Received(site.send(ours.encode())).answers()
    assert status in (400, 404, 421) or json.loads(body)["url"] == f"http://{NAME}{PROBE}/index"
    [(status, body)] = Received(site.send(others.encode())).answers()
    assert status in (400, 404, 421)


@both_schemes
def test_oversized_headers_are_refused(site, scheme):
    cases = {
        "one header": request("GET", "/welcome", "X-Long: " + "x" * 65536),
        "cookie": request("GET", "/welcome", "Cookie: session_id_welcome=" + "x" * 65536),
        "200 headers": request("GET", "/welcome", *(f"X-Header-{number}: {'x' * 300}" for number in range(200))),
        "request line": request("GET", "/welcome?" + "x" * 16384),
    }
    found = {}
    for name, data in cases.items():
        answers = Received(site.send(data, scheme)).answers()
        found[name] = answers[0][0] if answers else None
    assert all(status and 400 <= status < 500 for status in found.values()), found
    # Short ones are harmless.
    short = request("GET", f"{PROBE}/echo/1", *(f"X-{number}: x" for number in range(200)), "Connection: close")
    [(status, body)] = Received(site.send(short, scheme)).answers()
    assert 400 <= status < 500 or (status, body) == (200, b"echo of 1")
    others_get_their_answers(site, scheme)


@both_schemes
def test_visitors_come_by_ipv6(site, scheme):
    """The lab's network has none: the visitor is on the machine, at an address that web2py does not know for local."""
    address = "fd00:7765:6232::1"
    site.run(f"ip address replace {address}/128 dev lo")
    certificate = "/etc/ssl/tls_certificate/web2py/fullchain.pem"
    curl = "curl --silent --show-error --max-time 20 --globoff -6 --noproxy '*'"

    def ask(address: str, path: str, *options: str) -> str:
        port = 443 if scheme == "https" else 80
        return site.run(
            f"{curl} {shlex.join(options)} --cacert {certificate} --resolve '{NAME}:{port}:[{address}]' "
            f"--write-out ' %{{response_code}}' {scheme}://{NAME}{path}"
        )

    answer, _, status = ask(address, f"{PROBE}/request_info").rpartition(" ")
    seen = json.loads(answer)
    assert (status, seen["client"], seen["is_local"]) == ("200", address, False)
    assert (seen["port"], seen["is_https"]) == (("443", True) if scheme == "https" else ("80", False))
    assert ask("::1", f"{PROBE}/echo/6") == "echo of 6 200"
    if scheme == "http":
        for visited in ("::1", address):
            for header in ("X-Any: x", "X-Forwarded-For: ::1", "X-Forwarded-Proto: https"):
                assert ask(visited, "/admin/default/index", "--header", header)[-4:] in (" 403", " 404")


@both_schemes
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
def test_a_restful_controller_gets_the_method_and_the_body(site, scheme, method):
    body = b"a body" if method in ("POST", "PUT", "PATCH", "DELETE") else None
    answer = site.ask(f"{PROBE}/rest/one/two", scheme, method, body, {"Content-Type": "text/plain"} if body else None)
    assert (answer.status, answer["X-Method"]) == ({"POST": 201, "DELETE": 202}.get(method, 200), method)
    assert answer.body == (b"" if method == "HEAD" else f"{method} one/two {(body or b'').decode()}".encode())


class TestKilledProcesses:
    """What fails is what was in flight, and the service is whole again soon."""

    clients = 10

    def kill_each(self, site, victims: list[int]) -> None:
        assert victims
        for victim in victims:
            before = site.processes()
            # systemd kills what a main process leaves behind, one after the other: in flight are all requests that
            # began before the last of them was dead.
            main = [process for process in before if process.id == victim and process.main]
            dying = [process.id for process in before if main and process.web2py == main[0].web2py] or [victim]
            killed: list[float] = []

            # How many processes the web server keeps in reserve is its own affair: it may end some after a load.
            def whole(victim: int = victim, before: list = before) -> bool:
                processes = site.processes()
                gone = victim not in {process.id for process in processes}
                return gone and sum(process.web2py for process in processes) >= sum(one.web2py for one in before)

            def kill(victim: int = victim, whole=whole, dying=dying, killed=killed) -> None:
                # A zombie may have threads that are not dead yet, with connections that are open.
                files = " ".join(f"/proc/{process}/task/*/status" for process in dying)
                times = site.run(
                    f"date +%s.%N; kill -KILL {victim}; while grep -qs '^State:.[^ZX]' {files}; do :; done; date +%s.%N"
                )
                killed.extend(map(float, times.split()))
                site.wait(5 - wait_for(whole, 5, "the service is whole again"))

            results = load(site, f"{PROBE}/slow/0.05", self.clients, kill, seconds=4, after=2 * self.clients)
            assert killed[1] - killed[0] < 1
            assert [began - killed[1] for began in results.failed_since if began > killed[1]] == [], results
            assert len(results.failed_since) <= 2 * self.clients, results
            assert results[200] > 5 * self.clients

    def test_each_process_of_web2py(self, site):
        processes = [process for process in site.processes() if process.web2py]
        # Two are enough of workers that are all alike. With the main process the others end, too.
        alike = [process.id for process in processes if not process.main][:2]
        self.kill_each(site, alike + [process.id for process in processes if process.main])

    def test_a_process_of_the_web_server(self, site):
        workers = site.workers(web2py=False)
        # A server without workers answers itself.
        self.kill_each(site, [max(workers or {process.id for process in site.processes() if not process.web2py})])

    def test_the_main_process_of_the_web_server(self, site):
        """Apache holds its ports itself, so that there is a moment in which it refuses connections."""
        [main] = [process.id for process in site.processes() if process.main and not process.web2py]
        site.run(f"kill -KILL {main}")
        # Its own unit's processes all end with it.
        gone = wait_for(lambda: main not in {process.id for process in site.processes()}, 5, "a new main process")
        site.wait(5 - gone)
        assert site.fresh().ask("/welcome", "https").is_web2py_page()
