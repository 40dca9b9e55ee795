# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of the role postgresql, and the files made from it, read back by the rules of PostgreSQL's manual."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import jinja2
import pytest
from ansible.plugins.filter.core import ternary
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import postgresql
from hypothesis import assume, given
from hypothesis import strategies as st

TEMPLATES = Path(__file__).resolve().parents[2] / "roles/postgresql/templates"
FACTS = {"memtotal_mb": 4096, "distribution_release": "trixie"}
RULE = {"type": "hostssl", "databases": ["shop"], "users": ["shop"], "address": "all", "method": "scram-sha-256"}
LOCAL = {"type": "local", "databases": ["shop"], "users": ["shop"], "method": "peer"}
ROLE = {
    "users": [{"name": "shop", "password": "long enough"}, {"name": "gone", "state": "absent"}],
    "databases": [{"name": "shop", "owner": "shop"}, {"name": "old", "state": "absent"}],
    "hba": [RULE, LOCAL],
    "settings": [{"name": "log_min_duration_statement", "value": 250}],
    "tls": {"certificate_file": "/cert.pem", "key_file": "/key.pem"},
    "memory": 1024,
    "connection_limit": 50,
}
# Words of pg_hba.conf that mean something by themselves (PostgreSQL's manual, "The pg_hba.conf File").
KEYWORDS = {"databases": {"all", "sameuser", "samerole", "samegroup", "replication"}, "users": {"all"}}
OURS = {"databases": {"all", "sameuser", "samerole", "replication"}, "users": {"all"}}

printable = st.text(st.characters(codec="utf-8").filter(str.isprintable), max_size=20)
hba_names = (
    st.text(st.characters(codec="utf-8", exclude_characters='"').filter(str.isprintable), min_size=1, max_size=20)
    | st.text("ab_+@#, \t\\'=/", min_size=1, max_size=5).filter(str.isprintable)
    | st.sampled_from(["all", "sameuser", "samerole", "replication", "samehost", "host"])
)


def plan(facts: dict[str, Any] = FACTS, **options: Any) -> tuple[dict[str, Any], list[str]]:
    variables = {f"postgresql_{name}": value for name, value in {**ROLE, **options}.items()}
    return action.plan("postgresql", variables, Host(facts, open, datetime.now(timezone.utc)))


def rendered(template: str, **options: Any) -> list[str]:
    """The lines of a file on the host."""
    values, problems = plan(**options)
    assert problems == []
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    environment.filters["ternary"] = ternary
    variables = {f"postgresql_{name}": value for name, value in {**ROLE, **options}.items()}
    return (
        environment.from_string((TEMPLATES / template).read_text()).render(__postgresql=values, **variables).split("\n")
    )


def test_a_role_without_a_fault():
    assert plan()[1] == []
    assert plan(hba=[LOCAL], tls={})[1] == []


def test_no_secret_is_returned():
    options = {"hba": [{**RULE, "method": "ldap", "options": {"ldapbindpasswd": "s3cret+"}}]}
    options["settings"] = [{"name": "primary_conninfo", "value": "password=s3cret+"}]
    options["users"] = [{"name": "shop", "password": "s3cret+s3cret+"}]
    values, problems = plan(**options)
    assert problems == [] and "s3cret+" not in str(values)
    assert (values["shows_hba"], values["shows_settings"]) == (False, False)
    assert (plan()[0]["shows_hba"], plan()[0]["shows_settings"]) == (True, True)
    assert values["users"] == [{"name": "shop", "number": 0, "has_password": True, "connection_limit": 50}]


def test_what_goes_and_what_stays():
    values = plan()[0]
    assert (values["absent_users"], values["absent_databases"]) == (["gone"], ["old"])
    assert values["databases"] == [
        {"name": "shop", "owner": "shop", "locale": "C.UTF-8", "extensions": [], "state": "present"}
    ]


