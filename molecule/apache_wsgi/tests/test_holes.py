# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The four holes of the usual recipes: open on those, on this very machine, and shut on the deployed site.

A second virtual host follows the web2py book and common how-tos: the stock handler, a path rule that keeps
administration to HTTPS, and static files by an alias. If web2py or Apache ever close a hole, the first half of its test
fails and the rule against it can go.
"""

from __future__ import annotations

import pytest
from browser import FORGED, NAME, PROBE
from stock_site import ADMIN, APPADMIN, PORT, ROOT, make_root, remove_root

USUAL = f"""
Listen {PORT}
WSGIDaemonProcess usual user=web2py group=web2py display-name=%{{GROUP}}
<VirtualHost *:{PORT}>
    ServerName {NAME}
    WSGIProcessGroup usual
    WSGIScriptAlias / {ROOT}/wsgihandler.py
    Alias /files/ {ROOT}/applications/
    <Directory {ROOT}>
        Require all granted
    </Directory>
    <LocationMatch "^/(admin|\\w+/appadmin)(/|$)">
        SSLRequireSSL
    </LocationMatch>
</VirtualHost>
"""


@pytest.fixture(scope="module")
def usual(host):
    """The book's site beside ours, in a web2py root of its own that the server may write."""
    make_root(host)
    host.check_output("printf '%%s' %s > /etc/apache2/sites-enabled/usual.conf", USUAL)
    host.check_output("systemctl restart apache2")
    yield
    host.check_output("rm /etc/apache2/sites-enabled/usual.conf; systemctl restart apache2")
    remove_root(host)


@pytest.mark.parametrize("path", ADMIN)
def test_another_spelling_of_admin(usual, site, path):
    other_host = f"{NAME}:8001"
    assert site.ask("/admin/default/index", headers=FORGED, host=other_host, port=PORT).status == 403
    assert site.ask(path, headers=FORGED, host=other_host, port=PORT).is_login_page(), "open as usual"
    assert site.ask(path, headers=FORGED, host=other_host).status in (400, 403)


@pytest.mark.parametrize("path", APPADMIN)
def test_another_spelling_of_appadmin(usual, site, path):
    assert site.ask("/welcome/appadmin/index", headers=FORGED, port=PORT).status == 403
    reached = site.ask(path, headers=FORGED, host=f"{NAME}:8001", port=PORT)
    assert reached.status == 303 and "/admin/default/index" in reached["Location"], "open as usual"
    assert site.ask(path, headers=FORGED, host=f"{NAME}:8001").status in (400, 403)


def test_scheme_and_address_from_the_client(usual, site):
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.9.8.7"}
    fooled = site.ask(f"{PROBE}/request_info", headers=headers, port=PORT).json()
    assert fooled["is_https"] is True and fooled["client"] == "10.9.8.7", "open as usual"
    seen = site.ask(f"{PROBE}/request_info", headers=headers).json()
    assert seen["is_https"] is False and seen["client"] != "10.9.8.7"


def test_the_host_header_chooses_the_password_file(usual, site):
    chosen = site.ask(f"{PROBE}/request_info", host=f"{NAME}:8001", port=PORT).json()
    assert chosen["port"] == "8001", "open as usual"
    assert site.ask(f"{PROBE}/request_info", host=f"{NAME}:8001").json()["port"] == "80"
    assert site.ask(f"{PROBE}/request_info", "https", host=f"{NAME}:8001").json()["port"] == "443"


def test_private_files_through_the_alias(usual, site):
    leaked = site.ask("/files/probe_2/private/secret.txt", port=PORT)
    assert leaked.status == 200 and b"PRIVATE-FILE-OF-PROBE" in leaked.body, "open as usual"
    for path in ("/files/probe_2/private/secret.txt", "/probe_2/private/secret.txt"):
        assert site.ask(path).status in (400, 404)
