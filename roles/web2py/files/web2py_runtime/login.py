# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Limits how often a password of web2py's administration can be tried.

Counted is the comparison of a password with its hash, so it makes no difference by which path, method, controller or
action of admin the password came. web2py's own count lets each wrong password, and each request of a client that it
refuses, sleep in a thread, and overlooks two of the places that take a password.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import json
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from web2py_runtime import policy

logger = logging.getLogger("web2py.runtime")

# web2py's numbers: so many wrong passwords of one client, then none for so many seconds.
LIMIT = 5
LOCK_SECONDS = 3600
# So many wrong passwords of all clients together in that time, then one in so many seconds. Only slower, so that nobody
# can lock the administrator out from everywhere, and not for clients that have logged in lately.
COMMON_LIMIT = 50
COMMON_INTERVAL = 10
KNOWN_SECONDS = 30 * 86400
KNOWN_CLIENTS = 20

BUSY_SECONDS = 5
# Many times what the limits above let the file grow to.
MAXIMUM_SIZE = 262144


class Refused(Exception):
    """No password may be tried now; `seconds` from now one may."""

    def __init__(self, status: str, seconds: int) -> None:
        super().__init__(status, seconds)
        self.status, self.seconds = status, seconds


@dataclass
class State:
    """The content of the file: the count and time of wrong passwords, and the last login, by client."""

    failed: dict[str, tuple[int, int]] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str, now: int) -> State:
        """Read what is not over yet; raises an exception of some kind where `text` is anything else."""
        data = json.loads(text)
        failed = {str(client): (int(count), int(last)) for client, (count, last) in data["failed"].items()}
        known = {str(client): int(last) for client, last in data["known"].items()}
        # A clock may have been set back since.
        return cls(
            {client: (count, last) for client, (count, last) in failed.items() if abs(now - last) < LOCK_SECONDS},
            {client: last for client, last in known.items() if abs(now - last) < KNOWN_SECONDS},
        )

    def lock(self, client: str, now: int) -> int:
        """The seconds for which this client is refused."""
        count, last = self.failed.get(client, (0, 0))
        return max(1, min(last + LOCK_SECONDS - now, LOCK_SECONDS)) if count >= LIMIT else 0

    def pause(self, client: str, now: int) -> int:
        """The seconds for which a client waits because of the wrong passwords of all."""
        if client in self.known or sum(count for count, _ in self.failed.values()) < COMMON_LIMIT:
            return 0
        newest = max(last for _, last in self.failed.values())
        return max(0, min(newest + COMMON_INTERVAL - now, COMMON_INTERVAL))


def counted_as(client: str) -> str:
    """The name under which a client is counted; who has one IPv6 address has a network of them."""
    address = ipaddress.ip_address(client)
    if address.version == 4:
        return client
    return str(ipaddress.ip_network((address, 64), strict=False))


