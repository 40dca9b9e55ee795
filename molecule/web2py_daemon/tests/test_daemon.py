# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What visitors, administrators and attackers find at the daemon's instances, and what stops and kills cost."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import socket
import subprocess
import threading
import time

import pytest
from browser import NAME, PROBE, Memory, Site, address_of, load, requests_read, wait_for

PUBLIC, ADMIN, TLS = 8000, 8001, 8443
PASSWORD = "right horse 8001"
TASKS = "/tasks/default"
ADMINISTRATION = (
    "/admin",
    "/admin/default/index",
    "/admin/default/site",
    "/welcome/appadmin",
    "/welcome/appadmin/index",
    "/probe_2/default/_TEST",
    "/%61dmin/default/index",
    "/%2561dmin/default/index",
    "/welcome/%2561ppadmin/index",
    "/admin%5cdefault%5cindex",
    "/admin%255cdefault%255cindex",
    "//admin/default/index",
    "/welcome/../admin/default/index",
)
FORGED = (
    {},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "8001"},
    {"Forwarded": "for=127.0.0.1;proto=https", "X-Real-IP": "127.0.0.1"},
    {"X_Forwarded_For": "127.0.0.1", "X_Forwarded_Proto": "https", "WEB2PY_ADMINISTRATION": "loopback"},
    {"SCRIPT_NAME": "/welcome", "WEB2PY-ADMINISTRATION": "https"},
)


def main_process(site: Site, name: str = "public") -> int:
    return int(site.run(f"systemctl show --value --property MainPID web2py@{name}"))


def workers(site: Site, name: str = "public") -> list[int]:
    return sorted(map(int, site.host.run(f"pgrep --parent {main_process(site, name)}").stdout.split()))


def answers(site: Site, port: int = PUBLIC) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return site.fresh().ask("/welcome/default/index", port=port).status == 200
    return False


# What is served


def test_the_public_instance_serves_the_site_and_sessions(public):
    assert public.ask("/welcome/default/index").status == 200
    assert [public.ask(f"{PROBE}/visits").body for _ in range(3)] == [b"1", b"2", b"3"]
    assert public.ask("/welcome/static/css/web2py.css").status == 200
    seen = public.ask(f"{PROBE}/request_info", headers=FORGED[1], host=f"{NAME}:8001").json()
    assert (seen["is_https"], seen["is_local"], seen["port"]) == (False, False, str(PUBLIC))
    assert seen["client"] not in ("127.0.0.1", "0.0.0.0")


def test_tls_is_served_in_present_versions_and_seen_by_web2py(site):
    seen = site.ask(f"{PROBE}/request_info", "https", port=TLS).json()
    assert (seen["is_https"], seen["port"]) == (True, str(TLS))
    assert site.ask("/healthz", port=TLS, scheme="https").body == b"ok\n"
    with contextlib.closing(site.connect("https", TLS)) as connection:
        assert connection.sock.version() in ("TLSv1.2", "TLSv1.3")
    assert site.run("stat -c %a:%U /run/web2py-instance-tls/key.pem").strip() == "400:web2py"


@pytest.mark.parametrize(("scheme", "port"), [("http", PUBLIC), ("https", TLS)])
def test_absolute_urls_have_the_name_and_the_port_of_the_instance(site, scheme, port):
    for host in (
        NAME,
        f"{NAME.upper()}.:9999",
        "unknown.example",
        "localhost:8001",
        f"user@{NAME}:1",
        "[::1]:8001",
        "[2001:db8::1]",
        "",
        None,
    ):
        answer = site.ask(f"{PROBE}/request_info", scheme, port=port, host=host)
        assert answer.status == 200 or not host
        if answer.status == 200:
            assert answer.json()["url"] == f"{scheme}://{NAME}:{port}{PROBE}/index", host


