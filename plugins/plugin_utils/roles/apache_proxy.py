# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role apache_proxy mean, and what is wrong in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host, is_present, wrong
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.frontend import frontend_problems

PATH = re.compile(r"/[A-Za-z0-9._~/-]+")
BACKEND = re.compile(r"wss?://[][A-Za-z0-9.:_~/-]+")


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    declaration, name = host.values_of("web2py"), values["instance"]
    instances = host.values_of("web2py_daemon").get("instances", [])
    instance = next((item for item in instances if item["name"] == name and is_present(item) and item["socket"]), {})
    problems = [
        *frontend_problems("apache_proxy", declaration),
        *instance_problems(name, instance),
        *administration_problems(values, instance, declaration.get("administration")),
        *websocket_problems(values["websockets"]),
    ]
    return {
        # How long a connection to web2py is used again.
        "proxy_reuse": instance.get("timeouts", {}).get("proxy_reuse", 5),
    }, problems


def instance_problems(name: str, instance: Mapping[str, Any]) -> Iterator[str]:
    if not instance:
        yield wrong(
            "apache_proxy_instance",
            name,
            "an instance of web2py_daemon_instances with socket: true",
            f"Add {{name: {name}, socket: true}} to it",
        )


def administration_problems(
    values: Mapping[str, Any], instance: Mapping[str, Any], administration: str | None
) -> Iterator[str]:
    if values["shared_host"] and administration == "https":
        yield wrong(
            "apache_proxy_shared_host",
            True,
            "false unless web2py_administration is disabled",
            "On a shared host set web2py_administration: disabled, and use an instance of web2py_daemon with "
            "administration: true on 127.0.0.1 through an SSH tunnel",
        )
    if instance.get("administration_through_proxy") and (values["shared_host"] or administration != "https"):
        yield wrong(
            f"web2py_daemon_instances ({instance['name']!r}): administration_through_proxy",
            True,
            "false unless web2py_administration is https and apache_proxy_shared_host is false",
        )


def websocket_problems(websockets: list[Mapping[str, Any]]) -> Iterator[str]:
    for number, item in enumerate(websockets):
        where = f"apache_proxy_websockets[{number}]"
        if not PATH.fullmatch(item["path"]):
            yield wrong(f"{where}: path", item["path"], "a URL path such as /realtime")
        if not BACKEND.fullmatch(item["backend"]):
            yield wrong(f"{where}: backend", item["backend"], "an address such as ws://127.0.0.1:8888/realtime")
