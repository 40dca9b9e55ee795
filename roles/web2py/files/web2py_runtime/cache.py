# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""memcached behind web2py's cache interface, in place of `cache.ram` and `cache.disk`.

web2py's own client (gluon.contrib.memcache) does not run on Python 3. memcached asks nobody for a password, and values
are pickles, which can run code: so each is signed, and one that is not ours counts as absent. Without a server
everything is computed anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import hmac
import pickle
import time
from collections.abc import Callable
from typing import Any

from pymemcache.client.hash import HashClient

DEFAULT_TIME_EXPIRE = 300
# memcached takes a larger number for a date.
LONGEST = 30 * 24 * 3600
SIGNATURE = hashlib.sha256().digest_size
# How often an increment is tried when others change the same value.
ATTEMPTS = 50


@functools.lru_cache(maxsize=16)
def client(servers: tuple[str, ...]) -> HashClient:
    """One client with its pool of connections for all requests of a process."""
    return HashClient(
        list(servers),
        connect_timeout=0.3,
        timeout=0.5,
        # A server that is away is asked again after so many seconds; meanwhile its values are computed.
        retry_attempts=1,
        retry_timeout=1,
        dead_timeout=2,
        ignore_exc=True,
        no_delay=True,
        use_pooling=True,
        max_pool_size=64,
    )


class Memcached:
    """The values of one application."""

    def __init__(self, servers: list[str], secret: str, application: str) -> None:
        self.client = client(tuple(servers))
        self.secret = secret.encode()
        self.application = application
        # What web2py's own caches have and admin shows.
        self.storage: dict[str, Any] = {}

    def initialize(self) -> None:
        """Part of web2py's interface."""

    def __call__(
        self, key: str, f: Callable[[], Any] | None, time_expire: float | None = DEFAULT_TIME_EXPIRE, **_: Any
    ) -> Any:
        """Return the value of `key` if it is not older than `time_expire` seconds, else that of `f()`, which is kept.

        As with web2py's own caches, `f` None deletes the value, and `time_expire` None takes one of any age.
        """
        name = self.name(key)
        if f is None:
            self.client.delete(name)
            return None
        generation = self.generation()
        found = self.client.get_many([name, generation]) or {}
        current = found.get(generation) or b""
        kept = self.opened(name, found.get(name))
        if kept and kept[0] == current and (time_expire is None or kept[1] > time.time() - time_expire):
            return kept[2]
        value = f()
        self.store(name, current, value, time_expire)
        return value

    def clear(self, regex: str | None = None) -> None:
        """Forget all values of the application: memcached cannot list its keys, so `regex` cannot choose among them."""
        self.client.set(self.generation(), str(time.time_ns()).encode())

    def increment(self, key: str, value: float = 1) -> float:
        """Add to a number that all processes share; it begins at 0."""
        name, generation = self.name(key), self.generation()
        for _ in range(ATTEMPTS):
            current = self.client.get(generation) or b""
            data, token = self.client.gets(name) or (None, None)
            kept = self.opened(name, data)
            total = (kept[2] if kept and kept[0] == current else 0) + value
            sealed = self.sealed(name, (current, time.time(), total))
            if data is None:
                done = self.client.add(name, sealed, noreply=False)
            else:
                done = self.client.cas(name, sealed, token, noreply=False)
            # None and False also come from a server that is away, which keeps nothing.
            if done or (data is None and self.client.get(name) is None):
                return total
        return total

    def name(self, key: str) -> str:
        """A name that any key has, however long, and no other application's key."""
        return hashlib.sha256(f"{self.application}\0{key}".encode()).hexdigest()

    def generation(self) -> str:
        """The name of what changes when all values are to be forgotten; it is not that of any key."""
        return hashlib.sha256(f"{self.application}\1".encode()).hexdigest()

    def sealed(self, name: str, content: tuple[bytes, float, Any]) -> bytes:
        data = pickle.dumps(content, pickle.HIGHEST_PROTOCOL)
        return self.signature(name, data) + data

    def signature(self, name: str, data: bytes) -> bytes:
        # With the name in it, no value can be put in the place of another.
        return hmac.digest(self.secret, name.encode() + data, "sha256")

    def opened(self, name: str, sealed: bytes | None) -> tuple[bytes, float, Any] | None:
        if not sealed or not hmac.compare_digest(sealed[:SIGNATURE], self.signature(name, sealed[SIGNATURE:])):
            return None
        # A class of an earlier release may be gone.
        with contextlib.suppress(Exception):
            return pickle.loads(sealed[SIGNATURE:])  # noqa: S301 (signed by this site)
        return None

    def store(self, name: str, generation: bytes, value: Any, time_expire: float | None) -> None:
        expire = 0 if time_expire is None or time_expire >= LONGEST else max(int(time_expire) + 1, 1)
        if time_expire is None or time_expire > 0:
            self.client.set(name, self.sealed(name, (generation, time.time(), value)), expire=expire)