@pytest.mark.parametrize(("release", "version", "timeout"), [("bookworm", 15, False), ("trixie", 17, True)])
def test_the_version_of_the_distribution(release, version, timeout):
    values = plan({**FACTS, "distribution_release": release})[0]
    assert values["unit"] == f"postgresql@{version}-main.service"
    assert ("-c transaction_timeout=0" in values["session"]) == timeout
    assert values["session"].startswith("-c role=none -c search_path=pg_catalog,pg_temp -c local_preload_libraries= ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"users": [{"name": "postgres"}]},
            ["postgresql_users[0]: name is 'postgres';", "means nothing to PostgreSQL"],
        ),
        ({"users": [{"name": "ansible_restore"}]}, ["'ansible_restore'", "means nothing to PostgreSQL"]),
        ({"users": [{"name": "shop", "connection_limit": 0}]}, ["('shop'): connection_limit is 0;", "from 1, or -1"]),
        ({"users": [{"name": "a"}, {"name": "a", "state": "absent"}]}, ["postgresql_users has 2 entries named 'a'"]),
        ({"users": [{"password": "long enough"}]}, ["postgresql_users[0]: name is not set"]),
        ({"databases": [{"name": "x"}]}, ["('x'): owner is not set;", "postgresql_users"]),
        ({"databases": [{"name": "x", "owner": "gone"}]}, ["('x'): owner is 'gone';", "a name in postgresql_users"]),
        ({"databases": [{"name": "template1", "owner": "shop"}]}, ["name is 'template1'"]),
        ({"databases": [{"name": "x", "owner": "shop"}] * 2}, ["postgresql_databases has 2 entries named 'x'"]),
        (
            {"databases": [{"name": "x", "owner": "shop", "extensions": ["a; DROP"]}]},
            ["postgresql_databases[0] ('x'): extensions is 'a; DROP';", "name of an extension"],
        ),
        ({"hba": [{**RULE, "method": "trust"}]}, ["postgresql_hba[0]: method is 'trust'", "scram-sha-256, peer"]),
        ({"tls": {}, "hba": [RULE]}, ["postgresql_hba[0]: type is 'hostssl'", "postgresql_tls is empty"]),
        ({"tls": {"certificate_file": "/cert.pem"}}, ["postgresql_tls", "both certificate_file and key_file"]),
        ({"tls": {"key_file": "/key.pem"}}, ["postgresql_tls", "both certificate_file and key_file"]),
        ({"tls": {"certificate_file": None, "key_file": None}}, ["postgresql_tls is {'certificate_file': None"]),
        ({"memory": 127}, ["postgresql_memory is 127;", "128 and 4096 (MiB"]),
        ({"memory": 4097}, ["postgresql_memory is 4097;", "128 and 4096 (MiB"]),
        ({"max_connections": 9}, ["postgresql_max_connections is 9;", "10 and 10000"]),
        ({"max_connections": 10001}, ["postgresql_max_connections is 10001;", "10 and 10000"]),
        ({"connection_limit": 0}, ["postgresql_connection_limit is 0;", "from 1, or -1"]),
        ({"port": 0}, ["postgresql_port is 0;", "1 and 65535"]),
        ({"port": 65536}, ["postgresql_port is 65536;", "1 and 65535"]),
        ({"backup_keep_days": 0}, ["postgresql_backup_keep_days is 0;", "between 1 and"]),
        ({"backup_timeout": 59}, ["postgresql_backup_timeout is 59;", "60 and 604800"]),
        ({"backup_memory_max": "1G\n"}, ["postgresql_backup_memory_max is '1G\\n';", "512M", "infinity"]),
        ({"backup_directory": "backups"}, ["postgresql_backup_directory is 'backups';", "absolute path"]),
        ({"backup_directory": "/a b"}, ["postgresql_backup_directory is '/a b';", "absolute path"]),
        ({"backup_directory": "/a\n"}, ["postgresql_backup_directory", "absolute path"]),
    ],
)
def test_a_fault_names_the_variable_what_was_found_and_what_is_allowed(changes, words):
    (problem,) = plan(**({"databases": [], **changes} if "users" in changes else changes))[1]
    assert [word for word in words if word not in problem] == []


