# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The WSGI application that all front ends serve: web2py behind the checks it does not make itself."""

from __future__ import annotations

import ipaddress
import json
import locale
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from web2py_runtime import compat, login, policy
from web2py_runtime.policy import UNKNOWN_CLIENT

Environ = dict[str, Any]
WSGIApplication = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Below "web2py", so that a logging.conf of the site which names that logger does not switch this one off.
logger = logging.getLogger("web2py.runtime")

# web2py unquotes the path a second time and takes a backslash for a slash: with neither in it, there is one reading.
AMBIGUOUS_PATH = re.compile(r"[%\\\x00-\x1f\x7f]|/\.\.(?:/|\Z)")

# What an application may be asked to do: HTTP (RFC 9110 and 5789), WebDAV (RFC 4918, 3253 and 5323). TRACE would show
# a page's script the cookies it may not read, and CONNECT is for proxies.
METHODS = frozenset(
    [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "PATCH",
        "DELETE",
        "OPTIONS",
        "COPY",
        "LOCK",
        "MKCOL",
        "MOVE",
        "PROPFIND",
        "PROPPATCH",
        "REPORT",
        "SEARCH",
        "UNLOCK",
    ]
)

# A Host header without its port: a name, an IPv4 address or an IPv6 one in brackets.
HOST = re.compile(r"(?P<name>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::[0-9]*)?|\[(?P<ipv6>[0-9a-f:.]+)\](?::[0-9]*)?")
DEFAULT_PORTS = {"http": "80", "https": "443"}


class SettingsError(ValueError):
    """The settings file cannot be used as it stands."""


@dataclass(frozen=True)
class TrustedProxies:
    """The peers whose forwarding headers are believed."""

    networks: tuple[Network, ...] = ()
    unix: bool = False

    def trust(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


@dataclass(frozen=True)
class Settings:
    """The content of the settings file."""

    root: str = "/var/lib/web2py"
    framework: str = "/opt/web2py/current"
    trusted_proxies: TrustedProxies = TrustedProxies()
    health_path: str | None = "/healthz"
    applications: frozenset[str] | None = None
    administration: str | None = None
    # The names of the site as `host_name` gives them, the canonical one first; none if visitors may use every name.
    names: tuple[str, ...] = ()
    # The ports that visitors see, by those of the server, where something in between forwards others.
    ports: Mapping[str, str] = field(default_factory=dict)


def load_settings(path: str) -> Settings:
    """Read and check the settings file."""
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); the role web2py writes it") from error
    except ValueError as error:
        raise SettingsError(f"{path}: is not JSON ({error}); the role web2py writes it") from error
    return parse_settings(values, path)


def parse_settings(values: Any, source: str) -> Settings:
    """Check decoded settings; `source` is the file to name in an error."""

    def reject(name: str, found: object, allowed: str) -> SettingsError:
        return SettingsError(f"{source}: {name} is {found!r}; allowed: {allowed}; correct it and start web2py again")

    if not isinstance(values, dict):
        raise reject("the content", values, "an object of settings")
    known = [field.name for field in fields(Settings)]
    for name in values:
        if name not in known:
            raise reject("a setting's name", name, ", ".join(known))
    for name in ("root", "framework"):
        folder = values.get(name, getattr(Settings, name))
        if not isinstance(folder, str) or not os.path.isabs(folder):
            raise reject(name, folder, "the absolute path of a folder")
    health_path = values.get("health_path", Settings.health_path)
    if health_path is not None and not (isinstance(health_path, str) and usable_path(health_path)):
        raise reject("health_path", health_path, "a URL path such as /healthz without %, \\ and .., or null for none")
    proxies = values.get("trusted_proxies", [])
    if not isinstance(proxies, list):
        raise reject("trusted_proxies", proxies, "a list")
    networks: list[Network] = []
    for proxy in proxies:
        try:
            if proxy != "unix":
                networks.append(ipaddress.ip_network(proxy if isinstance(proxy, str) else repr(proxy)))
        except ValueError as error:
            raise reject("an entry of trusted_proxies", proxy, 'IP addresses, networks and "unix"') from error
    trusted = TrustedProxies(tuple(networks), "unix" in proxies)
    applications = values.get("applications")
    if applications is not None:
        if not isinstance(applications, list) or not all(isinstance(name, str) for name in applications):
            raise reject("applications", applications, "a list of names, or null for what the front end says")
        applications = frozenset(applications)
    administration = values.get("administration")
    if administration not in (None, *policy.ADMINISTRATION):
        allowed = f"{', '.join(policy.ADMINISTRATION)}, or null for what the front end says"
        raise reject("administration", administration, allowed)
    names = values.get("names", [])
    if not isinstance(names, list) or not all(isinstance(name, str) and host_name(name) for name in names):
        raise reject("names", names, "a list of host names and IP addresses, IPv6 ones in brackets")
    ports = values.get("ports", {})
    if not isinstance(ports, dict) or not all(is_port(str(port)) for pair in ports.items() for port in pair):
        raise reject("ports", ports, "an object whose names and values are ports")
    return Settings(
        **{
            **values,
            "trusted_proxies": trusted,
            "applications": applications,
            "names": tuple(map(host_name, names)),
            "ports": {port: str(seen) for port, seen in ports.items()},
        }
    )


