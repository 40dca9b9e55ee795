# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What web2py_daemon makes of its variables: defaults, and the settings of an instance's unit."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
import yaml

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
