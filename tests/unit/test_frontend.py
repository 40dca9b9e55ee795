# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the declaration of a site means for every front end."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import documented
from ansible_collections.web2py.deployment.plugins.plugin_utils.frontends import FRONT_ENDS
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.frontend import frontend_problems, frontend_site

ROLES = Path(__file__).resolve().parents[2] / "roles"

DECLARATION = {
    "server_names": ["www.example.org", "2001:db8::1"],
    "applications": documented(
        "web2py", "web2py_applications", [{"name": "shop"}, {"name": "my_wiki2"}, {"name": "tools", "exposed": False}]
    ),
    "http_port": 80,
    "https_port": 443,
    "public_http_port": 80,
    "public_https_port": 443,
    "certificate_file": "/etc/cert.pem",
    "certificate_key_file": "/etc/key.pem",
    "redirect_to_https": False,
    "hsts_max_age": 0,
    "max_request_body": 1000,
    "static_max_age": 60,
    "headers": {},
    "health_path": "/health.z",
    "administration": "disabled",
    "administration_over_http": "refuse",
    "routes_extra": "",
    "trusted_proxies": [],
    "user": "web2py",
    "group": "web2py",
    "frontend": "apache_wsgi",
}
ADMINISTRATION = ("/admin", "/admin/", "/admin/default/index", "/shop/appadmin", "/shop/appadmin/index")
OTHERS = ("/", "/shop", "/administer", "/shop/default/admin", "/shop/appadmins", "/health.z")


def site(**changes: object) -> dict:
    declared = {**DECLARATION, **changes}
    assert frontend_problems("apache_wsgi", declared) == []
    return frontend_site(declared)


def answer(rules: list[dict], path: str) -> tuple[int, str | None] | None:
    """What a web server does with these rules: the first pattern that matches decides."""
    for rule in rules:
        if match := re.search(rule["pattern"], path):
            return rule["status"], rule["location"] and rule["location"].replace("$1", match[1])
    return None


def answers(declared: dict, path: str) -> tuple:
    return tuple(answer(declared["answers"][scheme], path) for scheme in ("http", "https"))


@pytest.mark.parametrize("path", ADMINISTRATION)
def test_administration_is_off_refused_or_redirected(path: str) -> None:
    assert answers(site(), path) == ((404, None), (404, None))
    assert answers(site(administration="https"), path) == ((403, None), None)
    redirected = site(administration="https", administration_over_http="redirect", public_https_port=8443)
    assert answers(redirected, path) == ((302, f"https://www.example.org:8443{path}"), None)


@pytest.mark.parametrize("path", OTHERS)
def test_other_paths_are_left_to_web2py(path: str) -> None:
    for declared in (site(), site(administration="https")):
        assert answers(declared, path) == (None, None)


def test_everything_but_health_goes_to_https() -> None:
    declared = site(redirect_to_https=True)
    assert answers(declared, "/shop") == ((301, "https://www.example.org/shop"), None)
    assert answers(declared, "/healthxz")[0] == (301, "https://www.example.org/healthxz"), "the dot is a dot"
    assert answers(declared, "/health.z") == (None, None)
    assert answers(declared, "/admin") == ((301, "https://www.example.org/admin"), (404, None))


def test_only_exposed_applications_are_known() -> None:
    declared = site()
    assert declared["applications"] == ["shop", "my_wiki2"]
    assert declared["environment"] == {"WEB2PY_APPLICATIONS": "shop,my_wiki2", "WEB2PY_ADMINISTRATION": "off"}
    pattern = declared["static_pattern"]
    assert re.match(pattern, "/shop/static/css/a.css").groups() == ("shop", "css/a.css")
    assert re.match(pattern, "/my_wiki2/static/_1.22.3/a.css").groups() == ("my_wiki2", "a.css")
    for path in ("/tools/static/a.css", "/shop/static", "/shops/static/a.css", "/x/shop/static/a.css"):
        assert not re.match(pattern, path), path
    assert site(applications=[])["static_pattern"] == ""


def test_trusted_proxies_are_handed_on() -> None:
    assert site(trusted_proxies=["10.0.0.0/8"])["trusted_proxies"] == ["10.0.0.0/8"]


def test_names_are_as_in_a_host_header() -> None:
    assert site()["names"] == ["www.example.org", "[2001:db8::1]"]


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_an_entry_has_its_role_and_its_marker_is_looked_for(name: str) -> None:
    entry_points = {path.stem for path in (ROLES / name / "tasks").glob("*.yml")}
    assert {"install", "validate", "deploy", "remove", *(["reload"] if FRONT_ENDS[name].reload else [])} <= entry_points
    text = (ROLES / "web2py" / "tasks" / "look.yml").read_text(encoding="utf-8")
    marker = PurePosixPath(FRONT_ENDS[name].marker)
    assert f"- {marker.parent}\n" in text and f"- {marker.name}\n" in text