class Attempts:
    """The wrong passwords of the last hour, in a file in `folder` that all processes of this service share."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.file = os.path.join(folder, "login_attempts.json")
        self._read: tuple[tuple[int, ...], str] = ((), "")

    def check(self, client: str) -> None:
        """Refuse a client that has tried too many passwords."""
        now = int(time.time())
        seconds = self._state(now).lock(counted_as(client), now)
        if seconds:
            raise Refused("429 TOO MANY REQUESTS", seconds)

    @contextlib.contextmanager
    def one(self, client: str) -> Iterator[Callable[[], None]]:
        """Try one password inside the block, and call what is yielded if it is right.

        Until then it counts as wrong, so no number of parallel tries is more than the limit. One is tried at a time in
        all processes, because each costs much computing.
        """
        client = counted_as(client)
        with contextlib.ExitStack() as stack:
            try:
                folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
                stack.callback(os.close, folder)
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                now = int(time.time())
                state = self._state(now)
                seconds = state.lock(client, now) or state.pause(client, now)
                if seconds:
                    raise Refused("429 TOO MANY REQUESTS", seconds)
                state.failed[client] = (state.failed.get(client, (0, 0))[0] + 1, now)
                self._write(state)
            except BlockingIOError:
                raise Refused("503 SERVICE UNAVAILABLE", BUSY_SECONDS) from None
            except OSError:
                # What cannot be counted is not tried.
                logger.exception("no password can be tried: %s cannot be written", self.file)
                raise Refused("503 SERVICE UNAVAILABLE", 60) from None

            def forget() -> None:
                del state.failed[client]
                newest = sorted((state.known | {client: now}).items(), key=lambda item: item[1])[-KNOWN_CLIENTS:]
                state.known = dict(newest)
                self._write(state)

            yield forget
            if state.failed.get(client, (0, 0))[0] == LIMIT:
                logger.warning("%s is locked out of the administration after %d wrong passwords", client, LIMIT)

    def failures(self, client: str) -> int:
        return self._state(int(time.time())).failed.get(counted_as(client), (0, 0))[0]

    def _state(self, now: int) -> State:
        try:
            return State.parse(self._text(), now)
        except FileNotFoundError:
            return State()
        except Exception:
            logger.exception("%s is damaged; the count of wrong passwords begins anew", self.file)
            return State()

    def _text(self) -> str:
        """The content of the file; it is replaced as a whole, and read again when it was."""
        found = os.lstat(self.file)
        identity = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._read[0] != identity:
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAXIMUM_SIZE:
                raise ValueError("it is no file, or too large")
            with open(os.open(self.file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), encoding="utf-8") as file:
                self._read = (identity, file.read(MAXIMUM_SIZE))
        return self._read[1]

    def _write(self, state: State) -> None:
        handle, path = tempfile.mkstemp(prefix="login_attempts.", dir=self.folder)
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump({"failed": state.failed, "known": state.known}, file)
            os.replace(path, self.file)
        except BaseException:
            os.unlink(path)
            raise


def install() -> None:
    """Count passwords where admin compares them, refuse clients after routing, and renew sessions at login."""
    from gluon import main
    from gluon.globals import current
    from gluon.http import HTTP
    from gluon.settings import global_settings
    from pydal.validators import LazyCrypt

    attempts = Attempts(os.path.join(global_settings.applications_parent, "applications", "admin", "private"))

    class Refusal(HTTP):
        def __init__(self, refused: Refused) -> None:
            headers = {
                "Content-Type": "text/plain; charset=utf-8",
                "Cache-Control": "no-store",
                "Retry-After": str(refused.seconds),
            }
            text = f"No password can be tried now. Please try again in {refused.seconds} seconds.\n"
            HTTP.__init__(self, refused.status, text, **headers)

    route, run_models, rewrite = main.url_in, main.run_models_in, main.try_rewrite_on_error
    compare = LazyCrypt.__eq__

    def check() -> None:
        try:
            attempts.check(policy.current().client)
        except Refused as refused:
            raise Refusal(refused) from None

    def url_in(request: Any, environ: dict[str, Any]) -> Any:
        routed = route(request, environ)
        # Who has a cookie may have logged in; that is known when the session has been read.
        if (
            not routed[0]
            and request.application == "admin"
            and "session_id_admin" not in environ.get("HTTP_COOKIE", "")
        ):
            check()
        return routed

    def equals(self: Any, stored: object) -> bool:
        request = current.__dict__.get("request")
        if request is None or request.application != "admin" or not isinstance(stored, str):
            return compare(self, stored)
        try:
            with attempts.one(policy.current().client) as forget:
                right = compare(self, stored)
                if right:
                    forget()
        except Refused as refused:
            raise Refusal(refused) from None
        if right:
            renew_session(current.session, current.response)
        return right

    def run_models_in(environment: dict[str, Any]) -> Any:
        if current.request.application != "admin":
            return run_models(environment)
        # Others at the same address, such as the end of an SSH tunnel, must not be able to end an open session.
        if not current.session.authorized:
            try:
                check()
            except Refusal:
                current.session.forget(current.response)
                raise
        result = run_models(environment)
        client = policy.current().client
        # Those of admin sleep. The count is for its message to whoever tried a wrong password.
        environment["login_record"] = lambda success=True: 0 if success else attempts.failures(client)
        environment["failed_login_count"] = lambda: 0
        return result

    def try_rewrite_on_error(response: Any, request: Any, environ: dict[str, Any], ticket: Any = None) -> Any:
        # The site's own error page would cost what is saved here, and lose the header.
        if isinstance(response, Refusal):
            return response, environ
        return rewrite(response, request, environ, ticket)

    main.url_in = url_in
    main.run_models_in = run_models_in
    main.try_rewrite_on_error = try_rewrite_on_error
    LazyCrypt.__eq__ = equals


def renew_session(session: Any, response: Any) -> None:
    """Give the session another id, so that one that somebody else knows is worth nothing after the login."""
    from gluon import recfile

    previous = response.session_filename if response.session_storage_type == "file" else None
    session.renew()
    if previous:
        # The session of a visitor without a cookie has no file yet.
        with contextlib.suppress(OSError):
            recfile.remove(previous)
