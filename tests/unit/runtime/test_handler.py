# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import ipaddress
import json
import os.path
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web2py_runtime import handler, policy
from web2py_runtime.handler import Settings, SettingsError, TrustedProxies, parse_settings

PROXIES = parse_settings({"trusted_proxies": ["127.0.0.1", "::1", "10.0.0.0/24", "unix"]}, "test").trusted_proxies
UNKNOWN = handler.UNKNOWN_CLIENT

trusted = st.integers(1, 254).map(lambda host: f"10.0.0.{host}")
strangers = st.ip_addresses(v=4).filter(lambda ip: not (PROXIES.trust(ip) or ip.is_loopback)).map(str)
anything = st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"))


def resolve(trusted_proxies: TrustedProxies = PROXIES, **environ: str) -> dict[str, Any]:
    environ = {"REMOTE_ADDR": "203.0.113.7", "wsgi.url_scheme": "http"} | environ
    handler.resolve_forwarding(environ, trusted_proxies)
    assert not [name for name in environ if name.startswith("HTTP_")]
    assert (environ["wsgi.url_scheme"] == "https") == (environ.get("HTTPS") == "on")
    return environ


# Forwarding headers


@given(strangers, anything, anything, anything)
def test_a_peer_nobody_trusts_states_nothing_about_itself(
    peer: str, forwarded_for: str, proto: str, other: str
) -> None:
    environ = resolve(
        REMOTE_ADDR=peer,
        HTTP_X_FORWARDED_FOR=forwarded_for,
        HTTP_X_FORWARDED_PROTO=proto,
        HTTP_X_FORWARDED_HOST=other,
        HTTP_X_FORWARDED_PORT="8001",
        HTTP_FORWARDED=other,
        HTTP_X_REAL_IP=other,
        HTTP_PROXY=other,
    )
    assert environ == {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http"}


@given(anything, strangers, st.lists(trusted), st.sampled_from(["127.0.0.1", "::1", "10.0.0.9", ""]))
def test_what_a_client_writes_before_its_own_address_changes_nothing(
    forged: str, client: str, proxies: list[str], peer: str
) -> None:
    chain = ", ".join([forged, client, *proxies])
    assert resolve(REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=chain)["REMOTE_ADDR"] == client


@given(anything, st.lists(trusted, min_size=1))
def test_a_trusted_network_cannot_forge_a_client_on_this_host(forged: str, proxies: list[str]) -> None:
    chain = ", ".join([forged, "127.0.0.1", *proxies])
    client = ipaddress.ip_address(resolve(REMOTE_ADDR="10.0.0.9", HTTP_X_FORWARDED_FOR=chain)["REMOTE_ADDR"])
    assert not client.is_loopback


@given(st.sampled_from(["", "unknown", "_hidden", "1.2.3.4:80", "198.51.100.1, ", "198.51.100.1, unknown"]))
def test_a_trusted_proxy_that_names_no_client_makes_it_unknown(forwarded_for: str) -> None:
    assert resolve(REMOTE_ADDR="127.0.0.1", HTTP_X_FORWARDED_FOR=forwarded_for)["REMOTE_ADDR"] == UNKNOWN


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("", "::1", "::1"),
        ("127.0.0.1", "127.0.0.1, 10.0.0.9", "10.0.0.9"),
        ("10.0.0.9", "10.0.0.8", "10.0.0.8"),
        ("::ffff:127.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.0.0.9", "2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_client_that_trusted_proxies_name(peer: str, forwarded_for: str, client: str) -> None:
    assert resolve(REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR=forwarded_for)["REMOTE_ADDR"] == client


@pytest.mark.parametrize("peer", ["", "localhost", "unix:/run/web2py.sock"])
def test_a_peer_without_an_address_is_unknown_unless_its_socket_is_trusted(peer: str) -> None:
    nobody = TrustedProxies()
    assert resolve(nobody, REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR="198.51.100.1")["REMOTE_ADDR"] == UNKNOWN
    expected = "198.51.100.1" if peer == "" else UNKNOWN
    assert resolve(REMOTE_ADDR=peer, HTTP_X_FORWARDED_FOR="198.51.100.1")["REMOTE_ADDR"] == expected


def test_a_server_that_gives_no_peer_at_all() -> None:
    environ: dict[str, Any] = {}
    handler.resolve_forwarding(environ, TrustedProxies())
    assert environ == {"REMOTE_ADDR": UNKNOWN, "wsgi.url_scheme": "http", "SERVER_PORT": "80"}


@pytest.mark.parametrize(
    ("peer", "header", "proto", "port"),
    [
        ("127.0.0.1", "8443", "https", "8443"),
        ("127.0.0.1", "8001, 443", "https", "443"),
        ("127.0.0.1", "", "https", "8000"),
        ("127.0.0.1", "65536", "https", "8000"),
        ("127.0.0.1", "0", "https", "8000"),
        ("127.0.0.1", "+443", "https", "8000"),
        ("127.0.0.1", "../443", "https", "8000"),
        ("127.0.0.1", "\u0664\u0664\u0663", "https", "8000"),
        ("203.0.113.7", "443", "https", "8000"),
        ("", "8443", "https", "8443"),
        ("", "", "https", "443"),
        ("", "x", "http", "80"),
        ("unix:/run/web2py.sock", "8443", "https", "80"),
    ],
)
def test_the_port_is_never_a_clients_choice(peer: str, header: str, proto: str, port: str) -> None:
    environ = resolve(
        REMOTE_ADDR=peer,
        SERVER_PORT="8000",
        HTTP_X_FORWARDED_FOR="198.51.100.1",
        HTTP_X_FORWARDED_PORT=header,
        HTTP_X_FORWARDED_PROTO=proto,
    )
    assert environ["SERVER_PORT"] == port


@pytest.mark.parametrize(
    ("forwarded", "scheme", "result"),
    [
        ("https", "http", "https"),
        ("http", "https", "http"),
        ("http, HTTPS ", "http", "https"),
        ("https, http", "http", "http"),
        ("", "https", "https"),
        ("gopher", "http", "http"),
        ("https, gopher", "http", "http"),
    ],
)
def test_the_scheme_that_a_trusted_proxy_states(forwarded: str, scheme: str, result: str) -> None:
    environ = {
        "wsgi.url_scheme": scheme,
        "HTTPS": "on" if scheme == "https" else "",
        "HTTP_X_FORWARDED_PROTO": forwarded,
    }
    assert resolve(REMOTE_ADDR="127.0.0.1", **environ)["wsgi.url_scheme"] == result


@pytest.mark.parametrize(("https", "result"), [("on", "https"), ("1", "https"), ("off", "http"), ("", "http")])
def test_a_server_may_state_the_scheme_in_the_variable_https(https: str, result: str) -> None:
    assert resolve(HTTPS=https)["wsgi.url_scheme"] == result


@pytest.mark.parametrize(
    ("variables", "result"), [({}, "http"), ({"HTTPS": "on"}, "https"), ({"UWSGI_SCHEME": "https"}, "https")]
)
def test_the_scheme_that_uwsgi_makes_of_a_clients_header_is_not_believed(
    variables: dict[str, str], result: str
) -> None:
    environ = {"uwsgi.version": "2.0", "wsgi.url_scheme": "https", "HTTP_X_FORWARDED_PROTO": "https"}
    assert resolve(**environ, **variables)["wsgi.url_scheme"] == result


def test_the_name_and_port_of_a_proxy_are_not_the_clients() -> None:
    environ = resolve(
        REMOTE_ADDR="127.0.0.1", REMOTE_HOST="localhost", REMOTE_PORT="40000", HTTP_X_FORWARDED_FOR="198.51.100.1"
    )
    assert environ == {"REMOTE_ADDR": "198.51.100.1", "wsgi.url_scheme": "http"}


# Paths


@given(st.text(st.characters(codec="latin-1")).map(lambda text: f"/{text}"))
def test_a_usable_path_has_one_reading(path: str) -> None:
    if handler.usable_path(path):
        assert unquote(path) == path
        assert "\\" not in path
        assert not any(ord(character) < 32 or ord(character) == 127 for character in path)
        inside = os.path.normpath(f"/root{path}")
        assert inside == "/root" or inside.startswith("/root/")


@given(st.from_regex(r"(/[\w.@=+ -]*)+", fullmatch=True).filter(lambda path: "/.." not in path))
def test_ordinary_paths_are_usable_and_their_encodings_are_not(path: str) -> None:
    assert handler.usable_path(path)
    encoded = "".join(f"%{ord(character):02x}" for character in path[1:])
    assert handler.usable_path(f"/{encoded}") == (encoded == "")
    assert handler.usable_path(quote(path)) == (quote(path) == path)


@pytest.mark.parametrize(
    "path", ["", "*", "admin", "http://site.example/", "/..", "/a/..", "/../a", "/a/../b", "/a\\b"]
)
def test_unusable_paths(path: str) -> None:
    assert not handler.usable_path(path)


@pytest.mark.parametrize("path", ["/", "//", "/a..b", "/..a", "/a../b", "/.well-known/x", "/caf\xc3\xa9", "/a b;c&d"])
def test_usable_paths(path: str) -> None:
    assert handler.usable_path(path)


@pytest.mark.parametrize(
    ("script_name", "path_info", "path"),
    [("", "/a", "/a"), ("", "", "/"), ("/a/b", "", "/a/b"), ("/a", "/b", "/a/b")],
)
def test_the_path_counts_wherever_the_server_cut_it(script_name: str, path_info: str, path: str) -> None:
    assert handler.request_path({"SCRIPT_NAME": script_name, "PATH_INFO": path_info}) == path
    assert handler.request_path({}) == "/"


# The application


def ask(settings: Settings, **environ: str) -> tuple[str, bytes, list[dict[str, Any]]]:
    """Return the answer's status and body, and the environs that reached web2py."""
    reached: list[dict[str, Any]] = []
    statuses: list[str] = []

    def web2py(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        reached.append(dict(environ))
        start_response("200 OK", [])
        return [b"web2py"]

    application = handler.guard(web2py, settings)
    body = b"".join(application(environ, lambda status, headers: statuses.append(status)))
    return statuses[0], body, reached


def test_an_ordinary_request_reaches_web2py_at_its_root() -> None:
    status, body, (environ,) = ask(Settings(), SCRIPT_NAME="/a", PATH_INFO="/b", REQUEST_URI="/a/%2562")
    assert (status, body) == ("200 OK", b"web2py")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/a/b")


@pytest.mark.parametrize(("method", "body"), [("GET", b"400 Bad Request\n"), ("HEAD", b"")])
def test_an_ambiguous_path_does_not_reach_web2py(method: str, body: bytes) -> None:
    assert ask(Settings(), PATH_INFO="/%61", REQUEST_METHOD=method) == ("400 Bad Request", body, [])


def test_the_health_path_does_not_reach_web2py_unless_it_is_switched_off() -> None:
    assert ask(Settings(), PATH_INFO="/healthz") == ("200 OK", b"ok\n", [])
    assert ask(Settings(health_path="/up"), PATH_INFO="/up") == ("200 OK", b"ok\n", [])
    assert ask(Settings(health_path=None), PATH_INFO="/healthz")[1] == b"web2py"
    assert ask(Settings(), PATH_INFO="/healthz/")[1] == b"web2py"


@pytest.mark.parametrize(
    ("peer", "header", "allowed"),
    [
        ("127.0.0.1", {}, True),
        ("::1", {}, True),
        ("127.0.0.1", {"HTTP_HOST": "127.0.0.1"}, True),
        ("::1", {"HTTP_HOST": "[::1]:8001"}, True),
        # A name that leads here (DNS rebinding), and a proxy that tells nothing but itself.
        ("127.0.0.1", {"HTTP_HOST": "www.example.org"}, False),
        ("127.0.0.1", {"HTTP_HOST": "localhost.example.org:8001"}, False),
        ("127.0.0.1", {"HTTP_HOST": ""}, False),
        ("127.0.0.1", {"HTTP_VIA": "1.1 proxy"}, False),
        ("127.0.0.1", {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
        ("127.0.0.1", {"HTTP_FORWARDED": "for=127.0.0.1"}, False),
        ("192.0.2.1", {}, False),
        ("192.0.2.1", {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
        ("", {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
    ],
)
def test_administration_from_this_host_needs_a_peer_that_forwards_nothing(
    peer: str, header: dict[str, str], allowed: bool
) -> None:
    decisions: list[int | None] = []

    def web2py(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        decisions.append(policy.current().refusal("admin", "default", "index"))
        start_response("200 OK", [])
        return []

    settings = parse_settings({"administration": "loopback", "trusted_proxies": ["unix"]}, "test")
    environ = {
        "PATH_INFO": "/",
        "REMOTE_ADDR": peer,
        "HTTP_HOST": "localhost:8001",
        "wsgi.url_scheme": "http",
        **header,
    }
    handler.guard(web2py, settings)(environ, lambda *_: None)
    assert decisions == [None if allowed else 403]


@pytest.mark.parametrize("method", sorted(handler.METHODS))
def test_methods_of_http_and_webdav_reach_web2py(method: str) -> None:
    assert ask(Settings(), PATH_INFO="/", REQUEST_METHOD=method)[2]


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "TRACK", "connect", "get", "Get", "", "GET ", "PRI", "X"])
def test_other_methods_are_refused(method: str) -> None:
    for path in ("/", "/healthz", "/admin"):
        assert ask(Settings(), PATH_INFO=path, REQUEST_METHOD=method)[::2] == ("405 Method Not Allowed", [])


# The names and ports in absolute URLs

NAMES = ["www.example.org", "Shop.example.org", "192.0.2.10", "[2001:DB8:0::1]"]
# Spellings of names, and what they are on a server that has these names, and on one that has none.
HOSTS = {
    "www.example.org": ("www.example.org", "www.example.org"),
    "WWW.Example.ORG": ("www.example.org", "www.example.org"),
    "www.example.org.": ("www.example.org", "www.example.org"),
    "www.example.org.:8443": ("www.example.org", "www.example.org"),
    "www.example.org:8443": ("www.example.org", "www.example.org"),
    "www.example.org:": ("www.example.org", "www.example.org"),
    " shop.example.org:80 ": ("shop.example.org", "shop.example.org"),
    "192.0.2.10:8443": ("192.0.2.10", "192.0.2.10"),
    "[2001:db8::1]": ("[2001:db8::1]", "[2001:db8::1]"),
    "[2001:DB8:0:0::0001]:8443": ("[2001:db8::1]", "[2001:db8::1]"),
    "evil.example": ("www.example.org", "evil.example"),
    "www.example.org.evil.example": ("www.example.org", "www.example.org.evil.example"),
    "localhost:8443": ("www.example.org", "localhost"),
    # Malformed, or no name at all.
    "": ("www.example.org", "server"),
    "user@www.example.org": ("www.example.org", "server"),
    "user:secret@www.example.org:8443": ("www.example.org", "server"),
    "www.example.org:8443:1": ("www.example.org", "server"),
    "www.example.org:a": ("www.example.org", "server"),
    "www.example.org/x": ("www.example.org", "server"),
    "www.example.org#": ("www.example.org", "server"),
    "www.example.org, evil.example": ("www.example.org", "server"),
    "www..example.org": ("www.example.org", "server"),
    ".": ("www.example.org", "server"),
    "[2001:db8::1": ("www.example.org", "server"),
    "[::g]": ("www.example.org", "server"),
    "2001:db8::1": ("www.example.org", "server"),
    "w\u0131w.example.org": ("www.example.org", "server"),
}


def seen_host(settings: dict[str, Any], **environ: str) -> str:
    environ = {"PATH_INFO": "/", "REMOTE_ADDR": "203.0.113.7", "wsgi.url_scheme": "http"} | environ
    (reached,) = ask(parse_settings(settings, "test"), **environ)[2]
    return reached["HTTP_HOST"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443"), ("http", "8080"), ("https", "80")])
def test_a_request_chooses_no_port_and_only_a_name_of_the_site(host: str, scheme: str, port: str) -> None:
    suffix = "" if (scheme, port) in (("http", "80"), ("https", "443")) else f":{port}"
    environ = {"HTTP_HOST": host, "wsgi.url_scheme": scheme, "SERVER_PORT": port, "SERVER_NAME": "server"}
    named, unnamed = HOSTS[host]
    assert seen_host({"names": NAMES}, **environ) == named + suffix
    assert seen_host({}, **environ) == unnamed + suffix


def test_a_request_without_a_host_gets_the_first_name() -> None:
    assert seen_host({"names": NAMES}, SERVER_PORT="8080") == "www.example.org:8080"
    assert seen_host({}) == "localhost"


def test_visitors_see_the_port_that_is_forwarded() -> None:
    settings = {"names": NAMES, "ports": {"80": 8080, "443": "8443"}}
    for scheme, port, seen in (("http", "80", ":8080"), ("https", "443", ":8443"), ("http", "81", ":81")):
        environ = {"wsgi.url_scheme": scheme, "SERVER_PORT": port, "HTTP_HOST": "www.example.org:1"}
        assert seen_host(settings, **environ) == f"www.example.org{seen}"


@pytest.mark.parametrize("peer", ["127.0.0.1", ""])
@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ({"PROTO": "https", "PORT": "443"}, ""),
        ({"PROTO": "https", "PORT": "8443"}, ":8443"),
        ({"PROTO": "https", "PORT": "8443, 443"}, ""),
        ({"PROTO": "https"}, ""),
        ({"PROTO": "http"}, ""),
        ({"FOR": "203.0.113.7"}, ""),
        ({"PROTO": "http", "PORT": "8080"}, ":8080"),
        ({"PROTO": "https", "PORT": "0"}, ""),
        ({"PROTO": "https", "PORT": "443@evil"}, ""),
    ],
)
def test_a_trusted_proxy_states_the_port(peer: str, headers: dict[str, str], seen: str) -> None:
    environ = {f"HTTP_X_FORWARDED_{name}": value for name, value in headers.items()}
    settings = {"names": NAMES, "trusted_proxies": ["127.0.0.1", "unix"]}
    environ |= {"REMOTE_ADDR": peer, "SERVER_PORT": "8000", "HTTP_HOST": "www.example.org:1"}
    assert seen_host(settings, **environ) == f"www.example.org{seen}"
    # Who is not trusted states nothing.
    environ |= {"REMOTE_ADDR": "203.0.113.7"}
    assert seen_host(settings, **environ) == "www.example.org:8000"


@pytest.mark.parametrize("host", ["localhost:9001", "127.0.0.1:9001", "[::1]:9001", "localhost"])
def test_a_browser_at_the_end_of_a_tunnel_keeps_its_port(host: str) -> None:
    environ = {"REMOTE_ADDR": "127.0.0.1", "SERVER_PORT": "8001"}
    assert seen_host({"names": NAMES}, HTTP_HOST=host, **environ) == host
    assert seen_host({"names": NAMES}, HTTP_HOST=host, HTTP_VIA="1.1 proxy", **environ) == "www.example.org:8001"
    assert seen_host({"names": NAMES}, HTTP_HOST=host, HTTP_FORWARDED="for=::1", **environ) == "www.example.org:8001"


# Settings


def test_the_defaults_are_those_of_the_role() -> None:
    assert parse_settings({}, "test") == Settings(
        "/var/lib/web2py", "/opt/web2py/current", TrustedProxies(), "/healthz"
    )


def test_a_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "runtime.json"
    path.write_text(json.dumps({"root": "/srv/web2py", "trusted_proxies": ["unix", "192.0.2.1"], "health_path": None}))
    networks = (ipaddress.ip_network("192.0.2.1/32"),)
    assert handler.load_settings(str(path)) == Settings(
        "/srv/web2py", "/opt/web2py/current", TrustedProxies(networks, unix=True), None
    )


@pytest.mark.parametrize(
    ("values", "name", "found"),
    [
        ([], "the content", "[]"),
        ({"port": 80}, "a setting's name", "'port'"),
        ({"root": "relative"}, "root", "'relative'"),
        ({"framework": None}, "framework", "None"),
        ({"health_path": "healthz"}, "health_path", "'healthz'"),
        ({"health_path": "/%68ealthz"}, "health_path", "'/%68ealthz'"),
        ({"health_path": False}, "health_path", "False"),
        ({"trusted_proxies": "127.0.0.1"}, "trusted_proxies", "'127.0.0.1'"),
        ({"trusted_proxies": ["proxy.example"]}, "an entry of trusted_proxies", "'proxy.example'"),
        ({"trusted_proxies": ["10.0.0.1/24"]}, "an entry of trusted_proxies", "'10.0.0.1/24'"),
        ({"trusted_proxies": [1]}, "an entry of trusted_proxies", "1"),
        ({"names": "www.example.org"}, "names", "'www.example.org'"),
        ({"names": ["www.example.org:x"]}, "names", "['www.example.org:x']"),
        ({"ports": {"80": 0}}, "ports", "{'80': 0}"),
        ({"ports": [80]}, "ports", "[80]"),
        ({"applications": "welcome"}, "applications", "'welcome'"),
        ({"applications": [1]}, "applications", "[1]"),
        ({"administration": "on"}, "administration", "'on'"),
        ({"administration": True}, "administration", "True"),
    ],
)
def test_an_error_names_the_file_the_setting_and_what_was_found(values: Any, name: str, found: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(values, "/etc/web2py/runtime.json")
    assert str(caught.value).startswith(f"/etc/web2py/runtime.json: {name} is {found}; allowed: ")


@pytest.mark.parametrize(("content", "message"), [(None, "cannot be read"), ("{", "is not JSON")])
def test_a_settings_file_that_cannot_be_used(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "runtime.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=message):
        handler.load_settings(str(path))
