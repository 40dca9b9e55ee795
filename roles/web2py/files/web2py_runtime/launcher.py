# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The worker of gunicorn (20.1 and 23) that serves web2py over HTTP without a web server in front.

Gunicorn's own threaded worker loses what arrives on a kept connection while it stops, and gives a thread to each
client that connects, even if nothing is sent or read. This one waits for a whole request head without a thread, stores
the answer for a client that is slow to read it, and when it stops it accepts nothing new but serves the connections it
has for as long as a proxy would reuse them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import select
import selectors
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from gunicorn.http import RequestParser
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import InvalidHeader, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

# More than gunicorn's own limits on the request line and the headers: where it is reached, its parser refuses.
MAXIMUM_HEAD = 64 * 1024
# Apache's lingering close: a client that still sends its body could not read the answer after an abrupt one.
LINGER_SILENCE, LINGER_TOTAL = 2.0, 30.0
IN_MEMORY = 1024 * 1024
# Seconds that the thread of a request waits, altogether, for a client to read; then the rest of the answer is stored.
PATIENCE = 1.0
# With more than this stored for all its clients, a process waits for their readers all the same: an answer may have no
# end, and the disk has one.
MAXIMUM_STORED = 1024 * 1024 * 1024
# OpenSSL wants a write that did not succeed repeated with no less data.
PIECE = 16 * 1024


class BodyReader:
    """Reads a request body for gunicorn and knows whether it was read to its end."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.failed = False

    def read(self, size: int) -> bytes:
        try:
            return self.reader.read(size)
        except Exception:
            # Gunicorn's chunked reader reports the end of the body after an error in it.
            self.failed = True
            raise

    @property
    def finished(self) -> bool:
        if self.failed:
            return False
        return self.reader.length == 0 if isinstance(self.reader, LengthReader) else self.reader.parser is None


class Outgoing:
    """A client's socket for the answer: what the client is slow to read is stored, and holds no thread."""

    #: Whether the process has stored as much as it may; it looks once in each round of its loop.
    full = False

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.stored = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (the connection owns it)
        self.size = self.sent = 0
        self.patience = PATIENCE

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    @property
    def left(self) -> bool:
        return self.sent < self.size

    def sendall(self, data: bytes) -> None:
        data = memoryview(data)
        timeout = self.sock.gettimeout()
        self.sock.settimeout(0)
        try:
            while data and self.push():
                done = self.try_to_send(data[:PIECE])
                data = data[done:]
                if not done and not self.wait():
                    break
        finally:
            self.sock.settimeout(timeout)
        if Outgoing.full or self.size - self.sent > MAXIMUM_STORED:
            while self.left:
                self.sock.sendall(self.take(PIECE))
            self.push()
        self.stored.seek(self.size)
        self.size += self.stored.write(data)

    def wait(self) -> bool:
        """Give the client a moment to read; tell whether it has."""
        started = time.monotonic()
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        ready = self.patience > 0 and bool(poll.poll(self.patience * 1000))
        self.patience -= time.monotonic() - started
        return ready

    def push(self) -> bool:
        """Send of what is stored as much as the client takes now; tell whether nothing is left."""
        while self.left:
            self.stored.seek(self.sent)
            done = self.try_to_send(self.stored.read(PIECE))
            self.sent += done
            if not done:
                return False
        if self.size:
            self.size = self.sent = 0
            self.stored.seek(0)
            self.stored.truncate()
        return True

    def take(self, size: int) -> bytes:
        self.stored.seek(self.sent)
        data = self.stored.read(size)
        self.sent += len(data)
        return data

    def try_to_send(self, data: bytes | memoryview) -> int:
        try:
            return self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0


class Connection(TConn):
    """A client's connection, which waits in the poller until a request head is complete."""

    def __init__(self, worker: Worker, sock: socket.socket, client: Any, server: Any) -> None:
        super().__init__(worker.cfg, sock, client, server)
        if worker.tls:
            self.sock = worker.tls.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
        self.parser = RequestParser(worker.cfg, self.sock, client)
        self.body: BodyReader | None = None
        self.outgoing: Outgoing | None = None
        self.lingers = False
        self.head = bytearray()
        self.kept = False
        self.since = time.monotonic()

    def receive(self) -> bool:
        """Take what has arrived; tell whether a request can be served. EOFError: the client has gone."""
        try:
            while b"\r\n\r\n" not in self.head and len(self.head) < MAXIMUM_HEAD:
                data = self.sock.recv(8192)
                if not data:
                    raise EOFError
                if not self.head:
                    self.since = time.monotonic()
                self.head += data
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        return True

    def begin(self, timeout: float) -> None:
        """Hand what was received to the parser, which goes on reading by itself."""
        self.since = time.monotonic()
        self.sock.settimeout(timeout)
        self.parser.unreader.unread(bytes(self.head))
        self.head.clear()

    def keep(self) -> None:
        """Wait for the next request, the beginning of which may have been read with the last one."""
        self.since = time.monotonic()
        self.kept = True
        self.sock.setblocking(False)
        unreader = self.parser.unreader
        if unreader.buf.tell():
            self.head += unreader.read()

    def linger(self) -> None:
        """Let the client read the answer before the connection is closed on what it goes on sending."""
        deadline = time.monotonic() + LINGER_TOTAL
        with contextlib.suppress(OSError, ValueError):
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.settimeout(LINGER_SILENCE)
            while time.monotonic() < deadline and self.sock.recv(65536):
                pass


