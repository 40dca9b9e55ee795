# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Lists of dictionaries with `name` and `state`, as all roles take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def present(item: Mapping[str, Any]) -> bool:
    return item.get("state", "present") == "present"


def entries(value: Any) -> list[Mapping[str, Any]]:
    """The dictionaries of a list; a type mistake elsewhere in it has its own message from the argument spec."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []
