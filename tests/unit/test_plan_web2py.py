# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of the role web2py: what is refused, and what its tasks get to read."""

from __future__ import annotations

import string
from datetime import datetime, timezone
from typing import Any

import pytest
import yaml
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.filter.web2py_password_hash import web2py_password_hash
from ansible_collections.web2py.deployment.plugins.plugin_utils import arguments
from ansible_collections.web2py.deployment.plugins.plugin_utils.frontends import FRONT_ENDS
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROUTABLE = string.ascii_letters + string.digits + "_"
PATH = arguments.ROLES / "web2py" / "defaults" / "main.yml"
DEFAULTS = {
    **yaml.safe_load(PATH.read_text(encoding="utf-8")),
    # Expressions, which Ansible evaluates.
    "web2py_database_server": {"host": "db.example.org"},
    "web2py_cache_servers": ["cache:11211"],
    "web2py_storage_server": "",
    "web2py_migrate_host": "www1",
    "web2py_secrets_directory": "/secrets",
    "web2py_admin_password_seed": "www1",
    "web2py_server_names": ["www.example.org"],
    "web2py_public_http_port": 80,
    "web2py_public_https_port": 443,
    "web2py_trusted_proxies": [],
}


def plan(
    found: dict[str, Any] | None = None, web_hosts: list[str] | None = None, **values: Any
) -> tuple[dict[str, Any], list[str]]:
    """Of a host www1, with these variables by their names without the role's."""
    variables = {**DEFAULTS, **{f"web2py_{name}": value for name, value in values.items()}}
    groups = {} if web_hosts is None else {"web2py_web": web_hosts}
    host = Host({}, open, datetime.now(timezone.utc), found=found, name="www1", groups=groups)
    return action.plan("web2py", variables, host)


def problems(**values: Any) -> list[str]:
    return plan(**values)[1]


def of_application(**said: Any) -> list[str]:
    """What is wrong with one application, named shop unless told."""
    return problems(applications=[{"name": "shop", "source": {"path": "x"}, **said}])


def test_defaults_are_without_a_fault():
    values, wrong = plan()
    assert wrong == []
    assert (values["default_application"], values["settings"], values["drivers"]) == ("", [], [])


