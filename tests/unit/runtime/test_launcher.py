# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the daemon's worker stores for slow clients; the rest of it is tested under a real gunicorn."""

from __future__ import annotations

import importlib
import select
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


@pytest.fixture(params=["its own answer", "those of others"])
def beyond(request, launcher, monkeypatch):
    """What is stored is as much as there may be."""
    if request.param == "its own answer":
        monkeypatch.setattr(launcher, "MAXIMUM_STORED", len(ANSWER) // 2)
    else:
        monkeypatch.setattr(launcher.Outgoing, "full", True)


def test_beyond_the_limit_a_client_that_does_not_read_is_left_at_last(beyond, ends):
    outgoing, _client = ends
    outgoing.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        for _ in range(PARTS):
            outgoing.sendall(ANSWER)
    assert outgoing.size <= len(ANSWER)


def test_beyond_the_limit_the_whole_answer_arrives_at_one_that_reads(beyond, ends):
    outgoing, client = ends
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(received(client, len(ANSWER) * PARTS)))
    reader.start()
    for _ in range(PARTS):
        outgoing.sendall(ANSWER)
    # As the worker's loop goes on when the request is done.
    while not outgoing.push():
        select.select([], [outgoing.sock], [], 20)
    reader.join()
    assert read == [ANSWER * PARTS]


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
