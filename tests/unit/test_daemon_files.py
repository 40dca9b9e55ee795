# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What web2py_daemon makes of its variables: defaults, and the settings of an instance's unit."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from ansible_collections.web2py.deployment.plugins.action.plan import plan
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host

ROLE = Path(__file__).resolve().parents[2] / "roles" / "web2py_daemon"
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
TEMPLATES = jinja2.Environment(  # noqa: S701 (systemd's units are no HTML)
    loader=jinja2.FileSystemLoader(ROLE / "templates"), undefined=jinja2.StrictUndefined
)


@pytest.mark.parametrize(
    ("name", "sites_name", "usual"),
    [
        ("web2py_daemon_health_path", "web2py_health_path", "/healthz"),
        ("web2py_daemon_user", "web2py_user", "web2py"),
        ("web2py_daemon_group", "web2py_group", "web2py"),
    ],
)
def test_a_default_follows_the_site(name: str, sites_name: str, usual: str) -> None:
    template = jinja2.Environment().from_string(DEFAULTS[name])  # noqa: S701
    assert template.render() == usual
    assert template.render({sites_name: "other"}) == "other"


def unit_settings(name: str, *others: dict[str, Any], **instance: Any) -> list[str]:
    """The drop-in file of an instance's unit, line by line."""
    instances = [{"name": name, "port": 8000, **instance}, *others]
    source = {"path": "/web2py"}
    variables = {**DEFAULTS, "web2py_daemon_instances": instances, "web2py_daemon_framework_source": source}
    variables |= {"web2py_daemon_applications": [], "web2py_daemon_health_path": "/healthz"}
    variables |= {"web2py_daemon_user": "web2py", "web2py_daemon_group": "web2py"}
    values, problems = plan("web2py_daemon", variables, Host({}, open, datetime.now(timezone.utc)))
    assert problems == []
    text = TEMPLATES.get_template("instance.conf.j2").render(
        item=next(item for item in values["instances"] if item["name"] == name),
        __web2py_daemon=values,
        __web2py_daemon_etc="/etc/web2py/daemon",
    )
    return text.splitlines()


ADMINISTRATION = {"administration": True, "password": "long enough"}
OTHER = {"name": "other", "port": 8001, **ADMINISTRATION}


def test_only_an_administrator_s_instance_sees_its_root() -> None:
    hidden = [line for line in unit_settings("public", OTHER) if line.startswith("InaccessiblePaths")]
    assert hidden == ["InaccessiblePaths=-/var/lib/web2py/instances"]
    own = unit_settings("admin", OTHER, **ADMINISTRATION)
    assert "ReadWritePaths=/var/lib/web2py/instances/admin" in own
    assert [line for line in own if line.startswith("InaccessiblePaths")] == [
        "InaccessiblePaths=-/var/lib/web2py/instances/other"
    ]


TLS = {"certificate_file": "/etc/cert.pem", "key_file": "/etc/key.pem"}


@pytest.mark.parametrize("name", ["fcgi", "lighttpd", "daemon"])
def test_the_folder_of_an_instance_s_keys_is_nobody_else_s(name: str) -> None:
    lines = unit_settings(name, tls=TLS)
    # systemd would give one of its own making to the service user, and root writes there.
    assert not any(line.startswith("RuntimeDirectory") for line in lines)
    folders = [line for line in lines if " --directory " in line]
    assert len(folders) == 2
    for line in folders:
        assert " --owner=root " in line and line.endswith(f" --mode=0710 /run/web2py-instance-{name}")
    settings = (ROLE / "templates/instance.py.j2").read_text(encoding="utf-8")
    assert settings.count('file = "/run/web2py-instance-{{ item.name }}/') == 2


def test_a_certificate_is_tried_before_it_replaces_another() -> None:
    lines = unit_settings("shop", tls=TLS)
    for command in ("ExecStartPre", "ExecReload"):
        steps = [line for line in lines if line.startswith(f"{command}=+")]
        assert "load_cert_chain" in steps[0] and '"/etc/cert.pem" "/etc/key.pem"' in steps[0]
        assert all("/usr/bin/install" in step for step in steps[1:]) and len(steps) == 4