class TestApplications:
    @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(st.text(alphabet=ROUTABLE, min_size=1, max_size=40))
    def test_names_that_web2py_routes_are_taken(self, name):
        assert of_application(name=name) == []

    @settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(st.text(max_size=40).filter(lambda name: not name or set(name) - set(ROUTABLE)))
    def test_all_other_names_are_refused(self, name):
        assert "letters, digits and underscores" in of_application(name=name)[0]

    @pytest.mark.parametrize(
        ("said", "words"),
        [
            ({"name": "my-app"}, ["'my-app'"]),
            ({"name": "shop\n"}, ["shop"]),
            ({"source": None}, ["'shop'", "source is not set"]),
            ({"source": {}}, ["'shop'", "source is not set", "admin, examples, welcome"]),
            ({"exposed": "perhaps"}, ["'shop'", "exposed is 'perhaps'", "true or false"]),
            ({"writable": ["controllers"]}, ["'controllers'", "writable"]),
            ({"writable": ["../x"]}, ["'../x'"]),
            ({"sorce": {}}, ["'shop'", "sorce is unknown", "source"]),
            ({"sessions": "redis"}, ["sessions is 'redis'", "files, database or cookie"]),
            ({"uploads": "cloud"}, ["uploads is 'cloud'", "files or database"]),
            ({"cache": "redis"}, ["cache is 'redis'", "ram, disk or memcached"]),
            ({"tickets": "mail"}, ["tickets is 'mail'", "files or database"]),
            ({"sessions": "database"}, ["sessions is 'database'", "Add database"]),
            ({"uploads": "database"}, ["uploads is 'database'", "Add database"]),
            ({"database": {"name": ""}}, ["name of its database", "''", "not empty"]),
            ({"database": {"name": "x" * 64}}, ["name of its database", "63 bytes"]),
            ({"database": {"name": 'a"b'}}, ["name of its database", "no double quote"]),
            ({"database": {"name": "postgres"}}, ["name of its database", "means nothing to PostgreSQL"]),
            ({"database": {"name": "what?"}}, ["question mark"]),
            ({"database": {"name": "web2py_tickets"}}, ["the database 'web2py_tickets' is that of tickets"]),
            ({"database": {"user": "web2py_tickets"}}, ["the database user 'web2py_tickets' is that of tickets"]),
            ({"database": {"user": "pg_monitor"}}, ["user of its database", "means nothing to PostgreSQL"]),
            ({"database": {"user": "+staff"}}, ["user of its database", "does not begin with"]),
            ({"database": {"password": "seven77"}}, ["password of its database", "8 to 1024"]),
            ({"database": {"password": "p" * 1025}}, ["password of its database", "8 to 1024"]),
        ],
    )
    def test_a_fault_names_the_application_what_was_found_and_what_is_allowed(self, said, words):
        (problem,) = of_application(**said)
        name = said.get("name", "shop")
        assert [word for word in [f"web2py_applications[0] ({name!r})", *words] if word not in problem] == []
        assert str((said.get("database") or {}).get("password") or "no password") not in problem

    @pytest.mark.parametrize("path", ["", "a", "/a b", "/%2e", "/a\\b", "/../a", "/a#b", "/é", "/a\n"])
    def test_a_path_with_two_readings_is_refused(self, path):
        (problem,) = of_application(check_path=path)
        assert f"check_path is {path!r}" in problem and "/shop/default/index" in problem

    @pytest.mark.parametrize("path", ["/", "/shop", "/shop/default/user/login?next=/shop", "/a-b/c_d.html"])
    def test_other_paths_are_taken(self, path):
        assert of_application(check_path=path) == []

    def test_names_databases_and_users_are_there_once(self):
        (problem,) = problems(applications=[{"name": "welcome"}, {"name": "welcome", "state": "absent"}])
        assert problem == "web2py_applications has 2 entries named 'welcome'; each name must be there once."
        two = [{"name": name, "source": {"path": "x"}} for name in ("shop", "wiki")]
        (problem,) = problems(
            applications=[{**two[0], "database": {}}, {**two[1], "database": {"name": "shop"}}],
        )
        assert "('wiki') and application 'shop' have the same database, 'shop'" in problem
        (problem,) = problems(applications=[{**item, "database": {"user": "staff"}} for item in two])
        assert "have the same database user, 'staff'" in problem

    def test_what_is_absent_or_says_nothing_is_not_checked(self):
        absent = {"name": "gone", "state": "absent", "sessions": "database"}
        assert problems(applications=[absent, {"name": "welcome"}], database_server={}, cache_servers=[]) == []

    def test_a_name_that_suits_web2py_and_not_postgresql(self):
        (problem, _user) = of_application(name="all", database={})
        assert "('all'): name of its database is 'all'; it must be" in problem


WELCOME = {"name": "welcome", "database": {}}


