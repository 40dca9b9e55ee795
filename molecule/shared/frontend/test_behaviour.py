# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What visitors, administrators and attackers find on the deployed site, whichever front end serves it."""

from __future__ import annotations

import base64
import contextlib
import html
import re
import ssl
import subprocess
import uuid

import pytest
import yaml
from browser import (
    ADMINISTRATION,
    FORGED,
    HOSTILE,
    NAME,
    PROBE,
    PROJECT,
    SECRETS,
    address_of,
    as_text,
    load,
    play,
    wait_for,
)

AS = "setpriv --clear-groups"
PASSWORD, PASSWORD_OF_ANOTHER_PORT = "right horse 443", "other horse 8001"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_welcome_is_served(site, scheme):
    answer = site.ask("/welcome", scheme)
    assert answer.is_web2py_page()
    assert answer["Content-Type"] == "text/html; charset=utf-8"
    assert site.ask("/", scheme).is_web2py_page(), "the first exposed application answers /"


def test_values_given_as_text_mean_the_same():
    """Those of every front end: a host reads the variables of its own."""
    variables = {}
    for role in ("apache_proxy", "apache_site", "apache_wsgi", "lighttpd_fcgi"):
        variables |= yaml.safe_load((PROJECT / "roles" / role / "defaults/main.yml").read_text())
    run = play(variables=as_text(variables))
    assert run.status == 0, run.output
    assert run.changed_tasks() == []


def test_a_form_is_accepted_in_its_session_only(site):
    page = site.ask(f"{PROBE}/form", "https")
    hidden = dict(re.findall(r'name="(_form\w+)"[^>]*value="([^"]*)"', page.body.decode()))
    assert set(hidden) == {"_formkey", "_formname"}
    word = "über-Größe <b>"
    accepted = site.post(f"{PROBE}/form", {**hidden, "word": word}, "https")
    assert accepted.status == 200
    again = site.ask(f"{PROBE}/form", "https")
    assert html.escape(word) in again.body.decode()
    stranger = site.fresh()
    stranger.ask(f"{PROBE}/form", "https")
    stranger.post(f"{PROBE}/form", {**hidden, "word": "forged"}, "https")
    assert b"forged" not in stranger.ask(f"{PROBE}/form", "https").body


def test_a_session_counts(site):
    assert [site.ask(f"{PROBE}/visits").body for _ in range(3)] == [b"1", b"2", b"3"]


def test_web2py_sees_the_scheme_and_the_client(site):
    for scheme, port in (("http", "80"), ("https", "443")):
        seen = site.ask(f"{PROBE}/request_info", scheme).json()
        assert seen["is_https"] is (scheme == "https")
        assert seen["port"] == port
        assert seen["is_local"] is False
        assert seen["url"] == f"{scheme}://{NAME}{PROBE}/index"


def test_a_client_cannot_choose_scheme_address_or_port(site):
    true = site.ask(f"{PROBE}/request_info").json()["client"]
    for headers in (
        FORGED,
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-For": "127.0.0.1, 127.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "localhost"},
        {"Forwarded": "for=127.0.0.1;proto=https"},
        {"X_Forwarded_For": "127.0.0.1", "X-Real-IP": "127.0.0.1"},
        {"X-Forwarded-Port": "8001", "X-Forwarded-Host": f"{NAME}:8001", "X-Forwarded-Server": "localhost"},
        {"X-Forwarded-Ssl": "on", "X-Forwarded-Protocol": "ssl", "X-Url-Scheme": "https", "Front-End-Https": "on"},
        {"WEB2PY-ADMINISTRATION": "https", "Https": "on"},
    ):
        seen = site.ask(f"{PROBE}/request_info", headers=headers).json()
        assert (seen["is_https"], seen["is_local"], seen["client"]) == (False, False, true), headers
        assert (seen["port"], seen["url"]) == ("80", f"http://{NAME}{PROBE}/index"), headers
        assert site.ask("/admin", headers=headers).status == 403, headers
    for scheme, port in (("http", "80"), ("https", "443")):
        for host in (f"{NAME}:8001", f"{NAME}:443", f"{NAME}:80", f"{NAME}:"):
            answer = site.ask(f"{PROBE}/request_info", scheme, host=host)
            # An empty port is refused by some.
            assert answer.status == 200 or host.endswith(":")
            if answer.status == 200:
                assert answer.json()["port"] == port
                assert answer.json()["url"] == f"{scheme}://{NAME}{PROBE}/index", host
    # A proxy removes what is listed here, and may remove what it has just set.
    for names in (
        "X-Forwarded-Proto",
        "x-forwarded-proto, X-FORWARDED-PORT,X-Forwarded-For",
        "close, X-Forwarded-Proto",
    ):
        seen = site.ask(f"{PROBE}/request_info", "https", headers={"Connection": names}).json()
        assert (seen["is_https"], seen["is_local"], seen["client"], seen["port"]) == (True, False, true, "443"), names


