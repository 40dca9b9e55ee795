# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What visitors get and what the servers see, with all servers well."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import ssl
import time
import uuid
from collections import Counter

import pytest
from balancers import CERTIFICATE, SERVERS
from browser import ADMINISTRATION, NAME, load, wait_for

both_schemes = pytest.mark.parametrize("scheme", ["http", "https"])
FORWARDING = {
    "X-Forwarded-For": "127.0.0.1",
    "x-forwarded-proto": "https",
    "X-Forwarded-Port": "8001",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Anything": "1",
    "X_Forwarded_For": "127.0.0.1",
    "X-Forwarded_Proto": "https",
    "Forwarded": "for=127.0.0.1;proto=https",
    "X-Real-IP": "127.0.0.1",
    "Proxy": "http://evil.example",
    "X-Other": "stays",
}
FORWARDED = re.compile("forwarded|^x-real-ip$|^proxy$")
# Beside those that the front ends are tested with.
MORE_SPELLINGS = [
    "/admin;x",
    "/admin%3bx",
    "/admin.html",
    "/ADMIN",
    "/%2e/admin",
    "/%2fadmin",
    "/.%2fadmin",
    "/%2F%2Fadmin",
    "///admin",
    "/x/%2e%2e/admin",
    "/x/..%2fadmin",
    "/x/%2e%2e%2fadmin",
    "/x/..%5cadmin",
    "/admin%00",
    "/admin%09",
    "/admin%7f",
    "/admin#x",
    "/x/..",
    "/%",
    "/%6",
    "/%zz",
    "/%u0061dmin",
    "/a%c0%af..%c0%af%61dmin/%2561",
    "/welcome/%2e/appadmin",
    "/welcome/%61pp%61dmin",
    "/welcome%2f%2fappadmin",
    "*",
]


@both_schemes
def test_servers_take_turns(balancer, scheme):
    answered = Counter(balancer.seen("/", scheme)["name"] for _ in range(30))
    assert answered.keys() == set(SERVERS) and set(answered.values()) <= {9, 10, 11}, answered


@both_schemes
@pytest.mark.parametrize("forged", [{}, FORWARDING, {**FORWARDING, "Connection": "X-Forwarded-For, X-Forwarded-Proto"}])
def test_servers_know_the_client_and_the_scheme_whatever_the_client_says(balancer, scheme, forged):
    for _ in SERVERS:
        seen = balancer.seen("/path?query=%25", scheme, headers=forged)
        assert seen["path"] == "/path?query=%25"
        headers = [
            (name, value) for name, value in seen["headers"] if "forwarded" in name or name in ("x-real-ip", "proxy")
        ]
        assert sorted(headers) == [
            ("x-forwarded-for", balancer.own_address()),
            ("x-forwarded-port", "443" if scheme == "https" else "80"),
            ("x-forwarded-proto", scheme),
        ]
        others = {name: value for name, value in seen["headers"] if not FORWARDED.search(name)}
        assert others.pop("connection", "close") == "close"
        assert others == {"host": NAME, **({"x-other": "stays"} if forged else {})}


def test_no_spelling_of_a_denied_path_reaches_a_server(balancer):
    mark = uuid.uuid4().hex
    wrong = {}
    for path in [*ADMINISTRATION, *MORE_SPELLINGS]:
        for scheme in ("http", "https"):
            status = balancer.ask(f"{path}?{mark}", scheme).status
            if status not in (400, 404):
                wrong[scheme, path] = status
    assert not wrong
    assert balancer.requests(mark) == []
    # The probe can fail.
    for path in ("/", "/adminx", "/welcome/default/appadmin", "/welcome/appadmins", "/x%23", "/caf%C3%A9", "/x/..y"):
        assert balancer.ask(f"{path}?{mark}").status == 200, path
    assert len(balancer.requests(mark)) == 7