class TestServers:
    def test_servers_that_are_not_there(self):
        (problem,) = problems(applications=[WELCOME], database_server={})
        assert "'welcome'" in problem and "web2py_database_server" in problem
        (problem,) = problems(applications=[{"name": "welcome", "cache": "memcached"}], cache_servers=[])
        assert "'welcome'" in problem and "web2py_cache_servers" in problem

    def test_several_web_hosts_share_no_sqlite_file(self):
        declared = [{"name": "welcome", "tickets": "database"}]
        for web_hosts in (None, ["www1"]):
            values, wrong = plan(applications=declared, database_server={}, web_hosts=web_hosts)
            assert wrong == [] and values["tickets_in_file"] is True
        two = ["www1", "www2"]
        assert problems(applications=declared, web_hosts=two) == []
        assert problems(applications=[{"name": "welcome", "tickets": "files"}], database_server={}, web_hosts=two) == []
        (problem,) = problems(applications=declared, database_server={}, web_hosts=two)
        assert "'welcome'" in problem and "www1, www2" in problem and "web2py_database" in problem

    def test_a_verified_server_needs_a_certificate_on_the_controller(self):
        server = {"host": "db", "tls": {"mode": "verify-full", "ca_file": data.CA_FILE}}
        given = {"applications": [WELCOME], "database_server": server}
        (problem,) = problems(**given)
        assert "web2py_database_ca_file" in problem and "'welcome'" in problem
        values, wrong = plan(**given, database_ca_file="/ca.pem")
        assert wrong == [] and values["installs_ca"] is True
        assert plan(applications=[WELCOME], database_ca_file="/ca.pem")[0]["installs_ca"] is False

    @pytest.mark.parametrize(
        ("server", "words"),
        [
            ({"port": 5433}, ["none of host and socket"]),
            ({"host": "db", "socket": "/run/.s.PGSQL.5432"}, ["both of host and socket"]),
            *(({"socket": path}, [repr(path)]) for path in ("/run/postgresql", "/run/.s.PGSQL.x", ".s.PGSQL.5432")),
            ({"host": "2001:db8::1"}, ["'2001:db8::1'", "verify-ca"]),
            ({"host": "db", "tls": {"mode": "maybe"}}, ["mode is 'maybe'", "verify-full"]),
        ],
    )
    def test_a_server_that_no_connection_string_has(self, server, words):
        (problem,) = problems(applications=[WELCOME], database_server=server)
        assert [word for word in ["web2py_database_server", *words] if word not in problem] == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"http_port": 0}, ["web2py_http_port is 0;", "1 and 65535"]),
        ({"https_port": 65536}, ["web2py_https_port is 65536;", "1 and 65535"]),
        ({"https_port": "http"}, ["web2py_https_port is 'http'; it must be a whole number"]),
        ({"http_port": 443}, ["web2py_http_port and web2py_https_port are 443; they must be different"]),
        ({"public_http_port": "443"}, ["web2py_public_http_port and web2py_public_https_port are 443"]),
        ({"releases_to_keep": 0}, ["web2py_releases_to_keep is 0;"]),
        ({"source_max_files": 0}, ["web2py_source_max_files is 0;"]),
        ({"source_max_bytes": 0}, ["web2py_source_max_bytes is 0;"]),
        ({"source_max_ratio": 0}, ["web2py_source_max_ratio is 0;"]),
        ({"job_memory_max": "1GB"}, ["web2py_job_memory_max is '1GB';", "512M"]),
        ({"job_tasks_max": 10001}, ["web2py_job_tasks_max is 10001;", "1 and 10000"]),
        ({"job_timeout": 0}, ["web2py_job_timeout is 0;", "1 and 604800"]),
        ({"default_application": "ghost"}, ["web2py_default_application is 'ghost';", "no application is exposed"]),
        ({"health_path": "healthz"}, ["web2py_health_path is 'healthz';", "/healthz"]),
        ({"health_path": "/a/../b"}, ["web2py_health_path is '/a/../b';"]),
        ({"frontend": "nginx"}, ["web2py_frontend is 'nginx';", "apache_proxy, apache_wsgi or lighttpd_fcgi"]),
        ({"trusted_proxies": ["unix", "10.0.0.1/8"]}, ["web2py_trusted_proxies[1] is", "host bits", "unix"]),
        ({"migrate_host": "www9"}, ["web2py_migrate_host is 'www9';", "www1"]),
        ({"server_names": []}, ["web2py_server_names is empty"]),
        ({"server_names": ["::1", "localhost"]}, ["web2py_server_names[0] is '::1';", "canonical"]),
        ({"admin_passwords": [{"port": 443}]}, ["(port 443): password and password_hash are not given"]),
        ({"admin_passwords": [{"port": 0, "password": "long enough"}]}, ["port is 0;", "1 and 65535"]),
        ({"admin_passwords": [{"password": "long enough"}]}, ["web2py_admin_passwords[0]: port is not set"]),
    ],
)
def test_a_fault_names_the_variable_its_value_and_what_is_allowed(values, words):
    (problem,) = problems(**values)
    assert [word for word in words if word not in problem] == []


