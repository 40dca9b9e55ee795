# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web2py_runtime.policy import Access, static_application

names = st.from_regex(r"[a-z]\w{0,9}", fullmatch=True)
ADMINISTRATION = [
    ("admin", "default", "index"),
    ("admin", "static", None),
    ("welcome", "appadmin", "index"),
    ("admin", "appadmin", "index"),
    ("welcome", "default", "_TEST"),
]
HTTPS = {"wsgi.url_scheme": "https"}


@pytest.mark.parametrize("action", ADMINISTRATION)
def test_administration(action: tuple[str, str, str]) -> None:
    for word in ("off", "on", "HTTPS", "http", "", "true"):
        assert Access.of({**HTTPS, "WEB2PY_ADMINISTRATION": word}).refusal(*action) == 404
    assert Access().refusal(*action) == 404
    assert Access.of(HTTPS).refusal(*action) == 404
    assert Access.of({"WEB2PY_ADMINISTRATION": "https", "wsgi.url_scheme": "http"}).refusal(*action) == 403
    assert Access.of({"WEB2PY_ADMINISTRATION": "https"}).refusal(*action) == 403
    granted = {**HTTPS, "WEB2PY_ADMINISTRATION": "https"}
    assert Access.of(granted).refusal(*action) is None
    assert Access.of({**granted, "WEB2PY_APPLICATIONS": "other"}).refusal(*action) == 404


@pytest.mark.parametrize("action", ADMINISTRATION)
@pytest.mark.parametrize(
    ("setting", "scheme", "local", "status"),
    [
        ("off", "https", True, 404),
        ("https", "http", True, 403),
        ("https", "https", False, None),
        ("loopback", "http", True, None),
        ("loopback", "http", False, 403),
        ("loopback", "https", False, None),
    ],
)
def test_administration_by_the_settings_whatever_the_environ_says(
    action: tuple[str, str, str], setting: str, scheme: str, local: bool, status: int | None
) -> None:
    for word in ("off", "https", "loopback"):
        environ = {"wsgi.url_scheme": scheme, "WEB2PY_ADMINISTRATION": word}
        assert Access.of(environ, administration=setting, local=local).refusal(*action) == status


def test_no_environ_grants_what_only_settings_can() -> None:
    access = Access.of({"WEB2PY_ADMINISTRATION": "loopback", "wsgi.url_scheme": "http"}, local=True)
    assert access.refusal("admin", "default", "index") == 404


def test_applications_of_the_settings_replace_those_of_the_environ() -> None:
    access = Access.of({"WEB2PY_APPLICATIONS": "one"}, applications=frozenset({"two"}))
    assert access.refusal("one", "default", "index") == 404
    assert access.refusal("two", "default", "index") is None
    assert Access.of({}, applications=frozenset()).refusal("one", "default", "index") == 404


@given(st.lists(names), names, names, names)
def test_only_exposed_applications_are_reached(
    exposed: list[str], application: str, controller: str, function: str
) -> None:
    if "admin" in (application, *exposed) or controller == "appadmin":
        return
    for separator in (",", ", ", " ,, "):
        access = Access.of({"WEB2PY_APPLICATIONS": separator.join(exposed)})
        assert access.refusal(application, controller, function) == (None if application in exposed else 404)
    assert Access.of({}).refusal(application, controller, function) is None


@pytest.mark.parametrize("application", [None, ""])
def test_an_action_of_no_application_is_refused(application: str | None) -> None:
    assert Access.of({}).refusal(application, "static", None) == 404


@pytest.mark.parametrize(
    ("path", "application"),
    [
        ("/root/applications/welcome/static/a.css", "welcome"),
        ("/root/applications/welcome/static/deep/a.css", "welcome"),
        ("/root/applications/welcome/static/../../admin/static/a.css", "admin"),
        ("/root/applications/welcome/static/../private/secret", None),
        ("/root/applications/welcome/private/static/a.css", None),
        ("/root/applications/static/a.css", None),
        ("/root/applications/../static/a.css", None),
        ("/root/applications/../../static/x", None),
        ("/root/applications", None),
        ("/etc/static/passwd", None),
    ],
)
def test_the_application_of_a_static_file(path: str, application: str | None) -> None:
    assert static_application(path, "/root/applications") == application
