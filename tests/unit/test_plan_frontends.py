# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plans of the front-end roles, which read the variables of web2py and web2py_daemon."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
import yaml
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.plugin_utils import arguments
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host

WEB2PY = {
    **yaml.safe_load((arguments.ROLES / "web2py/defaults/main.yml").read_text(encoding="utf-8")),
    # Expressions, which Ansible evaluates.
    "web2py_server_names": ["www.example.org"],
    "web2py_public_http_port": 80,
    "web2py_public_https_port": 443,
    "web2py_trusted_proxies": [],
}
PUBLIC = {"name": "public", "state": "present", "socket": True, "administration_through_proxy": False}


def plan(
    role: str,
    instances: tuple[dict[str, Any], ...] = (PUBLIC,),
    site: dict[str, Any] | None = None,
    websockets_of_the_proxy: Any = (),
    **options: Any,
) -> tuple[dict[str, Any], list[str]]:
    others = {
        "web2py": {**action.without_prefix("web2py", WEB2PY), "frontend": role, **(site or {})},
        "web2py_daemon": {"instances": list(instances)},
        "apache_proxy": {"websockets": websockets_of_the_proxy},
    }
    host = Host({}, open, datetime.now(timezone.utc), others.__getitem__)
    return action.plan(role, {f"{role}_{name}": value for name, value in options.items()}, host)


@pytest.mark.parametrize("role", ["apache_proxy", "apache_site", "apache_wsgi", "lighttpd_fcgi"])
def test_defaults_are_without_a_fault(role):
    assert plan(role)[1] == []


def test_what_is_derived():
    assert plan("lighttpd_fcgi", max_connections="100")[0]["max_files"] == 1324
    assert plan("apache_proxy")[0]["proxy_reuse"] == 5
    assert plan("apache_proxy", ({**PUBLIC, "timeouts": {"proxy_reuse": 9}},))[0]["proxy_reuse"] == 9
    assert plan("apache_site")[0]["packages"] == ["apache2", "logrotate"]


@pytest.mark.parametrize(
    ("front_end", "websockets", "packages", "modules"),
    [
        ("apache_wsgi", [], ["libapache2-mod-wsgi-py3"], ["wsgi"]),
        ("apache_proxy", [], [], ["buffer", "proxy", "proxy_http"]),
        ("apache_proxy", [{"path": "/a"}], [], ["buffer", "proxy", "proxy_http", "proxy_wstunnel"]),
    ],
)
def test_what_a_front_end_needs_of_apache(front_end, websockets, packages, modules):
    values, problems = plan("apache_site", site={"frontend": front_end}, websockets_of_the_proxy=websockets)
    assert problems == []
    assert (values["packages"][2:], values["modules"]) == (packages, modules)


@pytest.mark.parametrize("role", ["apache_proxy", "apache_wsgi", "lighttpd_fcgi"])
def test_a_host_has_the_front_end_that_is_chosen(role):
    (problem,) = plan(role, site={"frontend": "other"})[1]
    assert problem == f"web2py_frontend is 'other'; it must be {role} where this role is applied."
    problem = action.plan(role, {}, Host({}, open, datetime.now(timezone.utc)))[1][0]
    assert f"Put the role web2py before {role} in the same play." in problem


ADMINISTERED = {**PUBLIC, "administration_through_proxy": True}
HTTPS = {"administration": "https"}


@pytest.mark.parametrize(
    ("role", "given", "words"),
    [
        ("apache_site", {"max_request_workers": 24}, ["apache_site_max_request_workers is 24;", "25 and 400"]),
        ("apache_site", {"extra_ports": [0]}, ["apache_site_extra_ports[0] is 0;", "1 and 65535"]),
        ("apache_site", {"extra_ports": [8080, "443"]}, ["web2py_https_port and apache_site_extra_ports[1] are 443;"]),
        ("apache_wsgi", {"reload_patience": 301}, ["apache_wsgi_reload_patience is 301;", "0 and 300"]),
        ("apache_wsgi", {"tasks_max": 63}, ["apache_wsgi_tasks_max is 63;", "64 and 65536"]),
        *(
            (role, {"memory_max": value}, [f"{role}_memory_max is {value!r};", "60%, or infinity"])
            for role in ("apache_wsgi", "lighttpd_fcgi")
            for value in ("", "0", "101%", "1GB", "1.5G", "1G\n")
        ),
        ("lighttpd_fcgi", {"processes": 0}, ["lighttpd_fcgi_processes is 0;", "1 and 512"]),
        ("lighttpd_fcgi", {"reload_patience": 0}, ["lighttpd_fcgi_reload_patience is 0;", "1 and 300"]),
        ("lighttpd_fcgi", {"max_connections": 15}, ["lighttpd_fcgi_max_connections is 15;", "16 and 65536"]),
        ("lighttpd_fcgi", {"tasks_max": 15}, ["lighttpd_fcgi_tasks_max is 15;", "16 and 65536"]),
        *(
            ("apache_proxy", {"instances": instances}, ["apache_proxy_instance is 'public';", "socket: true"])
            for instances in ((), ({**PUBLIC, "state": "absent"},), ({**PUBLIC, "socket": False},))
        ),
        ("apache_proxy", {"shared_host": "yes", "site": HTTPS}, ["apache_proxy_shared_host is true;", "SSH tunnel"]),
        ("apache_proxy", {"instances": (ADMINISTERED,)}, ["('public'): administration_through_proxy is true;"]),
        (
            "apache_proxy",
            {"websockets": [{"path": "realtime", "backend": "ws://127.0.0.1:8888/"}]},
            ["apache_proxy_websockets[0]: path is 'realtime';"],
        ),
        (
            "apache_proxy",
            {"websockets": [{"path": "/realtime", "backend": 'ws://x/ "a"'}]},
            ["apache_proxy_websockets[0]: backend is 'ws://x/"],
        ),
    ],
)
def test_a_fault_names_the_variable_its_value_and_what_is_allowed(role, given, words):
    (problem,) = plan(role, **given)[1]
    assert [word for word in words if word not in problem] == []


def test_administration_through_the_proxy_needs_https_and_a_host_that_is_not_shared():
    assert plan("apache_proxy", (ADMINISTERED,), HTTPS)[1] == []
    assert len(plan("apache_proxy", (ADMINISTERED,), HTTPS, shared_host=True)[1]) == 2
