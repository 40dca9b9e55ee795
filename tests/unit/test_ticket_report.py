# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The page about tickets: whatever is in them, it is a page with these numbers and runs nothing but its own script."""

from __future__ import annotations

import datetime
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ansible_collections.web2py.deployment.plugins.plugin_utils import ticket_report
from hypothesis import given
from hypothesis import strategies as st

VOID = {"meta", "rect", "line", "input"}


class Page(HTMLParser):
    """Tags in balance, their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


def problem(**changes) -> dict:
    return {
        "application": "shop",
        "fingerprint": "0123456789abcdef",
        "error_type": "ValueError",
        "message": "no",
        "layer": "controllers/default.py",
        "count": 3,
        "first_seen": "2026-11-23T10:00:00+00:00",
        "last_seen": "2026-11-24T10:00:00+00:00",
        "servers": {"www1": 2, "www2": 1},
        "traceback": "Traceback",
        "ticket_id": "192.0.2.1.x",
        **changes,
    }


def report(**changes) -> dict:
    return {
        "generated": "2026-11-24T12:00:00+00:00",
        "since": None,
        "total": 3,
        "applications": {"shop": 3},
        "servers": {"www1": 2, "www2": 1},
        "timeline": [
            {"time": "2026-11-23T10:00:00+00:00", "application": "shop", "count": 2},
            {"time": "2026-11-24T10:00:00+00:00", "application": "shop", "count": 1},
        ],
        "problems": [problem()],
        **changes,
    }


FAILED = {"server": "www3", "application": "intranet", "error": "OperationalError: away"}


def test_its_numbers_are_those_of_the_report():
    page = Page(ticket_report.html(report(quarantined={"shop": 2}, failed=[FAILED])))
    assert page.values("data-total") == ["3"]
    assert page.values("data-server") == ["www1", "www2"]
    assert [one["data-count"] for _, one in page.tags if "data-fingerprint" in one] == ["3"]
    assert page.values("data-quarantined") == ["2"] and page.values("data-failed") == ["intranet"]
    assert page.values("data-host") == ["www3"] and "www3, intranet could not" in page.text
    assert "OperationalError: away" in page.text
    assert "2026-11-23 10:00" in page.text


def test_nothing_comes_from_elsewhere():
    text = ticket_report.html(report())
    page = Page(text)
    assert not any({"src", "href", "style", "onclick"} & set(attributes) for _, attributes in page.tags)
    assert not re.search(r"@import|url\(|https?://", text)
    [policy] = [one["content"] for _, one in page.tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "\0\x1b[31m\u202egnorw",
    "\ud800",
    "{{ 7 * 7 }}{% raw %}",
    "x" * 100_000,
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_visitors_wrote_stays_text(text):
    texts = dict.fromkeys(("error_type", "message", "layer", "traceback", "ticket_id"), text)
    hostile = report(
        problems=[problem(servers={text: 3}, **texts)], servers={text: 3}, failed=[dict.fromkeys(FAILED, text)]
    )
    content = ticket_report.html(hostile)
    content.encode()
    page = Page(content)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not {"img"} & {tag for tag, _ in page.tags}
    assert "onmouseover" not in page.values("onmouseover")
    assert not any(sign in content.replace(text, "") for sign in "\0\x1b\u202e")
    assert "49" not in page.text
    assert len(content) < 400_000


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_gives_a_page(text):
    Page(ticket_report.html(report(problems=[problem(message=text, traceback=text)])))


def test_an_empty_report_says_so():
    empty = report(total=0, applications={}, servers={}, timeline=[], problems=[])
    assert "There are no tickets." in Page(ticket_report.html(empty)).text


@pytest.mark.parametrize(("days", "unit"), [(0, "hour"), (2, "hour"), (14, "day"), (300, "week"), (1500, "4 weeks")])
def test_the_bars_hold_every_ticket_and_stay_in_the_chart(days, unit):
    begin = datetime.datetime(2026, 1, 1, 13, tzinfo=datetime.timezone.utc)
    timeline = [
        {"time": (begin + datetime.timedelta(days=day)).isoformat(), "application": name, "count": day + 1}
        for day in range(days + 1)
        for name in ("intranet", "shop")
    ]
    found = ticket_report.chart(timeline, {"intranet": 1, "shop": 1})
    assert found["unit"] == unit
    assert sum(bar["count"] for bar in found["bars"]) == sum(bucket["count"] for bucket in timeline)
    assert all(bar["y"] >= 9.9 and 52 <= bar["x"] <= found["width"] + 52 for bar in found["bars"])
    assert len({bar["x"] for bar in found["bars"]}) <= ticket_report.MOST_BARS


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_bars_stand_out_in_light_and_dark():
    """WCAG 2.2, 1.4.11: three to one, against what is beside them."""
    style = Path(ticket_report.__file__).with_suffix(".css").read_text()
    papers = re.findall(r"--paper: (#[0-9a-f]{6})", style)
    assert len(papers) == 2
    for colour in ticket_report.COLOURS:
        for paper in papers:
            low, high = sorted((luminance(colour), luminance(paper)))
            assert (high + 0.05) / (low + 0.05) >= 3, (colour, paper)


def test_thousands_of_problems_take_seconds():
    problems = [problem(fingerprint=f"{number:016x}", traceback="line\n" * 50) for number in range(5000)]
    started = time.monotonic()
    page = ticket_report.html(report(problems=problems))
    assert time.monotonic() - started < 20
    assert page.count("<article") == 5000
