# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The WSGI application, the server around it and the password file of administration."""

import datetime
import email.utils
import hashlib
import mimetypes
import os
import re
import secrets
import signal
import traceback

from gluon.globals import Request, Response, Session, current
from gluon.html import xmlescape
from gluon.http import HTTP, redirect
from gluon.languages import lazyT
from gluon.restricted import RestrictedError, logger, restricted
from gluon.rewrite import load as load_routes
from gluon.rewrite import try_rewrite_on_error, url_in
from gluon.settings import global_settings

WRITABLE = ("cache", "databases", "errors", "sessions", "uploads")
NOT_FOUND = "<html><body><h1>invalid {}</h1></body></html>"

load_routes()


def wsgibase(environ, responder):
    request, response, session = Request(environ), Response(), Session()
    current.request, current.response, current.session = request, response, session
    ticket = None
    try:
        static_file, version, environ = url_in(request, environ)
        if static_file:
            serve_file(request, static_file, version)
        prepare(request)
        session.connect(request, response)
        run_action(request, response, session)
    except HTTP as answer:
        http_response = answer
        if response.session_id:
            session._try_store_in_file(request, response)
            session._fixup_before_save()
            answer.cookies = [cookie.OutputString() for cookie in response.cookies.values()]
    except RestrictedError as error:
        ticket = error.log(request)
        message = f'Ticket issued: <a href="/admin/default/ticket/{ticket}">{ticket}</a>'
        http_response = HTTP(500, f"<html><body><h1>Internal error</h1>{message}</body></html>")
    except Exception:
        logger.error(traceback.format_exc())
        http_response = HTTP(500, "<html><body><h1>Internal error</h1>Ticket issued: unrecoverable</body></html>")
    finally:
        if response.session_file:
            response.session_file.close()
    http_response, _environ = try_rewrite_on_error(http_response, request, environ, ticket)
    return http_response.to(responder, env=request.env)


def serve_file(request, path, version):
    if not os.path.isfile(path):
        raise HTTP(404, NOT_FOUND.format("file"))
    modified = email.utils.formatdate(os.stat(path).st_mtime, usegmt=True)
    if request.env.http_if_modified_since == modified:
        raise HTTP(304)
    headers = {
        "Cache-Control": "max-age=315360000" if version else "private",
        "Content-Type": mimetypes.guess_type(path)[0] or "application/octet-stream",
        "Last-Modified": modified,
    }
    with open(path, "rb") as file:
        raise HTTP(200, file.read(), **headers)


def prepare(request):
    env = request.env
    request.folder = os.path.join(global_settings.applications_parent, "applications", request.application, "")
    if not os.path.isdir(request.folder):
        raise HTTP(404, NOT_FOUND.format("application"))
    # The first address, which a client can choose, and its scheme: as web2py alone does.
    request.client = (env.http_x_forwarded_for or env.remote_addr or "127.0.0.1").split(",")[0].strip()
    request.is_local = request.client == env.remote_addr and request.client in ("127.0.0.1", "::1")
    request.is_https = "https" in (env.wsgi_url_scheme, env.http_x_forwarded_proto) or env.https == "on"
    for name in WRITABLE:
        os.makedirs(os.path.join(request.folder, name), exist_ok=True)


def build_environment(request, response, session):
    return {
        "HTTP": HTTP,
        "T": lazyT,
        "redirect": redirect,
        "request": request,
        "response": response,
        "session": session,
    }


def run_models_in(environment):
    folder = os.path.join(environment["request"].folder, "models")
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if name.endswith(".py"):
            run_file(os.path.join(folder, name), environment)


def run_file(path, environment, call=""):
    with open(path) as file:
        restricted(file.read() + call, environment, path)


def run_action(request, response, session):
    environment = build_environment(request, response, session)
    run_models_in(environment)
    path = os.path.join(request.folder, "controllers", f"{request.controller}.py")
    if not os.path.isfile(path):
        raise HTTP(404, NOT_FOUND.format("controller"))
    with open(path) as file:
        if not re.search(rf"^def {request.function}\(\):", file.read(), re.MULTILINE):
            raise HTTP(404, NOT_FOUND.format("function"))
    run_file(path, environment, f"\nresponse._page = {request.function}()\n")
    page = response._page
    if isinstance(page, dict):
        page = render(request, environment | page)
    raise HTTP(response.status, page, **response.headers)


def render(request, environment):
    """Fill in a view; of web2py's template language there is only `{{=expression}}`."""
    path = os.path.join(request.folder, "views", request.controller, f"{request.function}.{request.extension}")
    with open(path) as file:
        return re.sub(r"\{\{=(.+?)\}\}", lambda match: xmlescape(eval(match[1], environment)), file.read())  # noqa: S307


def save_password(password, port):
    path = os.path.join(global_settings.applications_parent, f"parameters_{port}.py")
    if password == "<recycle>" and os.path.exists(path):
        return
    salt = secrets.token_hex(8)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt.encode(), 1000, 20).hex()
    given = password not in ("", "<recycle>")
    with open(path, "w") as file:
        file.write(f'password="pbkdf2(1000,20,sha512)${salt}${digest}"\n' if given else "password=None\n")


def appfactory(wsgiapp=wsgibase, logfilename="httpserver.log", profiler_dir=None):
    """Put an access log around the application; without a file it goes to standard output."""

    def application(environ, responder):
        def logging_responder(status, headers):
            moment = datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S")
            parts = environ["REMOTE_ADDR"], moment, environ["REQUEST_METHOD"], environ["PATH_INFO"], status[:3]
            if logfilename:
                with open(logfilename, "a") as file:
                    print(*parts, sep=", ", file=file)
            else:
                print(*parts, sep=", ", flush=True)
            return responder(status, headers)

        return wsgiapp(environ, logging_responder)

    return application


class HttpServer:
    def __init__(self, ip="127.0.0.1", port=8000, password="", pid_filename="httpserver.pid", log_filename=""):
        import rocket3

        save_password(password, port)
        self.pid_filename = pid_filename
        self.server = rocket3.Rocket3(
            (ip, port), method="wsgi", app_info={"wsgi_app": appfactory(wsgibase, log_filename)}
        )

    def start(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        with open(self.pid_filename, "w") as file:
            file.write(str(os.getpid()))
        self.server.start()

    def stop(self):
        os.unlink(self.pid_filename)
        # No request is waited for: a deployment has to cope with that, as with web2py.
        os.kill(os.getpid(), signal.SIGKILL)