def test_denied_paths_in_absolute_addresses_and_over_http_2(balancer):
    assert balancer.ask(f"http://{NAME}/admin").status == 404
    assert balancer.ask(f"http://{NAME}/x").status == 200
    assert balancer.ask("http://other.example/x").status in (400, 404)
    assert curl(balancer, "/admin", "--http2", "--write-out", " %{response_code}").endswith(" 404")
    assert curl(balancer, "/%2561dmin", "--http2", "--write-out", " %{response_code}").endswith(" 400")


@both_schemes
@pytest.mark.parametrize(
    "name", ["other.example", "127.0.0.1", f"{NAME}.", f"x.{NAME}", f"x, {NAME}", f"{NAME},x", "", None]
)
def test_only_names_of_the_site_are_answered(balancer, scheme, name):
    mark = uuid.uuid4().hex
    assert balancer.ask(f"/{mark}", scheme, host=name).status in (400, 404)
    assert balancer.requests(mark) == []
    assert balancer.ask("/", scheme, host=f"{NAME.upper()}:8443").status == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_of_no_site_are_refused(balancer, method):
    assert balancer.ask("/", method=method).status in (400, 405)


def curl(balancer, path: str, *options: str, address: str = "127.0.0.1", scheme: str = "https") -> str:
    port = 443 if scheme == "https" else 80
    return balancer.run(
        f"curl --silent --show-error --max-time 20 --noproxy '*' --globoff --cacert {CERTIFICATE} "
        f"--resolve '{NAME}:{port}:{address}' {shlex.join(options)} {scheme}://{NAME}{path}"
    )


def test_http_2(balancer):
    forged = ("--header", "X-Forwarded-For: 192.0.2.1", "--header", "X_Forwarded_Proto: http")
    answer, _, version = curl(balancer, "/", "--http2", *forged, "--write-out", " %{http_version}").rpartition(" ")
    assert version == "2"
    headers = dict(json.loads(answer)["headers"])
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "https")
    assert "x_forwarded_proto" not in headers


@both_schemes
def test_visitors_come_by_ipv6(balancer, scheme):
    address = "fd00:7765:6232::1"
    balancer.run(f"ip address replace {address}/128 dev lo")
    seen = json.loads(curl(balancer, "/", address=f"[{address}]", scheme=scheme))
    assert dict(seen["headers"])["x-forwarded-for"] == address


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_old_versions_of_tls_are_refused(balancer):
    for version, wanted in (
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ):
        balancer.context.set_ciphers("ALL:@SECLEVEL=0")
        balancer.context.minimum_version = balancer.context.maximum_version = version
        if wanted:
            assert balancer.ask("/", "https").status == 200
        else:
            with pytest.raises(OSError):
                balancer.ask("/", "https")


def test_the_weakest_cipher_has_forward_secrecy(balancer):
    balancer.context.maximum_version = ssl.TLSVersion.TLSv1_2
    for cipher in ("AES128-GCM-SHA256", "AES256-SHA", "ECDHE-ECDSA-AES128-SHA"):
        balancer.context.set_ciphers(f"{cipher}:@SECLEVEL=0")
        with pytest.raises(OSError):
            balancer.ask("/", "https")
    balancer.context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    assert balancer.ask("/", "https").status == 200


@pytest.mark.parametrize("size", [0, 1, 5_000_000])
def test_bodies_arrive_whole(balancer, size):
    for method in ("POST", "PUT"):
        seen = balancer.seen("/", "https", method, b"x" * size)
        assert (seen["method"], seen["body"]) == (method, size)


