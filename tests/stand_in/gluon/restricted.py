# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Running an application's code, and the ticket that is written where it fails."""

import io
import logging
import os
import pickle
import sys
import time
import traceback

from gluon.html import XML
from gluon.http import HTTP
from gluon.storage import Storage

logger = logging.getLogger("web2py")


class SafeUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if module == "gluon.html" and name in ("XML", "XML_unpickle"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"global '{module}.{name}' is forbidden")


class TicketStorage(Storage):
    def __init__(self, db=None, tablename="web2py_ticket"):
        super().__init__(db=db, tablename=tablename)

    def store(self, request, ticket_id, ticket_data):
        (self._store_in_db if self.db else self._store_on_disk)(request, ticket_id, ticket_data)

    def _store_in_db(self, request, ticket_id, ticket_data):
        table = self._get_table(self.db, self.tablename, request.application)
        text = pickle.dumps(ticket_data, 0).decode("latin-1")
        table.insert(ticket_id=ticket_id, ticket_data=text, created_datetime=request.now)
        self.db.commit()

    def _store_on_disk(self, request, ticket_id, ticket_data):
        with self._error_file(request, ticket_id, "wb") as file:
            pickle.dump(ticket_data, file)

    def _error_file(self, request, ticket_id, mode, app=None):
        folder = os.path.join(request.folder, "..", app) if app else request.folder
        return open(os.path.join(folder, "errors", ticket_id), mode)

    def _get_table(self, db, tablename, app):
        fields = (db.Field("ticket_id"), db.Field("ticket_data", "text"), db.Field("created_datetime", "datetime"))
        return db.define_table(f"{tablename}_{app}", *fields)

    def load(self, request, app, ticket_id):
        with self._error_file(request, ticket_id, "rb", app) as file:
            return SafeUnpickler(io.BytesIO(file.read())).load()


class RestrictedError(Exception):
    """An application's code failed; made while that exception is being handled."""

    def __init__(self, layer, code, output, environment):
        super().__init__(output)
        self.data = {
            "layer": str(layer),
            "code": str(code),
            "output": str(output),
            "traceback": traceback.format_exc(),
            "snapshot": snapshot(environment=environment),
        }

    def log(self, request):
        TicketStorage(db=request.tickets_db).store(request, request.uuid.partition("/")[2], self.data)
        return request.uuid


def restricted(code, environment, layer):
    environment["__file__"] = layer
    try:
        exec(compile(code, layer, "exec"), environment)  # noqa: S102 (this is what a web framework is for)
    except HTTP:
        raise
    except Exception as error:
        raise RestrictedError(layer, code, f"{type(error)} {error}", environment) from error


def snapshot(info=None, context=5, code=None, environment=None):
    etype, evalue, trace = info or sys.exc_info()
    frames = [
        {
            "file": frame.f_code.co_filename,
            "func": frame.f_code.co_name,
            "call": "",
            "lnum": line,
            "lines": {},
            "dump": {name: repr(value)[:200] for name, value in frame.f_locals.items()},
        }
        for frame, line in traceback.walk_tb(trace)
    ]
    shown = {name: XML(repr(environment[name])) for name in ("request", "response", "session") if name in environment}
    return {
        "pyver": f"Python {sys.version.split()[0]}: {sys.executable} (prefix: {sys.prefix})",
        "date": time.ctime(),
        "frames": frames,
        "etype": etype.__name__,
        "evalue": str(evalue),
        "exception": {},
        "locals": frames[-1]["dump"] if frames else {},
        **shown,
    }
