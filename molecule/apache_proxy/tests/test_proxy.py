# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is the proxy's own; what holds for every front end is in the folder frontend."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os

import pytest
from browser import NAME, PROBE, assert_unavailable_until_it_starts, load, out_of_service, play, wait_for

SITE_FILE = "/etc/apache2/web2py/apache_proxy.conf"
# An echo server of the few lines of RFC 6455 that a handshake and one short text need.
ECHO = """
import base64, hashlib, socket
server = socket.create_server(("127.0.0.1", 8888))
while True:
    connection, _ = server.accept()
    stream = connection.makefile("rwb")
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    key = headers.get("sec-websocket-key", "") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    stream.write(("HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
                  f"Sec-WebSocket-Accept: {accept}\\r\\n\\r\\n").encode())
    stream.flush()
    length = stream.read(2)[1] & 127
    mask = stream.read(4)
    text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(stream.read(length)))
    stream.write(bytes([0x81, length]) + text)
    stream.flush()
    connection.close()
"""


def test_a_second_run_changes_nothing():
    for arguments in ([], ["--check"]):
        run = play(*arguments)
        assert run.status == 0, run.output
        assert run.changed_tasks() == []


def test_only_listed_applications_are_passed_on(site):
    """Apache itself answers the others: web2py is not even asked."""
    with out_of_service(site):
        assert site.ask("/welcome").status == 503
        for path in ("/examples", "/examples/default/index", "/nothing", "/welcomes"):
            assert site.ask(path).status == 404, path


def test_a_daemon_out_of_service_is_a_503_that_says_when_to_come_back(site):
    with out_of_service(site):
        for scheme in ("http", "https"):
            answer = site.ask("/welcome", scheme)
            assert (answer.status, answer["Retry-After"]) == (503, "5")
            assert b"being maintained" in answer.body and b"Apache" not in answer.body
        assert site.ask("/welcome/static/css/bootstrap.min.css").status == 200
    wait_for(lambda: site.ask("/welcome", host=NAME).status == 200, 5)


def test_a_daemon_that_cannot_start_is_a_503_until_it_can(site):
    assert_unavailable_until_it_starts(site, "/etc/web2py/daemon/public.json")


@pytest.mark.parametrize("unit", ["web2py@public.service", "apache2.service"])
def test_reloads_under_load_lose_no_request(site, unit):
    def reload_twice():
        for _ in range(2):
            site.run(f"systemctl reload {unit}")

    results = load(site, f"{PROBE}/slow/0.1", 30, reload_twice, seconds=4)
    assert set(results) == {200}


def test_a_restart_of_the_daemon_loses_no_request(site):
    results = load(site, f"{PROBE}/slow/0.1", 30, lambda: site.run("systemctl restart web2py@public"), seconds=3)
    assert set(results) == {200}


def test_connections_to_the_daemon_are_kept(site, host):
    """The same connection is there after one request and after fifty more."""

    def connections() -> set[str]:
        lines = host.check_output("ss --no-header --unix state established").splitlines()
        return {line.split()[4] for line in lines if "/run/web2py/public.sock" in line}

    found = []
    with contextlib.closing(site.connect("http")) as connection:
        for requests in (1, 50):
            for _ in range(requests):
                connection.request("GET", f"{PROBE}/echo/1", headers={"Host": NAME})
                assert connection.getresponse().read() == b"echo of 1"
            found.append(connections())
    assert found[0] & found[1], "kept"


def test_headers_with_an_underscore_change_nothing(site):
    true = site.ask(f"{PROBE}/request_info").json()
    for name in ("X_Forwarded_For", "X-Forwarded_For", "X_FORWARDED-FOR", "X_Forwarded_Proto", "X_Forwarded_Port"):
        value = {"proto": "https", "port": "8001"}.get(name.lower()[-5:].lstrip("_"), "127.0.0.1")
        assert site.ask(f"{PROBE}/request_info", headers={name: value}).json() == true, name


def echoed(site, scheme: str, path: str) -> str:
    """Open a WebSocket, say hello, and return what comes back, or the status of a refusal."""
    key = base64.b64encode(os.urandom(16)).decode()
    with contextlib.closing(site.connect(scheme)) as connection:
        connection.sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        stream = connection.sock.makefile("rb")
        head = b"".join(iter(stream.readline, b"\r\n")).decode()
        if not head.startswith("HTTP/1.1 101 "):
            return head.split()[1]
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode(), usedforsecurity=False).digest()
        assert base64.b64encode(accept).decode() in head
        connection.sock.sendall(bytes([0x81, 0x85, 0, 0, 0, 0]) + b"hello")
        return stream.read(7)[2:].decode()


def test_a_websocket_is_passed_where_configured(sites):
    path = "/probe_2/realtime"
    run = play(variables={"apache_proxy_websockets": [{"path": path, "backend": "ws://127.0.0.1:8888/"}]})
    assert run.status == 0, run.output
    try:
        for site in sites:
            site.host.check_output(
                "printf '%%s' %s > /tmp/echo.py && systemd-run --unit=echo python3 /tmp/echo.py", ECHO
            )
            wait_for(lambda site=site: site.host.run("ss -ltn | grep -q :8888").rc == 0)
            assert [echoed(site, scheme, path) for scheme in ("http", "https")] == ["hello", "hello"]
            site.run("systemctl stop echo")
    finally:
        assert play().status == 0
    assert [echoed(site, "http", path) for site in sites] == ["404"] * len(sites)


def test_a_faulty_configuration_is_not_loaded(site):
    site.run(f"echo NoSuchDirective >> {SITE_FILE}")
    try:
        assert site.host.run("systemctl reload apache2").rc != 0
        assert site.ask("/welcome").is_web2py_page()
    finally:
        site.run(f"sed -i '/^NoSuchDirective$/d' {SITE_FILE}")
    site.run("systemctl reload apache2")
