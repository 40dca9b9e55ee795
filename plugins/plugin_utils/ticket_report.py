# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of web2py's tickets as one HTML page, which needs no network and runs no script but its own."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

# More bars than this cannot be told apart: then they are days instead of hours, or weeks.
MOST_BARS = 80
UNITS = {
    "hour": datetime.timedelta(hours=1),
    "day": datetime.timedelta(days=1),
    "week": datetime.timedelta(days=7),
    "4 weeks": datetime.timedelta(days=28),
    "year": datetime.timedelta(days=365),
}
LONGEST_TEXT = 20_000
CHART_WIDTH, CHART_HEIGHT = 900, 200
# Told apart without colour by their patterns' order in each bar, the legend, and the titles.
COLOURS = ("#3d74ad", "#b3541e", "#3f7d4e", "#9562a6", "#8a6d1f", "#c04a66", "#3b7f86", "#666b73")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _shown(value: Any) -> Any:
    """Not without end, without control characters, and without those that change the direction of what follows."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    value = _cut(value, LONGEST_TEXT)
    return "".join(sign if sign in "\n\t" or sign.isprintable() else f"\\u{ord(sign):04x}" for sign in value)


def _cut(value: Any, most: int) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]} … ({len(text)} characters)"


def _number(value: int) -> Markup:
    return Markup(f"{int(value):,}".replace(",", "&#8239;"))  # noqa: S704 (a number)


def _moment(value: str) -> str:
    try:
        time = datetime.datetime.fromisoformat(value).astimezone(datetime.timezone.utc)
    except ValueError:
        return value
    return f"{time:%Y-%m-%d %H:%M}"


def _steps(highest: int) -> list[int]:
    """Values of the lines behind the bars: 0 and up to five round ones, the last not below the highest bar."""
    step = 1
    while highest > step * 4:
        step = step * 5 // 2 if str(step).startswith("2") else step * 2
    return list(range(0, highest + step, step))


def chart(timeline: list[Mapping[str, Any]], applications: Mapping[str, int]) -> dict[str, Any]:
    """The bars: one for each hour, or day, or week, with a part for each application."""
    times = [datetime.datetime.fromisoformat(bucket["time"]) for bucket in timeline]
    first, last = min(times), max(times)
    unit, start, length, number = next(
        (unit, start, length, number)
        for unit, length in UNITS.items()
        for start in [first if unit == "hour" else first.replace(hour=0)]
        for number in [int((last - start) / length) + 1]
        if number <= MOST_BARS or unit == "year"
    )
    counts: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for bucket, time in zip(timeline, times, strict=True):
        counts[int((time - start) / length)][bucket["application"]] += bucket["count"]
    names = list(applications)
    # Of many applications, the last ones share a colour.
    colours = {name: COLOURS[min(place, len(COLOURS) - 1)] for place, name in enumerate(names)}
    steps = _steps(max(sum(one.values()) for one in counts.values()))
    scale = CHART_HEIGHT / steps[-1]
    room = CHART_WIDTH / number
    bars = []
    for place in sorted(counts):
        base = CHART_HEIGHT + 10.0
        begin = start + place * length
        for name in names:
            count = counts[place].get(name, 0)
            if count:
                height = count * scale
                base -= height
                bars.append(
                    {
                        "x": round(52 + place * room, 1),
                        "y": round(base, 1),
                        "width": round(min(max(room * 0.85, 1), 60), 1),
                        "height": round(height, 1),
                        "colour": colours[name],
                        "label": f"{begin:%Y-%m-%d %H:%M}" if unit == "hour" else f"{begin:%Y-%m-%d}",
                        "application": name,
                        "count": count,
                    }
                )
    form = "%m-%d %H:%M" if unit == "hour" else "%Y-%m-%d"
    labels = [{"x": 52, "anchor": "start", "text": f"{start:{form}}"}]
    if number > 1:
        labels.append({"x": CHART_WIDTH + 52, "anchor": "end", "text": f"{start + (number - 1) * length:{form}}"})
    return {
        "unit": unit,
        "width": CHART_WIDTH,
        "height": CHART_HEIGHT,
        "highest": steps[-1],
        "lines": [{"value": value, "y": round(CHART_HEIGHT + 10 - value * scale, 1)} for value in steps],
        "bars": bars,
        "labels": labels,
        "colours": colours,
    }


def outcomes(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What web hosts have collected, for the report: the module's result of each, empty where there is none."""
    quarantined: Counter[str] = Counter()
    failed: list[dict[str, str]] = []
    for host, result in sorted(results.items()):
        for name, numbers in result.get("applications", {}).items():
            quarantined[name] += numbers.get("quarantined", 0)
        errors = result.get("errors")
        if errors is None:
            # Not reached, or the module did not get as far as that.
            errors = {"": str(result.get("msg") or "the host was not reached")}
        failed += [{"server": host, "application": name, "error": errors[name]} for name in sorted(errors)]
    generated = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {"generated": generated, "quarantined": dict(+quarantined), "failed": failed}


def html(report: Mapping[str, Any]) -> str:
    """The page; all that is in the report is untrusted."""
    template, style, script = (Path(__file__).with_suffix(suffix).read_text() for suffix in (".html.j2", ".css", ".js"))
    environment = Environment(autoescape=True, undefined=StrictUndefined, finalize=_shown)
    environment.globals.update(cut=_cut, number=_number, moment=_moment)
    return environment.from_string(template).render(
        report={"since": None, "quarantined": {}, "failed": [], "left_out": [], **report},
        chart=chart(report["timeline"], report["applications"]) if report["total"] else None,
        style=Markup(style),  # noqa: S704 (ours)
        script=Markup(script),  # noqa: S704 (ours)
        style_hash=_hash(style),
        script_hash=_hash(script),
    )
