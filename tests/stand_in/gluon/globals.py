# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an action works with: the request, the answer it gives and the visitor's session."""

import base64
import datetime
import fcntl
import hashlib
import hmac
import json
import os
import pickle
import re
import threading
import uuid
from http.cookies import SimpleCookie
from urllib.parse import parse_qsl

from gluon.settings import global_settings
from gluon.storage import Storage

current = threading.local()

SESSION_FILE = re.compile(r"[\w.]+-[0-9a-f-]{36}")


class Request(Storage):
    def __init__(self, environ):
        super().__init__(global_settings=global_settings)
        self.env = Storage((name.lower().replace(".", "_"), value) for name, value in environ.items())
        self.cookies = SimpleCookie(environ.get("HTTP_COOKIE", ""))
        self.now = datetime.datetime.now()
        self.get_vars = Storage(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        self.post_vars = Storage()
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            self.post_vars.update(parse_qsl(body.decode(), keep_blank_values=True))
        self.vars = Storage(self.get_vars | self.post_vars)

    @property
    def uuid(self):
        """The name of this request's ticket, the same each time it is asked for."""
        if "_uuid" not in self:
            moment = self.now.strftime("%Y-%m-%d.%H-%M-%S")
            self["_uuid"] = f"{self.application}/{self.client.replace(':', '_')}.{moment}.{uuid.uuid4()}"
        return self["_uuid"]


class Response(Storage):
    def __init__(self):
        super().__init__(status=200, cookies=SimpleCookie(), headers={})

    def json(self, data):
        self.headers["Content-Type"] = "application/json"
        return json.dumps(data)


class Session(Storage):
    def connect(self, request=None, response=None, cookie_key=None):
        request, response = request or current.request, response or current.response
        response.session_id_name = f"session_id_{request.application}"
        response.session_data_name = f"session_data_{request.application}"
        response.session_cookie_key = cookie_key
        if cookie_key:
            self._load_from_cookie(request, response)
        else:
            self._load_from_file(request, response)
            response.cookies[response.session_id_name] = response.session_id
        response.session_before = pickle.dumps(dict(self))

    def _load_from_file(self, request, response):
        folder = os.path.join(request.folder, "sessions")
        known = request.cookies.get(response.session_id_name)
        if known and SESSION_FILE.fullmatch(known.value):
            try:
                # Open, and so locked, until the request has ended.
                response.session_file = open(os.path.join(folder, known.value), "rb+")  # noqa: SIM115
            except FileNotFoundError:
                pass
            else:
                fcntl.flock(response.session_file, fcntl.LOCK_EX)
                self.update(pickle.load(response.session_file))  # noqa: S301 (only this process writes there)
                response.session_id = known.value
                return
        response.session_id = f"{request.client.replace(':', '.')}-{uuid.uuid4()}"
        response.session_filename = os.path.join(folder, response.session_id)

    def _load_from_cookie(self, request, response):
        data, _, mark = getattr(request.cookies.get(response.session_data_name), "value", "").partition(":")
        if hmac.compare_digest(mark, signature(response.session_cookie_key, data)):
            self.update(json.loads(base64.urlsafe_b64decode(data)))

    def _try_store_in_cookie(self, request, response):
        data = base64.urlsafe_b64encode(json.dumps(self).encode()).decode()
        response.cookies[response.session_data_name] = f"{data}:{signature(response.session_cookie_key, data)}"

    def _try_store_in_file(self, request, response):
        if pickle.dumps(dict(self)) == response.session_before:
            return
        if not response.session_file:
            response.session_file = open(response.session_filename, "xb")  # noqa: SIM115
        response.session_file.seek(0)
        pickle.dump(dict(self), response.session_file)
        response.session_file.truncate()

    def _fixup_before_save(self):
        for cookie in current.response.cookies.values():
            cookie.update({"path": "/", "httponly": True, "samesite": "Lax"})


def signature(key, data):
    return hmac.new(key.encode(), data.encode(), hashlib.sha256).hexdigest()
