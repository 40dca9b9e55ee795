# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Faults of web2py on Python 3, repaired in the running process; no file of web2py is edited.

Each fix is one function: its docstring names the fault, it first tries out whether this web2py still has it, and
returns False, having changed nothing, where it has not.
"""

from __future__ import annotations

import copyreg
import io
import logging
import marshal
import pickle
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.cookies import SimpleCookie
from types import GeneratorType, ModuleType
from typing import Any

from web2py_runtime import pickles, ticket_view

logger = logging.getLogger("web2py.runtime")


def apply() -> list[str]:
    """Apply what this web2py needs and return the names of the fixes applied; gluon must be importable."""
    applied = []
    for fix in FIXES:
        try:
            if fix():
                applied.append(fix.__name__)
        except Exception:
            # A web2py of other insides must still start; what the fix was for is then as upstream left it.
            logger.exception("the fix %s does not fit this web2py and was left out", fix.__name__)
    return applied


def xml_unpickle() -> bool:
    """Release 3.3.3: unpickling an XML helper, of a session or a ticket, gives its data to `marshal.loads`.

    marshal is not made for data that somebody else wrote and can crash the interpreter; web2py's restricted
    unpicklers let it through. Later versions write plain text, and cannot read what 3.3.3 wrote. Text is all an XML
    helper holds, so nothing but text is read here, in either form.
    """
    from gluon import html

    with suppress(TypeError, AttributeError):
        if [html.XML_unpickle(data).text for data in ("text", marshal.dumps("text"))] == ["text", "text"]:
            return False

    def XML_unpickle(data: str | bytes) -> Any:
        return html.XML(data if isinstance(data, str) else pickles.marshalled_text(data))

    # Pickles refer to functions by module and name.
    XML_unpickle.__module__ = html.__name__
    XML_unpickle.__qualname__ = XML_unpickle.__name__
    html.XML_unpickle = XML_unpickle
    return True


def ticket_loading() -> bool:
    """Release 3.3.3: admin shows no ticket, because TicketStorage.load refuses the XML helpers each one holds."""
    from gluon import html, restricted

    class Written(restricted.TicketStorage):
        def _error_file(self, *_args: object) -> io.BytesIO:
            return io.BytesIO(pickle.dumps({"snapshot": html.XML("text")}))

    if Written().load(None, None, None):
        return False
    restricted.DEFAULT_SAFE_GLOBALS["gluon.html"] = {"XML_unpickle"}
    return True


def ticket_snapshots() -> bool:
    """Release 3.3.3: on Python 3.13 tickets have no snapshot, because the module cgitb is no more.

    web2py takes one function from it, which names the variables used in the failing line. The one given here names
    all local variables, as web2py does since.
    """
    from gluon import restricted

    try:
        raise LookupError
    except LookupError:
        try:
            restricted.snapshot(context=1, code="", environment={})
        except ImportError:
            pass
        else:
            return False

    def scanvars(_reader: object, _frame: object, variables: dict[str, Any]) -> list[tuple[str, str, Any]]:
        return [(name, "local", value) for name, value in variables.items()]

    cgitb = ModuleType("cgitb", "The part of Python's former module that web2py uses.")
    cgitb.scanvars = scanvars  # type: ignore[attr-defined]
    cgitb.__UNDEF__ = object()  # type: ignore[attr-defined]
    sys.modules["cgitb"] = cgitb
    return True


def ticket_markup() -> bool:
    """All: admin's page of a ticket runs script that a visitor, or the application, has brought into the ticket."""
    from gluon import restricted

    class Written(restricted.TicketStorage):
        def _error_file(self, *_args: object) -> io.BytesIO:
            return io.BytesIO(pickle.dumps({"layer": "", "snapshot": {"request": "<script>"}}))

    if "<script" not in Written().load(None, None, None)["snapshot"]["request"]:
        return False

    load = restricted.TicketStorage.load

    def load_shown(self: Any, request: Any, app: str, ticket_id: str) -> dict[str, Any]:
        return ticket_view.shown(load(self, request, app, ticket_id))

    restricted.TicketStorage.load = load_shown
    return True