def test_methods_that_are_for_proxies_are_refused(site):
    for method in ("CONNECT", "TRACE", "ANYTHING"):
        for path in ("/healthz", f"{PROBE}/visits", f"{NAME}:{PUBLIC}"):
            answer = site.ask(path, port=PUBLIC, method=method)
            assert answer.status in (400, 405), (method, path)


def test_an_application_that_is_not_exposed_is_not_served(site):
    assert site.ask("/examples/default/index", port=PUBLIC).status == 404
    assert site.ask("/examples/static/css/examples.css", port=PUBLIC).status == 404


def test_the_unix_socket_is_open_to_the_web_server_alone_and_trusts_it(site, host):
    host.run("id stranger || useradd --no-create-home stranger")
    ask = "curl --silent --max-time 10 --unix-socket /run/web2py/behind.sock http://x:8001/probe_2/default/request_info"
    for user, allowed in (("www-data", True), ("stranger", False)):
        done = host.run(f"setpriv --reuid={user} --regid={user} --clear-groups {ask} -H 'X-Forwarded-For: 192.0.2.7'")
        assert (b"192.0.2.7" in done.stdout_bytes) is allowed, user
    seen = host.check_output(f"{ask} -H 'X-Forwarded-Proto: https'")
    assert '"port": "443"' in seen and '"is_https": true' in seen, "the port in the Host header counts for nothing"
    assert '"port": "4430"' in host.check_output(f"{ask} -H 'X-Forwarded-Port: 4430'")


# Administration


@pytest.mark.parametrize("headers", FORGED)
@pytest.mark.parametrize(("scheme", "port"), [("http", PUBLIC), ("https", TLS)])
def test_no_public_instance_has_administration(site, scheme, port, headers):
    for path in ADMINISTRATION:
        for host in (NAME, "127.0.0.1:8001", "localhost"):
            answer = site.ask(path, scheme, port=port, headers=headers, host=host)
            assert answer.status in (400, 404), (path, host, answer.status)
        answer = site.post(path, {"password": PASSWORD}, scheme, port=port, headers=headers)
        assert answer.status in (400, 404), path


def test_not_even_from_the_host_itself(site, host):
    for path in ADMINISTRATION:
        for address in ("127.0.0.1", address_of(site.machine)):
            status = host.check_output(
                f"curl --silent --path-as-is --output /dev/null -w %{{http_code}} --data password='{PASSWORD}' "
                f"'http://{address}:{PUBLIC}{path}'"
            )
            assert status in ("400", "404"), path


def test_the_admin_instance_is_not_reached_from_outside(site):
    with pytest.raises(ConnectionRefusedError):
        site.ask("/admin", port=ADMIN)


