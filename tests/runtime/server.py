# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Serve a deployed web2py on loopback until standard input ends.

Every front end of the plan gets a port of its own and adds its keys to the WSGI environ, as a real one would. The
first line of standard output says the ports and which fixes were applied.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import threading
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def behind(front_end: dict[str, str], application: Any) -> Any:
    return lambda environ, start_response: application(environ | front_end, start_response)


def deployed(plan: dict[str, Any]) -> tuple[Any, list[str]]:
    """Load the entry script as a server of production does, less the fixes that the plan leaves out."""
    sys.path.insert(0, plan["runtime"])
    from web2py_runtime import compat

    applied: list[str] = []
    compat.FIXES = tuple(fix for fix in compat.FIXES if fix.__name__ not in plan["without"])
    apply = compat.apply

    def record() -> list[str]:
        applied.extend(apply())
        return applied

    compat.apply = record
    os.environ["WEB2PY_RUNTIME_CONFIG"] = plan["config"]
    return runpy.run_path(os.path.join(plan["runtime"], "wsgi.py"))["application"], applied


def stock(plan: dict[str, Any]) -> tuple[Any, list[str]]:
    """Load web2py as its own wsgihandler.py does."""
    os.chdir(plan["root"])
    os.environ["web2py_path"] = plan["root"]  # noqa: SIM112 (the name that web2py reads)
    sys.path.insert(0, plan["framework"])
    import gluon.main

    return gluon.main.wsgibase, []


def main() -> None:
    plan = json.loads(sys.argv[1])
    application, fixes = stock(plan) if plan["stock"] else deployed(plan)
    ports = {}
    for name, front_end in plan["front_ends"].items():
        server = Server(("127.0.0.1", 0), WSGIRequestHandler)
        server.set_app(behind(front_end, application))
        ports[name] = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"ports": ports, "fixes": fixes}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