def request_path(environ: Environ) -> str:
    """Return the whole path of the URL, wherever the server cut it: web2py knows no mount point."""
    return (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")) or "/"


def usable_path(path: str) -> bool:
    """Tell whether `path` has one reading, here and in everything behind."""
    return path.startswith("/") and not AMBIGUOUS_PATH.search(path)


def parse_address(text: str) -> Address | None:
    """Return the address that `text` is, an IPv4 one also where it is written as IPv6."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_forwarding(name: str) -> bool:
    """Tell whether `name` is a header by which clients and proxies state who asked, and how."""
    return name.startswith("HTTP_X_FORWARDED") or name in ("HTTP_FORWARDED", "HTTP_X_REAL_IP", "HTTP_PROXY")


def names_this_host(header: str) -> bool:
    """Tell whether a Host header is what a browser on this host, or at the end of an SSH tunnel to it, sends.

    A name that leads here by DNS (rebinding), or that a proxy passes on, is none.
    """
    return re.fullmatch(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", header.strip().lower()) is not None


def forwarded_client(header: str, peer: Address | None, trusted: TrustedProxies) -> Address | None:
    """Return the client that the trusted end of an X-Forwarded-For header names; `peer` None is a Unix socket.

    Each proxy appends whom it talked to, so the list is believed from its end, up to and including the first
    address that is not itself a trusted proxy's.
    """
    client, witness = None, peer
    for entry in reversed(header.split(",")):
        address = parse_address(entry.strip())
        if address is None:
            break
        # Only a proxy on this host can have had a loopback client; web2py lets such a client administer.
        if address.is_loopback and witness is not None and not witness.is_loopback:
            break
        client = witness = address
        if not trusted.trust(address):
            break
    return client


def encrypted(environ: Environ) -> bool:
    """Tell whether the server itself says that the request came by https."""
    if environ.get("HTTPS", "").lower() in ("on", "1"):
        return True
    # uWSGI makes its scheme of a client's X-Forwarded-Proto or X-Forwarded-SSL as well.
    scheme = "UWSGI_SCHEME" if "uwsgi.version" in environ else "wsgi.url_scheme"
    return environ.get(scheme) == "https"


def last_entry(header: str) -> str:
    return header.rpartition(",")[2].strip()


def is_port(text: str) -> bool:
    return re.fullmatch("[0-9]{1,5}", text) is not None and 1 <= int(text) <= 65535


def host_name(header: str) -> str | None:
    """Return the name in a Host header, as one spelling of it, or None where it is malformed."""
    found = HOST.fullmatch(header.strip().lower())
    if not found:
        return None
    if found["name"]:
        return found["name"]
    address = parse_address(found["ipv6"])
    return f"[{address}]" if address and address.version == 6 else None


def own_host(environ: Environ, port: str, settings: Settings) -> str:
    """Return what absolute URLs begin with: a name of the site, and the port at which it is visited.

    The front ends answer no other name, but take any port for theirs. A daemon without one in front answers all names.
    """
    name = host_name(environ.get("HTTP_HOST", "")) or ""
    if settings.names and name not in settings.names:
        name = settings.names[0]
    if not name:
        name = host_name(environ.get("SERVER_NAME", "")) or "localhost"
    port = settings.ports.get(port, port)
    return name if port == DEFAULT_PORTS[environ["wsgi.url_scheme"]] else f"{name}:{port}"


def resolve_forwarding(environ: Environ, trusted: TrustedProxies) -> tuple[bool, str]:
    """Settle client, scheme and port, then drop every forwarding header: web2py would believe a client's own.

    Return whether any of them was there, and the port to which the visitor came.
    """
    forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
    forwarded_proto = last_entry(environ.get("HTTP_X_FORWARDED_PROTO", "")).lower()
    forwarded_port = last_entry(environ.get("HTTP_X_FORWARDED_PORT", ""))
    forwarding = [name for name in environ if is_forwarding(name)]
    for name in forwarding:
        del environ[name]

    peer_name = environ.get("REMOTE_ADDR", "")
    peer = parse_address(peer_name)
    https = encrypted(environ)
    believed = trusted.trust(peer) if peer else trusted.unix and not peer_name
    if believed:
        client = forwarded_client(forwarded_for, peer, trusted)
        environ["REMOTE_ADDR"] = str(client or UNKNOWN_CLIENT)
        for name in ("REMOTE_HOST", "REMOTE_PORT"):
            environ.pop(name, None)
        if forwarded_proto in ("http", "https"):
            https = forwarded_proto == "https"
    elif peer is None:
        environ["REMOTE_ADDR"] = UNKNOWN_CLIENT

    environ["wsgi.url_scheme"] = "https" if https else "http"
    environ.pop("HTTPS", None)
    if https:
        environ["HTTPS"] = "on"

    # web2py takes the administrator's password from parameters_<port>.py.
    default_port = DEFAULT_PORTS[environ["wsgi.url_scheme"]]
    if believed and is_port(forwarded_port):
        environ["SERVER_PORT"] = forwarded_port
    elif peer is None:
        # A Unix socket has no port; gunicorn then makes one of what the client wrote into its Host header.
        environ["SERVER_PORT"] = default_port
    elif believed and forwarding:
        # The port of this server is not the one that the proxy was asked at.
        return bool(forwarding), default_port
    return bool(forwarding), environ.get("SERVER_PORT") or default_port


def load_web2py(settings: Settings) -> WSGIApplication:
    """Import web2py from its release and return its WSGI application, repaired and guarded."""
    # The link may be switched while this process lives: resolved once, no process mixes two releases.
    framework = os.path.realpath(settings.framework)
    for name, needed in (("framework", os.path.join(framework, "gluon")), ("root", f"{settings.root}/applications")):
        if not os.path.isdir(needed):
            raise SettingsError(f"{name} is {getattr(settings, name)!r}, but there is no folder {needed}")
    os.chdir(settings.root)
    os.environ["web2py_path"] = settings.root  # noqa: SIM112 (the name that web2py reads)
    sys.path.insert(0, framework)

    # web2py sets the C locale, for a graphical part that no server uses; with it, open() would read ASCII.
    ctype = locale.setlocale(locale.LC_CTYPE)
    import gluon.main
    from gluon.settings import global_settings

    locale.setlocale(locale.LC_CTYPE, ctype)
    if not gluon.main.__file__.startswith(framework + os.sep) or global_settings.applications_parent != settings.root:
        raise RuntimeError(f"another web2py, {gluon.main.__file__}, was loaded before that of {framework}")
    global_settings.web2py_runtime_handler = True

    fixes = compat.apply()
    policy.install()
    login.install()
    logger.info(
        "web2py %s from %s, fixes applied: %s", global_settings.web2py_version, framework, ", ".join(fixes) or "none"
    )
    return gluon.main.wsgibase


def make_application(config_path: str = "/etc/web2py/runtime.json") -> WSGIApplication:
    """Load the settings and web2py; return the WSGI application to serve."""
    settings = load_settings(config_path)
    return guard(load_web2py(settings), settings)


def guard(wsgibase: WSGIApplication, settings: Settings) -> WSGIApplication:
    """Put the checks of this module in front of web2py's own WSGI application."""

    def application(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("REQUEST_METHOD", "GET") not in METHODS:
            return plain_answer(environ, start_response, "405 Method Not Allowed", b"405 Method Not Allowed\n")
        path = request_path(environ)
        if not usable_path(path):
            return plain_answer(environ, start_response, "400 Bad Request", b"400 Bad Request\n")
        if path == settings.health_path:
            return plain_answer(environ, start_response, "200 OK", b"ok\n")
        environ.update(SCRIPT_NAME="", PATH_INFO=path)
        forwarded, port = resolve_forwarding(environ, settings.trusted_proxies)
        client = parse_address(environ["REMOTE_ADDR"])
        local = (
            client is not None
            and client.is_loopback
            and not forwarded
            and "HTTP_VIA" not in environ
            and names_this_host(environ.get("HTTP_HOST", ""))
        )
        # A browser on this host may have come through a tunnel, from any port.
        if not local:
            environ["HTTP_HOST"] = own_host(environ, port, settings)
        access = policy.Access.of(
            environ,
            applications=settings.applications,
            administration=settings.administration,
            local=local,
            client=str(client or UNKNOWN_CLIENT),
        )
        with policy.granted(access):
            return wsgibase(environ, start_response)

    return application


def plain_answer(environ: Environ, start_response: Callable[..., Any], status: str, body: bytes) -> list[bytes]:
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(status, headers)
    return [b"" if environ.get("REQUEST_METHOD") == "HEAD" else body]
