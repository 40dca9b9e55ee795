import os
import pickle

import gluon
from gluon.restricted import RestrictedError, TicketStorage


def facts():
    """What web2py believes about the request."""
    return response.json(
        {
            "client": request.client,
            "is_local": request.is_local,
            "is_https": request.is_https,
            "url": URL("facts", scheme=True, host=True),
            "headers": sorted(name for name in request.env if name.startswith("HTTP_")),
            "gluon": os.path.dirname(gluon.__file__),
        }
    )


def late_import():
    from gluon.contrib import simplejsonrpc

    return simplejsonrpc.__file__


def visits():
    session.visits = (session.visits or 0) + 1
    return str(session.visits)


def note():
    """Keeps an XML helper in the session."""
    earlier, session.note = session.note, XML("<b>naïve</b>")
    return str(earlier)


def form():
    form = SQLFORM.factory(Field("name"))
    return f"hello {form.vars.name}" if form.process().accepted else form


def document():
    form = SQLFORM(db.document)
    return db.document(form.vars.id).content if form.process().accepted else form


def download():
    return response.download(request, db)


def text_file():
    with open(os.path.join(request.folder, "private", "text.txt")) as file:
        return file.read()


def translation():
    raise HTTP(403, T("not today"))


def helper():
    raise HTTP(200, XML("<b>bold</b>"))


def pieces():
    return (piece for piece in ("naï", "ve"))


def listed():
    return ["naï", "ve"]


def fail():
    raise RuntimeError("broken on purpose")


def error_page():
    return f"error page {request.vars.code}"


def fail_with():
    session.text = XML(request.vars.text)
    response.flash = XML(request.vars.text)
    raise ValueError(request.vars.text)


def ticket():
    """What admin would show of a ticket."""
    error = RestrictedError()
    error.load(request, request.application, request.args(0))
    return response.json({"layer": error.layer, "frames": len((error.snapshot or {}).get("frames", []))})


def stored_tickets():
    """The tickets in the database: their layers, as far as they can be read as admin reads them."""
    storage = TicketStorage(db=db)
    rows = db(storage._get_table(db, storage.tablename, request.application)).select()
    layers = [TicketStorage(db=db).load(request, request.application, row.ticket_id).get("layer") for row in rows]
    return response.json(layers)


def unpickle():
    try:
        value = pickle.loads(bytes.fromhex(request.vars.data))  # noqa: S301 (this is the test)
    except pickle.UnpicklingError:
        return "refused"
    return f"loaded {value.text!r}"
