# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The holes of the book's proxy recipe: open on it, on this very machine, and shut on the deployed site.

The book's proxy passes everything to web2py's own server on a port of loopback, with a path rule that keeps
administration to HTTPS. If web2py or Apache ever close a hole, the first half of its test fails.
"""

from __future__ import annotations

import pytest
from browser import NAME, PROBE, wait_for
from stock_site import ADMIN, PORT, make_root, remove_root, start

USUAL = f"""
Listen {PORT}
<VirtualHost *:{PORT}>
    ServerName {NAME}
    ProxyRequests Off
    ProxyPreserveHost On
    ProxyPass / http://127.0.0.1:8000/
    ProxyPassReverse / http://127.0.0.1:8000/
    <LocationMatch "^/(admin|\\w+/appadmin)(/|$)">
        SSLRequireSSL
    </LocationMatch>
</VirtualHost>
"""
LOCAL = {"X-Forwarded-For": "127.0.0.1"}
HTTPS = {"X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def usual(host):
    make_root(host)
    start(host, "usual", "python3 web2py.py --no_gui --no_banner -i 127.0.0.1 -p 8000 -a '<recycle>'")
    host.check_output("printf '%%s' %s > /etc/apache2/sites-enabled/usual.conf", USUAL)
    host.check_output("systemctl restart apache2")
    wait_for(lambda: host.run("curl -sf http://127.0.0.1:8000/welcome").rc == 0, 60, "web2py's own server")
    yield
    host.check_output("systemctl stop usual; rm /etc/apache2/sites-enabled/usual.conf; systemctl restart apache2")
    remove_root(host)


def test_the_first_forwarded_address_makes_a_client_local(usual, site):
    assert site.ask(f"{PROBE}/request_info", headers=LOCAL, port=PORT).json()["is_local"] is True, "open as usual"
    assert site.ask(f"{PROBE}/request_info", headers=LOCAL).json()["is_local"] is False


@pytest.mark.parametrize("path", ADMIN)
def test_a_local_client_that_spells_admin_another_way_administers_in_the_clear(usual, site, path):
    assert site.ask("/admin/default/index", headers=LOCAL, port=PORT).status == 403
    assert site.ask(path, headers=LOCAL, port=PORT).is_login_page(), "open as usual"
    assert site.ask(path, headers=LOCAL).status in (400, 403, 404)


def test_the_scheme_comes_from_the_client(usual, site):
    assert site.ask(f"{PROBE}/request_info", headers=HTTPS, port=PORT).json()["is_https"] is True, "open as usual"
    assert site.ask(f"{PROBE}/request_info", headers=HTTPS).json()["is_https"] is False


def test_other_users_of_the_host_talk_to_web2py_past_apache(usual, site, host):
    host.run("id stranger || useradd --no-create-home stranger")
    stranger = "setpriv --reuid=stranger --regid=stranger --clear-groups"
    ask = f"{stranger} curl -s -o /dev/null -w %{{http_code}} -H 'Host: {NAME}'"
    assert host.run(f"{ask} http://127.0.0.1:8000/admin/default/index").stdout == "200", "open as usual"
    refused = host.run(f"{ask} --unix-socket /run/web2py/public.sock http://{NAME}/welcome")
    assert refused.stdout == "000" and refused.rc == 7, "the socket is not for everyone"


def test_the_host_header_chooses_the_password_file(usual, site, host):
    """Gunicorn on a Unix socket takes the port from the Host header; web2py chooses its password file by it."""
    gunicorn = "gunicorn --chdir /srv/usual --bind unix:/srv/usual/deposit/usual.sock wsgihandler:application"
    start(host, "usual-gunicorn", gunicorn)
    ask = f"curl -sf --unix-socket /srv/usual/deposit/usual.sock -H 'Host: {NAME}:8001' http://x{PROBE}/request_info"
    try:
        wait_for(lambda: host.run(ask).rc == 0, 30, "gunicorn")
        assert '"port": "8001"' in host.run(ask).stdout, "open as usual"
    finally:
        host.check_output("systemctl stop usual-gunicorn")
    for scheme, port in (("http", "80"), ("https", "443")):
        assert site.ask(f"{PROBE}/request_info", scheme, host=f"{NAME}:8001").json()["port"] == port
