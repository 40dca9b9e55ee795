# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The holes of the usual Lighttpd recipe: open on it, on this very machine, and shut on the deployed site.

As in the book, a rule on the URL sends administration to HTTPS, and the rest goes to web2py over FastCGI. uWSGI with
the stock handler serves it; the book's own FastCGI server does not run on Python 3.
"""

from __future__ import annotations

import pytest
from browser import FORGED, NAME, PROBE, wait_for
from stock_site import ADMIN, APPADMIN, PORT, ROOT, make_root, remove_root, start

USUAL = f"""
server.modules = ("mod_redirect", "mod_fastcgi")
server.port = {PORT}
server.document-root = "{ROOT}/applications"
server.upload-dirs = ("/tmp")
$HTTP["url"] =~ "^/(admin|[^/]+/appadmin)(/|$)" {{ url.redirect = ("" => "https://{NAME}${{url.path}}") }}
fastcgi.server = ("/" => ((
    "socket" => "{ROOT}/deposit/fcgi.sock", "check-local" => "disable", "fix-root-scriptname" => "enable"
)))
"""
UWSGI = (
    f"uwsgi --plugin python3 --fastcgi-socket {ROOT}/deposit/fcgi.sock --wsgi-file {ROOT}/wsgihandler.py "
    "--processes 2 --buffer-size 32768"
)


@pytest.fixture(scope="module")
def usual(host):
    make_root(host)
    host.check_output(f"mkdir -p {ROOT}/deposit && chown web2py: {ROOT}/deposit")
    host.check_output(f"printf '%%s' %s > {ROOT}/lighttpd.conf", USUAL)
    start(host, "usual-web2py", UWSGI)
    start(host, "usual-lighttpd", f"lighttpd -D -f {ROOT}/lighttpd.conf")
    wait_for(lambda: host.run(f"curl -sf http://127.0.0.1:{PORT}/welcome").rc == 0, 60, "the usual site")
    yield
    host.check_output("systemctl stop usual-lighttpd usual-web2py")
    remove_root(host)


@pytest.mark.parametrize("path", ADMIN)
def test_another_spelling_of_admin_passes_the_rule(usual, site, path):
    assert site.ask("/admin/default/index", headers=FORGED, port=PORT).status == 301
    assert site.ask(path, headers=FORGED, port=PORT).status == 200, "open as usual"
    assert site.ask(path, headers=FORGED).status in (400, 403, 404)


@pytest.mark.parametrize("path", APPADMIN)
def test_another_spelling_of_appadmin_passes_the_rule(usual, site, path):
    assert site.ask("/welcome/appadmin/index", headers=FORGED, port=PORT).status == 301
    reached = site.ask(path, headers=FORGED, port=PORT)
    assert reached.status == 303 and "/admin/default/index" in reached["Location"], "open as usual"
    assert site.ask(path, headers=FORGED).status in (400, 403, 404)


def test_scheme_and_address_come_from_the_client(usual, site):
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"}
    fooled = site.ask(f"{PROBE}/request_info", headers=headers, port=PORT).json()
    assert fooled["is_https"] is True and fooled["client"] == "127.0.0.1", "open as usual"
    seen = site.ask(f"{PROBE}/request_info", headers=headers).json()
    assert seen["is_https"] is False and seen["client"] != "127.0.0.1"


def test_the_port_is_the_socket_s(site):
    """Here the usual recipe has no hole: Lighttpd takes the port from its socket."""
    for scheme, port in (("http", "80"), ("https", "443")):
        assert site.ask(f"{PROBE}/request_info", scheme, host=f"{NAME}:8001").json()["port"] == port
