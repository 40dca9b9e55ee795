# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whatever a ticket holds, admin's page gets text, numbers and tables; the page itself is tested in tests/runtime."""

from __future__ import annotations

import json
import time
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web2py_runtime import ticket_view

# fmt: off
PIECES = st.sampled_from([
    "<", ">", "</", "/>", "<table", "<td>", "</td>", "<tr>", "</table>", "<div", "</div>", "<b/>", "<br>", "<script>",
    "</script>", "<style>", "<!--", "-->", "<![CDATA[", "]]>", "<?", "?>", '"', "'", "=", "&lt;", "&#60;",
    "&#x3c;script&gt;", " onclick=x", " style=x", "<textarea>", "<svg>", "<math>", "<plaintext>", "<title>", "\r",
])
# fmt: on


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag in ticket_view.TAGS
        assert attributes == []
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


@given(st.lists(PIECES, max_size=30).map("".join) | st.text())
def test_of_markup_only_the_structure_of_tables_is_left(text: str) -> None:
    assert Tags(ticket_view.document(text)).open == []


def test_a_table_of_web2py_stays_one() -> None:
    table = (
        '<div><table><tr><td style="font-weight:bold;">a&lt;b</td><td>:</td><td><i>x</i><br /></td></tr></table></div>'
    )
    wanted = "<div><table><tr><td>a&lt;b</td><td>:</td><td><i>x</i><br></td></tr></table></div>"
    assert ticket_view.document(table) == wanted


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner),
    max_leaves=10,
)
names = st.sampled_from([*ticket_view.TEXTS, "snapshot"])
parts = st.sampled_from([*ticket_view.DOCUMENTS, "etype", "evalue", "exception", "locals", "frames", "pyver", "more"])
frames = st.dictionaries(st.sampled_from(["file", "func", "call", "lnum", "lines", "dump"]), values)
snapshots = st.dictionaries(parts, values | st.lists(frames))


@given(values | st.dictionaries(names, values | snapshots))
def test_a_ticket_has_what_the_page_expects(ticket: Any) -> None:
    shown = ticket_view.shown(ticket)
    if not shown:
        return
    json.dumps(shown)
    assert all(type(shown[name]) is str for name in ticket_view.TEXTS)
    snapshot = shown["snapshot"]
    if snapshot:
        assert all(type(snapshot[name]) is str for name in ("etype", "evalue"))
        assert all(type(snapshot[name]) is dict for name in ("exception", "locals"))
        for frame in snapshot["frames"]:
            assert frame["lines"] == {} or frame["lnum"] in frame["lines"]
            assert all(type(frame[name]) is str for name in ("file", "func", "call"))
        for name in ticket_view.DOCUMENTS:
            assert Tags(snapshot.get(name, "")).open == []


class Odd:
    def __str__(self) -> str:
        raise AssertionError("no code of the object is called")


class Helper:
    text = "<b>"


SHORT = [
    (b"\xff", "\\xff"),
    ("\ud800", "\\ud800"),
    (Odd(), "<Odd>"),
    (Helper(), "<b>"),
    (1.5, "1.5"),
    (10**5000, "<int>"),
]


@pytest.mark.parametrize(("value", "text"), SHORT, ids=range(len(SHORT)))
def test_everything_has_a_text(value: object, text: str) -> None:
    assert ticket_view.Plain().text(value) == text


def nested(value: Any, times: int) -> Any:
    """A value of few objects that is two to the power of `times` when it is written out."""
    for _ in range(times):
        value = [value, value]
    return value


LONG = "x" * 1_000_000
BOMBS = {
    "lists in lists": {"traceback": nested("x", 60), "snapshot": {"locals": {"a": nested(LONG, 60)}}},
    "a list in place of a text": {"snapshot": {"etype": nested(LONG, 60), "request": nested(LONG, 60)}},
    "one text in many places": {"snapshot": {"locals": {f"{number}": LONG for number in range(10_000)}}},
    "one frame many times": {"snapshot": {"frames": [{"lnum": 1, "lines": dict.fromkeys(range(50_000), LONG)}] * 1000}},
    "tags that do not end": {"snapshot": {"request": "<a" * 500_000, "response": "<td" * 500_000}},
    "tags that end in a distance": {"snapshot": {"request": "<div>" * 100_000 + "</td>" * 100_000}},
    "declarations": {"snapshot": {"request": "<![<![" * 100_000}},
    "quotes": {"snapshot": {"session": "<td '" * 200_000}},
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_is_shown_is_bounded(name: str) -> None:
    started = time.process_time()
    shown = json.dumps(ticket_view.shown({"layer": "x", **BOMBS[name]}))
    # Text becomes up to six times as long where each sign is escaped.
    assert len(shown) < 8 * ticket_view.MOST_CHARACTERS
    assert time.process_time() - started < 5
