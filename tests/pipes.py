#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How much Jinja decides: pipes inside `{{ }}` per 100 lines of YAML, blank lines and comments not counted."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def pipes(text: str) -> int:
    # Not those inside of a text, such as a regular expression.
    return sum(re.sub(r"'[^']*'", "", expression).count("|") for expression in EXPRESSION.findall(text))


def main() -> None:
    for name, pattern in (("playbooks", "playbooks/**/*.yml"), ("roles", "roles/*/[dthv]*/**/*.yml")):
        texts = {path: path.read_text(encoding="utf-8") for path in REPOSITORY.glob(pattern)}
        lines = sum(
            1
            for text in texts.values()
            for line in text.splitlines()
            if line.strip() and not line.strip().startswith("#")
        )
        found = {path: pipes(text) for path, text in texts.items()}
        total = sum(found.values())
        print(f"{name}: {total} pipes in {lines} lines, {100 * total / lines:.1f} per 100 lines")
        for path in sorted(found, key=found.__getitem__, reverse=True)[:5]:
            print(f"  {found[path]:3} {path.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
