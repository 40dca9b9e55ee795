# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A mistake in the variables of any tier is found before any host is changed."""

from __future__ import annotations

import re

import pytest
import testinfra
from browser import machines, play

# Files with their times, packages and units; without what changes by itself while a site runs.
STATE = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp \
  -o -path /var/log -o -path /var/lib/systemd -o -path /var/lib/postgresql -o -path /var/lib/web2py/data \
  -o -path /root/.ansible \) -prune -o -printf '%p %y %m %u %g %T@ %C@\n' | grep -v '^/ ' | sort
dpkg-query --show
systemctl list-unit-files --no-legend
systemctl show --property=Id,ActiveState,ActiveEnterTimestamp \
  '*.socket' apache2.service memcached.service 'postgresql@*'
"""


def state() -> dict[str, list[str]]:
    return {name: testinfra.get_host(f"docker://{name}").check_output(STATE).splitlines() for name in machines()}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"postgresql_connection_limit": 0}, "postgresql_connection_limit is 0"),
        ({"memcached_max_item_size": "big"}, "memcached_max_item_size is 'big'; it must be a whole number."),
        ({"memcached_prt": 11211}, "did you mean memcached_port"),
        ({"web2py_health_path": "up"}, "web2py_health_path"),
        ({"web2py_frontend": "nginx"}, "web2py_frontend is 'nginx'; it must be"),
        ({"apache_wsgi_tasks_max": 1}, "apache_wsgi_tasks_max is 1"),
        ({"tls_certificate_ca_valid_days": 0}, "tls_certificate_ca_valid_days is 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_no_host_is_changed(variables, words):
    before = state()
    run = play(variables=variables)
    assert run.status != 0 and words in run.output, run.output
    assert re.findall(r"changed=[1-9]\d*", run.output) == []
    assert state() == before


def test_facts_are_gathered_where_ansible_is_told_not_to(monkeypatch):
    monkeypatch.setenv("ANSIBLE_GATHERING", "explicit")
    run = play()
    assert run.status == 0, run.output
    assert re.findall(r"changed=[1-9]\d*", run.output) == []