def test_all_faults_at_once():
    assert len(plan(port=0, memory=0, backup_keep_days=0)[1]) == 3


def test_what_data_asks_of_passwords():
    assert postgresql.password_allowed("12345678") and postgresql.password_allowed("ö" * 1024)
    assert plan(users=[{"name": "gone", "state": "absent", "password": "short"}], databases=[])[1] == []


@pytest.mark.parametrize("password", ["seven77", "p" * 1025, "eight\0chars", ""])
def test_the_password_is_not_repeated(password):
    (problem,) = plan(users=[{"name": "shop", "password": password}])[1]
    assert "postgresql_users[0] ('shop'): password is not shown; it must have 8 to 1024 characters" in problem
    assert not password or password not in problem


class TestNames:
    @pytest.mark.parametrize("name", ["shop", "Shop 2", "a-b.c", "größe", "x" * 63, "it's", "a;b", "user", "1"])
    def test_allowed(self, name):
        assert postgresql.name_problem("x", name) is None

    @pytest.mark.parametrize(
        ("name", "allowed"),
        [
            ("", "not empty"),
            (None, "a text"),
            (5, "a text"),
            (["shop"], "a text"),
            ("x" * 64, "63 bytes"),
            ("ö" * 32, "63 bytes"),
            ('a"b', "no double quote"),
            ("a\\b", "backslash"),
            ("100%", "percent sign"),
            ("a\nb", "control character"),
            ("a\0b", "control character"),
            *((name, "means nothing to PostgreSQL") for name in ("postgres", "template0", "template1", "pg_x", "all")),
            *((name, "means nothing to PostgreSQL") for name in ("public", "none", "replication", "sameuser")),
            *((name, "does not begin with +, @ or /") for name in ("+x", "@x", "/x")),
        ],
    )
    def test_refused(self, name, allowed):
        error = postgresql.name_problem("some_variable", name)
        assert (
            error.startswith(f"some_variable is {'not set' if name is None else repr(name)}; it must be ")
            and allowed in error
        )


class TestRules:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"type": "ssl"}, ["type is 'ssl'", "local, host, hostssl or hostnossl"]),
            ({"type": None}, ["type is not set"]),
            ({"method": "md5"}, ["method is 'md5'", "scram-sha-256"]),
            ({"method": "password"}, ["method is 'password'"]),
            ({"method": None}, ["method is not set"]),
            ({"type": "local"}, ["address is 'all'", "left out with type local"]),
            ({"address": None}, ["address is not set", "unless type is local"]),
            ({"address": "10.0.0.1/8"}, ["address is '10.0.0.1/8'", "host bits", "192.0.2.0/28"]),
            ({"address": "300.1.1.1"}, ["address is '300.1.1.1'"]),
            ({"address": "a b"}, ["address is 'a b'", "Host names"]),
            ({"address": "db,evil"}, ["address is 'db,evil'"]),
            ({"address": "db\n"}, ["address is"]),
            ({"address": ""}, ["address is ''"]),
            ({"address": "#"}, ["address is '#'"]),
            ({"method": "peer"}, ["type is 'hostssl'", "local with method peer"]),
            ({"method": "cert", "type": "host"}, ["type is 'host'", "hostssl with method cert"]),
            ({"databases": []}, ["databases is empty", "'all'"]),
            ({"users": None}, ["users is not set"]),
            ({"databases": ['a"b']}, ["databases is 'a\"b'", "without a double quote"]),
            ({"users": ["a\nlocal all all trust"]}, ["users is "]),
            ({"users": [""]}, ["users is ''"]),
            ({"users": ["/^s"]}, ["users is '/^s'", "no regular expressions"]),
            ({"options": {"map": 'a"b'}}, ["option 'map'", "double quote"]),
            ({"options": {"map": "a\nb"}}, ["option 'map'", "control character"]),
            ({"options": {"a b": "c"}}, ["option 'a b'"]),
        ],
    )
    def test_a_fault_names_the_entry(self, changes, words):
        (problem,) = plan(hba=[LOCAL, {**RULE, **changes}])[1]
        assert [word for word in ["postgresql_hba[1]: ", *words] if word not in problem] == []

    @pytest.mark.parametrize(
        "address",
        [
            *("10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1", "10.0.0.0/255.0.0.0"),
            *("db.example.org", ".example.org", "all", "samehost", "samenet"),
        ],
    )
    def test_addresses(self, address):
        assert plan(hba=[{**RULE, "address": address}])[1] == []

    def test_methods_that_fit_their_type(self):
        assert plan(hba=[{**RULE, "method": "cert"}, {**RULE, "type": "hostnossl", "method": "reject"}, LOCAL])[1] == []

    @pytest.mark.parametrize("key", ["databases", "users"])
    def test_a_text_in_place_of_a_list_is_a_list_with_one_element(self, key):
        assert plan(hba=[{**LOCAL, key: "shop"}])[0]["hba_lines"] == ["local shop shop peer"]


