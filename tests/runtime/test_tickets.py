# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""admin's pages of tickets show everything that is in a ticket, and run nothing of it."""

from __future__ import annotations

import io
import os
import pickle
import re
import sqlite3
import unittest
import uuid
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from deployment import PASSWORD, SERVICE_USER, Answer, Browser, Deployment

ATTACKS = (
    "<script>mark()</script>",
    "</script><script>mark()</script>",
    '"><img src=x onerror=mark()>',
    "'><svg/onload=mark()>",
    "</pre></td></tr></table></div><iframe srcdoc='<script>mark()</script>'></iframe>",
    '<a href="javascript:mark()" onclick="mark()">link</a>',
    '<td style="background:url(javascript:mark())" onmouseover=mark()>cell</td>',
    "<b onfocus=mark() autofocus tabindex=1>bold</b>",
    "<form action=javascript:mark()><input type=image formaction=javascript:mark()></form>",
    '<meta http-equiv="refresh" content="0;url=javascript:mark()"><base href="javascript:mark()">',
    "<style>@import 'javascript:mark()'</style><link rel=stylesheet href=javascript:mark()>",
    "<!--><script>mark()</script>-->",
    "<![CDATA[<script>mark()</script>]]>",
    "<textarea></textarea><script>mark()</script>",
    "<noscript><p title='</noscript><img src=x onerror=mark()>'>",
    "<math><mi//xlink:href='data:x,<script>mark()</script>'>",
    "<scr<script>ipt>mark()</scr</script>ipt>",
    "&lt;script&gt;mark()&lt;/script&gt;",
    "<SCRIPT SRC=//evil.example/mark()></SCRIPT>",
    '\\"); mark(); //',
    "${mark()} {{=mark()}} `mark()`",
)
# Elements that fetch, run or send something.
ACTIVE = {
    "script",
    "iframe",
    "object",
    "embed",
    "svg",
    "math",
    "base",
    "meta",
    "style",
    "link",
    "form",
    "img",
    "textarea",
}


