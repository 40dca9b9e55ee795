# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a host reads out of a database that somebody else can write into: tables' columns, and sessions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import hostile_pickles as hostile

RUNTIME = Path(__file__).resolve().parents[3] / "roles" / "web2py" / "files"
SHARED = RUNTIME.parents[2] / "plugins" / "module_utils"


def path_of(web2py: Path) -> str:
    packages = web2py / "gluon" / "packages"
    return ":".join(map(str, (web2py, packages / "pydal", packages / "yatl", RUNTIME)))


def test_rows_that_pydal_has_not_written_are_refused_with_a_reason(web2py: Path) -> None:
    names = [*hostile.RUN, *hostile.OTHERS, *hostile.COLUMNS]
    found = hostile.outcomes(hostile.TABLE, path_of(web2py), names)
    assert len(found) == len(names) > 40
    assert [item for item in found.items() if not re.fullmatch("refused: .{12,}", item[1])] == []


def test_what_is_no_session_in_a_database_begins_a_new_one(web2py: Path) -> None:
    names = [*hostile.RUN, *hostile.OTHERS]
    found = hostile.outcomes(hostile.SESSION, path_of(web2py), names)
    # An empty dict, without the memory that is asked for it.
    assert found.pop("memo of 2 thousand million") == "read dict"
    assert {*found.values()} == {"refused: no session"}


def test_what_these_are_read_with_otherwise_does_what_they_say(web2py: Path) -> None:
    """Otherwise the tests above would show nothing."""
    found = hostile.outcomes(hostile.PYDALS, path_of(web2py), hostile.RUN)
    assert {*found.values()} == {"ran"}
    names = ["state of a class", "copies of a list"]
    assert [*hostile.outcomes(hostile.WEB2PYS, path_of(web2py), names).values()] == [
        "changed a class of web2py",
        "took more than 400 MB",
    ]


REAL = """
import datetime, decimal, pickle, sys, types, uuid
import web2py_runtime
web2py_runtime.__path__.append(sys.argv[1])
from gluon.globals import Session
from gluon.html import XML
from gluon.storage import List, Storage
from pydal.helpers.classes import Reference
from pydal.objects import Row
from web2py_runtime import stored_sessions

module = types.ModuleType("applications.shop.modules.basket")
exec(
    "class Basket(list):\\n    pass\\n"
    "class Item:\\n    def __init__(self, price):\\n        self.price = price\\n"
    "class Slotted:\\n    __slots__ = ('x',)\\n"
    "class Named(dict):\\n    pass\\n", module.__dict__)
sys.modules.update({"applications": types.ModuleType("applications"), module.__name__: module})
for kind in ("Basket", "Item", "Slotted", "Named"):
    getattr(module, kind).__module__ = module.__name__
slotted = module.Slotted()
slotted.x = {"deep": [1]}
basket = module.Basket([module.Item(3), slotted])
basket.owner = "me"
zone = datetime.timezone(datetime.timedelta(hours=1))
session = Session()
user = Row({"id": Reference(7), "created": datetime.datetime(2026, 1, 2, 3, 4, 5, 6), "big": Reference(-1 << 40)})
session.update(
    auth=Storage(user=user, expiration=3600, last_visit=datetime.datetime(2026, 1, 2, tzinfo=zone), groups={1: "a"}),
    flash="naïve 書 " * 1000, number=1 << 100, ratio=0.5, none=None, true=True, data=b"\\0\\xff" * 300,
    array=bytearray(b"x"), many=set(range(300)), frozen=frozenset("ab"), pair=(1, (2, [3])),
    date=datetime.date(2026, 1, 1), time=datetime.time(1), delta=datetime.timedelta(1, 2, 3),
    money=decimal.Decimal("1.10"), id=uuid.UUID(int=5), imaginary=1j, items_=List([1, 2]),
    keys={(1, "a"): 1, 5: 2, None: 3, 1.5: 4, b"b": 5, datetime.date(2026, 1, 1): 6}, basket=basket,
    named=module.Named(a=1), numbers=list(range(20000)), nested={"a": {"b": {"c": [{}] * 5}}},
)
session.again = session.nested
data = pickle.dumps(session, pickle.HIGHEST_PROTOCOL)
classes = {module.__name__: ["Basket", "Item", "Slotted", "Named"]}
for given in (data, data.decode("latin-1")):
    read = stored_sessions.loads(given, classes)
    assert type(read) is Session and set(read) == set(session)
    assert read.basket[0].price == 3 and read.basket[1].x == {"deep": [1]} and read.basket.owner == "me"
    assert type(read.basket) is module.Basket and type(read.named) is module.Named
    assert read.again is read.nested
    for name in session:
        if name not in ("auth", "basket"):
            assert read[name] == session[name] and type(read[name]) is type(session[name]), name
    assert read.auth.user.id == 7 and read.auth.user.big == -1 << 40 and type(read.auth) is Storage
    assert type(read.auth.user) is Row and read.auth.last_visit == session.auth.last_visit
    assert pickle.dumps(dict(read, auth=0, basket=0)) and read.items_(1) == 2
# Without its name, the class is not loaded.
try:
    stored_sessions.loads(data)
except pickle.UnpicklingError:
    print("read as it was written")
"""


def test_real_sessions_are_read_as_they_were_written(web2py: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REAL, str(SHARED)],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path_of(web2py), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "read as it was written", done.stderr
