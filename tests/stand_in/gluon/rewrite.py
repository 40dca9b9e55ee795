# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a URL to an application's action or static file."""

import os
import re
import threading
from urllib.parse import unquote

from gluon.http import HTTP
from gluon.settings import global_settings
from gluon.storage import Storage

THREAD_LOCAL = threading.local()

DEFAULTS = {
    "default_application": "init",
    "default_controller": "default",
    "default_function": "index",
    "routes_in": (),
}
ACTION = re.compile(r"^/(?:(?P<a>\w+)(?:/(?P<c>\w+)(?:/(?P<f>\w+)(?:\.(?P<e>[\w.]+))?(?P<s>/.*)?)?)?)?$")
STATIC = re.compile(r"^/(?P<a>\w+)/static/(?:(?P<version>_\d+\.\d+\.\d+)/)?(?P<file>.+)$")

params = Storage(DEFAULTS)
THREAD_LOCAL.routes = params


def load():
    """Read routes.py of web2py's root, where there is one."""
    params.update(DEFAULTS)
    path = os.path.join(global_settings.applications_parent, "routes.py")
    if os.path.exists(path):
        with open(path) as file:
            found = {}
            exec(compile(file.read(), path, "exec"), found)  # noqa: S102
        params.update({name: value for name, value in found.items() if name in DEFAULTS})


def refuse():
    raise HTTP(400, "<html><body><h1>invalid request</h1></body></html>")


def url_in(request, environ):
    """Return a static file and the version in its URL, or fill in which action the request means."""
    THREAD_LOCAL.routes = params
    path = dict(params.routes_in).get(environ["PATH_INFO"], environ["PATH_INFO"])
    environ["PATH_INFO"] = path
    # As web2py does: the second unquoting, and the backslash that counts as a slash.
    path = unquote(path).replace("\\", "/")
    static = STATIC.match(path)
    if static:
        folder = os.path.join(global_settings.applications_parent, "applications", static["a"], "static")
        file = os.path.abspath(os.path.join(folder, static["file"]))
        if not file.startswith(folder + os.sep):
            refuse()
        return file, static["version"], environ
    action = ACTION.match(path.rstrip("/") or "/")
    if not action:
        refuse()
    request.application = action["a"] or params.default_application
    request.controller = action["c"] or params.default_controller
    request.function = action["f"] or params.default_function
    request.extension = action["e"] or "html"
    request.args = re.sub(r"[^\w/.@=-]", "_", (action["s"] or "").strip("/")).split("/") if action["s"] else []
    return None, None, environ


def try_rewrite_on_error(http_response, request, environ, ticket=None):
    return http_response, environ
