# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the daemon's worker stores for slow clients; the rest of it is tested under a real gunicorn."""

from __future__ import annotations

import importlib
import socket
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

# What the module takes from gunicorn, which controllers do not have.
NAMES = {
    "gunicorn": (),
    "gunicorn.http": ("RequestParser",),
    "gunicorn.http.body": ("LengthReader",),
    "gunicorn.http.errors": ("InvalidHeader", "ParseException"),
    "gunicorn.workers": (),
    "gunicorn.workers.gthread": ("TConn", "ThreadWorker"),
}
ANSWER = bytes(range(256)) * 4096 * 4  # 4 MiB, more than the kernel keeps for a connection
PARTS = 4


@pytest.fixture
def launcher(monkeypatch):
    for name, members in NAMES.items():
        module = ModuleType(name)
        for member in members:
            setattr(module, member, type(member, (Exception,) if "Exception" in member else (), {}))
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "web2py_runtime.launcher", raising=False)
    module = importlib.import_module("web2py_runtime.launcher")
    yield module
    sys.modules.pop("web2py_runtime.launcher", None)


@pytest.fixture
def ends(launcher):
    server, client = socket.socketpair()
    client.settimeout(20)
    server.settimeout(20)
    outgoing = launcher.Outgoing(server)
    outgoing.patience = 0.0
    yield outgoing, client
    outgoing.stored.close()
    server.close()
    client.close()


def received(client: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += client.recv(1 << 20)
    return bytes(data)


def test_an_answer_is_stored_for_a_client_that_does_not_read(ends):
    outgoing, _client = ends
    for _ in range(PARTS):
        outgoing.sendall(ANSWER)
    assert outgoing.size - outgoing.sent > (PARTS - 1) * len(ANSWER)


@pytest.mark.parametrize("why", ["its own answer", "those of others"])
def test_beyond_the_limit_the_client_is_waited_for(launcher, ends, monkeypatch, why):
    outgoing, client = ends
    if why == "its own answer":
        monkeypatch.setattr(launcher, "MAXIMUM_STORED", len(ANSWER) // 2)
    else:
        monkeypatch.setattr(launcher.Outgoing, "full", True)
    largest = []

    def answer() -> None:
        for _ in range(PARTS):
            outgoing.sendall(ANSWER)
            largest.append(outgoing.size)

    thread = threading.Thread(target=answer)
    thread.start()
    rest = len(ANSWER) * PARTS
    data = received(client, rest - len(ANSWER))
    thread.join()
    outgoing.sock.settimeout(0)
    while not outgoing.push():
        data += client.recv(1 << 20)
    data += received(client, rest - len(data))
    assert data == ANSWER * PARTS
    assert max(largest) <= len(ANSWER)


def test_what_all_clients_together_leave_is_limited(launcher, monkeypatch):
    monkeypatch.setattr(launcher, "MAXIMUM_STORED", 100)
    worker = launcher.Worker()
    stored = [SimpleNamespace(outgoing=SimpleNamespace(size=60)) for _ in range(2)]
    worker.running, worker.sending = stored[:1], [SimpleNamespace(outgoing=None)]
    worker.look_at_what_is_stored()
    assert not launcher.Outgoing.full
    worker.running = stored
    worker.look_at_what_is_stored()
    assert launcher.Outgoing.full
