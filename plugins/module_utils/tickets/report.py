# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A report of the tickets in a database, which counts them by application, server, hour and problem."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from .storage import COLUMNS, LONGEST_SHORT, SHORT, Database

COUNTS = (
    "SELECT application, fingerprint, server, count(*), min(created), max(created) FROM ticket WHERE {where} "
    "GROUP BY application, fingerprint, server ORDER BY max(created) DESC LIMIT {groups}"
)
# Of those with a text the newest; others only where none has one.
NEWEST = (
    "SELECT application, fingerprint, substr(error_type, 1, {most}), substr(message, 1, {most}), "
    "substr(layer, 1, {most}), ticket_id, substr(traceback, 1, {most}) FROM ("
    "SELECT *, row_number() OVER (PARTITION BY application, fingerprint "
    "ORDER BY CASE WHEN traceback IS NULL THEN 1 ELSE 0 END, created DESC) AS place FROM ticket WHERE {where}"
    ") AS ranked WHERE place = 1 ORDER BY created DESC LIMIT {problems}"
)
TIMELINE = "SELECT {hour}, application, count(*) FROM ticket WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2 LIMIT {groups}"
UNSOUND = (
    "SELECT substr(coalesce(CAST(application AS text), ''), 1, 60), count(*) FROM ticket "
    "WHERE NOT coalesce({sound}, false) GROUP BY 1 ORDER BY 2 DESC LIMIT 20"
)
# Applications write into the database, too: a report has an end, whatever is in there.
MOST_GROUPS = 100_000
MOST_PROBLEMS = 2000
MOST_ROWS = 200_000
LONGEST_TEXT = 40_000
TEXTS = ("error_type", "message", "layer", "ticket_id", "traceback")


class Findings:
    """What a report is made of, and what had to be left out of it."""

    def __init__(self) -> None:
        self.problems: dict[tuple[str, str], dict[str, Any]] = {}
        self.timeline: Counter[tuple[str, str]] = Counter()
        self.left_out: list[dict[str, Any]] = []

    def leave_out(self, application: str, tickets: int, reason: str) -> None:
        self.left_out.append({"application": application, "tickets": tickets, "reason": reason})

    def count(self, application: str, fingerprint: str, server: str, number: int, first: str, last: str) -> dict:
        problem = self.problems.setdefault(
            (application, fingerprint),
            {
                "application": application,
                "fingerprint": fingerprint,
                "count": 0,
                "servers": {},
                "first_seen": "9",
                "last_seen": "",
            },
        )
        problem["count"] += number
        problem["servers"][server] = problem["servers"].get(server, 0) + number
        problem["first_seen"] = min(problem["first_seen"], first)
        problem["last_seen"] = max(problem["last_seen"], last)
        return problem


def summary(database: Database, applications: Iterable[str] = (), since: datetime.datetime | None = None) -> dict:
    """What is in the database, by application, server, hour and problem; a problem is one fingerprint.

    Of each problem the newest ticket that was kept whole is given. All times are UTC. A row that no collector has
    written is left out, and `left_out` says so.
    """
    found = Findings()
    with database.transaction() as cursor:
        columns = database.columns(cursor)
        # Before the first ticket was collected there is no table.
        if columns and database.as_made(columns):
            read_groups(database, cursor, found, list(applications), since)
        elif columns:
            found.leave_out("", 0, "the table of tickets is not as the collector made it, and was read row by row")
            read_rows(database, cursor, found, columns, set(applications), since)
        elif any(name.startswith("web2py_ticket_") for name in database.tables(cursor)):
            found.leave_out("", 0, "the table of tickets is gone; the next run of the collector makes another")
    without_text = [key for key, problem in found.problems.items() if "traceback" not in problem]
    for key in without_text:
        problem = found.problems.pop(key)
        found.leave_out(problem["application"], problem["count"], f"a report has at most {MOST_PROBLEMS} problems")
    # A thousand times the same is said once.
    reasons: Counter[tuple[str, str]] = Counter()
    for one in found.left_out:
        reasons[one["application"], one["reason"]] += one["tickets"]
    by_application: Counter[str] = Counter()
    by_server: Counter[str] = Counter()
    for problem in found.problems.values():
        by_application[problem["application"]] += problem["count"]
        by_server.update(problem["servers"])
    return {
        "since": since and since.astimezone(datetime.timezone.utc).isoformat(timespec="seconds"),
        "total": by_application.total(),
        "applications": dict(sorted(by_application.items())),
        "servers": dict(sorted(by_server.items())),
        "timeline": [
            {"time": f"{hour}:00:00+00:00", "application": application, "count": count}
            for (hour, application), count in sorted(found.timeline.items())
            if application in by_application
        ],
        "problems": sorted(found.problems.values(), key=lambda problem: problem["last_seen"], reverse=True),
        "left_out": [
            {"application": application, "tickets": count, "reason": reason}
            for (application, reason), count in reasons.most_common(100)
        ],
    }


