# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A ticket as admin may show it: text and numbers in the places where its page expects them, and no markup of others.

What a ticket holds was written by the application, and by visitors through it. admin's page inserts request, response
and session as they are, and every XML helper, which the unpickler lets through in any place.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

TEXTS = ("layer", "code", "output", "traceback")
# web2py writes them as HTML tables.
DOCUMENTS = ("request", "response", "session")
TAGS = frozenset(["b", "br", "div", "i", "pre", "span", "table", "tbody", "td", "th", "thead", "tr"])
# A pickle of a few bytes can stand for more values than there is memory.
MOST_VALUES = 20_000
DEEPEST = 20


class Structure(HTMLParser):
    """Keeps the tags that make tables, without attributes; everything else becomes text or nothing."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in TAGS:
            self.pieces.append(f"<{tag}>")
            if tag != "br":
                self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        # One that was not opened here would end an element of the page.
        if tag in self.open:
            while (last := self.open.pop()) != tag:
                self.pieces.append(f"</{last}>")
            self.pieces.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.pieces.append(html.escape(data))

    def result(self) -> str:
        self.close()
        return "".join(self.pieces + [f"</{tag}>" for tag in reversed(self.open)])


def document(value: Any) -> str:
    """The structure and the text of a piece of HTML."""
    structure = Structure()
    structure.feed(text(value))
    return structure.result()


def text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    try:
        # An XML helper gives its text. Lone surrogates cannot be sent.
        return str(value).encode("utf-8", "backslashreplace").decode()
    except Exception:
        return f"<{type(value).__name__}>"


class Plain:
    """Makes text, numbers, lists and dicts of any value, and stops where it becomes too many."""

    def __init__(self) -> None:
        self.left = MOST_VALUES

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > DEEPEST:
            return "…"
        if value is None or type(value) in (bool, int, float):
            return value
        if isinstance(value, Mapping):
            items = ((text(name), entry) for name, entry in value.items())
            return {name: self(entry, depth + 1) for name, entry in items if self.left > 0}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self(entry, depth + 1) for entry in value if self.left > 0]
        return text(value)

    def named(self, value: Any) -> dict[str, Any]:
        return self(value) if isinstance(value, Mapping) else {}

    def frame(self, value: Any) -> dict[str, Any]:
        given = value if isinstance(value, Mapping) else {}
        lines, number = given.get("lines"), given.get("lnum")
        lines = {key: text(line) for key, line in lines.items() if type(key) is int} if type(lines) is dict else {}
        shown = {name: text(given.get(name, "")) for name in ("file", "func", "call")}
        number = number if type(number) is int else 0
        # The page marks this line among those.
        return {
            **shown,
            "lnum": number,
            "lines": lines if number in lines else {},
            "dump": self.named(given.get("dump")),
        }


def shown(ticket: Any) -> dict[str, Any]:
    """The ticket, or none where it is something else."""
    if not isinstance(ticket, Mapping) or not ticket:
        return {}
    plain = Plain()
    snapshot, found = ticket.get("snapshot"), {}
    if isinstance(snapshot, Mapping) and snapshot:
        found = {text(name): plain(value) for name, value in snapshot.items() if name not in DOCUMENTS}
        frames = snapshot.get("frames")
        found |= {name: text(snapshot.get(name, "")) for name in ("etype", "evalue", "pyver", "date")}
        found |= {name: plain.named(snapshot.get(name)) for name in ("exception", "locals")}
        found["frames"] = [plain.frame(frame) for frame in frames[:1000]] if isinstance(frames, list) else []
        found |= {name: document(snapshot[name]) for name in DOCUMENTS if name in snapshot}
    return {**{name: text(ticket.get(name) or "") for name in TEXTS}, "snapshot": found}