def tickets_db() -> bool:
    """All: with `request.tickets_db` every ticket is lost, because pickled bytes do not go into a text column.

    Written instead is what admin can read: a pickle of protocol 0, which is text without NUL. Where the database
    takes no ticket, it goes into a file, as without tickets_db.
    """
    from gluon import html, restricted

    written: dict[str, Any] = {}

    class Database:
        """Stands for the DAL: keeps what TicketStorage defines and inserts."""

        _adapter = property(lambda self: self)
        reconnect = commit = rollback = close = get = staticmethod(lambda *_args: None)
        Field = staticmethod(lambda name, type="string", **_options: (name, type))

        def define_table(self, _name: str, *columns: tuple[str, str]) -> Database:
            written["types"] = dict(columns)
            return self

        def insert(self, **values: Any) -> None:
            written.update(values)

    class Request:
        application = "probe"
        now = None

    # The probe's ticket would be reported in the site's log.
    restricted.logger.disabled, disabled = True, restricted.logger.disabled
    try:
        storage = restricted.TicketStorage(db=Database())
        storage._store_in_db(Request, "probe", dict.fromkeys(("layer", "traceback"), ""))
    finally:
        restricted.logger.disabled = disabled
    if not (written["types"]["ticket_data"] == "text" and isinstance(written["ticket_data"], bytes)):
        return False

    class TicketPickler(pickle.Pickler):
        # The release's own form holds bytes, which admin's restricted unpickler refuses in protocol 0.
        dispatch_table = copyreg.dispatch_table | {html.XML: lambda xml: (html.XML_unpickle, (str(xml),))}

    def _store_in_db(self: Any, request: Any, ticket_id: str, ticket_data: dict[str, Any]) -> None:
        file = io.BytesIO()
        TicketPickler(file, protocol=0).dump(ticket_data)
        try:
            self.db._adapter.reconnect()
            self._get_table(self.db, self.tablename, request.application).insert(
                ticket_id=ticket_id, ticket_data=file.getvalue().decode("latin-1"), created_datetime=request.now
            )
            self.db.commit()
            logger.error("In FILE: %(layer)s\n\n%(traceback)s\n", ticket_data)
        except Exception:
            logger.exception("ticket %s goes to a file: the tickets database does not take it", ticket_id)
            self._store_on_disk(request, ticket_id, ticket_data)
            with suppress(Exception):
                self.db.rollback()
        with suppress(Exception):
            self.db.close()

    restricted.TicketStorage._store_in_db = _store_in_db
    return True


def visit_with_cookie_session(cookies: SimpleCookie, **values: Any) -> tuple[Any, SimpleCookie]:
    """Open a session kept in a cookie, store `values` and return it with the cookies of the answer."""
    from gluon.globals import Response, Session, current
    from gluon.storage import Storage

    current.request = Storage(application="probe", client="127.0.0.1", cookies=cookies)
    current.response, current.session = Response(), Session()
    try:
        current.session.connect(cookie_key="probe")
        current.session.update(values)
        current.session._try_store_in_cookie(current.request, current.response)
        current.session._fixup_before_save()
        return current.session, current.response.cookies
    finally:
        current.__dict__.clear()


def cookie_sessions() -> bool:
    """All: `session.connect(cookie_key=...)` answers the second request with 500.

    The cookie is written as the text `b'...'` of its bytes, and read as text by a function that takes bytes.
    """
    from gluon import globals as web2py_globals

    _, cookies = visit_with_cookie_session(SimpleCookie(), mark="kept")
    try:
        session, _ = visit_with_cookie_session(SimpleCookie(cookies.output(attrs=[], header="", sep=";")))
    except TypeError:
        pass
    else:
        if session.mark == "kept":
            return False

    secure_dumps, secure_loads = web2py_globals.secure_dumps, web2py_globals.secure_loads

    def text_dumps(*args: Any, **options: Any) -> str:
        return secure_dumps(*args, **options).decode("ascii")

    def text_loads(data: str, *args: Any, **options: Any) -> Any:
        return secure_loads(data.encode(), *args, **options)

    web2py_globals.secure_dumps = text_dumps
    web2py_globals.secure_loads = text_loads
    return True