class TestNames:
    @pytest.mark.parametrize("name", ["a/b", "a b", "", "-a", "a:80", "a..b", 'a"b', "a\nb", "[::1]", "x" * 254])
    def test_no_host_name(self, name):
        (problem,) = problems(server_names=["www.example.org", name])
        assert problem.startswith("web2py_server_names[1] is ")

    def test_host_names(self):
        names = ["www.example.org", "localhost", "192.0.2.1", "2001:db8::1"]
        values, wrong = plan(server_names=names, https_port="8443", public_https_port="443")
        assert wrong == []
        assert values["runtime"]["names"] == [*names[:3], "[2001:db8::1]"]
        assert values["runtime"]["ports"] == {"80": 80, "8443": 443}


class TestAdministrators:
    @pytest.mark.parametrize(
        ("given_", "words"),
        [
            ({"password": "long enough", "password_hash": "x"}, "both"),
            ({"password": "seven77"}, "8 to 1024"),
            ({"password_hash": "sha512$x$y"}, "pbkdf2("),
            ({"password_hash": 'pbkdf2(1,1,sha512)$a$0"\nimport os'}, "pbkdf2("),
            ({"password": ["seven77"]}, "text"),
        ],
    )
    def test_no_message_repeats_a_password(self, given_, words):
        (problem,) = problems(admin_passwords=[{"port": 443, **given_}])
        assert words in problem and problem.startswith("web2py_admin_passwords[0]")
        assert not any(str(value) in problem for value in given_.values() if value != "x")
        assert "seven77" not in problem

    def test_passwords_without_a_fault(self):
        made = web2py_password_hash("long enough", "seed", iterations=1000)
        declared = [{"port": 443, "password_hash": made}, {"port": 80, "state": "absent"}]
        values, wrong = plan(admin_passwords=declared)
        assert wrong == [] and values["absent_passwords"] == [80]
        assert made not in repr(values)
        (problem,) = problems(admin_passwords=[*declared, {"port": 80, "state": "absent"}])
        assert "port 80" in problem and "listed twice" in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [("X Y", "a"), ("X:", "a"), ("", "a"), ("X", ""), ("X", None), ("X", "a\nb"), ("X", "ü"), ("X", ["a"])],
)
def test_a_header_that_no_server_could_send(name, value):
    (problem,) = problems(headers={name: value})
    assert "web2py_headers" in problem


def test_other_headers_are_left_to_the_administrator():
    assert problems(headers={"X-Frame-Options": "DENY", "NEL": '{"report_to": "a", "rate": 50%}', "X-Number": 0}) == []


def test_what_tasks_read_of_applications():
    applications = [
        {"name": "admin"},
        {"name": "batch", "source": {"path": "x"}, "exposed": "no"},
        {"name": "gone", "state": "absent"},
        {"name": "shop", "source": {"git": "https://token@example.org/x"}, "writable": ["docs"], "sessions": "cookie"},
        {"name": "welcome", "database": {}, "tickets": "database", "cache": "memcached"},
    ]
    values, wrong = plan(applications=applications, storage_server="nas", session_lifetime="60")
    assert wrong == []
    assert values["default_application"] == "shop"
    assert values["settings"] == ["shop", "welcome"] and values["databases"] == ["welcome"]
    assert values["secrets"] == [
        "shop.cookie_key",
        "welcome.database_password",
        "welcome.cache_key",
        "web2py-tickets.database_password",
    ]
    assert values["drivers"] == ["python3-psycopg2", "python3-pymemcache"]
    assert values["collects_tickets"] is True and values["tickets_in_file"] is False
    by_name = {item["name"]: item for item in values["applications"]}
    assert {name: item["writable"] for name, item in by_name.items() if item["writable"]} == {
        "admin": ["private"],
        "shop": ["docs"],
    }
    assert [name for name, item in by_name.items() if item["has_settings"]] == ["shop", "welcome"]
    assert [name for name, item in by_name.items() if item["shows_tickets"]] == ["admin", "welcome"]
    assert [name for name, item in by_name.items() if not item["expires"]] == ["gone"]
    assert {name: item["shared"] for name, item in by_name.items()} == {
        "admin": ["sessions", "uploads", "errors"],
        "batch": [],
        "gone": [],
        "shop": ["uploads", "errors"],
        "welcome": ["sessions", "uploads"],
    }
    # Their addresses may hold a token.
    assert "token" not in repr(values) and not any("source" in item for item in values["applications"])
    assert not any(item["expires"] for item in plan(applications=applications, session_lifetime=0)[0]["applications"])


