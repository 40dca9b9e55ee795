# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The front ends: all that playbooks and other roles know of them. Each is a role of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import either, wrong


@dataclass(frozen=True)
class FrontEnd:
    # The role's configuration of the site: where it is found, the front end has been deployed, and a switch to another
    # one runs the role's entry point `remove`.
    marker: str
    # The service in which web2py's code runs. Without it, instances of the role web2py_daemon run the code, and the
    # role's variable `<role>_instance` names the one that answers visitors.
    unit: str | None = None
    # The role's variables that say how many processes there are, and how many threads in each.
    processes: str | None = None
    threads: str | None = None
    # Whether the role has an entry point `reload`, because a newer entry script alone does not bring new code in.
    reload: bool = False


FRONT_ENDS: dict[str, FrontEnd] = {
    "apache_wsgi": FrontEnd(
        marker="/etc/apache2/web2py/apache_wsgi.conf",
        unit="apache2.service",
        processes="apache_wsgi_processes",
        threads="apache_wsgi_threads",
    ),
    "apache_proxy": FrontEnd(marker="/etc/apache2/web2py/apache_proxy.conf"),
    "lighttpd_fcgi": FrontEnd(
        marker="/etc/lighttpd/web2py/lighttpd_fcgi.conf",
        unit="web2py-fcgi.service",
        # Processes of uWSGI have one thread each.
        processes="lighttpd_fcgi_processes",
        reload=True,
    ),
}


def problem(name: Any) -> str | None:
    """What is wrong with the value of web2py_frontend."""
    if isinstance(name, str) and name in FRONT_ENDS:
        return None
    return wrong("web2py_frontend", name, either(sorted(FRONT_ENDS)))


def main_unit(name: str, values: Mapping[str, Any]) -> str:
    """The service that answers visitors."""
    return FRONT_ENDS[name].unit or f"web2py@{values[f'{name}_instance']}.service"
