# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Put what no ticket should be into a folder, under names of tickets: hostile_files.py <folder> <file to touch>"""

import marshal
import os
import pickle
import struct
import sys
import uuid

folder, touched = sys.argv[1:]
command = f"touch {touched}"


class Call:
    def __init__(self, function, *arguments):
        self.parts = function, arguments

    def __reduce__(self):
        return self.parts


def named(module, name, arguments=b"(", protocol=b""):
    """The classic: GLOBAL, its arguments, REDUCE."""
    return protocol + f"c{module}\n{name}\n".encode() + arguments + b"tR."


def text(value):
    return b"(V" + value.encode("unicode-escape") + b"\n"


def nested(levels):
    return b"]" * levels + b"a" * (levels - 1)


def laughs(levels):
    """A list of the same list ten times, which holds another one ten times, and so on: endless when written out."""
    # Each is left on the stack alone.
    data = b"]q\x000"
    for level in range(levels):
        data += b"](" + (b"h" + bytes([level])) * 10 + b"eq" + bytes([level + 1]) + b"0"
    return data + b"h" + bytes([levels])


def value(size, data):
    """A text by its length and bytes."""
    return b"X" + struct.pack("<I", size) + data


def with_snapshot(value_):
    """A ticket, but for one value in its snapshot."""
    parts = {name: name for name in ("layer", "code", "output", "traceback")}
    snapshot = b"}" + value(1, b"x") + value_ + b"s"
    return pickle.dumps(parts, 2)[:-1] + value(8, b"snapshot") + snapshot + b"s."


def with_keys(keys):
    """The same with the keys of a dict."""
    return with_snapshot(b"}(" + b"".join(key + b"N" for key in keys) + b"u")


