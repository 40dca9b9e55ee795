# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which applications a request may reach, decided on what web2py made of its URL.

A rule on the URL itself can be evaded: by encodings that web2py decodes once more than the front end did, by
routes.py, by a default application. After routing there is one answer to which application and controller will run,
so the decision is taken there, and again each time web2py routes the request anew (routes_onerror).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

ADMINISTRATION_KEY = "WEB2PY_ADMINISTRATION"
APPLICATIONS_KEY = "WEB2PY_APPLICATIONS"

# Who may administer: nobody, whoever comes encrypted, or also a client of this host that no proxy stands for.
ADMINISTRATION = ("off", "https", "loopback")

# A client that no proxy named. web2py would take a missing address for 127.0.0.1, and trust it.
UNKNOWN_CLIENT = "0.0.0.0"  # noqa: S104 (nothing listens there)


@dataclass(frozen=True)
class Access:
    """What the front end that took a request lets it reach, and for whom."""

    administration: str = "off"
    encrypted: bool = False
    local: bool = False
    applications: frozenset[str] | None = None
    client: str = UNKNOWN_CLIENT

    @classmethod
    def of(
        cls,
        environ: Mapping[str, Any],
        applications: frozenset[str] | None = None,
        administration: str | None = None,
        local: bool = False,
        client: str = UNKNOWN_CLIENT,
    ) -> Access:
        """Take what the settings say, else the front end's keys, of which only the exact word `https` grants."""
        names = environ.get(APPLICATIONS_KEY)
        if applications is None and names is not None:
            applications = frozenset(filter(None, map(str.strip, names.split(","))))
        if administration is None:
            administration = "https" if environ.get(ADMINISTRATION_KEY) == "https" else "off"
        return cls(administration, environ.get("wsgi.url_scheme") == "https", local, applications, client)

    def refusal(self, application: str | None, controller: str | None, function: str | None) -> HTTPStatus | None:
        """Return the status that refuses this action, or None where it is allowed."""
        if not application or (self.applications is not None and application not in self.applications):
            return HTTPStatus.NOT_FOUND
        # Of every controller, web2py answers the function _TEST: it runs the doctests, for admin's test page.
        if application == "admin" or controller == "appadmin" or function == "_TEST":
            if self.administration == "off":
                return HTTPStatus.NOT_FOUND
            if not (self.encrypted or (self.administration == "loopback" and self.local)):
                return HTTPStatus.FORBIDDEN
            # A second entrance, with the password in each request; it can write code, which is read-only here.
            if application == "admin" and controller == "webservices":
                return HTTPStatus.NOT_FOUND
        return None


# Not in the environ: routes.py may rewrite that.
_access: ContextVar[Access] = ContextVar("web2py_runtime_access", default=Access())  # noqa: B039 (it is immutable)


def current() -> Access:
    """What applies to the request that this thread serves."""
    return _access.get()


@contextmanager
def granted(access: Access) -> Iterator[None]:
    """Apply `access` to every routing decision made inside the block."""
    token = _access.set(access)
    try:
        yield
    finally:
        _access.reset(token)


def static_application(path: str, applications: str) -> str | None:
    """Return the application whose static folder holds `path`, or None where it is in none."""
    parts = os.path.relpath(os.path.abspath(path), os.path.abspath(applications)).split(os.sep)
    return parts[0] if len(parts) > 2 and parts[0] != os.pardir and parts[1] == "static" else None


def install() -> None:
    """Put the decision behind web2py's routing of incoming requests."""
    from gluon import main
    from gluon.http import HTTP
    from gluon.settings import global_settings

    route: Callable[..., tuple[str | None, str | None, dict[str, Any]]] = main.url_in
    applications = os.path.join(global_settings.applications_parent, "applications")

    def url_in(request: Any, environ: dict[str, Any]) -> tuple[str | None, str | None, dict[str, Any]]:
        static_file, version, environ = route(request, environ)
        if static_file:
            action = (static_application(static_file, applications), "static", None)
        else:
            action = (request.application, request.controller, request.function)
        status = current().refusal(*action)
        if status:
            raise HTTP(int(status))
        return static_file, version, environ

    main.url_in = url_in
