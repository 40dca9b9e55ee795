# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The answer, which an action also raises to give another than its page."""

from http import HTTPStatus


class HTTP(Exception):
    def __init__(self, status, body="", **headers):
        self.status = status
        self.body = body
        self.headers = headers
        self.cookies = []

    def to(self, responder, env=None):
        phrase = HTTPStatus(self.status).phrase.upper()
        pieces = self.body if isinstance(self.body, (list, tuple)) else [self.body]
        body = b"".join(piece if isinstance(piece, bytes) else str(piece).encode() for piece in pieces)
        if not body and self.status >= 400:
            body = f"{self.status} {phrase}".encode()
        headers = {"Content-Type": "text/html; charset=UTF-8", **self.headers}
        if self.status != HTTPStatus.NOT_MODIFIED:
            headers["Content-Length"] = len(body)
        lines = [(name, str(value)) for name, value in headers.items()]
        responder(f"{self.status} {phrase}", lines + [("Set-Cookie", cookie) for cookie in self.cookies])
        return [b"" if (env or {}).get("request_method") == "HEAD" else body]


def redirect(location):
    raise HTTP(303, "", Location=location)