def cookie_session_attributes() -> bool:
    """Release 3.3.3: the cookie that holds a whole session has no HttpOnly, SameSite and Secure."""
    from gluon.globals import Session, current

    _, cookies = visit_with_cookie_session(SimpleCookie(), mark="kept")
    if cookies["session_data_probe"]["httponly"]:
        return False

    fixup = Session._fixup_before_save

    def _fixup_before_save(self: Any) -> None:
        fixup(self)
        cookie = current.response.cookies.get(current.response.session_data_name)
        if cookie is None:
            return
        cookie["httponly"] = self.get("httponly_cookies", True)
        cookie["secure"] = bool(self._secure)
        cookie["samesite"] = "Lax" if self._same_site is None else self._same_site or ""

    Session._fixup_before_save = _fixup_before_save
    return True


def text_bodies() -> bool:
    """All: an answer that is a translation, an XML helper or pieces of text is given to the server as text.

    web2py's own server takes it; mod_wsgi answers 500 and uWSGI sends an empty page. `HTTP.to` is where web2py turns
    a body into bytes; it overlooks what can be iterated over.
    """
    from gluon.html import XML
    from gluon.http import HTTP
    from gluon.languages import lazyT

    def is_bytes(body: object) -> bool:
        return all(isinstance(piece, bytes) for piece in HTTP(200, body).to(lambda *_args: None))

    if is_bytes(XML("text")) and is_bytes(["text"]):
        return False

    to = HTTP.to

    def text_to(self: Any, responder: Callable[..., Any], env: Any = None) -> Iterable[bytes]:
        if isinstance(self.body, (lazyT, XML)):
            self.body = str(self.body)
        body = to(self, responder, env)
        if isinstance(body, (list, tuple)):
            return [as_bytes(piece) for piece in body]
        if isinstance(body, GeneratorType):
            return (as_bytes(piece) for piece in body)
        return body

    HTTP.to = text_to
    return True


def as_bytes(piece: Any) -> Any:
    return piece.encode() if isinstance(piece, str) else piece


def routes_onerror() -> bool:
    """After 3.3.3: with `routes_onerror`, a URL that routing refuses ends in a TypeError instead of the error page.

    The error page gets the URL as a parameter, and a request that was never routed has none yet.
    """
    from gluon import main, rewrite
    from gluon.http import HTTP
    from gluon.storage import Storage

    routes = rewrite.THREAD_LOCAL.routes
    rewrite.THREAD_LOCAL.routes = Storage(routes_onerror=[("*/*", "/probe")])
    try:
        main.try_rewrite_on_error(HTTP(400), Storage(env=Storage(request_uri="/")), {})
    except TypeError:
        pass
    else:
        return False
    finally:
        rewrite.THREAD_LOCAL.routes = routes

    rewrite_on_error = main.try_rewrite_on_error

    def try_rewrite_on_error(http_response: Any, request: Any, environ: dict[str, Any], ticket: Any = None) -> Any:
        if request.url is None:
            request.url = environ["PATH_INFO"]
        return rewrite_on_error(http_response, request, environ, ticket)

    main.try_rewrite_on_error = try_rewrite_on_error
    return True


def multipart_options() -> bool:
    """Release 3.3.3: a Content-Type of a hundred bytes holds a process for hours.

    The expression for a quoted text takes a backslash for two things, and tries all combinations before it gives up.
    """
    from gluon.contrib import multipart

    ambiguous, definite = r'(?:\\.|[^"])*', r'(?:\\.|[^\\"])*'
    pattern = multipart._re_option.pattern
    if ambiguous not in pattern:
        return False
    multipart._re_option = re.compile(pattern.replace(ambiguous, definite))
    return True


FIXES = (
    xml_unpickle,
    ticket_loading,
    ticket_snapshots,
    ticket_markup,
    tickets_db,
    cookie_sessions,
    cookie_session_attributes,
    text_bodies,
    routes_onerror,
    multipart_options,
)
