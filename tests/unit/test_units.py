# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every unit that runs an application has limits of memory and tasks, and a job one of time."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import documented_options

ROLES = Path(__file__).resolve().parents[2] / "roles"
# Templates of services and drop-ins by the service that they make, and what runs no application.
UNITS = {
    "web2py/templates/web2py-migrate@.service.j2": [],
    "web2py/templates/web2py-sessions@.service.j2": [],
    "web2py/templates/web2py-tickets.service.j2": [],
    "web2py_daemon/templates/web2py@.service.j2": ["web2py_daemon/templates/instance.conf.j2"],
    "web2py_daemon/templates/web2py-scheduler@.service.j2": [],
    "lighttpd_fcgi/templates/web2py-fcgi.service.j2": [],
    "apache_wsgi/templates/apache2.service.d.conf.j2": [],
}
WITHOUT_APPLICATION = {
    "apache_proxy/templates/apache2.service.d.conf.j2": "passes requests on",
    "haproxy/templates/keepalived.service.conf.j2": "keepalived",
    "haproxy/templates/service.conf.j2": "HAProxy",
    "lighttpd_fcgi/templates/lighttpd.service.d.conf.j2": "passes requests on",
    "lighttpd_fcgi/templates/web2py-fcgi-retry.service.j2": "systemctl",
    "memcached/templates/service.conf.j2": "memcached",
    "postgresql/templates/postgresql-backup.service.j2": "pg_dump",
    "postgresql/templates/postgresql.service.d.conf.j2": "PostgreSQL",
    "web2py_daemon/templates/web2py-retry@.service.j2": "systemctl",
}
# A part of the others.
PARTS = {"web2py/templates/sandbox.conf.j2", "web2py_daemon/templates/instance.conf.j2"}


def test_these_are_all_units():
    found = {str(path.relative_to(ROLES)) for path in ROLES.glob("*/templates/*.j2") if "[Service]" in path.read_text()}
    includes = {name for name in UNITS if "include 'sandbox.conf.j2'" in (ROLES / name).read_text()}
    assert found | includes == set(UNITS) | set(WITHOUT_APPLICATION) | PARTS


def settings(name: str) -> dict[str, str]:
    lines = [line for part in (name, *UNITS[name]) for line in (ROLES / part).read_text().splitlines()]
    return dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))


@pytest.mark.parametrize("name", UNITS)
def test_it_has_limits_by_variables_with_defaults(name):
    found = settings(name)
    needed = ["MemoryMax", "TasksMax", *(["TimeoutStartSec"] if found.get("Type") == "oneshot" else ["OOMPolicy"])]
    role = name.split("/")[0]
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text())
    for setting in needed:
        assert setting in found, f"{name} has no {setting}"
        if setting == "OOMPolicy":
            # Debian's apache2.service is not started again after its end for want of memory.
            assert found[setting] == "continue"
            continue
        variable = re.search(rf"(?<!_)(?:__{role}\.|{role}_)(\w+)", found[setting])
        if variable:
            assert str(defaults[f"{role}_{variable[1]}"]) not in ("infinity", "0"), (name, setting)
        else:
            # That of an instance is in the entry of the instance.
            option = documented_options(role)[f"{role}_instances"]
            for key in re.search(r"item\.([\w.]+)", found[setting])[1].split("."):
                option = option["options"][key]
            assert str(option["default"]) not in ("infinity", "0"), (name, setting)


@pytest.mark.parametrize("path", sorted(ROLES.glob("*/tasks/*.yml")), ids=lambda path: str(path.relative_to(ROLES)))
def test_no_task_runs_an_application_outside_of_its_unit(path):
    """`web2py.py -S` runs an application; `-R` what is in its database."""
    assert not re.search(r"web2py\.py|(runuser|become_user).*web2py", path.read_text())
