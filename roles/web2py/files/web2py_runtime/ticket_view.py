# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A ticket as admin may show it: text and numbers in the places where its page expects them, and no markup of others.

What a ticket holds was written by the application, and by visitors through it. admin's page inserts request, response
and session as they are, and every XML helper, which the unpickler lets through in any place.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

TEXTS = ("layer", "code", "output", "traceback")
# web2py writes them as HTML tables.
DOCUMENTS = ("request", "response", "session")
TAGS = frozenset(["b", "br", "div", "i", "pre", "span", "table", "tbody", "td", "th", "thead", "tr"])
# A pickle of a few bytes can stand for more values than there is memory.
MOST_VALUES = 20_000
MOST_CHARACTERS = 4 << 20
DEEPEST = 20
TAG = re.compile(r"<(?P<end>/?)(?P<name>[A-Za-z][A-Za-z0-9]*)(?=[\s/>])[^<>]*>")


def document(value: str) -> str:
    """The structure and the text of a piece of HTML: the tags that make tables, without attributes.

    By an expression that looks at each character once; Python's parser takes quadratic time for tags that do not end.
    """
    pieces: list[str] = []
    still_open: list[str] = []
    position = 0
    for found in TAG.finditer(value):
        pieces.append(as_text(value[position : found.start()]))
        position = found.end()
        tag = found["name"].lower()
        if tag not in TAGS:
            continue
        if not found["end"]:
            pieces.append(f"<{tag}>")
            if tag != "br":
                still_open.append(tag)
        elif tag in still_open[-DEEPEST:]:
            # One that was not opened here would end an element of the page.
            while (last := still_open.pop()) != tag:
                pieces.append(f"</{last}>")
            pieces.append(f"</{tag}>")
    pieces.append(as_text(value[position:]))
    return "".join(pieces + [f"</{tag}>" for tag in reversed(still_open)])


def as_text(markup: str) -> str:
    return html.escape(html.unescape(markup))


class Plain:
    """Makes text, numbers, lists and dicts of any value, and stops where it becomes too much."""

    def __init__(self) -> None:
        self.values, self.characters = MOST_VALUES, MOST_CHARACTERS

    def __call__(self, value: Any, depth: int = 0) -> Any:
        self.values -= 1
        if self.values < 0 or depth > DEEPEST:
            return "…"
        if value is None or type(value) in (bool, float) or (type(value) is int and abs(value) < 1 << 64):
            return value
        if isinstance(value, Mapping):
            items = ((self.text(name), entry) for name, entry in value.items())
            return {name: self(entry, depth + 1) for name, entry in items if self.values > 0}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self(entry, depth + 1) for entry in value if self.values > 0]
        return self.text(value)

    def text(self, value: Any) -> str:
        """Only of text, numbers and XML helpers: that of a small list can be more than there is memory."""
        if isinstance(value, bytes):
            value = value.decode("utf-8", "backslashreplace")
        elif type(value) in (bool, float, type(None)) or (type(value) is int and abs(value) < 1 << 64):
            value = str(value)
        elif not isinstance(value, str):
            inner = getattr(value, "text", None)
            value = inner if isinstance(inner, str) else f"<{type(value).__name__}>"
        # Lone surrogates cannot be sent.
        text = value[: max(0, self.characters)].encode("utf-8", "backslashreplace").decode()
        self.characters -= len(text)
        return text if self.characters > 0 else f"{text}…"

    def named(self, value: Any) -> dict[str, Any]:
        found = self(value)
        return found if isinstance(found, dict) else {}

    def frame(self, value: Any) -> dict[str, Any]:
        given = value if isinstance(value, Mapping) else {}
        lines, number = given.get("lines"), given.get("lnum")
        listing = {}
        for key, line in lines.items() if isinstance(lines, Mapping) else ():
            self.values -= 1
            if self.values < 0:
                break
            if type(key) is int and abs(key) < 1 << 31:
                listing[key] = self.text(line)
        shown = {name: self.text(given.get(name, "")) for name in ("file", "func", "call")}
        number = number if type(number) is int else 0
        # The page marks this line among those.
        return {
            **shown,
            "lnum": number,
            "lines": listing if number in listing else {},
            "dump": self.named(given.get("dump")),
        }


def shown(ticket: Any) -> dict[str, Any]:
    """The ticket, or none where it is something else."""
    if not isinstance(ticket, Mapping) or not ticket:
        return {}
    plain = Plain()
    texts = {name: plain.text(ticket.get(name) or "") for name in TEXTS}
    snapshot, found = ticket.get("snapshot"), {}
    if isinstance(snapshot, Mapping) and snapshot:
        known = {*DOCUMENTS, "etype", "evalue", "pyver", "date", "exception", "locals", "frames"}
        frames = snapshot.get("frames")
        found = {name: plain.text(snapshot.get(name, "")) for name in ("etype", "evalue", "pyver", "date")}
        found["frames"] = [plain.frame(frame) for frame in frames[:1000]] if isinstance(frames, list) else []
        found |= {name: plain.named(snapshot.get(name)) for name in ("exception", "locals")}
        found |= {name: document(plain.text(snapshot[name])) for name in DOCUMENTS if name in snapshot}
        found |= plain.named({name: value for name, value in snapshot.items() if name not in known})
    return {**texts, "snapshot": found}