def read_groups(
    database: Database, cursor: Any, found: Findings, names: list[str], since: datetime.datetime | None
) -> None:
    """From a table that is as the collector made it: the database counts."""
    conditions, values = [database.SOUND], []
    if names:
        conditions.append(f"application IN ({', '.join([database.MARK] * len(names))})")
        values += names
    if since:
        conditions.append(f"created >= {database.MARK}")
        values.append(since)
    limits = {"groups": MOST_GROUPS, "problems": MOST_PROBLEMS, "most": LONGEST_TEXT, "hour": database.HOUR}

    def rows(statement: str) -> list[tuple]:
        cursor.execute(statement.format(where=" AND ".join(conditions), **limits), values)
        return cursor.fetchall()

    for application, fingerprint, server, number, first, last in rows(COUNTS):
        found.count(application, fingerprint, server, number, database.time(first), database.time(last))
    for application, fingerprint, *texts in rows(NEWEST):
        if (application, fingerprint) in found.problems:
            found.problems[application, fingerprint] |= {
                name: value or "" for name, value in zip(TEXTS, texts, strict=True)
            }
    for hour, application, number in rows(TIMELINE):
        found.timeline[hour, application] += number
    cursor.execute(UNSOUND.format(sound=f"({database.SOUND})"))
    for application, number in cursor.fetchall():
        found.leave_out(application, number, "a time, a type or a length that no ticket has")


def read_rows(
    database: Database,
    cursor: Any,
    found: Findings,
    columns: Mapping[str, str],
    names: set[str],
    since: datetime.datetime | None,
) -> None:
    """From whatever else is named like the table: each row is judged."""
    wanted = [
        database.AS_TEXT.format(column=column, most=LONGEST_TEXT) if column in columns else "''" for column in COLUMNS
    ]
    cursor.execute(f"SELECT {', '.join(wanted)} FROM ticket LIMIT {MOST_ROWS + 1}")  # noqa: S608 (names of ours)
    for number in itertools.count():
        row = cursor.fetchone()
        if row is None:
            return
        if number == MOST_ROWS:
            found.leave_out("", 0, f"the rest of more than {MOST_ROWS} rows")
            return
        values = {name: value or "" for name, value in zip(COLUMNS, row, strict=True)}
        application, fingerprint, server = (values[name] for name in SHORT)
        if names and application not in names:
            continue
        try:
            if not all(1 <= len(values[name]) <= LONGEST_SHORT for name in SHORT):
                raise ValueError("no name")
            created = datetime.datetime.fromisoformat(values["created"])
            if created.tzinfo is None:
                created = created.replace(tzinfo=datetime.timezone.utc)
            created = created.astimezone(datetime.timezone.utc)
            if not 1970 <= created.year < datetime.MAXYEAR:
                raise ValueError("no time")
        except (ValueError, OverflowError):
            found.leave_out(application[:60], 1, "a time, a type or a length that no ticket has")
            continue
        if since and created < since:
            continue
        if len(found.problems) >= MOST_PROBLEMS and (application, fingerprint) not in found.problems:
            found.leave_out(application, 1, f"a report has at most {MOST_PROBLEMS} problems")
            continue
        moment = created.isoformat(timespec="seconds")
        problem = found.count(application, fingerprint, server, 1, moment, moment)
        if "traceback" not in problem or (problem["last_seen"] == moment and values["traceback"]):
            problem |= {name: values[name] for name in TEXTS}
        found.timeline[f"{created:%Y-%m-%dT%H}", application] += 1