@pytest.mark.parametrize("name", ["unknown.example", "", "127.0.0.1", None, f"x.{NAME}", f"{NAME}.evil"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_unknown_host_gets_no_application(site, scheme, name):
    for path in ("/", "/welcome", "/admin", "/welcome/static/css/bootstrap.min.css", "/healthz"):
        answer = site.ask(path, scheme, host=name)
        assert answer.status in (400, 404, 421), (name, path)
        assert b"web2py" not in answer.body.lower()


def test_a_second_name_is_answered(site):
    assert site.ask("/welcome", host=f"www.{NAME}").is_web2py_page()


@pytest.mark.parametrize(
    "name",
    [
        f"{NAME}:80",
        f"{NAME}:8001",
        NAME.upper(),
        f"{NAME.upper()}:8443",
        f"www.{NAME}:8443",
        f"{NAME}.",
        f"{NAME}.:443",
        f"user@{NAME}",
        f"user:word@{NAME}:8443",
        f"{NAME}:8443:1",
        f"{NAME}, unknown.example",
        "[::1]:8443",
        "[2001:db8::1]",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_another_spelling_of_the_name_is_the_same_site_or_refused(site, scheme, name):
    answer = site.ask(f"{PROBE}/request_info", scheme, host=name)
    ours = re.fullmatch(rf"(www\.)?{re.escape(NAME)}(:[0-9]+)?", name.lower())
    assert answer.status == 200 if ours else answer.status in (200, 400, 404, 421)
    if answer.status == 200:
        seen = answer.json()
        assert seen["url"] == f"{scheme}://{'www.' if name.startswith('www.') else ''}{NAME}{PROBE}/index"
        assert (seen["port"], seen["is_https"]) == (("443", True) if scheme == "https" else ("80", False))
        assert seen["is_local"] is False
    assert site.ask("/admin", host=name).status in (400, 403, 404, 421)


@pytest.mark.parametrize("path", ADMINISTRATION)
def test_administration_is_refused_over_http(site, path):
    answer = site.ask(path)
    assert answer.status in (400, 403, 404), (path, answer.status)
    assert b"password" not in answer.body.lower()
    forged = site.ask(path, headers={"X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"}, host=f"{NAME}:443")
    assert forged.status in (400, 403, 404), (path, forged.status)


def test_the_administrator_logs_in_over_https_only_with_the_right_password(site):
    login = site.ask("/admin/default/index", "https")
    assert login.status == 200 and b'type="password"' in login.body
    for wrong in (PASSWORD_OF_ANOTHER_PORT, "pbkdf2(1000,20,sha512)$0000000000000000$00"):
        refused = site.post("/admin/default/index", {"password": wrong}, "https", host=f"{NAME}:8001")
        assert refused.status == 200 and b"invalid password" in refused.body
        assert site.ask("/admin/default/site", "https").status == 303
    before = dict(site.cookies["https"])
    accepted = site.post("/admin/default/index", {"password": PASSWORD}, "https")
    assert accepted.status == 303 and accepted["Location"].endswith("/admin/default/site")
    assert site.cookies["https"]["session_id_admin"] != before["session_id_admin"]
    fixed = site.fresh()
    fixed.cookies["https"] = dict(before)
    assert fixed.ask("/admin/default/site", "https").status == 303, "the id of before the login is worth nothing"
    assert before["session_id_admin"] not in site.run("find /var/lib/web2py/data/admin/sessions/ -type f")
    overview = site.ask("/admin/default/site", "https")
    assert overview.status == 200 and b"probe_2" in overview.body
    design = site.ask("/admin/default/design/probe_2", "https")
    assert design.status == 200 and b"default.py" in design.body, "read-only code can be looked at"
    for cookie in accepted.headers.get_all("Set-Cookie"):
        assert "secure" in cookie.lower() and "httponly" in cookie.lower()
    assert site.ask("/welcome/appadmin/index", "https").status == 200, "appadmin follows admin's login"
    assert site.ask("/welcome/appadmin/index").status == 403
    site.ask("/admin/default/logout", "https")
    for path in ("/admin/default/site", "/welcome/appadmin/index"):
        assert site.ask(path, "https").status == 303, "the same cookie after the logout"


def test_the_administrator_has_no_second_entrance(site):
    call = b'{"method": "login", "params": [], "id": 1, "version": "1.1"}'
    for password in ("wrong horse", PASSWORD):
        header = {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()}
        for service in ("jsonrpc", "xmlrpc", "run/login", "json/list_apps"):
            answer = site.ask(f"/admin/webservices/call/{service}", "https", "POST", call, header)
            assert answer.status == 404 and b"result" not in answer.body


def test_a_ticket_is_written_and_shown_to_the_administrator(site):
    failed = site.ask(f"{PROBE}/fail")
    assert failed.status == 500 and b"on purpose" not in failed.body and b"Traceback" not in failed.body
    ticket = re.search(r"/admin/default/ticket/probe_2/([^\"]+)", failed.body.decode()).group(1)
    assert site.ask(f"/admin/default/ticket/probe_2/{ticket}").status == 403
    site.post("/admin/default/index", {"password": PASSWORD}, "https")
    shown = site.ask(f"/admin/default/ticket/probe_2/{ticket}", "https")
    assert shown.status == 200 and b"on purpose" in shown.body


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_hostile_addresses_get_nothing(site, scheme):
    """The issue asks for at least 40."""
    site.ask(f"{PROBE}/visits", scheme)
    site.ask(f"{PROBE}/fail", scheme)
    paths = [
        *HOSTILE,
        "/" + "a" * 9000,
        "/welcome/" + "../" * 500 + "etc/passwd",
        "/probe_2/default/index?" + "x" * 9000,
    ]
    assert len(paths) >= 40
    wrong = []
    for path in paths:
        answer = site.ask(path, scheme)
        if answer.status not in (400, 403, 404, 414, 431) or any(secret in answer.body for secret in SECRETS):
            wrong.append((path[:80], answer.status, answer.body[:60]))
    assert not wrong


def test_files_are_static_only_in_exposed_applications(site):
    assert site.ask("/probe_2/static/css/probe.css").status == 200
    assert site.ask("/examples/static/css/examples.css").status == 404
    assert site.ask("/examples").status == 404


class TestStaticFiles:
    path = "/welcome/static/css/bootstrap.min.css"

    def test_they_are_served_while_every_process_of_web2py_is_stopped(self, site):
        processes = site.web2py_processes()
        assert processes
        site.run(f"kill -STOP {' '.join(map(str, processes))}")
        try:
            for scheme in ("http", "https"):
                for path in (self.path, self.path.replace("static/", "static/_2.10.3/")):
                    answer = site.ask(path, scheme)
                    assert answer.status == 200 and b"Bootstrap" in answer.body[:200]
        finally:
            site.run(f"kill -CONT {' '.join(map(str, processes))}")

    def test_plain_and_versioned_lifetimes(self, site):
        assert site.ask(self.path)["Cache-Control"] == "public, max-age=3600"
        versioned = site.ask(self.path.replace("static/", "static/_2.10.3/"))
        assert versioned["Cache-Control"] == "public, max-age=31536000, immutable"
        assert "Set-Cookie" not in versioned.headers

    def test_conditional_requests(self, site):
        first = site.ask(self.path)
        by_tag = site.ask(self.path, headers={"If-None-Match": first["ETag"]})
        by_time = site.ask(self.path, headers={"If-Modified-Since": first["Last-Modified"]})
        assert (by_tag.status, by_time.status) == (304, 304)
        assert by_tag.body == by_time.body == b""
        assert site.ask(self.path, headers={"If-None-Match": '"another"'}).status == 200

    def test_ranges_and_head(self, site):
        part = site.ask(self.path, headers={"Range": "bytes=0-9"})
        assert part.status == 206 and len(part.body) == 10
        head = site.ask(self.path, method="HEAD")
        assert head.status == 200 and head.body == b"" and int(head["Content-Length"]) > 1000


def test_an_application_name_may_have_digits_and_underscores(site):
    assert site.ask("/probe_2/default/index").status == 200


def test_security_headers(site):
    for path in ("/welcome", "/welcome/static/css/bootstrap.min.css", "/no_such_application"):
        answer = site.ask(path, "https")
        assert answer["X-Content-Type-Options"] == "nosniff", path
        assert answer["X-Frame-Options"] == "SAMEORIGIN", path
        assert answer["Referrer-Policy"] == "strict-origin-when-cross-origin", path


def test_methods_that_are_for_proxies_and_unknown_ones_are_refused(site):
    """As a proxy's client sends CONNECT, and with a path, which reaches an application where nobody refuses it."""
    key = uuid.uuid4().hex
    for scheme, port in (("http", 80), ("https", 443)):
        for method in ("CONNECT", "TRACE", "TRACK", "connect", "ANYTHING", "PRI"):
            for target in (
                f"{NAME}:{port}",
                "127.0.0.1:22",
                f"{PROBE}/count/{key}",
                f"{scheme}://{NAME}{PROBE}/count/{key}",
                "/",
            ):
                request = f"{method} {target} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
                answer = site.send(request.encode(), scheme, seconds=2)
                status = answer[9:12]
                assert answer.startswith(b"HTTP/1.") and status in (b"400", b"404", b"405", b"501"), (
                    request,
                    answer[:60],
                )
                # The front end's own answer: an application's would be 404.
                assert target != "/" or method not in ("CONNECT", "TRACE") or status in (b"400", b"405"), (
                    request,
                    answer[:60],
                )
        assert site.ask(f"{PROBE}/counted/{key}", scheme).body == b"0"


class TestTransportLayerSecurity:
    @staticmethod
    def handshake(site, question):
        with contextlib.closing(site.connect("https")) as connection:
            return question(connection.sock)

    def test_the_certificate_names_the_site(self, site):
        names = self.handshake(site, lambda tls: tls.getpeercert())["subjectAltName"]
        assert ("DNS", NAME) in names and ("DNS", f"www.{NAME}") in names

    # Python warns of these versions, which only an old client would still use.
    @pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
    def test_old_protocols_are_refused(self, site):
        site.context.set_ciphers("ALL:@SECLEVEL=0")
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            site.context.minimum_version = site.context.maximum_version = version
            with pytest.raises(ssl.SSLError):
                self.handshake(site, lambda tls: tls.version())

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_present_protocols_have_forward_secrecy(self, site, version):
        site.context.minimum_version = site.context.maximum_version = version
        cipher = self.handshake(site, lambda tls: tls.cipher()[0])
        assert cipher.startswith(("TLS_", "ECDHE-", "DHE-")) and "CBC" not in cipher

    def test_weak_ciphers_are_refused(self, site):
        site.context.maximum_version = ssl.TLSVersion.TLSv1_2
        for cipher in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"):
            site.context.set_ciphers(f"{cipher}:@SECLEVEL=0")
            with pytest.raises(ssl.SSLError):
                self.handshake(site, lambda tls: tls.cipher())

    def test_http_2_is_offered(self, site):
        site.context.set_alpn_protocols(["h2", "http/1.1"])
        assert self.handshake(site, lambda tls: tls.selected_alpn_protocol()) == "h2"


def readable_by(host, user: str, places: str) -> list[str]:
    """Files that this user can open, by trying."""
    return host.run(
        f"setpriv --reuid={user} --regid={user} --clear-groups find {places} -type f -readable"
    ).stdout.split()


def test_other_users_can_read_no_session_ticket_key_or_password(site, host):
    site.ask(f"{PROBE}/visits")
    site.ask(f"{PROBE}/fail")
    host.run("id stranger || useradd --no-create-home stranger")
    data = "/var/lib/web2py /etc/web2py /var/log/web2py /etc/ssl/tls_certificate /opt/web2py/applications"
    assert host.run(f"find {data} -path '*/sessions/*' -type f").stdout, "there is a session to protect"
    assert host.run(f"find {data} -path '*/errors/*' -type f").stdout, "there is a ticket to protect"
    for user in ("stranger", "www-data"):
        found = readable_by(host, user, data)
        # What is public anyway: static files, and certificates without their keys.
        private = [p for p in found if "/static/" not in p and not re.search(r"/(cert|chain|fullchain)\.pem$", p)]
        assert private == [], user
    # find cannot list what the folder's mode hides, so name the files as root knows them, too.
    secret = host.check_output(
        "find /var/lib/web2py/data /opt/web2py/applications /etc/ssl/tls_certificate /etc/web2py -type f "
        "-not -path '*/static/*' -not -name cert.pem -not -name chain.pem -not -name fullchain.pem; "
        "ls /var/lib/web2py/parameters_*.py /var/lib/web2py/routes.py"
    ).split()
    assert len(secret) > 50
    tried = host.run(
        f"{AS} --reuid=stranger --regid=stranger sh -c "
        f"'for f in {' '.join(secret)}; do head -c 1 $f >/dev/null 2>&1 && echo $f; done'"
    ).stdout
    assert tried == ""


def test_the_service_user_can_change_no_code(site, host):
    written = host.run(
        f"{AS} --reuid=web2py --regid=web2py find /opt/web2py /var/lib/web2py/applications/ "
        f"/etc/web2py {site.front_end.configuration} -writable -not -type l"
    ).stdout
    assert written == ""


def test_web2py_runs_as_its_own_user_and_writes_private_files(site, host):
    site.ask(f"{PROBE}/visits")
    for process in site.web2py_processes():
        assert host.check_output("ps -o user= -p %s", str(process)).strip() == "web2py"
    modes = host.check_output("find /var/lib/web2py/data -path '*/sessions/*' -type f -printf '%m\\n'").split()
    assert modes and all(mode[-1] == "0" for mode in modes)


def test_web2py_s_own_command_line_works_in_its_root(host):
    done = host.run(
        "cd /var/lib/web2py && echo 'print(request.application, db is not None)' > /tmp/probe.py && "
        f"{AS} --reuid=web2py --regid=web2py python3 -B web2py.py --no_banner -S welcome -M -R /tmp/probe.py"
    )
    assert "welcome True" in done.stdout, done.stderr


class TestReloads:
    """200 requests in flight, most of them waiting for one of web2py's threads."""

    @staticmethod
    def reload_web_server(site):
        before = site.workers(web2py=False)
        site.run(f"systemctl reload {site.front_end.web_server}")
        wait_for(lambda: not before & site.workers(web2py=False), what="the web server has new workers")

    def test_a_reload_of_the_web_server_loses_no_request(self, site):
        results = load(site, f"{PROBE}/slow/0.5", 200, lambda: self.reload_web_server(site))
        assert results == {200: 200}

    def test_a_reload_of_web2py_loses_no_request(self, site):
        before = site.workers(web2py=True)
        assert before
        results = load(site, f"{PROBE}/slow/0.5", 200, lambda: site.run(site.front_end.reload_web2py))
        assert results == {200: 200}
        # The daemon's old processes serve what a proxy may still send them.
        wait_for(lambda: not before & site.workers(web2py=True), what="web2py was loaded anew")

    def test_reloads_under_constant_load_lose_no_request(self, site):
        def reload_three_times():
            for _ in range(3):
                self.reload_web_server(site)

        results = load(site, f"{PROBE}/slow/0.05", 30, reload_three_times, seconds=3, after=60)
        assert set(results) == {200} and results[200] > 200

    def test_a_reload_of_web2py_brings_another_release_of_the_runtime_package(self, site):
        """As the role switches it; its answer about the health tells which one runs."""
        link = "/opt/web2py/runtime"
        former = site.run(f"readlink {link}").strip()
        other = "/opt/web2py/runtimes/of-a-test"
        site.run(
            f"cp -r {link}/ {other} && touch {other}/wsgi.py && "
            f"sed -i 's/ok\\\\n/new\\\\n/' {other}/web2py_runtime/handler.py"
        )
        try:
            for target, answer in ((other, b"new\n"), (former, b"ok\n")):
                site.run(f"ln -s {target} {link}.new && mv -T {link}.new {link} && touch {link}/wsgi.py")
                site.run(site.front_end.reload_web2py)
                wait_for(lambda answer=answer: {site.ask("/healthz").body for _ in range(20)} == {answer}, 40)
        finally:
            site.run(
                f"ln -sfn {former} {link} && rm -r {other} && touch {link}/wsgi.py && {site.front_end.reload_web2py}"
            )


def test_the_site_comes_back_after_a_restart_of_the_machine(site):
    site.ask(f"{PROBE}/visits")
    subprocess.run(["docker", "restart", "--time", "30", site.machine], check=True, capture_output=True)
    site.address = address_of(site.machine)
    site.wait()
    assert site.ask(f"{PROBE}/visits").body == b"2", "the session is still there"
    assert site.ask("/welcome", "https").is_web2py_page()
