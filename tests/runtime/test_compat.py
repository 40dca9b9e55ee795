# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Each fix: the fault is gone with it; without it the fault is there, or upstream has repaired it."""

from __future__ import annotations

import marshal
import re
import time
import unittest
from collections.abc import Callable
from typing import Any

from deployment import PASSWORD, Browser, Deployment, workspace
from test_tickets import read, runs

ROUTES = 'default_application = "probe"\nroutes_onerror = (("*/400", "/probe/default/error_page"),)\n'


def xml_pickle(data: bytes) -> str:
    """A pickle of an XML helper made of `data`, as release 3.3.3 writes them, in hexadecimal."""
    binbytes = b"B" + len(data).to_bytes(4, "little") + data
    return (b"cgluon.html\nXML_unpickle\n" + binbytes + b"\x85R.").hex()


def failing_ticket(site: Deployment) -> dict[str, Any]:
    page = site.get("/probe/default/fail").text
    ticket = re.search(r"/admin/default/ticket/probe/([\w.-]+)", page)[1]
    return site.get(f"/probe/default/ticket/{ticket}").json()


def xml_unpickle(site: Deployment) -> list[str]:
    values = [marshal.dumps("short"), marshal.dumps("naïve"), marshal.dumps("x" * 300), marshal.dumps(["no", "text"])]
    return [site.get(f"/probe/default/unpickle?data={xml_pickle(data)}").text[:16] for data in values]


def ticket_loading(site: Deployment) -> bool:
    return bool(failing_ticket(site)["layer"])


def ticket_snapshots(site: Deployment) -> bool:
    return failing_ticket(site)["frames"] > 0


def ticket_markup(site: Deployment) -> list[str]:
    """What a browser would run of a visitor's text."""
    page = Browser(site).post("/probe/default/fail_with", {"text": "<script>mark()</script>"}).text
    ticket = re.search(r"/admin/default/ticket/probe/([\w.-]+)", page)[1]
    administrator = Browser(site, "admin_https")
    administrator.post("/admin/default/index", {"password": PASSWORD})
    return runs(read(administrator.get(f"/admin/default/ticket/probe/{ticket}")))


def tickets_db(site: Deployment) -> tuple[int, list[bool], int]:
    """The answer, whether each ticket in the database can be read, and how many a broken database gives to files."""
    status = site.get("/probe/stored/fail").status
    layers = site.get("/probe/default/stored_tickets").json()
    before = len(site.files("probe", "errors"))
    site.get("/probe/stored/fail_without_database")
    added = len(site.files("probe", "errors")) - before
    return status, [str(layer).endswith("stored.py") for layer in layers], added


def cookie_sessions(site: Deployment) -> list[str]:
    browser = Browser(site)
    return [browser.get("/probe/cookie/visits").text[:3] for _ in range(3)]


def cookie_session_attributes(site: Deployment) -> list[str]:
    lines = site.get("/probe/cookie/visits").headers.get_all("Set-Cookie")
    cookie = next(line for line in lines if line.startswith("session_data_probe="))
    return sorted(attribute for attribute in re.split("; *", cookie) if attribute in ("HttpOnly", "SameSite=Lax"))


def text_bodies(site: Deployment) -> list[tuple[int, str]]:
    answers = [site.get(f"/probe/default/{name}") for name in ("translation", "helper", "pieces", "listed")]
    return [(answer.status, answer.text[:13]) for answer in answers]


def routes_onerror(site: Deployment) -> tuple[int, str]:
    answer = site.get("/probe//refused")
    return answer.status, answer.text[:14]


def multipart_options(site: Deployment) -> bool:
    """Whether a header that takes seconds is read at once; two signs more make them nearly three times as many."""
    headers = {"Content-Type": 'multipart/form-data; a="' + "\\" * 38}
    started = time.monotonic()
    site.request("POST", "/probe/default/fail_with", headers=headers, body=b"x=1")
    return time.monotonic() - started < 2


CASES: tuple[tuple[Callable[[Deployment], Any], Any, tuple[Any, ...]], ...] = (
    # what is looked at, what is right, what it is with the fault, in one version or another
    (
        xml_unpickle,
        ["loaded 'short'", "loaded 'naïve'", "loaded 'xxxxxxxx", "refused"],
        (["loaded 'short'", "loaded 'naïve'", "loaded 'xxxxxxxx", "loaded \"['no', '"], ["<html><body><h1>"] * 4),
    ),
    (ticket_loading, True, (False,)),
    (ticket_snapshots, True, (False,)),
    (ticket_markup, [], (["mark()"] * 2,)),
    (tickets_db, (500, [True], 1), ((500, [], 0),)),
    (cookie_sessions, ["1", "2", "3"], (["1", "<ht", "<ht"],)),
    (cookie_session_attributes, ["HttpOnly", "SameSite=Lax"], ([],)),
    (
        text_bodies,
        [(403, "not today"), (200, "<b>bold</b>"), (200, "naïve"), (200, "naïve")],
        ([(500, "A server erro")] * 4,),
    ),
    (routes_onerror, (400, "error page 400"), ((500, "A server error"),)),
    (multipart_options, True, (False,)),
)


class Fixes(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls) -> None:
        cls.repaired = cls.enterClassContext(Deployment(routes=ROUTES))

    def test_every_fix_has_a_case(self) -> None:
        source = (workspace() / "runtime" / "web2py_runtime" / "compat.py").read_text()
        fixes = re.search(r"^FIXES = \((.*?)\)", source, re.DOTALL | re.MULTILINE)[1]
        self.assertEqual(re.findall(r"\w+", fixes), [observe.__name__ for observe, _right, _faults in CASES])

    def test_with_all_fixes_each_fault_is_gone(self) -> None:
        self.assertNotIn("does not fit this web2py", self.repaired.errors())
        for observe, right, _faults in CASES:
            with self.subTest(observe.__name__):
                self.assertEqual(right, observe(self.repaired), self.repaired.errors()[-3000:])

    def test_without_a_fix_its_fault_is_there(self) -> None:
        for observe, right, faults in CASES:
            name = observe.__name__
            expected = faults if name in self.repaired.fixes else (right,)
            with self.subTest(name), Deployment(routes=ROUTES, without=(name,)) as site:
                self.assertIn(observe(site), expected, site.errors()[-3000:])

    def test_a_session_keeps_a_helper(self) -> None:
        browser = Browser(self.repaired)
        self.assertEqual(["None", "<b>naïve</b>"], [browser.get("/probe/default/note").text for _ in range(2)])

    def test_a_cookie_session_is_secure_where_the_application_asks_for_it(self) -> None:
        lines = self.repaired.get("/probe/cookie/secure_visits", "https").headers.get_all("Set-Cookie")
        cookie = next(line for line in lines if line.startswith("session_data_probe="))
        self.assertRegex(cookie, r"(?i); *secure")


if __name__ == "__main__":
    unittest.main()