def hba_fields(line):
    """Read one line of pg_hba.conf: for each field its values, each with whether it begins with a quote.

    Manual, "The pg_hba.conf File": fields are separated by spaces and tabs and may hold several values with commas
    between them; double quotes keep spaces and commas together; # begins a comment; a backslash at the end of the
    line continues it.
    """
    assert "\n" not in line and not line.endswith("\\")
    fields, values, value, inside, quoted, more = [], [], None, False, False, False
    for sign in [*line, " "]:
        if sign == "#" and not inside:
            break
        if (sign in " \t" or sign == ",") and not inside:
            if value is not None:
                values.append((value, quoted))
                more = False
            value, quoted = None, False
            more = more or sign == ","
            if values and not more:
                fields.append(values)
                values = []
        elif sign == '"':
            quoted = quoted or value is None
            inside, value = not inside, value or ""
        else:
            value = (value or "") + sign
    assert not inside
    return fields


def meaning(key, value, quoted):
    """What PostgreSQL understands by a value of the fields for databases and users."""
    if not quoted and value in KEYWORDS[key]:
        return "keyword", value
    if not quoted and value[0] == "@" and len(value) > 1:
        return "file", value[1:]
    if not quoted and value[0] == "+" and key == "users":
        return "members of", value[1:]
    # From PostgreSQL 16 on, whether quoted or not: hba.c, regcomp_auth_token, looks at the first sign alone.
    return ("expression", value[1:]) if value[0] == "/" else ("name", value)


def problems_of(rule):
    return list(postgresql.hba_problems([{"options": {}, **rule}], has_tls=True))


