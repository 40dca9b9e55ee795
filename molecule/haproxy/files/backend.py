# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A web server that tells what reached it, and fails as it is told: backend.py NAME PORT FOLDER CERTIFICATE KEY

PORT speaks HTTP, PORT + 100 HTTPS, and PORT + 200 HTTPS after the PROXY protocol's header of version 2.
FOLDER/NAME.sick makes it unhealthy. /hold/MARK is answered when there is FOLDER/release-MARK.
Each request is a line in FOLDER/requests before it is answered.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import ipaddress
import json
import pathlib
import socket
import socketserver
import ssl
import struct
import sys
import threading
import time
import urllib.parse

NAME, PORT, FOLDER, CERTIFICATE, KEY = sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]), *sys.argv[4:6]
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def proxied(connection: socket.socket) -> str:
    """Read the PROXY protocol's header; return the client that it names, or nothing for a health check."""
    header = connection.recv(16, socket.MSG_WAITALL)
    if header[:12] != b"\r\n\r\n\0\r\nQUIT\n":
        raise ConnectionError("no PROXY header")
    command, family, length = header[12], header[13], struct.unpack("!H", header[14:])[0]
    addresses = connection.recv(length, socket.MSG_WAITALL)
    if command & 15 == 0:
        return ""
    size = 4 if family >> 4 == 1 else 16
    return str(ipaddress.ip_address(addresses[:size]))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Killed, it has sent an answer or it has not: nobody could ask again for the rest of one.
    wbufsize = -1

    def setup(self) -> None:
        self.client = proxied(self.request) if self.server.proxied else self.client_address[0]
        if self.server.context:
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def do(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        if path == "/healthz":
            sick = (FOLDER / f"{NAME}.sick").exists()
            self.answer({"name": NAME}, 503 if sick else 200)
            return
        with open(FOLDER / "requests", "a") as requests:
            requests.write(f"{NAME} {self.command} {self.path}\n")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind, _, argument = path.lstrip("/").partition("/")
        if kind == "slow":
            time.sleep(float(argument.partition("/")[0]))
        elif kind == "hold":
            while not (FOLDER / f"release-{argument}").exists():
                time.sleep(0.05)
        elif kind == "drop":
            # Only the first of its name fails, so that the next server can answer.
            try:
                (FOLDER / f"dropped-{argument}").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
        elif kind == "websocket":
            self.websocket()
            return
        self.answer(
            {
                "name": NAME,
                "method": self.command,
                "path": self.path,
                "headers": [[name.lower(), value] for name, value in self.headers.items()],
                "client": self.client,
                "port": self.server.server_address[1],
                "body": len(body),
            }
        )

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do

    def answer(self, value: dict, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        # As Apache offers HTTP/2.
        self.send_header("Upgrade", "h2")
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def websocket(self) -> None:
        """Shake hands, then send back whatever comes: frames or not is nothing to a balancer."""
        accept = hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + WEBSOCKET).digest()  # noqa: S324
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade")):
            self.send_header(name, value)
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accept).decode())
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        while data := self.connection.recv(4096):
            self.connection.sendall(data)

    def log_message(self, *_arguments: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024
    address_family = socket.AF_INET6

    def __init__(self, port: int, context: ssl.SSLContext | None, proxied: bool) -> None:
        self.context, self.proxied = context, proxied
        super().__init__(("::", port), Handler)

    def handle_error(self, *_arguments: object) -> None:
        """A connection that fails is what the tests are about."""


def main() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    servers = [Server(PORT, None, False), Server(PORT + 100, context, False), Server(PORT + 200, context, True)]
    for server in servers[1:]:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    servers[0].serve_forever()


if __name__ == "__main__":
    main()
