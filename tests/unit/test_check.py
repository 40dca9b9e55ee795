# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The check of a web host, against a server of this machine."""

from __future__ import annotations

import datetime
import http.server
import os
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import check
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

TICKET = "shop/127.0.0.1.2026-11-24.20-15-01.0a1b2c3d-0000-4000-8000-000000000000"
PAGE = f'<html>Ticket issued: <a href="/admin/default/ticket/{TICKET}" target="_blank">{TICKET}</a></html>'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.seen.append((self.path, self.headers["Host"]))
        status, headers, body = server.answers.get(self.path, (200, {}, "ok"))
        if callable(status):
            status = status(len(server.seen))
        if status == "silent":
            server.release.wait(10)
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_arguments):
        pass


def start(context=None):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen, server.answers, server.release = [], {}, threading.Event()
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=[0.05]).start()
    return server


@pytest.fixture
def server():
    server = start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()


def front_end(server, https=False, timeout=5):
    return check.FrontEnd(server.server_address[1], https, "www.example.org", timeout)


def outcome(server, path, seconds=0.0, timeout=5):
    answers = check.check_path(front_end(server, timeout=timeout), path, 8, 4, time.monotonic() + seconds)
    return answers, check.problem(path, answers)


def test_all_requests_come_with_the_name_of_the_site(server):
    answers, problem = outcome(server, "/shop/default/index")
    assert problem == ""
    assert server.seen == [("/shop/default/index", "www.example.org")] * 8
    report = check.report("/shop/default/index", answers)
    assert report["statuses"] == {"200": 8} and 0 <= report["fastest"] <= report["slowest"] < 5


@pytest.mark.parametrize("status", [204, 303, 404, 401])
def test_what_is_below_500_is_well_and_no_redirect_is_followed(server, status):
    server.answers["/a"] = (status, {"Location": "/elsewhere"}, "")
    assert outcome(server, "/a")[1] == ""
    assert {path for path, _host in server.seen} == {"/a"}


@pytest.mark.parametrize(("headers", "body"), [({}, PAGE), ({"web2py_error": f"ticket {TICKET}"}, "our own page")])
def test_a_ticket_is_named(server, headers, body):
    server.answers["/shop/default/index"] = (500, headers, body)
    answers, problem = outcome(server, "/shop/default/index", seconds=5)
    assert problem == f"/shop/default/index: the status is 500; it must be below 500, with the ticket {TICKET}"
    assert len(answers) <= 4, "the first failure is enough"
    assert "errors" in check.advice(answers)


def test_a_failure_without_a_ticket(server):
    server.answers["/a"] = (500, {}, "unknown ticket")
    answers, problem = outcome(server, "/a")
    assert problem == "/a: the status is 500; it must be below 500"
    assert "logs" in check.advice(answers) and "check_path" in check.advice(answers)


def test_a_server_that_starts_is_waited_for(server):
    server.answers["/a"] = (lambda number: 503 if number < 6 else 200, {}, "")
    assert outcome(server, "/a", seconds=20)[1] == ""


def test_but_not_for_ever(server):
    server.answers["/a"] = (503, {}, "")
    assert outcome(server, "/a", seconds=0.3)[1] == "/a: the status is 503; it must be below 500"


def test_nobody_answers():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = check.FrontEnd(closed.getsockname()[1], False, "x", 1)
        answers = check.check_path(nobody, "/a", 2, 2, time.monotonic())
    assert check.problem("/a", answers) == "/a: the connection was refused"


def test_an_answer_has_its_time(server):
    server.answers["/a"] = ("silent", {}, "")
    started = time.monotonic()
    assert outcome(server, "/a", seconds=30, timeout=0.3)[1] == "/a: no answer within 0.3 seconds"
    assert time.monotonic() - started < 5


def test_https_with_the_name_of_the_site_and_any_certificate(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another.example")])
    now = datetime.datetime(2020, 1, 1)
    certificate = (x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(1))).sign(
        key, hashes.SHA256()
    )
    pem = serialization.Encoding.PEM
    (tmp_path / "pem").write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server = start(context)
    try:
        answers = check.check_path(front_end(server, https=True), "/a", 4, 2, time.monotonic())
        assert check.problem("/a", answers) == ""
        assert names == ["www.example.org"] * 4
        plain = check.check_path(front_end(server), "/a", 1, 1, time.monotonic())
        assert "no answer (" in check.problem("/a", plain)
    finally:
        server.shutdown()
        server.server_close()


def test_former_processes_are_told_from_new_ones(tmp_path):
    (tmp_path / "child").mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        (tmp_path / "child" / "cgroup.procs").write_text(f"{process.pid}\n999999999\n")
        user = os.getuid()
        groups = [(str(tmp_path), "1")]
        assert check.old_processes(groups, time.time() + 1, user) == 1
        assert check.old_processes(groups, time.time() - 3600, user) == 0
        assert check.old_processes(groups, time.time() + 1, user + 1) == 0
        assert check.old_processes([(str(tmp_path), str(process.pid))], time.time() + 1, user) == 0
        process.communicate(b"\n")
    assert check.old_processes(groups, time.time() + 1, user) == 0


def test_requests_are_sent_until_no_former_process_is_left(server):
    left = [2, 1, 0]
    assert check.warm_up(front_end(server), "/a", 4, 2, lambda: left.pop(0), time.monotonic() + 30) == 0
    assert len(server.seen) == 8
    assert check.warm_up(front_end(server), "/a", 4, 2, lambda: 1, time.monotonic()) == 1
