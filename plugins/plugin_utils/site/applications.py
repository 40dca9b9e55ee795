# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `web2py_applications` and the site's names mean to everything that serves or checks the site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import ip_address, is_present


def exposed(applications: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the applications that the web server exposes."""
    return [item["name"] for item in applications if is_present(item) and item["exposed"]]


def check_paths(applications: Sequence[Mapping[str, Any]], health_path: str) -> list[str]:
    """What a healthy web host answers: the runtime package, and one page of every exposed application."""
    own = {item["name"]: item.get("check_path") for item in applications}
    return [health_path, *(own[name] or f"/{name}/default/index" for name in exposed(applications))]


def subject_alt_names(names: Sequence[Any]) -> list[str]:
    """Names as a certificate lists them (RFC 5280, 4.2.1.6)."""
    return [f"{'IP' if ip_address(name) else 'DNS'}:{name}" for name in names]
