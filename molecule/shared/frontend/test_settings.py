# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Settings of the site that are off by default, the same behind every front end; one run of the playbook for all.

The web2py of each machine replaces its processes after few requests, and an administrator has an instance of the daemon
beside the front end (docs/administration.md).
"""

from __future__ import annotations

import json
import os
import pathlib
import shlex

import pytest
import testinfra
from browser import NAME, PROBE, load, machines, play, site_of, wait_for

QUOTED = '{"report_to": "default", "fraction": "50%", "path": "a\\b"}'
PASSWORD = "right horse admin"


@pytest.fixture(scope="module", autouse=True)
def deployed():
    front_end = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]).name
    # Visitors of the test come from one address, as if they were a balancer.
    sites = [site_of(name, testinfra.get_host(f"docker://{name}")) for name in machines()]
    seen = {site.ask(f"{PROBE}/request_info").json()["client"] for site in sites}
    admin = {"name": "admin", "port": 8001, "administration": True, "password": PASSWORD}
    public = {"name": "public", "socket": True, "administration_through_proxy": True, "limits": {"requests": 40}}
    run = play(
        variables={
            "web2py_daemon_instances": [admin, *([public] if front_end == "apache_proxy" else [])],
            "apache_wsgi_maximum_requests": 40,
            "lighttpd_fcgi_maximum_requests": 20,
            "web2py_redirect_to_https": True,
            # As if a router passed that port on.
            "web2py_public_https_port": 9443,
            "web2py_hsts_max_age": 300,
            "web2py_health_path": "/alive.txt",
            "web2py_headers": {"X-Frame-Options": "DENY", "NEL": QUOTED},
            "web2py_trusted_proxies": [*sorted(seen), "2001:db8::/32", "unix"],
        }
    )
    assert run.status == 0, run.output
    yield
    assert play().status == 0
    for site in sites:
        assert ":8001 " not in site.run("ss -Hltn")
        assert site.run("ls /var/lib/web2py/instances/* 2>/dev/null || true") == ""


def test_everything_over_http_is_redirected_but_the_health(site):
    for path in ("/welcome", "/welcome/static/css/bootstrap.min.css", "/nothing?x=1", "/healthz"):
        answer = site.ask(path)
        assert (answer.status, answer["Location"]) == (301, f"https://{NAME}:9443{path}")
    for scheme in ("http", "https"):
        assert (site.ask("/alive.txt", scheme).status, site.ask("/alive.txt", scheme).body) == (200, b"ok\n")
    assert site.ask("/healthz", "https").status != 200
    assert site.ask("/admin/default/index", "https").is_login_page()


def test_browsers_are_told_to_stay_with_https(site):
    for path in ("/welcome", "/welcome/static/css/bootstrap.min.css", "/alive.txt"):
        assert site.ask(path, "https")["Strict-Transport-Security"] == "max-age=300", path
        assert site.ask(path)["Strict-Transport-Security"] is None, path


def test_headers_arrive_as_they_were_declared(site):
    for path in ("/welcome", "/welcome/static/css/bootstrap.min.css"):
        answer = site.ask(path, "https")
        assert (answer["NEL"], answer["X-Frame-Options"]) == (QUOTED, "DENY"), path
        assert answer["Referrer-Policy"] is None, path


def test_a_balancer_is_believed_about_its_visitors(site):
    def seen(**headers: str) -> tuple:
        answer = site.ask(
            f"{PROBE}/request_info", "https", headers={name.replace("_", "-"): value for name, value in headers.items()}
        ).json()
        if answer["is_https"]:
            port = "9443" if answer["port"] == "443" else answer["port"]
            assert answer["url"] == f"https://{NAME}:{port}{PROBE}/index"
        return answer["client"], answer["is_https"], answer["port"], answer["is_local"]

    # What stands before the balancer's own entry was written by the visitor.
    forwarded = {"X_Forwarded_For": "127.0.0.1, 192.0.2.66, 192.0.2.7"}
    assert seen(**forwarded) == ("192.0.2.7", True, "443", False)
    assert seen(**forwarded, X_Forwarded_Proto="http") == ("192.0.2.7", False, "443", False)
    assert seen(**forwarded, X_Forwarded_Port="8443") == ("192.0.2.7", True, "8443", False)


def test_nobody_else_is_believed(site):
    """The machine itself is no balancer."""
    headers = ("X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: http", "X-Forwarded-Port: 8443")
    options = shlex.join(["--noproxy", "*", *(word for header in headers for word in ("--header", header))])
    seen = json.loads(
        site.run(
            f"curl --silent --show-error --cacert /etc/ssl/tls_certificate/web2py/fullchain.pem {options} "
            f"--resolve {NAME}:443:{site.address} https://{NAME}{PROBE}/request_info"
        )
    )
    assert (seen["client"], seen["is_https"], seen["port"]) == (site.address, True, "443")


def test_processes_are_replaced_after_some_requests_and_none_is_lost(site):
    before = site.workers(web2py=True)
    assert before

    def some_are_replaced() -> None:
        wait_for(lambda: len(before - site.workers(web2py=True)) >= 2, 60, "two other processes")

    results = load(site, f"{PROBE}/echo/1", 8, some_are_replaced, seconds=1, scheme="https")
    assert set(results) == {200}


def test_the_administrator_s_instance_beside_the_front_end(site, host):
    """From the host itself, as at the end of a tunnel; molecule/web2py_daemon opens a real one."""
    jar = "/root/jar"
    curl = f"curl --silent --show-error --noproxy '*' --cookie {jar} --cookie-jar {jar} http://127.0.0.1:8001/admin"
    try:
        assert b'type="password"' in host.run(f"{curl}/default/index").stdout_bytes
        host.check_output(f"{curl}/default/index --data-urlencode 'password={PASSWORD}'")
        assert "probe_2" in host.check_output(f"{curl}/default/site")
    finally:
        host.check_output(f"rm -f {jar}")
    with pytest.raises(ConnectionRefusedError):
        site.ask("/admin", port=8001)
    # Its password opens nothing in public.
    assert site.ask("/admin/default/index", "https").is_login_page()
    refused = site.post("/admin/default/index", {"password": PASSWORD}, "https")
    assert refused.status == 200 and b"invalid password" in refused.body