XML = b"cgluon.html\nXML_unpickle\n"
ticket = {"layer": "l", "code": "c", "output": "o", "traceback": "t", "snapshot": {}}
whole = pickle.dumps(ticket)
CORPUS = {
    "os.system": named("os", "system", text(command)),
    "posix.system": named("posix", "system", text(command)),
    "nt.system": named("nt", "system", text(command)),
    "subprocess.Popen": named("subprocess", "Popen", text(command)),
    "subprocess.getoutput": pickle.dumps(Call(__import__("subprocess").getoutput, command)),
    "eval": pickle.dumps(Call(eval, f"__import__('os').system({command!r})")),
    "exec": pickle.dumps(Call(exec, f"import os; os.system({command!r})")),
    "eval, protocol 0": pickle.dumps(Call(eval, f"__import__('os').system({command!r})"), 0),
    "eval, protocol 2": pickle.dumps(Call(eval, f"__import__('os').system({command!r})"), 2),
    "eval, Python 2": named("__builtin__", "eval", text(f"__import__('os').system({command!r})")),
    "getattr": pickle.dumps(Call(getattr, Call(__import__, "os"), "system")),
    "nested reduce": pickle.dumps(Call(list, Call(map, eval, [f"__import__('os').system({command!r})"]))),
    "in a ticket": pickle.dumps({**ticket, "snapshot": {"x": Call(os.system, command)}}),
    "in a ticket's key": pickle.dumps({**ticket, "snapshot": {("a", Call(os.system, command)): 1}}),
    "import of gluon": named("gluon.tools", "Mail", b"("),
    "import of gluon's admin": named("gluon.admin", "app_pack", text("admin")),
    "gluon's own unpickler": named("gluon.storage", "load_storage", text("/etc/passwd")),
    "XML of something else": named("gluon.html", "XML_unpickle", b"(c__builtin__\neval\n"),
    "XML of marshalled code": b"cgluon.html\nXML_unpickle\n("
    + b"C"
    + bytes([len(marshal.dumps(compile("1", "x", "eval")))])[:1]
    + marshal.dumps(compile("1", "x", "eval"))[:255]
    + b"tR.",
    "a dotted name": named("gluon.html", "XML_unpickle.__globals__", text("x")),
    "stack global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text(command) + b"tR.",
    "instance": b"(" + text(command)[1:] + b"ios\nsystem\n.",
    "object": b"(cos\nsystem\n" + text(command)[1:] + b"o.",
    "new object": b"\x80\x02cdecimal\nDecimal\n)\x81.",
    "build": b"\x80\x02cdecimal\nDecimal\n)\x81}b.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent id": b"Px\n.",
    "persistent id of the stack": b"Vx\nQ.",
    "a string of 2**31 bytes": b"\x80\x04T" + struct.pack("<i", 2**31 - 1) + b"x.",
    "a text of 2**62 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "a byte array of 2**40 bytes": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "a number of 2**31 bytes": b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".",
    "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "a memo of 2**32": b"\x80\x02Nr\xff\xff\xff\xff.",
    "a memo of many digits": b"Np" + b"9" * 100_000 + b"\n.",
    "deep lists": nested(500_000) + b".",
    "deep tuples": b"\x80\x02N" + b"\x85" * 500_000 + b".",
    "ten lists in ten lists": laughs(12) + b".",
    "a list in itself": b"\x80\x04]\x94h\x00a.",
    "in a ticket, deep lists": with_snapshot(nested(80_000)),
    "in a ticket, deep tuples": with_snapshot(b"N" + b"\x85" * 150_000),
    "in a ticket, deep dicts": with_snapshot((b"}" + value(1, b"y")) * 40_000 + b"N" + b"s" * 40_000),
    "in a ticket, ten lists in ten lists": with_snapshot(laughs(12)),
    "in a ticket, a list in itself": with_snapshot(b"]q\x64h\x64a"),
    # Each a pair of the one before: hashing it takes 2**40 steps.
    "in a ticket, deep keys": with_keys([b"Nq\x64" + b"0h\x64h\x64\x86q\x64" * 40]),
    "in a ticket, keys of one hash": with_keys(
        b"\x8a\x0b" + (number * (2**61 - 1)).to_bytes(11, "little") for number in range(1, 60_000)
    ),
    "in a ticket, half a million lists": with_snapshot(b"](" + b"]" * 500_000 + b"e"),
    "in a ticket, lists that are remembered": with_snapshot(b"](" + b"]\x94" * 400_000 + b"e"),
    "in a ticket, a helper of one text many times": with_snapshot(
        XML + b"q\x64" + value(30_000, b"x" * 30_000) + b"q\x65\x85R0](" + b"h\x64h\x65\x85R" * 30_000 + b"e"
    ),
    "in a ticket, one text many times": with_snapshot(
        value(20_000, "ü".encode() * 10_000) + b"q\x650](" + b"h\x65" * 60_000 + b"e"
    ),
    "in a ticket, NUL and nothing else": with_snapshot(value(1_500_000, b"\0" * 1_500_000)),
    "in a ticket, bytes": with_snapshot(b"B" + struct.pack("<I", 1_500_000) + b"\xff" * 1_500_000),
    "in a ticket, a mark": with_snapshot(b"](a"),
    "in a ticket, the bare helper": with_snapshot(XML),
    "a traceback of NUL": pickle.dumps({**ticket, "traceback": "\N{GRINNING FACE}" + "\0" * 1_500_000}),
    "a ticket of 7 MiB": pickle.dumps({**ticket, "traceback": "\0" * (7 << 20)}),
    "marks": b"(" * 1_000_000 + b".",
    "pops": b"0" * 1000 + b".",
    "reduce of nothing": b"R.",
    "truncated": whole[:-7],
    "empty": b"",
    "no pickle": b"\x00" * 1000,
    "text": b"Traceback (most recent call last):\n" * 100,
    "two tickets": whole + whole,
    "a ticket and more": whole + b"x",
    "not a ticket": pickle.dumps(["layer"]),
    "a ticket without traceback": pickle.dumps({**ticket, "traceback": None}),
    "a ticket with a snapshot of text": pickle.dumps({**ticket, "snapshot": "x"}),
    "protocol 9": b"\x80\x09N.",
    "json": b'{"layer": "x"}',
}


def path():
    return os.path.join(folder, f"192.0.2.1.2026-11-24.10-00-00.{uuid.uuid4()}")


for content in CORPUS.values():
    with open(path(), "wb") as file:
        file.write(content)
os.symlink("/etc/shadow", path())
os.symlink(path(), path())
os.mkfifo(path())
os.mkdir(path())
with open(path(), "wb") as file:
    file.truncate(1 << 30)
with open(path(), "wb") as file:
    file.write(whole)
    os.link(file.name, path())
# Whole, with a name that no column of web2py's takes: it stays.
with open(os.path.join(folder, "x" * 40 + os.path.basename(path())), "wb") as file:
    file.write(whole)
# Whole, but not readable for its own reader.
with open(path(), "wb") as file:
    file.write(whole)
os.chmod(file.name, 0)
# Nobody writes them any more.
for entry in os.scandir(folder):
    os.utime(entry.path, (1, 1), follow_symlinks=False)
print(len(os.listdir(folder)))
