# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read pickles that somebody else may have written.

An unpickler calls what a pickle names, and lets few bytes become much memory or work. This is a small interpreter of
the operations instead: it imports and calls nothing by itself, and what it builds is not larger than a small multiple
of the data. What becomes of classes that a pickle names is decided by the `Plain` given, or a class derived from it.
The file runs in modules of the collection and, as `web2py_runtime.pickles`, on the web hosts; it needs the standard
library only.
"""

# A class derived from dict or list is not filled as these are.
# pylint: disable=unidiomatic-typecheck

from __future__ import annotations

import pickle
import struct
from typing import Any

MOST_OPERATIONS = 200_000
# Members of sets and keys of dicts that can be chosen so that all have the same hash; each is compared with all others.
MOST_CHOSEN = 200


class Unreadable(pickle.UnpicklingError):
    """This pickle is not read here. The text says why."""


class Plain:
    """Texts, bytes, numbers, dicts, lists and tuples alone: what names a class is refused."""

    SETS = False

    def find(self, module: str, name: str) -> Any:
        """What a name stands for."""
        raise Unreadable(f"names {module[:80]}.{name[:80]}, which is not allowed")

    def call(self, function: Any, arguments: Any) -> Any:
        raise Unreadable("calls something, which is not allowed")

    def create(self, kind: Any, arguments: Any, options: Any) -> Any:
        raise Unreadable("creates an object, which is not allowed")

    def build(self, value: Any, state: Any) -> Any:
        raise Unreadable("sets the state of an object, which is not allowed")

    def set_items(self, target: Any, keys: list[Any], values: list[Any]) -> None:
        raise Unreadable("sets items of something else than a dict")

    def append(self, target: Any, values: list[Any]) -> None:
        raise Unreadable("appends to something else than a list")

    def is_key(self, key: Any) -> bool:
        """Whether it is hashed.

        Numbers can be chosen so that all have the same hash, and that of nested tuples takes as long as somebody likes.
        """
        return isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 31)


class Objects(Plain):
    """What else is common in sessions: sets, and keys that are other than texts. A derived class makes the objects."""

    SETS = True
    # How many more may be chosen.
    chosen = MOST_CHOSEN

    def is_key(self, key: Any) -> bool:
        if isinstance(key, (str, bytes, type(None))) or (isinstance(key, int) and abs(key) < 1 << 31):
            return True
        self.chosen -= 1
        if self.chosen < 0:
            raise Unreadable(f"more than {MOST_CHOSEN} keys and members other than texts, dates and small numbers")
        if isinstance(key, tuple):
            return len(key) <= 16 and not any(isinstance(part, tuple) for part in key) and all(map(self.is_key, key))
        return isinstance(key, (int, float)) or self.is_own_key(key)

    def is_own_key(self, key: Any) -> bool:
        """Whether an object that was made here is hashed."""
        return False


_MARK = object()
_INT, _FLOAT = struct.Struct("<i"), struct.Struct(">d")
# Operation: number of bytes that give the length, and what follows.
_SIZED = {
    0x8C: (1, str),  # SHORT_BINUNICODE
    0x58: (4, str),  # BINUNICODE
    0x8D: (8, str),  # BINUNICODE8
    0x43: (1, bytes),  # SHORT_BINBYTES
    0x42: (4, bytes),  # BINBYTES
    0x8E: (8, bytes),  # BINBYTES8
    0x96: (8, bytearray),  # BYTEARRAY8
    0x8A: (1, int),  # LONG1
}


def read(data: bytes, objects: Plain) -> Any:
    """Return what is pickled."""
    position, end = 0, len(data)
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    push, pop = stack.append, stack.pop

    def since_mark() -> list[Any]:
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is _MARK:
                found = stack[index + 1 :]
                del stack[index:]
                return found
        raise Unreadable("a pickle that takes more than it has")

    def taken() -> Any:
        value = pop()
        if value is _MARK:
            raise Unreadable("a pickle that takes more than it has")
        return value

    def line() -> bytes:
        nonlocal position
        start, position = position, data.find(b"\n", position) + 1
        if not position:
            raise Unreadable("the file ends in the middle")
        return data[start : position - 1]

    def update(target: Any, values: list[Any]) -> None:
        if len(values) % 2:
            raise Unreadable("a pickle with a key that has no value")
        keys, values = values[::2], values[1::2]
        if type(target) is not dict:
            objects.set_items(target, keys, values)
            return
        for key in keys:
            if not isinstance(key, str) and not objects.is_key(key):
                raise Unreadable("a dict with other keys than texts and small numbers")
        target.update(zip(keys, values, strict=True))

    def extend(target: Any, values: list[Any]) -> None:
        if type(target) is list:
            target.extend(values)
        else:
            objects.append(target, values)

    def members(values: list[Any]) -> list[Any]:
        if not objects.SETS or not all(map(objects.is_key, values)):
            raise Unreadable("a set, or one of other members than texts and small numbers")
        return values

    try:
        # Few bytes can be many objects, of which the smallest takes as much memory as eighty bytes.
        for _operation in range(MOST_OPERATIONS):
            code = data[position]
            position += 1
            if code in _SIZED:
                width, kind = _SIZED[code]
                size = int.from_bytes(data[position : position + width], "little")
                position += width + size
                if position > end:
                    raise Unreadable("the file ends in the middle")
                body = data[position - size : position]
                if kind is str:
                    push(body.decode("utf-8", "surrogatepass"))
                elif kind is int:
                    push(int.from_bytes(body, "little", signed=True))
                else:
                    push(kind(body))
            elif code == 0x94:  # MEMOIZE
                memo[len(memo)] = stack[-1]
            elif code == 0x68:  # BINGET
                push(memo[data[position]])
                position += 1
            elif code == 0x6A:  # LONG_BINGET
                push(memo[int.from_bytes(data[position : position + 4], "little")])
                position += 4
            elif code == 0x71:  # BINPUT
                memo[data[position]] = stack[-1]
                position += 1
            elif code == 0x72:  # LONG_BINPUT
                memo[int.from_bytes(data[position : position + 4], "little")] = stack[-1]
                position += 4
            elif code == 0x28:  # MARK
                push(_MARK)
            elif code == 0x75:  # SETITEMS
                values = since_mark()
                update(stack[-1], values)
            elif code == 0x73:  # SETITEM
                value, key = taken(), taken()
                update(stack[-1], [key, value])
            elif code == 0x7D:  # EMPTY_DICT
                push({})
            elif code == 0x5D:  # EMPTY_LIST
                push([])
            elif code == 0x65:  # APPENDS
                values = since_mark()
                extend(stack[-1], values)
            elif code == 0x61:  # APPEND
                value = taken()
                extend(stack[-1], [value])
            elif code == 0x4E:  # NONE
                push(None)
            elif code in (0x88, 0x89):  # NEWTRUE, NEWFALSE
                push(code == 0x88)
            elif code == 0x4B:  # BININT1
                push(data[position])
                position += 1
            elif code == 0x4D:  # BININT2
                push(int.from_bytes(data[position : position + 2], "little"))
                position += 2
            elif code == 0x4A:  # BININT
                push(_INT.unpack_from(data, position)[0])
                position += 4
            elif code == 0x47:  # BINFLOAT
                push(_FLOAT.unpack_from(data, position)[0])
                position += 8
            elif code in (0x29, 0x85, 0x86, 0x87):  # EMPTY_TUPLE, TUPLE1 to TUPLE3
                size = (0x29, 0x85, 0x86, 0x87).index(code)
                values = stack[len(stack) - size :] if size else []
                if len(values) != size or any(value is _MARK for value in values):
                    raise Unreadable("a pickle that takes more than it has")
                del stack[len(stack) - size :]
                push(tuple(values))
            elif code == 0x74:  # TUPLE
                push(tuple(since_mark()))
            elif code == 0x6C:  # LIST
                push(since_mark())
            elif code == 0x64:  # DICT
                values = since_mark()
                push({})
                update(stack[-1], values)
            elif code == 0x93:  # STACK_GLOBAL
                name, module = taken(), taken()
                if not isinstance(name, str) or not isinstance(module, str):
                    raise Unreadable("names something by other than texts")
                push(objects.find(module, name))
            elif code == 0x63:  # GLOBAL
                module, name = line(), line()
                push(objects.find(module.decode("utf-8", "replace"), name.decode("utf-8", "replace")))
            elif code == 0x52:  # REDUCE
                arguments, function = taken(), taken()
                push(objects.call(function, arguments))
            elif code == 0x81:  # NEWOBJ
                arguments, kind = taken(), taken()
                push(objects.create(kind, arguments, {}))
            elif code == 0x92:  # NEWOBJ_EX
                options, arguments, kind = taken(), taken(), taken()
                push(objects.create(kind, arguments, options))
            elif code == 0x62:  # BUILD
                state, value = taken(), taken()
                push(objects.build(value, state))
            elif code == 0x8F and objects.SETS:  # EMPTY_SET
                push(set())
            elif code == 0x90 and objects.SETS:  # ADDITEMS
                values = members(since_mark())
                if type(stack[-1]) is not set:
                    raise Unreadable("adds to something else than a set")
                stack[-1].update(values)
            elif code == 0x91 and objects.SETS:  # FROZENSET
                push(frozenset(members(since_mark())))
            elif code == 0x30:  # POP
                pop()
            elif code == 0x70:  # PUT
                memo[int(line()[:12])] = stack[-1]
            elif code == 0x67:  # GET
                push(memo[int(line()[:12])])
            elif code == 0x56:  # UNICODE
                push(str(line(), "raw-unicode-escape"))
            elif code == 0x49:  # INT
                text = line()
                push({b"00": False, b"01": True}.get(text) if text in (b"00", b"01") else int(text[:40]))
            elif code == 0x4C:  # LONG
                push(int(line()[:40].rstrip(b"L")))
            elif code == 0x46:  # FLOAT
                push(float(line()[:40]))
            elif code == 0x80:  # PROTO
                if data[position] > 5:
                    raise Unreadable(f"a pickle of protocol {data[position]}")
                position += 1
            elif code == 0x95:  # FRAME
                position += 8
            elif code == 0x2E:  # STOP
                if position != end:
                    raise Unreadable("goes on after its end")
                if len(stack) != 1 or stack[0] is _MARK:
                    raise Unreadable("a pickle that leaves something over")
                return stack[0]
            else:
                raise Unreadable(f"a pickle with the operation 0x{code:02x}, which is not allowed")
        raise Unreadable(f"a pickle of more than {MOST_OPERATIONS} operations")
    except (IndexError, struct.error):
        cut = position > end - _FLOAT.size and data[-1:] != b"."
        raise Unreadable("the file ends in the middle" if cut else "a pickle that takes more than it has") from None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Unreadable(f"a damaged pickle ({type(error).__name__})") from None


def marshalled_text(data: bytes) -> str:
    """The text that `marshal.dumps` wrote as `data`, as web2py 3.3.3 does inside a pickle of an XML helper."""
    kind = chr(data[0] & 0x7F) if data else ""
    length_bytes = {"z": 1, "Z": 1, "a": 4, "A": 4, "u": 4, "t": 4}.get(kind, 0)
    length, body = data[1 : 1 + length_bytes], data[1 + length_bytes :]
    if not length or len(length) < length_bytes or len(body) != int.from_bytes(length, "little"):
        raise Unreadable("an XML helper that holds something else than text")
    return body.decode("utf-8", "surrogatepass")