@pytest.fixture
def tunnel(site, on_port, tmp_path):
    """A browser at the near end of `ssh -L`, as an administrator opens it."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    site.run(
        f"install -d -m 700 -o tunnel /home/tunnel/.ssh; echo '{public}' > /home/tunnel/.ssh/authorized_keys; "
        "systemctl start ssh"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known", "-o", "BatchMode=yes"]
    command = ["ssh", "-N", "-i", str(key), *options, "-o", "ExitOnForwardFailure=yes"]
    process = subprocess.Popen([*command, "-L", f"{port}:127.0.0.1:{ADMIN}", f"tunnel@{site.address}"])
    near = Site(site.machine, "127.0.0.1", site.context, site.host, None)
    try:
        wait_for(lambda: answers(on_port(near, port), port))
        yield on_port(near, port)
    finally:
        process.terminate()
        process.wait(10)


class TestTunnel:
    host = f"127.0.0.1:{ADMIN}"

    def log_in(self, browser: Site, password: str = PASSWORD):
        browser.ask("/admin/default/index", host=self.host)
        return browser.post("/admin/default/index", {"password": password}, host=self.host)

    def test_a_wrong_password_is_refused(self, tunnel):
        assert self.log_in(tunnel, "wrong horse").status == 200
        assert tunnel.ask("/admin/default/site", host=self.host).status == 303

    def test_the_administrator_sees_the_site_tickets_and_appadmin(self, site, tunnel):
        ticket = re.search(
            r"/admin/default/ticket/probe_2/([^\"]+)", site.ask(f"{PROBE}/fail", port=PUBLIC).body.decode()
        ).group(1)
        assert self.log_in(tunnel).status == 303
        assert b"probe_2" in tunnel.ask("/admin/default/site", host=self.host).body
        shown = tunnel.ask(f"/admin/default/ticket/probe_2/{ticket}", host=self.host)
        assert shown.status == 200 and b"on purpose" in shown.body
        assert tunnel.ask("/welcome/appadmin/index", host=self.host).status == 200

    def test_a_lock_out_is_the_instance_s_own_and_ends_as_documented(self, site, tunnel):
        for _ in range(5):
            assert self.log_in(tunnel, "wrong horse").status == 200
        for answer in (self.log_in(tunnel), tunnel.ask("/admin/default/index", host=self.host)):
            assert answer.status == 429 and 3500 < int(answer["Retry-After"]) <= 3600
        assert site.ask("/welcome/default/index", port=PUBLIC).status == 200
        site.run("runuser -u web2py -- rm /var/lib/web2py/instances/admin/data/admin/private/login_attempts.json")
        assert self.log_in(tunnel).status == 303

    def test_absolute_urls_keep_the_port_of_the_tunnel(self, tunnel):
        for host in ("localhost:9001", "127.0.0.1:9002", "[::1]:9003"):
            seen = tunnel.ask(f"{PROBE}/request_info", host=host).json()
            assert seen["url"] == f"http://{host}{PROBE}/index"

    def test_its_cookie_opens_nothing_in_public(self, site, tunnel):
        assert self.log_in(tunnel).status == 303
        cookies = "; ".join(f"{name}={value}" for name, value in tunnel.cookies["http"].items())
        for path in ("/admin/default/site", "/welcome/appadmin/index", "/probe_2/appadmin/index"):
            for scheme, port in (("http", PUBLIC), ("https", TLS)):
                for host in (NAME, self.host):
                    answer = site.ask(path, scheme, port=port, headers={"Cookie": cookies}, host=host)
                    assert answer.status == 404, path

    def test_what_forwards_is_refused(self, tunnel):
        for headers in FORGED[1:3]:
            assert tunnel.ask("/admin/default/index", host=self.host, headers=headers).status == 403


def test_the_password_is_nobody_elses_to_read(host):
    path = f"/var/lib/web2py/instances/admin/parameters_{ADMIN}.py"
    assert host.check_output(f"stat -c %a:%U:%G {path}") == "640:root:web2py"
    assert not host.file(f"/var/lib/web2py/parameters_{ADMIN}.py").exists
    assert "right horse" not in host.check_output("journalctl --no-pager; cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


# Bodies


def chunked(site: Site, path: str, pieces: int, size: int) -> bytes:
    with contextlib.closing(site.connect("http", PUBLIC)) as connection:
        connection.request("POST", path, iter([b"x" * size] * pieces), encode_chunked=True, headers={"Host": NAME})
        return connection.getresponse().read()


def peak(site: Site) -> int:
    """Most memory that a worker has had, in megabytes."""
    text = site.run(f"grep -h VmHWM {' '.join(f'/proc/{pid}/status' for pid in workers(site))}")
    return max(int(line.split()[1]) for line in text.splitlines()) >> 10


def test_chunked_uploads_arrive_whole(site):
    assert chunked(site, f"{TASKS}/length", 3, 7) == b"21"
    assert chunked(site, f"{TASKS}/length", 100, 1 << 20) == str(100 << 20).encode()


def test_200_MB_each_way_at_constant_memory(site, capsys):
    answers(site)
    before = peak(site)
    # Not as a form: web2py itself holds a file of a multipart form in memory.
    body = os.urandom(1 << 20) * 200
    headers = {"Content-Type": "application/octet-stream"}
    # Files in memory count, too: what is stored in one is no longer there when the process has ended.
    with Memory(site.machine, ["web2py@public.service"]) as memory:
        uploaded = site.ask(f"{TASKS}/digest", method="POST", body=body, headers=headers, port=PUBLIC)
        assert uploaded.body.decode() == hashlib.sha256(body).hexdigest()
        with contextlib.closing(site.connect("http", PUBLIC)) as connection:
            connection.request("GET", f"{TASKS}/stream", headers={"Host": NAME})
            response = connection.getresponse()
            size = 0
            while piece := response.read(1 << 20):
                size += len(piece)
                if size % (50 << 20) < len(piece):
                    # The worker stores what this client does not read.
                    memory.read_more(5)
        assert size == 200 << 20
    with capsys.disabled():
        print(f"\npeak memory of a worker: {before} MB before, {peak(site)} MB after 200 MB each way")
    assert peak(site) < before + 40
    assert memory.growth < 40, memory.readings


def test_a_body_over_the_limit_is_refused(site):
    assert site.ask("/welcome", method="POST", headers={"Content-Length": "268435457"}, port=PUBLIC).status == 413


def raw(site: Site, data: bytes, later: bytes = b"") -> bytes:
    """Send bytes, and some more after the first answer; return all that is answered until the end."""
    received = b""
    with socket.create_connection((site.address, PUBLIC), timeout=10) as connection:
        connection.sendall(data)
        received += connection.recv(65536)
        with contextlib.suppress(OSError):
            connection.sendall(later)
        connection.settimeout(4)
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                received += piece
    return received


def test_no_body_is_ever_read_as_a_request(site):
    smuggled = f"GET {PROBE}/request_info HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
    # The health answer reads no body.
    head = f"POST /healthz HTTP/1.1\r\nHost: {NAME}\r\n".encode()
    length = b"Content-Length: %d\r\n\r\n" % len(smuggled)
    for data, later in (
        (head + length + smuggled, b""),
        (head + length, smuggled),
        (head + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n", smuggled),
        (head + b"Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n", smuggled),
        (head + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", smuggled),
        (head + b"Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", smuggled),
        (head + b"Content-Length: +0\r\n\r\n", smuggled),
        (head + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n", smuggled),
    ):
        answer = raw(site, data, later)
        assert answer.count(b"HTTP/1.1 ") == 1 and b"is_local" not in answer, (data, answer)


# Slow and idle clients


def test_idle_and_slow_clients_hold_up_nobody(site, capsys):
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection((site.address, PUBLIC))) for _ in range(600)]
        for connection in connections[:100]:
            connection.sendall(b"GET /welcome HTTP/1.1\r\nHo")
        kept = [stack.enter_context(contextlib.closing(site.connect("http", PUBLIC))) for _ in range(500)]
        for connection in kept:
            connection.request("GET", "/healthz", headers={"Host": NAME})
            assert connection.getresponse().read() == b"ok\n"
        started = time.monotonic()
        assert answers(site)
        seconds = time.monotonic() - started
    with capsys.disabled():
        print(f"\na request beside 500 kept, 500 silent and 100 half-sent connections: {seconds:.2f} s")
    assert seconds < 3


# Stop, restart, reload, crash


@pytest.mark.parametrize("verb", ["reload", "restart"])
def test_requests_in_flight_survive(site, public, verb, capsys):
    before = workers(site)
    took = []

    def change():
        started = time.monotonic()
        site.run(f"systemctl {verb} web2py@public")
        took.append(time.monotonic() - started)
        wait_for(lambda: workers(site) and not set(before) & set(workers(site)), 30)

    results = load(public, f"{TASKS}/slow/1", 30, change, seconds=4, after=30)
    with capsys.disabled():
        print(f"\n{verb}: {took[0]:.1f} s, {dict(results)}")
    assert set(results) == {200} and results[200] >= 60


def test_kept_connections_survive_a_reload(site):
    """As a proxy uses them: each is used again within 5 seconds, unless it was told to close."""
    answered, lost, over = [], [], threading.Event()

    def proxy():
        connection = site.connect("http", PUBLIC)
        while not over.is_set():
            try:
                connection.request("GET", "/healthz", headers={"Host": NAME})
                response = connection.getresponse()
                answered.append(response.read())
                if response.will_close:
                    connection.close()
                    connection = site.connect("http", PUBLIC)
            except (OSError, http.client.HTTPException) as error:
                lost.append(repr(error))
                connection.close()
                connection = site.connect("http", PUBLIC)
            time.sleep(0.2)
        connection.close()

    threads = [threading.Thread(target=proxy) for _ in range(20)]
    for thread in threads:
        thread.start()
    before = workers(site)
    site.run("systemctl reload web2py@public")
    wait_for(lambda: len(workers(site)) == 2 and not set(before) & set(workers(site)), 30)
    over.set()
    for thread in threads:
        thread.join()
    assert lost == [] and len(answered) > 100


def test_a_stop_finishes_what_runs_and_a_start_serves_what_waited(site):
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(site.fresh().ask(f"{TASKS}/slow/3", port=PUBLIC).status))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: requests_read(site, PUBLIC) == 8)
    site.run("systemctl stop web2py@public.socket web2py@public.service")
    for thread in threads:
        thread.join()
    assert results == [200] * 8
    assert site.run("systemctl show --value -p Result web2py@public").strip() == "success"
    with pytest.raises(ConnectionRefusedError):
        site.ask("/healthz", port=PUBLIC)
    site.run("systemctl start web2py@public.socket web2py@public.service")
    assert answers(site)


def test_a_reload_of_code_that_does_not_load_changes_nothing(site, host):
    host.check_output("cp /etc/web2py/daemon/public.json /root/public.json; echo '{' > /etc/web2py/daemon/public.json")
    try:
        assert host.run("systemctl reload web2py@public").rc != 0
        assert answers(site)
    finally:
        host.check_output("cp /root/public.json /etc/web2py/daemon/public.json; systemctl reload web2py@public")


def test_a_certificate_that_does_not_fit_its_key_changes_nothing(site, host):
    key = "/etc/ssl/private/probe.pem"
    another = f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:prime256v1 -out {key}"
    host.check_output(f"cp -p {key} /root/probe.pem && {another}")
    try:
        assert host.run("systemctl reload web2py@tls").rc != 0
        before = workers(site, "tls")
        # Those that take their place read the files anew.
        site.run(f"kill -KILL {' '.join(map(str, before))}")
        wait_for(lambda: len(workers(site, "tls")) == 2 and not set(before) & set(workers(site, "tls")))
        assert site.ask("/healthz", "https", port=TLS).body == b"ok\n"
    finally:
        host.check_output(f"cp -p /root/probe.pem {key} && systemctl reload web2py@tls")


@pytest.mark.parametrize("victim", ["main", "worker"])
def test_back_after_a_kill(site, victim, capsys):
    wait_for(lambda: len(workers(site)) == 2)
    for _ in range(2):
        pid = main_process(site) if victim == "main" else workers(site)[0]
        site.run(f"kill -KILL {pid}")
        seconds = wait_for(lambda: answers(site), 10)
        with capsys.disabled():
            print(f"\nafter kill -9 of the {victim} process: {seconds:.1f} s")
        assert seconds < 5
        wait_for(lambda: len(workers(site)) == 2)


# Confinement and limits


@pytest.mark.parametrize("unit", ["web2py@public", "web2py@admin", "web2py@tls", "web2py-scheduler@tasks-1"])
def test_exposure_level(host, unit, capsys):
    line = host.check_output(f"systemd-analyze security --no-pager {unit} | tail -n 1")
    level = float(re.search(r"([0-9.]+) [A-Z]", line).group(1))
    with capsys.disabled():
        print(f"\n{unit}: {level}")
    assert level <= 2.5


def test_the_memory_limit_of_a_process_fails_the_request_not_the_site(site):
    before = workers(site)
    assert site.ask(f"{TASKS}/memory/50", port=PUBLIC).body == str(50 << 20).encode()
    assert site.ask(f"{TASKS}/memory/500", port=PUBLIC).status == 500
    assert answers(site) and workers(site) == before
    assert site.ask(f"{TASKS}/memory/500", "https", port=TLS).status == 200, "where there is no such limit"


def test_the_service_can_change_no_code(site, host):
    pid = workers(site)[0]
    written = host.run(
        f"nsenter --target {pid} --mount setpriv --reuid=web2py --regid=web2py --clear-groups "
        "find /opt/web2py /var/lib/web2py/applications/ /etc/web2py /usr/lib/python3 -writable -not -type l"
    ).stdout
    assert written == ""


def test_only_its_own_processes_see_the_administrator_s_root(site, host):
    def readable(process: int) -> list[str]:
        return host.run(
            f"nsenter --target {process} --mount setpriv --reuid=web2py --regid=web2py --clear-groups "
            "find /var/lib/web2py/instances -type f -readable"
        ).stdout.split()

    password = f"/var/lib/web2py/instances/admin/parameters_{ADMIN}.py"
    assert password in readable(workers(site, "admin")[0])
    scheduler = int(site.run("systemctl show --value --property MainPID web2py-scheduler@tasks-1"))
    for process in (workers(site)[0], workers(site, "tls")[0], workers(site, "behind")[0], scheduler):
        assert readable(process) == []


def test_the_service_can_put_nothing_in_the_place_of_its_sockets(host):
    """systemd gives a fresh socket to the service by its name, and would follow a link."""
    as_service = "setpriv --reuid=web2py --regid=web2py --clear-groups"
    for folder in ("/run/web2py", "/run/web2py-instance-tls/..", "/etc/systemd/system"):
        assert host.run(f"{as_service} touch {folder}/x").rc != 0, folder


def test_requests_are_in_the_journal(site, host):
    site.ask("/welcome/default/index?secret=1", port=PUBLIC)
    wait_for(lambda: '"GET /welcome/default/index"' in host.run("journalctl -u web2py@public -n 50 --no-pager").stdout)
    assert "secret=1" not in host.check_output("journalctl -u web2py@public --no-pager")


# Scheduler


def finished(site: Site, task: str) -> bool:
    return site.ask(f"{TASKS}/outcome/{task}", port=PUBLIC).json()["run"] == "COMPLETED"


def test_the_scheduler_runs_a_task_and_finishes_it_before_it_stops(site, host):
    task = site.ask(f"{TASKS}/queue/1", port=PUBLIC).body.decode()
    wait_for(lambda: finished(site, task), 60)
    task = site.ask(f"{TASKS}/queue/8", port=PUBLIC).body.decode()
    wait_for(lambda: site.ask(f"{TASKS}/outcome/{task}", port=PUBLIC).json()["run"] == "RUNNING", 60)
    host.check_output("systemctl stop web2py-scheduler@tasks-1")
    try:
        assert finished(site, task)
        assert host.check_output("systemctl show --value -p Result web2py-scheduler@tasks-1") == "success"
    finally:
        host.check_output("systemctl start web2py-scheduler@tasks-1")


def test_everything_is_back_after_a_restart_of_the_machine(site):
    subprocess.run(["docker", "restart", "--time", "60", site.machine], check=True, capture_output=True)
    site.address = address_of(site.machine)
    wait_for(lambda: answers(site), 60)
    wait_for(lambda: site.host.run("systemctl is-active web2py-scheduler@tasks-1 web2py@admin").rc == 0, 60)
    assert site.host.run("test -S /run/web2py/behind.sock").rc == 0
    assert site.ask("/welcome", "https", port=TLS).status == 200
