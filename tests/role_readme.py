# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The README.md of a role, made from meta/argument_specs.yml and meta/example.yml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

COLLECTION = "web2py.deployment"


def sentences(description: str | Iterable[str]) -> list[str]:
    return [description] if isinstance(description, str) else list(description)


def markdown(text: str) -> str:
    """Turn Ansible's markup into Markdown."""
    text = re.sub(r"\bL\(([^,)]+),\s*([^)]+)\)", r"[\1](\2)", text)
    text = re.sub(r"\bU\(([^)]+)\)", r"<\1>", text)
    text = re.sub(r"\bP\(([^)#]+)#\w+\)", r"`\1`", text)
    text = re.sub(r"\bB\(([^)]+)\)", r"**\1**", text)
    text = re.sub(r"\bI\(([^)]+)\)", r"*\1*", text)
    # Inside the table of a list's entries the name of the list is noise.
    text = re.sub(r"\b(?:O|RV)\((?:\w+\[\]\.)?([^)]+)\)", r"`\1`", text)
    return re.sub(r"\b[CVEM]\(([^)]+)\)", r"`\1`", text)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def type_of(option: Mapping[str, Any]) -> str:
    kind = option.get("type", "str")
    return f"list of {option['elements']}" if kind == "list" and "elements" in option else kind


def default_of(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "required"
    value = option.get("default")
    if value is None:
        return ""
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def description_of(option: Mapping[str, Any]) -> str:
    text = " ".join(sentences(option.get("description", "")))
    if "choices" in option:
        text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
    return cell(markdown(text))


def tables(title: str, options: Mapping[str, Mapping[str, Any]], level: int = 2) -> list[str]:
    """Return a table of the options and, after it, one for each option that has options of its own."""
    lines = [f"{'#' * level} {title}", "", "| name | type | default | description |", "|---|---|---|---|"]
    lines += [
        f"| `{name}` | {type_of(option)} | {cell(default_of(option))} | {description_of(option)} |"
        for name, option in options.items()
    ]
    lines.append("")
    for name, option in options.items():
        if "options" in option:
            what = "Each entry of" if option.get("type") == "list" else "Keys of"
            lines += tables(f"{what} `{name}`", option["options"], min(level + 1, 6))
    return lines


def readme(role: Path) -> str:
    """Return the text that README.md of the role is to have."""
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    main = specification["argument_specs"]["main"]
    example = (role / "meta" / "example.yml").read_text(encoding="utf-8").removeprefix("---\n").strip()
    lines = [
        "<!-- Made by `python tests/gates.py readme --write` from meta/argument_specs.yml and meta/example.yml. -->",
        "",
        f"# Role `{COLLECTION}.{role.name}`",
        "",
        main["short_description"].rstrip(".") + ".",
        "",
        *(f"{markdown(sentence)}\n" for sentence in sentences(main["description"])),
        "## Example",
        "",
        "```yaml",
        example,
        "```",
        "",
        *tables("Variables", main["options"]),
    ]
    return "\n".join(lines).rstrip() + "\n"