class Worker(ThreadWorker):
    """Gunicorn's threaded worker with an event loop of its own; the settings file of an instance sets what is below."""

    #: Seconds for which a proxy reuses an idle connection: Apache's `ttl`.
    proxy_reuse = 5.0
    #: Seconds in which a request head has to be complete.
    head_timeout = 20.0
    #: Seconds without progress in the body of a request, or for one piece of an answer.
    stall_timeout = 60.0
    #: Seconds that a request may take before its process is replaced.
    request_timeout = 300.0
    #: Bytes that a request body may have.
    max_request_body = 200 * 1024 * 1024

    def init_process(self) -> None:
        self.waiting: set[Connection] = set()
        self.running: set[Connection] = set()
        self.sending: set[Connection] = set()
        self.done: queue.SimpleQueue[tuple[Connection, bool]] = queue.SimpleQueue()
        self.listening = False
        self.tls = None
        if self.cfg.is_ssl:
            # Gunicorn 20.1 would read the certificate again for each connection.
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.minimum_version = ssl.TLSVersion.TLSv1_2
            self.tls.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
            self.tls.load_cert_chain(self.cfg.certfile, self.cfg.keyfile)
        super().init_process()

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.wsgi = partial(self.answer, self.wsgi)

    # The loop. Everything but `handle` and what it calls runs in the main thread.

    def run(self) -> None:
        self.poller.register(self.PIPE[0], selectors.EVENT_READ, self.woken)
        deadline = None
        while self.alive or self.waiting or self.running or self.sending:
            self.notify()
            if self.ppid != os.getppid():
                self.alive = False
            if not self.alive and deadline is None:
                deadline = time.monotonic() + self.cfg.graceful_timeout
            self.listen(self.alive and len(self.running) < self.cfg.threads and self.has_room())
            for key, _events in self.poller.select(1.0):
                key.data(key.fileobj)
            self.take_back()
            self.look_at_what_is_stored()
            self.close_overdue()
            self.replace_when_stuck()
            if deadline and time.monotonic() > deadline:
                unfinished = len(self.running) + len(self.sending)
                self.log.warning("%d requests take longer than graceful_timeout and are cut off", unfinished)
                # Python would wait for the threads.
                os._exit(0)
        self.listen(False)
        self.tpool.shutdown(False)

    def has_room(self) -> bool:
        return len(self.waiting) + len(self.running) + len(self.sending) < self.cfg.worker_connections

    def listen(self, wanted: bool) -> None:
        """Accept connections or leave them to the other workers, and to the kernel until one accepts them."""
        if wanted == self.listening:
            return
        self.listening = wanted
        for listener in self.sockets:
            if wanted:
                listener.setblocking(False)
                self.poller.register(
                    listener, selectors.EVENT_READ, partial(self.accept_connection, listener.getsockname())
                )
            else:
                self.poller.unregister(listener)

    def accept_connection(self, server: Any, listener: socket.socket) -> None:
        try:
            sock, client = listener.accept()
        except OSError:
            # Another worker was faster, or the client has gone.
            return
        try:
            connection = Connection(self, sock, client, server)
        except OSError:
            sock.close()
            return
        self.wait_for(connection)

    def wait_for(self, connection: Connection) -> None:
        """Serve the connection as soon as it has sent a request head."""
        self.waiting.add(connection)
        self.poller.register(connection.sock, selectors.EVENT_READ, partial(self.readable, connection))
        self.readable(connection)

    def readable(self, connection: Connection, _file: Any = None) -> None:
        try:
            ready = connection.receive()
        except (OSError, EOFError):
            self.stop_waiting(connection)
            connection.close()
            return
        if ready:
            self.stop_waiting(connection)
            connection.begin(self.stall_timeout)
            self.submit(connection, self.handle)

    def submit(self, connection: Connection, work: Callable[[Connection], tuple[bool, Connection]]) -> None:
        self.running.add(connection)
        self.tpool.submit(work, connection).add_done_callback(partial(self.finished, connection))

    def stop_waiting(self, connection: Connection) -> None:
        self.waiting.discard(connection)
        self.poller.unregister(connection.sock)

    def finished(self, connection: Connection, future: Future) -> None:
        """Called in the thread of the request."""
        keep = not future.cancelled() and future.exception() is None and future.result()[0]
        self.done.put((connection, keep))
        with contextlib.suppress(BlockingIOError):
            os.write(self.PIPE[1], b"d")

    def woken(self, pipe: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(pipe, 4096)

    def take_back(self) -> None:
        while not self.done.empty():
            connection, keep = self.done.get()
            self.running.discard(connection)
            if connection.outgoing and connection.outgoing.left:
                self.send_rest(connection, keep)
            else:
                self.settle(connection, keep)

    def look_at_what_is_stored(self) -> None:
        waiting = [connection.outgoing for connection in (*self.running, *self.sending)]
        Outgoing.full = sum(one.size for one in waiting if one) > MAXIMUM_STORED

    def settle(self, connection: Connection, keep: bool) -> None:
        if keep:
            connection.keep()
            self.wait_for(connection)
        else:
            connection.close()

    def send_rest(self, connection: Connection, keep: bool) -> None:
        connection.since = time.monotonic()
        connection.sock.setblocking(False)
        self.sending.add(connection)
        self.poller.register(connection.sock, selectors.EVENT_WRITE, partial(self.writable, connection, keep))

    def writable(self, connection: Connection, keep: bool, _file: Any = None) -> None:
        before = connection.outgoing.sent
        try:
            finished = connection.outgoing.push()
        except OSError:
            self.stop_sending(connection)
            connection.close()
            return
        if finished:
            self.stop_sending(connection)
            if connection.lingers:
                self.submit(connection, self.linger)
            else:
                self.settle(connection, keep)
        elif connection.outgoing.sent > before:
            connection.since = time.monotonic()

    def stop_sending(self, connection: Connection) -> None:
        self.sending.discard(connection)
        self.poller.unregister(connection.sock)

    def linger(self, conn: Connection) -> tuple[bool, Connection]:
        conn.linger()
        return False, conn

    def close_overdue(self) -> None:
        now = time.monotonic()
        # A second more: the proxy's clock starts when it has read the answer.
        idle = self.cfg.keepalive if self.alive else min(self.cfg.keepalive, self.proxy_reuse + 1)
        for connection in list(self.waiting):
            if connection.head:
                limit = self.head_timeout
            elif connection.kept or not self.alive:
                limit = idle
            else:
                limit = self.head_timeout
            if now - connection.since > limit:
                self.stop_waiting(connection)
                connection.close()
        for connection in list(self.sending):
            if now - connection.since > self.stall_timeout:
                self.log.info("a client did not read for %g seconds", self.stall_timeout)
                self.stop_sending(connection)
                connection.close()

    def replace_when_stuck(self) -> None:
        if not self.alive:
            return
        oldest = min((connection.since for connection in self.running), default=None)
        if oldest is not None and time.monotonic() - oldest > self.request_timeout:
            self.log.error("a request takes longer than %g seconds: this process is replaced", self.request_timeout)
            self.alive = False

    # One request, in a thread.

    def handle(self, conn: Connection) -> tuple[bool, Connection]:
        conn.body = conn.outgoing = None
        keep, conn = super().handle(conn)
        conn.lingers = bool(not keep and conn.body and not conn.body.finished)
        if conn.lingers and not (conn.outgoing and conn.outgoing.left):
            conn.linger()
        return keep, conn

    def handle_request(self, req: Any, conn: Connection) -> bool:
        # In the environ, X_Forwarded_For could not be told from X-Forwarded-For, and SCRIPT_NAME is gunicorn's own.
        req.headers = [(name, value) for name, value in req.headers if "_" not in name]
        for name, value in req.headers:
            # Gunicorn 20.1 leaves it to int(), which takes +5 and 1_0 too: lengths that a proxy may read differently.
            if name == "CONTENT-LENGTH" and not re.fullmatch("[0-9]+", value):
                raise InvalidHeader(name, req=req)
        conn.body = req.body.reader = BodyReader(req.body.reader)
        sock = conn.sock
        conn.sock = conn.outgoing = Outgoing(sock)
        try:
            return super().handle_request(req, conn) and conn.body.finished
        except TimeoutError:
            self.log.info("a client neither sent nor read for %g seconds", self.stall_timeout)
            return False
        finally:
            conn.sock = sock

    def answer(
        self, application: Callable[..., Iterable[bytes]], environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Call the application with a body of known length; end the connection when some of the body is left over."""
        response = start_response.__self__
        body: BodyReader = environ["wsgi.input"].reader

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            # The rest of a body would be taken for the next request.
            if not (self.alive and body.finished):
                response.force_close()
            return start_response(status, headers, exc_info)

        if int(environ.get("CONTENT_LENGTH") or 0) > self.max_request_body:
            return plain(start, "413 Content Too Large")
        if "HTTP_TRANSFER_ENCODING" in environ:
            # web2py reads as many bytes as CONTENT_LENGTH says, so none of a chunked body.
            try:
                if not self.store_body(environ):
                    return plain(start, "413 Content Too Large")
            except (ParseException, OSError):
                return plain(start, "400 Bad Request")
        return application(environ, start)

    def store_body(self, environ: dict[str, Any]) -> bool:
        """Replace a chunked body by a file; tell whether it is within the limit."""
        file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (the request owns it)
        size = 0
        while data := environ["wsgi.input"].read(65536):
            size += len(data)
            if size > self.max_request_body:
                return False
            file.write(data)
        file.seek(0)
        del environ["HTTP_TRANSFER_ENCODING"]
        environ.update({"wsgi.input": file, "CONTENT_LENGTH": str(size)})
        return True


def plain(start_response: Callable[..., Any], status: str) -> list[bytes]:
    body = f"{status}\n".encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