class XML:
    """Pickled as web2py's helper."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return XML_unpickle, (self.text,)


class Pickler(pickle._Pickler):
    """Writes the helper's function under its own name; it is not imported here."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is XML_unpickle:
            self.write(b"cgluon.html\nXML_unpickle\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch = {**pickle._Pickler.dispatch, type(lambda: None): save_global}  # noqa: RUF012


def XML_unpickle() -> None:
    """Stands for the function of this name in gluon.html."""


def pickled(ticket: Any) -> bytes:
    file = io.BytesIO()
    Pickler(file, protocol=0).dump(ticket)
    return file.getvalue()


def runs_value(name: str, value: str) -> bool:
    """Whether a browser may run this value of an attribute."""
    return (
        name.startswith("on") or name in ("style", "srcdoc") or re.match(r"\s*(javascript|data|vbscript):", value, re.I)
    )


class Script(HTMLParser):
    """Collects what a browser would run, and the text that it would show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.active: list[str] = []
        self.elements: list[str] = []
        self.text: list[str] = []
        self.inside: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "style"):
            self.inside.append(tag)
        if tag in ACTIVE:
            self.elements.append(tag)
        self.active += [f"{name}={value}" for name, value in attributes if runs_value(name, value or "")]

    def handle_endtag(self, tag: str) -> None:
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.active.append(data)
        else:
            self.text.append(data)


def read(answer: Answer) -> Script:
    page = Script()
    page.feed(answer.text)
    page.close()
    return page


def runs(page: Script) -> list[str]:
    return [piece for piece in page.active if "mark" in piece]


def filled(value: Any) -> dict[str, Any]:
    """A ticket as web2py writes it, with this in every place."""
    frame = {
        "file": value,
        "func": value,
        "call": value,
        "lnum": 2,
        "lines": {1: value, 2: value},
        "dump": {"a": value},
    }
    names = ("pyver", "date", "etype", "evalue", "request", "response", "session", "more")
    snapshot = dict.fromkeys(names, value) | {"frames": [frame, frame]}
    snapshot |= {"exception": {"a": value}, "locals": {"a": value, "b": [value, {"c": value}]}}
    return {"layer": value, "code": value, "output": value, "traceback": value, "snapshot": snapshot}


def tickets(attack: str) -> Iterator[Any]:
    """The attack as text, as a helper, and as a name."""
    yield filled(attack)
    helper = XML(attack)
    whole = filled(helper)
    yield whole
    # With the parts that admin's code needs as text, to reach the others.
    yield {**whole, **dict.fromkeys(("layer", "code", "output", "traceback"), attack)}
    named = filled(attack)
    named["snapshot"]["exception"] = named["snapshot"]["locals"] = {attack: attack}
    named["snapshot"]["frames"][0]["dump"] = {attack: [attack]}
    yield named


def odd_tickets(attack: str) -> Iterator[Any]:
    """The attack in values of other types than the page expects."""
    helper = XML(attack)
    for odd in (helper, [helper], {"a": helper}, (attack, helper), None, 7, {"xml": attack}, attack.encode()):
        odd_frames = filled(attack)
        odd_frames["snapshot"]["frames"] = [{"lnum": odd, "lines": {1: odd, 3: attack}, "dump": odd}, odd]
        yield odd_frames
        yield {**filled(attack), "snapshot": odd}
        yield {**filled(attack), "snapshot": {"frames": odd, "locals": odd, "exception": odd, "etype": odd}}
        yield odd


class Pages(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.site = cls.enterClassContext(Deployment())
        cls.errors = cls.site.state / "probe" / "errors"

    def setUp(self) -> None:
        self.browser = Browser(self.site, "admin_https")
        self.browser.post("/admin/default/index", {"password": PASSWORD})

    def kept(self, ticket: Any) -> str:
        name = f"203.0.113.7.2026-11-28.12-00-00.{uuid.uuid4()}"
        path = self.errors / name
        path.write_bytes(pickled(ticket))
        if SERVICE_USER is not None:
            os.chown(path, SERVICE_USER, SERVICE_USER)
        return name

    def test_of_files(self) -> None:
        benign = read(self.browser.get(f"/admin/default/ticket/probe/{self.kept(filled('harmless'))}"))
        shown = "".join(benign.text)
        self.assertGreater(shown.count("harmless"), 15)
        for number, attack in enumerate(ATTACKS):
            # Three attacks are enough for what only differs by types.
            odd = odd_tickets(attack) if number < 3 else ()
            for place, ticket in enumerate([*tickets(attack), *odd]):
                with self.subTest(attack=attack, place=place):
                    name = self.kept(ticket)
                    answer = self.browser.get(f"/admin/default/ticket/probe/{name}")
                    self.assertEqual(200, answer.status, self.site.errors()[-2000:])
                    page = read(answer)
                    self.assertEqual([], runs(page))
                    if place == 0:
                        # No element that could do anything but the page's own, and all of it to read.
                        self.assertEqual(benign.elements, page.elements)
                        self.assertGreater("".join(page.text).count("mark"), 15, "".join(page.text)[:3000])
                    # Admin's other page of it, and the list.
                    if number == 0 or place == 0:
                        self.assertEqual([], runs(read(self.browser.get(f"/admin/default/ticket/probe/{name}.load"))))
        for method in ("new", "old"):
            for path in self.errors.iterdir():
                if b"XML_unpickle" in path.read_bytes():
                    path.unlink()
            self.assertEqual([], runs(read(self.browser.get(f"/admin/default/errors/probe/{method}"))))

    def test_of_rows(self) -> None:
        listed = self.browser.get("/admin/default/errors/probe/dbold")
        self.assertEqual(200, listed.status, self.site.errors()[-2000:])
        database = sqlite3.connect(self.site.state / "probe" / "databases" / "tickets.sqlite")
        self.addCleanup(database.close)
        for attack in ATTACKS:
            for ticket in tickets(attack):
                name = f"203.0.113.7.2026-11-28.12-00-00.{uuid.uuid4()}"
                with database:
                    database.execute(
                        "INSERT INTO web2py_ticket_probe (ticket_id, ticket_data, created_datetime) VALUES (?, ?, ?)",
                        (name, pickled(ticket).decode("latin-1"), "2026-11-28 12:00:00"),
                    )
                answer = self.browser.get(f"/admin/default/ticketdb/probe/{name}")
                self.assertEqual(200, answer.status, self.site.errors()[-2000:])
                self.assertIn("mark", answer.text)
                self.assertEqual([], runs(read(answer)))
        with database:
            database.execute("UPDATE web2py_ticket_probe SET ticket_id = ? WHERE id = 1", (ATTACKS[2][:100],))
        self.assertEqual([], runs(read(self.browser.get("/admin/default/errors/probe/dbold"))))

    def test_of_a_request_whose_session_and_variables_are_hostile(self) -> None:
        """What a visitor can bring in, by web2py's own hands."""
        for attack in ATTACKS:
            failed = Browser(self.site).post("/probe/default/fail_with", {"text": attack})
            self.assertEqual(500, failed.status)
            ticket = re.search(r"/admin/default/ticket/probe/([\w.-]+)", failed.text)[1]
            page = read(self.browser.get(f"/admin/default/ticket/probe/{ticket}"))
            self.assertIn("mark", "".join(page.text))
            self.assertEqual([], runs(page))

    def test_a_ticket_that_holds_more_than_fits_into_memory_is_cut(self) -> None:
        value: Any = ["harmless"] * 100
        for _ in range(8):
            value = [value] * 100
        loop: list[Any] = []
        loop.append(loop)
        ticket = filled("harmless")
        ticket["snapshot"]["locals"] = {"many": value, "loop": loop}
        answer = self.browser.get(f"/admin/default/ticket/probe/{self.kept(ticket)}")
        self.assertEqual(200, answer.status)
        self.assertLess(len(answer.body), 10_000_000)


if __name__ == "__main__":
    unittest.main()
