# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads sessions in a database, in place of `gluon.restricted.safe_loads`.

Read are numbers, texts, dates, and collections of them, what web2py itself puts into sessions, and the classes that the
deployment names. Anything else, or more than MOST, is no session, and its visitor begins a new one.
"""

from __future__ import annotations

import datetime
import importlib
import logging
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from web2py_runtime import pickles

logger = logging.getLogger("web2py_runtime")

# Bytes of a session, and of what objects that it creates copy from other parts of it.
MOST = 4 << 20
COLLECTIONS = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
SCALARS = (str, bytes, int, float, bool, type(None))
# Their arguments are texts, bytes and numbers.
VALUES = {
    "datetime": ("date", "datetime", "time", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "uuid": ("UUID",),
}
# Their argument is a dict, or what follows sets items of them.
STORAGES = {
    "gluon.globals": ("Session",),
    "gluon.storage": ("List", "Messages", "Storage"),
    "pydal.objects": ("Row", "Rows"),
}


def loads(data: bytes | str | None, allowed_classes: Mapping[str, Any] | None = None) -> Any:
    """The session; UnpicklingError where it is none, which makes web2py begin a new one."""
    try:
        content = data.encode("latin-1") if isinstance(data, str) else bytes(data or b"")
        if len(content) > MOST:
            raise pickles.Unreadable(f"it has {len(content)} bytes, the most that is read is {MOST}")
        session = pickles.read(content, Objects(allowed_classes or {}))
        if not isinstance(session, dict):
            raise pickles.Unreadable("it is no dict")
        # web2py does so next, and would answer each request of this visitor with a ticket if it failed.
        pickle.dumps(session, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        logger.warning("a session in the database was not read: %s: %s", type(error).__name__, error)
        raise pickle.UnpicklingError("no session") from None
    return session


class Class:
    """Stands for what a pickle names, so that the pickle can call it but not change it."""

    def __init__(self, call: Callable[..., Any], kind: type | None = None) -> None:
        self.call, self.kind = call, kind


class Objects(pickles.Objects):
    """Creates objects of the classes that are allowed."""

    def __init__(self, allowed: Mapping[str, Any]) -> None:
        self.allowed = {module: {names} if isinstance(names, str) else set(names) for module, names in allowed.items()}
        self.left = MOST

    def find(self, module: str, name: str) -> Class:
        if module == "builtins" and name in COLLECTIONS:
            return Class(self.collection(COLLECTIONS[name]))
        if module == "builtins" and name in BUILTINS:
            return Class(BUILTINS[name])
        if (module, name) == ("pydal.helpers.classes", "Reference_unpickler"):
            return Class(marshalled_integer)
        for kinds, accepted in ((VALUES, SCALARS), (STORAGES, (dict, *COLLECTIONS.values()))):
            if name in kinds.get(module, ()):
                found = getattr(importlib.import_module(module), name)
                return Class(taking(*accepted, values=True)(found), found)
        if name in self.allowed.get(module, ()):
            found = getattr(importlib.import_module(module), name)
            return Class(found, found if isinstance(found, type) else None)
        raise pickles.Unreadable(f"names {module[:80]}.{name[:80]}; name the class in session_classes to allow it")

    def call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Class) or not isinstance(arguments, tuple):
            raise pickles.Unreadable("calls something that is no class")
        self.charge(arguments)
        return function.call(*arguments)

    def create(self, kind: Any, arguments: Any, options: Any) -> Any:
        if not isinstance(kind, Class) or kind.kind is None or not isinstance(arguments, tuple):
            raise pickles.Unreadable("creates something that has no class")
        if not isinstance(options, dict):
            raise pickles.Unreadable("creates an object with options that are no dict")
        self.charge([*arguments, *options.values()])
        return kind.kind.__new__(kind.kind, *arguments, **options)

    def collection(self, kind: type) -> Callable[..., Any]:
        def call(values: Any = ()) -> Any:
            hashed = kind in (set, frozenset)
            if type(values) not in COLLECTIONS.values() or (hashed and not all(map(self.is_key, values))):
                raise pickles.Unreadable(f"creates a {kind.__name__} of something that is no list of texts and numbers")
            return kind(values)

        return call

    def charge(self, arguments: Any) -> None:
        """A few bytes can ask for another copy of a large part."""
        for value in arguments:
            if isinstance(value, Class):
                raise pickles.Unreadable("has a class among its values")
            self.left -= 100 + (0 if value is None or isinstance(value, (int, float)) else len_of(value))
        if self.left < 0:
            raise pickles.Unreadable("creates more objects than is allowed")

    def build(self, value: Any, state: Any) -> Any:
        if isinstance(value, Class) or type(value).__module__ == "builtins":
            raise pickles.Unreadable("sets the state of something that is no object")
        self.charge([state])
        set_state = getattr(type(value), "__setstate__", None)
        if set_state is not None:
            set_state(value, state)
            return value
        state, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
        for name, item in (state or {}).items():
            vars(value)[name] = item
        for name, item in (slots or {}).items():
            setattr(value, name, item)
        return value

    def set_items(self, target: Any, keys: list[Any], values: list[Any]) -> None:
        if isinstance(target, Class) or not hasattr(type(target), "__setitem__") or type(target) is bytearray:
            raise pickles.Unreadable("sets items of something that is no dict")
        for key, value in zip(keys, values, strict=True):
            if not self.is_key(key):
                raise pickles.Unreadable("a dict with other keys than texts, numbers and dates")
            target[key] = value

    def append(self, target: Any, values: list[Any]) -> None:
        if isinstance(target, Class) or not isinstance(target, list):
            raise pickles.Unreadable("appends to something that is no list")
        for value in values:
            target.append(value)

    def is_key(self, key: Any) -> bool:
        # Their hashes are those of bytes, which nobody can choose.
        return type(key) in (datetime.date, datetime.datetime, datetime.time) or super().is_key(key)

    def is_own_key(self, key: Any) -> bool:
        return type(key).__module__ in VALUES


def len_of(value: Any) -> int:
    return len(value) * (1 if isinstance(value, (str, bytes, bytearray)) else 64) if hasattr(value, "__len__") else 0


def taking(*kinds: type, values: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Lets a class be called with arguments of these kinds alone, and with other objects of `VALUES`."""

    def restrict(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            for argument in arguments:
                if type(argument) not in kinds and not (values and type(argument).__module__ in VALUES):
                    raise pickles.Unreadable(f"creates {function.__name__} of {type(argument).__name__}")
            return function(*arguments)

        return call

    return restrict


def marshalled_integer(data: Any) -> int:
    """A reference to a record, which pydal writes with marshal: that is not made for data of somebody else."""
    if isinstance(data, bytes) and len(data) == 5 and data[0] & 0x7F == ord("i"):
        return int.from_bytes(data[1:], "little", signed=True)
    if isinstance(data, bytes) and 5 < len(data) < 16 and data[0] & 0x7F == ord("l"):
        size = int.from_bytes(data[1:5], "little", signed=True)
        digits = [int.from_bytes(data[at : at + 2], "little") for at in range(5, len(data), 2)]
        if abs(size) == len(digits) and max(digits) < 1 << 15:
            number = sum(digit << (15 * place) for place, digit in enumerate(digits))
            return -number if size < 0 else number
    raise pickles.Unreadable("a reference to a record that is no number")


BUILTINS: dict[str, Callable[..., Any]] = {
    "dict": taking(dict)(dict),
    "bytearray": taking(bytes)(bytearray),
    "bytes": taking(bytes, bytearray)(bytes),
    "str": taking(str)(str),
    "int": taking(int, float, bool)(int),
    "float": taking(int, float, bool)(float),
    "bool": taking(int, float, bool)(bool),
    "complex": taking(int, float)(complex),
}
