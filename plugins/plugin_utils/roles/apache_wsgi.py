# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role apache_wsgi mean, and what is wrong in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host, memory_problems, out_of_range
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.frontend import frontend_problems


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    return {}, [
        *frontend_problems("apache_wsgi", host.values_of("web2py")),
        *out_of_range("apache_wsgi_reload_patience", values["reload_patience"], 0, 300),
        *out_of_range("apache_wsgi_tasks_max", values["tasks_max"], 64, 65536),
        *memory_problems("apache_wsgi_memory_max", values["memory_max"]),
    ]