def test_a_websocket_passes_and_outlives_a_reload(balancer):
    with contextlib.closing(balancer.connect("https")) as connection:
        connection.sock.settimeout(10)
        head = (
            f"GET /websocket HTTP/1.1\r\nHost: {NAME}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        connection.sock.sendall(head.encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += connection.sock.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
        for word in (b"before", b"after"):
            connection.sock.sendall(word)
            assert connection.sock.recv(4096) == word
            balancer.run("systemctl reload haproxy")


def test_no_other_protocol_is_asked_for_past_the_balancer(balancer):
    headers = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA"}
    answer = balancer.ask("/", headers=headers)
    assert "upgrade" not in [name for name, _ in answer.json()["headers"]]
    # Nor does what the server offers reach the client.
    assert (answer["Upgrade"], answer["Connection"]) == (None, None)


@both_schemes
def test_clients_that_never_finish_their_request_are_sent_away_and_disturb_nobody(balancer, scheme):
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(contextlib.closing(balancer.connect(scheme))).sock for _ in range(200)]
        started = time.monotonic()
        for connection in slow:
            connection.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nX-Slow: ".encode())
        assert balancer.ask("/", scheme).status == 200
        ended = []
        while len(ended) < len(slow) and time.monotonic() - started < 30:
            for connection in set(slow).difference(ended):
                # A byte now and then changes nothing.
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")
                connection.setblocking(False)
                try:
                    if connection.recv(4096)[:12] in (b"HTTP/1.1 408", b"HTTP/1.0 408", b""):
                        ended.append(connection)
                except (BlockingIOError, ssl.SSLWantReadError):
                    pass
                except OSError:
                    ended.append(connection)
                finally:
                    connection.setblocking(True)
        assert len(ended) == len(slow) and time.monotonic() - started > 2


@both_schemes
def test_large_heads_are_refused(balancer, scheme):
    assert balancer.ask("/", scheme, headers={"X-Long": "x" * 12000}).status == 200
    assert balancer.ask("/", scheme, headers={"X-Long": "x" * 20000}).status in (400, 431)
    assert balancer.ask("/" + "x" * 20000, scheme).status in (400, 414)
    assert balancer.ask("/", scheme, headers={f"X-{number}": "x" for number in range(90)}).status == 200
    assert balancer.ask("/", scheme, headers={f"X-{number}": "x" for number in range(120)}).status in (400, 431)


def test_statistics_are_for_this_machine_only(balancer):
    with pytest.raises(OSError):
        socket.create_connection((balancer.address, 8404), timeout=5)
    page = balancer.run("curl --silent --show-error --noproxy '*' http://127.0.0.1:8404/")
    assert "servers" in page and "three" in page
    foreign = balancer.run(
        "curl --silent --noproxy '*' --header 'Host: evil.example' --write-out ' %{response_code}' http://127.0.0.1:8404/"
    )
    assert foreign.endswith(" 403") and "three" not in foreign


def test_only_root_commands_it_and_no_key_is_copied(balancer):
    assert balancer.run("stat -c '%a %U %G' /run/haproxy/admin.sock").split() == ["660", "root", "root"]
    ask = "import socket; socket.socket(socket.AF_UNIX).connect('/run/haproxy/admin.sock')"
    done = balancer.host.run("setpriv --reuid=www-data --regid=www-data --clear-groups python3 -c %s", ask)
    assert done.rc != 0 and "Permission" in done.stderr
    keys = {
        folders: balancer.host.run(
            f"find {folders} -type f -exec grep --files-with-matches 'PRIVATE KEY' {{}} +"
        ).stdout
        for folders in ("/etc/ssl/tls_certificate/site", "/etc/haproxy /run/haproxy*")
    }
    assert [*keys.values()] == ["/etc/ssl/tls_certificate/site/privkey.pem\n", ""]
    workers = set(balancer.run("ps -o user= -C haproxy").split())
    assert workers == {"haproxy", "root"}, "one main process, the others without rights"


def test_load_is_shared_and_nothing_fails(balancer):
    results = load(balancer, "/slow/0.02", 20, lambda: None, seconds=3, after=60)
    assert results.keys() == {200}
    wait_for(lambda: all(balancer.statistics()[name]["scur"] == "0" for name in SERVERS))