@pytest.mark.parametrize(("given_", "answers"), [({}, "welcome"), ({"default_application": ""}, "")])
def test_what_answers_the_root(given_, answers):
    declared = [{"name": "admin"}, {"name": "examples", "exposed": False}, {"name": "welcome"}]
    assert plan(applications=declared, **given_)[0]["default_application"] == answers


LOG = {"path": "/var/log/web2py", "pw_name": "web2py", "gr_name": "web2py", "uid": 950, "gid": 951}


class TestOnTheHost:
    @staticmethod
    def files(*paths: str) -> dict[str, Any]:
        return {"files": [{"path": path} for path in paths]}

    def test_what_an_earlier_run_has_left(self):
        values, wrong = plan(
            self.files(
                "/etc/systemd/system/web2py@.service",
                "/etc/systemd/system/web2py-tickets.timer",
                "/etc/systemd/system/var-lib-web2py-data-x.mount",
                "/etc/web2py/applications/former.json",
                "/etc/web2py/applications/shop.json",
            ),
            applications=[{"name": "shop", "source": {"path": "x"}, "sessions": "cookie"}],
        )
        assert wrong == []
        assert all(values[f"former_{name}"] is True for name in ("daemon", "mounts", "tickets"))
        assert values["former_settings"] == ["former"]
        for found in (None, self.files()):
            values, _wrong = plan(found)
            assert not any(values[f"former_{name}"] for name in ("daemon", "mounts", "tickets", "settings"))

    @pytest.mark.parametrize("former", sorted(FRONT_ENDS))
    def test_another_front_end(self, former):
        found = self.files(FRONT_ENDS[former].marker)
        for chosen in sorted(FRONT_ENDS):
            others = [former] if former != chosen else []
            values, wrong = plan(found, frontend=chosen)
            assert wrong == [] and values["former_frontends"] == others
            assert bool(values["second_frontend"]) == bool(others)
            steps = [(step["role"], step["tasks_from"]) for step in values["frontend_steps"]]
            assert steps == [*([(chosen, "install"), (former, "remove")] if others else []), (chosen, "deploy")]
            # Where the play itself runs the role of the front end, this one refuses.
            _values, wrong = plan({**found, "play_roles": ["web2py", chosen]}, frontend=chosen)
            assert wrong == ([values["second_frontend"]] if others else [])

    @pytest.mark.parametrize(("uid", "gid", "right"), [(None, None, 1), (950, "951", 1), (12, 951, 0), (950, 12, 0)])
    def test_numbers_of_the_user_stay(self, uid, gid, right):
        given_ = {name: value for name, value in (("uid", uid), ("gid", gid)) if value is not None}
        wrong = problems(found={"files": [LOG]}, **given_)
        assert wrong == [] if right else "they must be 950 and 951" in wrong[0] and "www1" in wrong[0]
        for other in ({"pw_name": "root"}, {"gr_name": "adm"}):
            assert problems(found={"files": [{**LOG, **other}]}, **given_) == []

    def test_when_tickets_are_collected(self):
        refused = {"schedule": {"rc": 1, "stderr": "Failed to parse calendar\n"}}
        given_ = {"tickets_schedule": "now and then", "found": refused}
        assert problems(**given_) == []
        (problem,) = problems(**given_, applications=[{"name": "welcome", "tickets": "database"}])
        assert problem.startswith("web2py_tickets_schedule is 'now and then'; it must be an OnCalendar")
        assert problem.endswith("systemd says: Failed to parse calendar.")
