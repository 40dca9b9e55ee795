# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""web2py's own server, here on Python's."""

from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def log_message(self, *args):
        """The application writes the access log."""


class Rocket3:
    def __init__(self, interfaces, method="wsgi", app_info=None, **options):
        self.server = Server(interfaces, Handler)
        self.server.set_app(app_info["wsgi_app"])

    def start(self):
        self.server.serve_forever()
