# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why the runtime package has a worker of its own: what gunicorn's loses while it stops."""

from __future__ import annotations

import contextlib
import http.client
import re
import threading

import pytest
from browser import requests_read, wait_for

PORT = 9000
APPLICATION = """
import time
def application(environ, start_response):
    time.sleep(float(environ["PATH_INFO"][1:]))
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
"""
OURS, STOCK = "web2py_runtime.launcher.Worker", "gthread"


@pytest.fixture(params=[OURS, STOCK])
def worker_class(request, site):
    """Serves a small application with one worker process."""
    site.run(f"mkdir -p /root/launcher; printf '%s' '{APPLICATION}' > /root/launcher/small.py")
    site.run(
        "systemd-run --unit=launcher --setenv=PYTHONPATH=/opt/web2py/runtime:/root/launcher gunicorn "
        f"--bind=0.0.0.0:{PORT} --worker-class={request.param} --workers=1 --threads=4 "
        "--keep-alive=30 small:application"
    )

    def answers() -> bool:
        with contextlib.suppress(OSError, http.client.HTTPException):
            return ask_once(site) == b"done"
        return False

    wait_for(answers)
    yield request.param
    site.host.run("systemctl stop launcher; systemctl reset-failed launcher")


def ask(connection: http.client.HTTPConnection, seconds: float = 0) -> bytes:
    connection.request("GET", f"/{seconds}")
    return connection.getresponse().read()


def ask_once(site, seconds: float = 0) -> bytes:
    with contextlib.closing(site.connect("http", PORT)) as connection:
        return ask(connection, seconds)


def accepts(site, worker: str) -> bool:
    """Whether the process waits for connections: its event loop watches its listening socket."""
    listening = re.findall(rf"pid={worker},fd=(\d+)", site.run("ss -Hltnp"))
    watched = re.findall(r"tfd:\s+(\d+)", site.run(f"cat /proc/{worker}/fdinfo/* 2>/dev/null || true"))
    return bool(set(listening) & set(watched))


def test_what_comes_on_a_kept_connection_while_the_worker_stops(site, worker_class):
    kept = site.connect("http", PORT)
    assert ask(kept) == b"done"
    running: list[bytes] = []
    thread = threading.Thread(target=lambda: running.append(ask_once(site, 4)))
    thread.start()
    wait_for(lambda: requests_read(site, PORT) == 2)
    main = site.run("systemctl show --value -p MainPID launcher").strip()
    worker = site.run(f"pgrep --parent {main}").strip()
    assert accepts(site, worker)
    site.run(f"kill -TERM {worker}")
    wait_for(lambda: not accepts(site, worker))
    kept.sock.settimeout(10)
    try:
        answer = ask(kept)
    except (OSError, http.client.HTTPException) as error:
        answer = type(error).__name__.encode()
    thread.join()
    kept.close()
    assert running == [b"done"]
    if worker_class == OURS:
        assert answer == b"done"
    else:
        assert answer != b"done", "gunicorn has learned it: the worker of our own may go"