class TestLines:
    def test_the_reader_of_these_tests(self):
        """Lines of the manual's own examples, and what they mean there."""
        assert hba_fields("local   all\tall   trust # x") == [
            [(word, False)] for word in ("local", "all", "all", "trust")
        ]
        assert hba_fields('local db1,"a b", @demodbs  all peer')[1] == [
            ("db1", False),
            ("a b", True),
            ("@demodbs", False),
        ]
        assert hba_fields('host a +"b c" all ldap ldapserver="x y"')[2:] == [
            [("+b c", False)],
            [("all", False)],
            [("ldap", False)],
            [("ldapserver=x y", False)],
        ]

    @given(st.lists(hba_names, min_size=1, max_size=4), st.lists(hba_names, min_size=1, max_size=4))
    def test_names_are_read_back(self, databases, users):
        """A name is that name, and the role's keywords keep their meaning."""
        # These have tests of their own.
        assume(not any(name[0] == "/" for name in databases + users) and not any(name[0] == "+" for name in users))
        rule = {**RULE, "databases": databases, "users": users}
        assert problems_of(rule) == []
        kind, *read, address, method = hba_fields(postgresql.hba_line(rule))
        assert (kind, address, method) == ([("hostssl", False)], [("all", False)], [("scram-sha-256", False)])
        for key, names, values in zip(("databases", "users"), (databases, users), read, strict=True):
            wanted = [("keyword" if name in OURS[key] else "name", name) for name in names]
            assert [meaning(key, *value) for value in values] == wanted

    def test_the_old_word_for_samerole_is_a_name_like_others(self):
        """The manual: samegroup is an obsolete but still accepted spelling of samerole; the role does not offer it."""
        rule = {**LOCAL, "databases": ["samegroup"]}
        (value,) = hba_fields(postgresql.hba_line(rule))[1]
        assert problems_of(rule) or meaning("databases", *value) == ("name", "samegroup")

    @pytest.mark.parametrize("role", ["staff", "_staff2", "Staff", "web-masters", "a b", "größe", "2nd"])
    def test_the_members_of_any_role(self, role):
        """The argument spec: +name for the members of a role."""
        rule = {**LOCAL, "users": [f"+{role}"]}
        (value,) = hba_fields(postgresql.hba_line(rule))[2]
        assert problems_of(rule) or meaning("users", *value) == ("members of", role)

    @pytest.mark.parametrize("key", ["databases", "users"])
    def test_no_name_is_an_expression(self, key):
        """PostgreSQL 16 takes what begins with a slash for a regular expression, PostgreSQL 15 for a name."""
        rule = {**LOCAL, key: ["/^s"]}
        (value,) = hba_fields(postgresql.hba_line(rule))[1 if key == "databases" else 2]
        assert problems_of(rule) or meaning(key, *value) == ("name", "/^s")

    @given(
        st.dictionaries(
            st.text("abc_", min_size=1, max_size=5), printable.filter(lambda text: '"' not in text), max_size=3
        )
    )
    def test_options_are_read_back(self, options):
        rule = {**RULE, "method": "ldap", "options": options}
        fields = hba_fields(rendered("pg_hba.conf.j2", hba=[LOCAL, rule])[-2])
        assert all(len(field) == 1 for field in fields)
        assert dict(field[0][0].split("=", 1) for field in fields[5:]) == options
        assert [field[0][0] for field in fields[:5]] == ["hostssl", "shop", "shop", "all", "ldap"]

    @pytest.mark.parametrize(
        ("address", "written"),
        [
            ("192.0.2.7", "192.0.2.7/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
            ("samenet", "samenet"),
            (".example.org", ".example.org"),
        ],
    )
    def test_addresses_have_a_mask_and_names_have_none(self, address, written):
        line = postgresql.hba_line({**RULE, "address": address})
        assert line == f"hostssl shop shop {written} scram-sha-256"

    def test_the_line_of_a_unix_socket_has_no_address(self):
        assert postgresql.hba_line({**LOCAL, "address": None}) == "local shop shop peer"


class TestSettings:
    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ({"name": "a b", "value": 1}, "name is 'a b'; it must be the name of a setting"),
            ({"name": "a\n", "value": 1}, "it must be the name of a setting"),
            ({"name": "a.b.c", "value": 1}, "it must be the name of a setting"),
            ({"name": "a = 1\nb", "value": 1}, "it must be the name of a setting"),
            ({"name": None, "value": 1}, "name is not set"),
            *(
                ({"name": name, "value": "x"}, f"name is {name!r}; it must be another setting. Use ")
                for name in (*postgresql.RESERVED_SETTINGS, "Port", "SSL")
            ),
            ({"name": "WORK_MEM", "value": 1}, "2 entries named 'work_mem'"),
            ({"name": "x"}, "('x'): value is not shown; it must be a text or a number"),
            ({"name": "x", "value": [1]}, "('x'): value is not shown"),
            ({"name": "x", "value": {"a": 1}}, "('x'): value is not shown"),
            ({"name": "x", "value": "a\nb = 1"}, "('x'): value is not shown"),
        ],
    )
    def test_a_fault(self, setting, words):
        (problem,) = plan(settings=[{"name": "work_mem", "value": "4MB"}, setting])[1]
        assert problem.startswith("postgresql_settings") and words in problem

    def test_without_a_fault(self):
        found = [{"name": "x", "state": "absent"}, {"name": "auto_explain.log_min_duration", "value": "3s"}]
        found += [{"name": "jit", "value": False}, {"name": "random_page_cost", "value": 1.1}]
        assert rendered("postgresql.conf.j2", settings=found)[-4:] == [
            "auto_explain.log_min_duration = '3s'",
            "jit = 'off'",
            "random_page_cost = '1.1'",
            "",
        ]

    @pytest.mark.parametrize("write", ["as the role's own", "as a user's"])
    @given(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}(\.[A-Za-z_][A-Za-z0-9_]{0,8})?", fullmatch=True),
        printable | st.text("\\'nt012 \"#=", max_size=8) | st.integers() | st.floats(),
    )
    def test_a_line_is_read_back(self, write, name, value):
        """Manual, "Parameter Interaction via the Configuration File", and guc-file.l for escapes."""
        assume(name.lower() not in postgresql.RESERVED_SETTINGS)
        line = postgresql.setting_line(name, value)
        if write == "as a user's":
            line = rendered("postgresql.conf.j2", settings=[{"name": name, "value": value}])[-2]
        read, quoted = re.fullmatch(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?) = '((?:[^'\\\n]|\\.|'')*)'", line).groups()
        escapes = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

        def sign(found):
            if found[0] == "''":
                return "'"
            return chr(int(found[1], 8)) if found[1].isdigit() and found[1] < "8" else escapes.get(found[1], found[1])

        assert (read, re.sub(r"''|\\([0-7]{1,3}|.)", sign, quoted)) == (name, str(value))

    @pytest.mark.parametrize(("value", "written"), [(True, "on"), (False, "off"), (1, "1"), ("true", "true")])
    def test_what_yaml_takes_for_a_truth_value(self, value, written):
        settings = [{"name": "jit", "value": value}]
        assert rendered("postgresql.conf.j2", settings=settings)[-2] == f"jit = '{written}'"

    def test_the_whole_file(self):
        assert rendered("postgresql.conf.j2") == [
            "# Written by Ansible (web2py.deployment.postgresql). Changes here are lost at the next run.",
            "listen_addresses = 'localhost'",
            "port = '5432'",
            "max_connections = '100'",
            "password_encryption = 'scram-sha-256'",
            "ssl = 'on'",
            "ssl_cert_file = '/cert.pem'",
            "ssl_key_file = '/key.pem'",
            "ssl_min_protocol_version = 'TLSv1.2'",
            "",
            "# From postgresql_memory.",
            "effective_cache_size = '768MB'",
            "maintenance_work_mem = '64MB'",
            "shared_buffers = '256MB'",
            "work_mem = '2621kB'",
            "",
            "# From postgresql_settings.",
            "log_min_duration_statement = '250'",
            "",
        ]


class TestMemory:
    def test_the_documented_example(self):
        assert postgresql.memory_settings(4096, 100) == {
            "shared_buffers": "1024MB",
            "effective_cache_size": "3072MB",
            "maintenance_work_mem": "256MB",
            "work_mem": "10485kB",
        }

    @given(st.integers(128, 1 << 22), st.integers(10, 10000))
    def test_any_machine_and_number_of_connections(self, memory, connections):
        found = postgresql.memory_settings(memory, connections)
        kilobytes = {name: int(value[:-2]) * {"kB": 1, "MB": 1024}[value[-2:]] for name, value in found.items()}
        assert kilobytes["shared_buffers"] == memory // 4 * 1024
        assert kilobytes["effective_cache_size"] <= memory * 1024 * 3 // 4
        assert 16 * 1024 <= kilobytes["maintenance_work_mem"] <= 1024 * 1024
        assert kilobytes["work_mem"] == 1024 or kilobytes["work_mem"] * connections <= memory * 1024 // 4
