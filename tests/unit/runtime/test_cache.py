# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""web2py's cache interface over memcached, with a server that is a dictionary and a clock that the tests set."""

from __future__ import annotations

import importlib
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

MONTH = 30 * 24 * 3600


class Server:
    """What memcached promises (its doc/protocol.txt), and what pymemcache's HashClient makes of it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.away = False
        self.items: dict[str, tuple[bytes, float | None, bytes]] = {}
        self.tokens = itertools.count()
        self.lock = threading.Lock()
        self.before_cas: Callable[[], None] = lambda: None

    def found(self, name: str) -> tuple[bytes, float | None, bytes] | None:
        assert 0 < len(name.encode()) <= 250 and name.isascii() and name.isprintable() and " " not in name
        item = self.items.get(name)
        return item if item and (item[1] is None or item[1] > self.now) else None

    def keep(self, name: str, value: bytes, expire: int) -> None:
        assert isinstance(value, bytes) and isinstance(expire, int)
        # More than 30 days are a date, and a date that is over means at once.
        until = None if expire == 0 else float(expire) if expire > MONTH else self.now + expire
        self.items[name] = (value, until, str(next(self.tokens)).encode())

    def get(self, name: str) -> bytes | None:
        with self.lock:
            item = None if self.away else self.found(name)
            return item and item[0]

    def gets(self, name: str) -> tuple[bytes | None, bytes | None] | None:
        with self.lock:
            if self.away:
                return None
            item = self.found(name)
            return (item[0], item[2]) if item else (None, None)

    def get_many(self, names: list[str]) -> dict[str, bytes]:
        values = {name: self.get(name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def set(self, name: str, value: bytes, expire: int = 0) -> bool:
        with self.lock:
            if self.away:
                return False
            self.keep(name, value, expire)
            return True

    def delete(self, name: str) -> bool:
        with self.lock:
            return not self.away and self.items.pop(name, None) is not None

    def add(self, name: str, value: bytes, expire: int = 0, noreply: bool = True) -> bool:
        assert not noreply, "else nobody knows whether it was added"
        with self.lock:
            if self.away or self.found(name):
                return False
            self.keep(name, value, expire)
            return True

    def cas(self, name: str, value: bytes, token: bytes, expire: int = 0, noreply: bool = False) -> bool | None:
        assert not noreply, "else nobody knows whether it was changed"
        self.before_cas()
        with self.lock:
            if self.away:
                return False
            item = self.found(name)
            if not item:
                return None
            if item[2] != token:
                return False
            self.keep(name, value, expire)
            return True


SERVERS: dict[tuple[str, ...], Server] = {}


@pytest.fixture(scope="module")
def module() -> Iterator[ModuleType]:
    """The module under test; pymemcache is on web hosts only."""
    names = ("pymemcache", "pymemcache.client", "pymemcache.client.hash")
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, ModuleType(name))
        client = lambda servers, **options: SERVERS.setdefault(tuple(servers), Server())  # noqa: E731
        patch.setattr(sys.modules[names[-1]], "HashClient", client, raising=False)
        patch.delitem(sys.modules, "web2py_runtime.cache", raising=False)
        yield importlib.import_module("web2py_runtime.cache")
        sys.modules.pop("web2py_runtime.cache", None)


@pytest.fixture(scope="module")
def make(module: ModuleType) -> Callable[..., Any]:
    """Return a maker of caches that share a new server, or the given one."""
    numbers = itertools.count()

    def maker(signed_with: str = "secret", application: str = "shop", like: Any = None) -> Any:
        cache = module.Memcached(like.servers if like else [f"host:{next(numbers)}"], signed_with, application)
        cache.servers = like.servers if like else list(next(key for key, s in SERVERS.items() if s is cache.client))
        server = cache.client
        module.time = SimpleNamespace(time=lambda: server.now, time_ns=lambda: int(server.now * 1e9))
        return cache

    return maker


class Function:
    """What an application wants to be cached; counts how often it was computed."""

    def __init__(self, value: Any = "value") -> None:
        self.value, self.calls = value, 0

    def __call__(self) -> Any:
        self.calls += 1
        return self.value


@given(st.text(min_size=1), st.text() | st.none() | st.integers() | st.lists(st.binary()) | st.booleans())
def test_a_value_is_computed_once(make: Any, key: str, value: Any) -> None:
    cache, function = make(), Function(value)
    assert [cache(key, function, 60) for _ in range(3)] == [value] * 3
    assert function.calls == 1


def test_an_empty_key_is_a_key_like_others(make: Any) -> None:
    """As with cache.ram."""
    cache, function, other = make(), Function(1), Function(2)
    cache("other", other)
    assert [cache("", function) for _ in range(3)] == [1] * 3
    assert function.calls == 1
    assert cache("other", other) == 2 and other.calls == 1


def test_how_old_a_value_may_be_is_for_the_reader_to_say(make: Any) -> None:
    cache, function = make(), Function()
    cache("key", function, 100)
    cache.client.now += 50
    cache("key", function, 60)
    cache("key", function, None)
    assert function.calls == 1
    cache("key", function, 50)
    assert function.calls == 2, "50 seconds old is too old"
    cache.client.now += 300
    cache("key", function)
    assert function.calls == 3, "300 seconds, unless given"


def test_a_value_without_end(make: Any) -> None:
    cache, function = make(), Function()
    cache("key", function, None)
    cache.client.now += 100 * MONTH
    cache("key", function, None)
    assert function.calls == 1


@pytest.mark.parametrize("seconds", [0.5, 1, 1.5, 300, MONTH - 1, MONTH - 0.5, MONTH, MONTH + 1, 10 * MONTH])
def test_a_value_lives_for_as_long_as_was_asked_for(make: Any, seconds: float) -> None:
    cache, function = make(), Function()
    cache("key", function, seconds)
    cache.client.now += seconds - 0.25
    cache("key", function, seconds)
    assert function.calls == 1
    cache.client.now += 0.5
    cache("key", function, seconds)
    assert function.calls == 2


@pytest.mark.parametrize("seconds", [0, -1])
def test_no_time_at_all_computes_anew(make: Any, seconds: int) -> None:
    cache, function = make(), Function()
    cache("key", function, seconds)
    cache("key", function, seconds)
    assert function.calls == 2


def test_a_value_is_deleted_by_none(make: Any) -> None:
    cache, function = make(), Function()
    cache("key", function)
    assert cache("key", None) is None
    assert cache("key", None) is None
    cache("key", function)
    assert function.calls == 2


def test_clear_forgets_all_of_this_application_and_nothing_of_others(make: Any) -> None:
    shop = make()
    wiki = make(application="wiki", like=shop)
    one, two, other = Function(), Function(), Function("other")
    shop("one", one), shop("two", two, None), wiki("one", other)
    shop.clear(regex="one")
    shop("one", one), shop("two", two, None)
    assert wiki("one", other) == "other"
    assert (one.calls, two.calls, other.calls) == (2, 2, 1)
    shop("one", one)
    assert one.calls == 2, "what was computed afterwards is kept"


def test_what_was_cleared_while_it_was_computed_is_not_kept(make: Any) -> None:
    cache, function = make(), Function("new")

    def old() -> str:
        cache.clear()
        return "old"

    assert cache("key", old) == "old"
    assert cache("key", function) == "new"


def test_two_applications_have_nothing_in_common(make: Any) -> None:
    shop = make()
    for application, secret in (("wiki", "secret"), ("shop", "another secret")):
        other = make(secret, application, like=shop)
        assert shop("key", lambda: "mine") == "mine"
        assert other("key", lambda: "yours") == "yours"
        shop("key", None)


@given(st.text(min_size=1), st.text(min_size=1), st.text(), st.text())
def test_names_are_different_and_fit_memcached(make: Any, one: str, other: str, key: str, second: str) -> None:
    caches = make(application=one), make(application=other)
    names = {cache.name(text) for cache in caches for text in (key, second)}
    # An application's name has no control characters.
    if "\0" not in one + other:
        assert len(names) == len({one, other}) * len({key, second})
    for name in names:
        caches[0].client.found(name)


@given(st.data())
def test_what_somebody_else_wrote_counts_as_absent(make: Any, data: st.DataObject) -> None:
    """And is never unpickled: its signature fails before."""
    cache, function = make(), Function("right")
    cache("key", function, None)
    name = cache.name("key")
    value = cache.client.items[name][0]
    place = data.draw(st.integers(0, len(value) - 1))
    changed = bytes([value[place] ^ data.draw(st.integers(1, 255))])
    forged = data.draw(
        st.sampled_from([value[:place] + changed + value[place + 1 :], value[:place], value + b".", b"x" * 32])
    )
    cache.client.set(name, forged)
    assert cache.opened(name, forged) is None
    assert cache("key", function, None) == "right"
    assert function.calls == 2


def test_a_value_in_the_place_of_another_counts_as_absent(make: Any) -> None:
    cache, function = make(), Function("user")
    cache("administrator", lambda: "administrator")
    cache.client.set(cache.name("user"), cache.client.items[cache.name("administrator")][0])
    assert cache("user", function) == "user"
    assert function.calls == 1


class TestIncrement:
    def test_it_begins_at_nothing_and_is_shared(self, make: Any) -> None:
        one = make()
        two = make(like=one)
        assert [one.increment("n"), two.increment("n"), one.increment("n", 5), two.increment("n", -2)] == [1, 2, 7, 5]
        assert one.increment("other") == 1
        assert one.increment("half", 0.5) == 0.5
        one.client.now += 100 * MONTH
        assert one.increment("n") == 6

    def test_it_adds_to_what_a_function_gave_as_with_cache_ram(self, make: Any) -> None:
        cache, function = make(), Function(5)
        cache("n", function, None)
        assert cache.increment("n") == 6
        assert cache("n", function, None) == 6

    def test_it_begins_anew_after_clear(self, make: Any) -> None:
        cache = make()
        cache.increment("n", 5)
        cache.clear()
        assert [cache.increment("n"), cache.increment("n")] == [1, 2]

    def test_what_somebody_else_wrote_is_no_number(self, make: Any) -> None:
        cache = make()
        cache.client.set(cache.name("n"), b"forged" * 10)
        assert [cache.increment("n"), cache.increment("n")] == [1, 2]

    def test_another_process_comes_between(self, make: Any) -> None:
        cache = make()
        other = make(like=cache)
        cache.increment("n")

        def between() -> None:
            cache.client.before_cas = lambda: None
            other.increment("n", 10)

        cache.client.before_cas = between
        assert cache.increment("n") == 12

    def test_nothing_is_lost_among_threads(self, make: Any) -> None:
        cache = make()
        threads = [threading.Thread(target=lambda: [cache.increment("n") for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cache.increment("n", 0) == 200


def test_without_a_server_everything_is_computed(make: Any) -> None:
    cache, function = make(), Function()
    cache.client.away = True
    assert [cache("key", function) for _ in range(2)] == ["value"] * 2
    assert function.calls == 2
    assert cache.increment("n", 3) == 3
    assert cache.clear() is None
    assert cache("key", None) is None
    cache.client.away = False
    cache("key", function), cache("key", function)
    assert function.calls == 3, "back at once"


def test_an_error_of_the_function_is_the_application_s(make: Any) -> None:
    cache = make()
    with pytest.raises(ZeroDivisionError):
        cache("key", lambda: 1 / 0)
    assert cache("key", lambda: 1) == 1


def test_one_client_serves_all_requests_of_a_process(make: Any) -> None:
    cache = make()
    assert make(like=cache).client is cache.client
    assert make().client is not cache.client


def test_what_else_web2py_asks_of_a_cache(make: Any) -> None:
    cache = make()
    assert cache.initialize() is None
    assert cache.storage == {}
    assert cache("key", lambda: 1, time_expire=5, destroyer=print) == 1
