# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role postgresql's checks and texts, each text read back by the rules of PostgreSQL's manual."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from types import SimpleNamespace

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import postgresql
from hypothesis import assume, given, settings
from hypothesis import strategies as st

RULE = {"type": "hostssl", "databases": ["shop"], "users": ["shop"], "address": "all", "method": "scram-sha-256"}
LOCAL = {"type": "local", "databases": ["shop"], "users": ["shop"], "method": "peer"}
ROLE = {
    "users": [{"name": "shop", "password": "long enough"}, {"name": "gone", "state": "absent"}],
    "databases": [{"name": "shop", "owner": "shop"}, {"name": "old", "state": "absent"}],
    "hba": [RULE, LOCAL],
    "settings": [{"name": "log_min_duration_statement", "value": 250}],
    "tls": {"certificate_file": "/cert.pem", "key_file": "/key.pem"},
    "port": 5432,
    "memory": 1024,
    "machine_memory": 4096,
    "max_connections": 100,
    "connection_limit": 50,
    "backup_keep_days": 14,
    "backup_directory": "/var/backups/postgresql",
    "backup_timeout": 3600,
    "backup_memory_max": "1G",
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


def test_a_role_without_a_fault():
    assert postgresql.errors(ROLE) == []
    assert postgresql.errors({**ROLE, "hba": [LOCAL], "tls": {}}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"users": [{"name": "postgres"}]}, ["postgresql_users", "'postgres'", "means nothing to PostgreSQL"]),
        ({"databases": [{"name": "x", "owner": "nobody"}]}, ["postgresql_databases", "'nobody'", "postgresql_users"]),
        ({"hba": [{**RULE, "method": "trust"}]}, ["postgresql_hba, entry 1", "'trust'", "scram-sha-256, peer"]),
        ({"settings": [{"name": "port", "value": 1}]}, ["postgresql_settings", "'port'", "use postgresql_port"]),
        ({"memory": 127}, ["postgresql_memory", "127", "128 to 4096"]),
        ({"memory": 4097}, ["postgresql_memory", "4097", "128 to 4096"]),
        ({"max_connections": 9}, ["postgresql_max_connections", "found 9,", "10 to 10000"]),
        ({"max_connections": 10001}, ["postgresql_max_connections", "10001", "10 to 10000"]),
        ({"connection_limit": 0}, ["postgresql_connection_limit is 0;", "from 1, or -1"]),
        (
            {"users": [{"name": "shop", "connection_limit": 0}]},
            ["postgresql_users", "connection_limit of 'shop' is 0;", "from 1, or -1"],
        ),
        (
            {"databases": [{"name": "x", "owner": "shop", "extensions": ["a; DROP"]}]},
            ["postgresql_databases", "extensions of 'x'", "'a; DROP'", "name of an extension"],
        ),
        ({"users": [{"name": "ansible_restore"}]}, ["'ansible_restore'", "means nothing to PostgreSQL"]),
        ({"port": 0}, ["postgresql_port", "found 0,", "1 to 65535"]),
        ({"port": 65536}, ["postgresql_port", "65536", "1 to 65535"]),
        ({"tls": {}}, ["postgresql_hba", "hostssl", "postgresql_tls"]),
        ({"tls": {"certificate_file": "/cert.pem"}}, ["postgresql_tls", "both certificate_file and key_file"]),
        ({"tls": {"key_file": "/key.pem"}}, ["postgresql_tls", "both certificate_file and key_file"]),
        ({"backup_keep_days": 0}, ["postgresql_backup_keep_days", "found 0,", "at least 1"]),
        ({"backup_timeout": 59}, ["postgresql_backup_timeout is 59;", "60 to 604800"]),
        ({"backup_memory_max": "1G\n"}, ["postgresql_backup_memory_max is '1G\\n';", "infinity", "K, M, G or T"]),
        ({"backup_directory": "backups"}, ["postgresql_backup_directory", "'backups'", "absolute path"]),
        ({"backup_directory": "/a b"}, ["postgresql_backup_directory", "'/a b'", "absolute path"]),
        ({"backup_directory": "/a\n"}, ["postgresql_backup_directory", "absolute path"]),
    ],
)
def test_a_fault_names_the_variable_what_was_found_and_what_is_allowed(changes, words):
    changes = {"databases": [], **changes} if "users" in changes else changes
    errors = postgresql.errors({**ROLE, **changes})
    assert len(errors) == 1
    assert [word for word in words if word not in errors[0]] == []


def test_all_faults_at_once():
    assert len(postgresql.errors({**ROLE, "port": 0, "memory": 0, "backup_keep_days": 0})) == 3


@pytest.mark.parametrize("value", ["shop", ["shop"], None, 5, {"name": "shop"}])
def test_mistaken_types_are_left_to_the_argument_specs(value):
    assert postgresql.user_errors(value) == postgresql.database_errors(value, value) == []
    assert postgresql.hba_errors(value) == postgresql.setting_errors(value) == []


class TestNames:
    @pytest.mark.parametrize("name", ["shop", "Shop 2", "a-b.c", "größe", "x" * 63, "it's", "a;b", "user", "1"])
    def test_allowed(self, name):
        assert postgresql.name_error("x", name) is None

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
        error = postgresql.name_error("some_variable", name)
        assert error.startswith(f"some_variable: found {name!r}, allowed is ") and allowed in error

    @given(st.text(min_size=1))
    def test_quoted_for_sql_it_is_one_identifier_and_the_same_name(self, name):
        """Manual, "Identifiers and Key Words": to include a double quote, write two double quotes."""
        quoted = postgresql.identifier(name)
        assert re.fullmatch(r'"(?:[^"]|"")+"', quoted)
        assert quoted[1:-1].replace('""', '"') == name


class TestUsers:
    def test_without_a_fault(self):
        users = [{"name": "a"}, {"name": "b", "password": "12345678"}, {"name": "c", "password": "ö" * 1024}]
        assert postgresql.user_errors(users) == []
        assert postgresql.user_errors([{"name": "gone", "state": "absent", "password": "short"}]) == []

    @pytest.mark.parametrize("password", ["seven77", "p" * 1025, "eight\0chars", 123456789, None, ""])
    def test_the_password_is_not_repeated(self, password):
        (error,) = postgresql.user_errors([{"name": "shop", "password": password}])
        assert "the password of 'shop' must be a text of 8 to 1024 characters" in error
        assert not password or str(password) not in error

    def test_twice(self):
        (error,) = postgresql.user_errors([{"name": "shop"}, {"name": "shop", "state": "absent"}])
        assert "'shop' is listed twice" in error

    def test_each_name_is_checked(self):
        assert len(postgresql.user_errors([{"name": "+a"}, {}, {"name": "b"}])) == 2


class TestDatabases:
    @pytest.mark.parametrize(
        ("database", "words"),
        [
            ({"name": "x"}, "the owner of 'x' is None"),
            ({"name": "x", "owner": "gone"}, "the owner of 'x' is 'gone'"),
            ({"name": "template1", "owner": "shop"}, "found 'template1'"),
            ({"name": "shop", "owner": "shop"}, "'shop' is listed twice"),
            ({"owner": "shop"}, "found None"),
        ],
    )
    def test_a_fault(self, database, words):
        (error,) = postgresql.database_errors([{"name": "shop", "owner": "shop"}, database], ROLE["users"])
        assert error.startswith("postgresql_databases: ") and words in error


class TestRules:
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"type": "ssl"}, ["type is 'ssl'", "local, host, hostssl, hostnossl"]),
            ({"type": None}, ["type is None"]),
            ({"method": "md5"}, ["method is 'md5'", "scram-sha-256"]),
            ({"method": "password"}, ["method is 'password'"]),
            ({"method": None}, ["method is None"]),
            ({"type": "local"}, ["address is 'all'", "none with type local"]),
            ({"address": None}, ["address is missing", "type hostssl needs one"]),
            ({"address": "10.0.0.1/8"}, ["address is '10.0.0.1/8'", "host bits", "192.0.2.0/28"]),
            ({"address": "300.1.1.1"}, ["address is '300.1.1.1'"]),
            ({"address": "a b"}, ["address is 'a b'", "Host names"]),
            ({"address": "db,evil"}, ["address is 'db,evil'"]),
            ({"address": "db\n"}, ["address is"]),
            ({"address": ""}, ["address is ''"]),
            ({"address": "#"}, ["address is '#'"]),
            ({"method": "peer"}, ["method is 'peer'", "type local only"]),
            ({"method": "cert", "type": "host"}, ["method is 'cert'", "hostssl only"]),
            ({"databases": []}, ["databases is empty", "'all'"]),
            ({"users": None}, ["users is empty", "'all'"]),
            ({"databases": ['a"b']}, ["databases has 'a\"b'", "without a double quote"]),
            ({"users": ["a\nlocal all all trust"]}, ["users has"]),
            ({"users": [""]}, ["users has ''"]),
            ({"users": [5]}, ["users has 5"]),
            ({"options": {"map": 'a"b'}}, ["option 'map'", "double quote"]),
            ({"options": {"map": "a\nb"}}, ["option 'map'", "control character"]),
            ({"options": {"a b": "c"}}, ["option 'a b'"]),
        ],
    )
    def test_a_fault_names_the_entry(self, changes, words):
        (error,) = postgresql.hba_errors([LOCAL, {**RULE, **changes}])
        assert [word for word in ["postgresql_hba, entry 2: ", *words] if word not in error] == []

    @pytest.mark.parametrize(
        "address",
        [
            *("10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1", "10.0.0.0/255.0.0.0"),
            *("db.example.org", ".example.org", "all", "samehost", "samenet"),
        ],
    )
    def test_addresses(self, address):
        assert postgresql.hba_errors([{**RULE, "address": address}]) == []

    def test_methods_that_fit_their_type(self):
        rules = [{**RULE, "method": "cert"}, {**RULE, "type": "hostnossl", "method": "reject"}, LOCAL]
        assert postgresql.hba_errors(rules) == []

    @pytest.mark.parametrize("key", ["databases", "users"])
    def test_a_text_in_place_of_a_list_is_not_taken_for_a_list_of_letters(self, key):
        """The argument spec takes it for a list with one element, but hands on the text."""
        rule = {**LOCAL, key: "shop"}
        assert postgresql.hba_errors([rule]) or hba_fields(postgresql.hba_line(rule)) == [
            [("local", False)],
            [("shop", False)],
            [("shop", False)],
            [("peer", False)],
        ]


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
        assert postgresql.hba_errors([rule]) == []
        kind, *read, address, method = hba_fields(postgresql.hba_line(rule))
        assert (kind, address, method) == ([("hostssl", False)], [("all", False)], [("scram-sha-256", False)])
        for key, names, values in zip(("databases", "users"), (databases, users), read, strict=True):
            wanted = [("keyword" if name in OURS[key] else "name", name) for name in names]
            assert [meaning(key, *value) for value in values] == wanted

    def test_the_old_word_for_samerole_is_a_name_like_others(self):
        """The manual: samegroup is an obsolete but still accepted spelling of samerole; the role does not offer it."""
        rule = {**LOCAL, "databases": ["samegroup"]}
        (value,) = hba_fields(postgresql.hba_line(rule))[1]
        assert postgresql.hba_errors([rule]) or meaning("databases", *value) == ("name", "samegroup")

    @pytest.mark.parametrize("role", ["staff", "_staff2", "Staff", "web-masters", "a b", "größe", "2nd"])
    def test_the_members_of_any_role(self, role):
        """The argument spec: +name for the members of a role."""
        rule = {**LOCAL, "users": [f"+{role}"]}
        (value,) = hba_fields(postgresql.hba_line(rule))[2]
        assert postgresql.hba_errors([rule]) or meaning("users", *value) == ("members of", role)

    @pytest.mark.parametrize("key", ["databases", "users"])
    def test_no_name_is_an_expression(self, key):
        """PostgreSQL 16 takes what begins with a slash for a regular expression, PostgreSQL 15 for a name."""
        rule = {**LOCAL, key: ["/^s"]}
        (value,) = hba_fields(postgresql.hba_line(rule))[1 if key == "databases" else 2]
        assert postgresql.hba_errors([rule]) or meaning(key, *value) == ("name", "/^s")

    @given(
        st.dictionaries(
            st.text("abc_", min_size=1, max_size=5), printable.filter(lambda text: '"' not in text), max_size=3
        )
    )
    def test_options_are_read_back(self, options):
        rule = {**RULE, "method": "ldap", "options": options}
        assert postgresql.hba_errors([rule]) == []
        fields = hba_fields(postgresql.hba_line(rule))
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
            ({"name": "a b", "value": 1}, "found 'a b', allowed is the name of a setting"),
            ({"name": "a\n", "value": 1}, "allowed is the name of a setting"),
            ({"name": "a.b.c", "value": 1}, "allowed is the name of a setting"),
            ({"name": "a = 1\nb", "value": 1}, "allowed is the name of a setting"),
            ({"name": None, "value": 1}, "found None"),
            ({"value": 1}, "found None"),
            *(
                ({"name": name, "value": "x"}, f"found {name!r}; use ")
                for name in (*postgresql.RESERVED_SETTINGS, "Port", "SSL")
            ),
            ({"name": "WORK_MEM", "value": 1}, "'WORK_MEM' is listed twice"),
            ({"name": "x"}, "the value of 'x' is None"),
            ({"name": "x", "value": [1]}, "the value of 'x' is [1]"),
            ({"name": "x", "value": {"a": 1}}, "allowed are texts and numbers"),
            ({"name": "x", "value": "a\nb = 1"}, "the value of 'x' is 'a\\nb = 1'"),
        ],
    )
    def test_a_fault(self, setting, words):
        (error,) = postgresql.setting_errors([{"name": "work_mem", "value": "4MB"}, setting])
        assert error.startswith("postgresql_settings: ") and words in error

    def test_without_a_fault(self):
        found = [{"name": "x", "state": "absent"}, {"name": "auto_explain.log_min_duration", "value": "3s"}]
        found += [{"name": "jit", "value": False}, {"name": "random_page_cost", "value": 1.1}]
        assert postgresql.setting_errors(found) == []

    @given(
        st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}(\.[A-Za-z_][A-Za-z0-9_]{0,8})?", fullmatch=True),
        printable | st.text("\\'nt012 \"#=", max_size=8) | st.integers() | st.floats(),
    )
    def test_a_line_is_read_back(self, name, value):
        """Manual, "Parameter Interaction via the Configuration File", and guc-file.l for escapes."""
        if name.lower() not in postgresql.RESERVED_SETTINGS:
            assert postgresql.setting_errors([{"name": name, "value": value}]) == []
        read, quoted = re.fullmatch(
            r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?) = '((?:[^'\\\n]|\\.|'')*)'", postgresql.setting_line(name, value)
        ).groups()
        escapes = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}

        def sign(found):
            if found[0] == "''":
                return "'"
            return chr(int(found[1], 8)) if found[1].isdigit() and found[1] < "8" else escapes.get(found[1], found[1])

        assert (read, re.sub(r"''|\\([0-7]{1,3}|.)", sign, quoted)) == (name, str(value))

    @pytest.mark.parametrize(("value", "written"), [(True, "on"), (False, "off"), (1, "1"), ("true", "true")])
    def test_what_yaml_takes_for_a_truth_value(self, value, written):
        assert postgresql.setting_line("jit", value) == f"jit = '{written}'"


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
        assert postgresql.memory_errors(memory, memory, connections) == []
        found = postgresql.memory_settings(memory, connections)
        kilobytes = {name: int(value[:-2]) * {"kB": 1, "MB": 1024}[value[-2:]] for name, value in found.items()}
        assert kilobytes["shared_buffers"] == memory // 4 * 1024
        assert kilobytes["effective_cache_size"] <= memory * 1024 * 3 // 4
        assert 16 * 1024 <= kilobytes["maintenance_work_mem"] <= 1024 * 1024
        assert kilobytes["work_mem"] == 1024 or kilobytes["work_mem"] * connections <= memory * 1024 // 4

    @pytest.mark.parametrize(
        ("values", "words"),
        [((0, 512, 100), "128 to 512"), ((513, 512, 100), "128 to 512"), ((128, 512, 9), "10 to 10000")],
    )
    def test_a_fault(self, values, words):
        (error,) = postgresql.memory_errors(*values)
        assert words in error


# RFC 7677, section 3: user "user", password "pencil".
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CONVERSATION = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={NONCE}".encode()
CLIENT_PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SERVER_SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def parts(secret):
    """Read a secret as PostgreSQL's parse_scram_secret does: salt, StoredKey and ServerKey."""
    iterations, salt, stored, server = re.fullmatch(
        r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)", secret
    ).groups()
    assert iterations == "4096"
    return tuple(base64.b64decode(part) for part in (salt, stored, server))


def exclusive_or(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def proof(password, salt, conversation):
    """What a client sends that knows the password, in the bytes that it makes of it (RFC 5802, section 3)."""
    key = hmac.digest(hashlib.pbkdf2_hmac("sha256", password, salt, 4096), b"Client Key", "sha256")
    return exclusive_or(key, hmac.digest(hashlib.sha256(key).digest(), conversation, "sha256"))


def lets_in(secret, proof_of_client, conversation):
    """Whether a server with this secret accepts the client's proof."""
    _salt, stored, _server = parts(secret)
    key = exclusive_or(proof_of_client, hmac.digest(stored, conversation, "sha256"))
    return hmac.compare_digest(hashlib.sha256(key).digest(), stored)


class TestScram:
    def test_the_client_and_server_of_the_rfc_understand_each_other(self, monkeypatch):
        """The salt is that of the RFC instead of one made from the seed; all else is as always."""

        def sha256(text):
            seeded = text.startswith(b"web2py.deployment:")
            return SimpleNamespace(digest=lambda: SALT) if seeded else hashlib.sha256(text)

        monkeypatch.setattr(postgresql, "hashlib", SimpleNamespace(sha256=sha256, pbkdf2_hmac=hashlib.pbkdf2_hmac))
        secret = postgresql.scram_secret("pencil", "rfc 7677")
        salt, _stored, server = parts(secret)
        assert salt == SALT
        assert proof(b"pencil", SALT, CONVERSATION) == CLIENT_PROOF
        assert lets_in(secret, CLIENT_PROOF, CONVERSATION)
        assert hmac.digest(server, CONVERSATION, "sha256") == SERVER_SIGNATURE
        assert not lets_in(secret, proof(b"pencils", SALT, CONVERSATION), CONVERSATION)

    @settings(max_examples=20)
    @given(st.text(st.characters(max_codepoint=126, min_codepoint=32), min_size=8), st.text())
    def test_a_client_with_the_password_is_let_in_and_no_other(self, password, seed):
        secret = postgresql.scram_secret(password, seed)
        assert secret == postgresql.scram_secret(password, seed), "a second run changes nothing"
        salt = parts(secret)[0]
        assert len(salt) == 16
        assert lets_in(secret, proof(password.encode(), salt, b"x"), b"x")
        assert not lets_in(secret, proof(password.encode() + b".", salt, b"x"), b"x")

    def test_the_salt_depends_on_the_seed_and_not_on_the_password(self):
        salts = {(p, s): parts(postgresql.scram_secret(p, s))[0] for p in ("password 1", "password 2") for s in "ab"}
        assert salts["password 1", "a"] == salts["password 2", "a"] != salts["password 1", "b"]

    @pytest.mark.parametrize(
        ("password", "prepared"),
        [
            # RFC 4013, section 3.
            ("I\u00adX and more", "IX and more"),
            ("USER AND MORE", "USER AND MORE"),
            ("\u00aa and more", "a and more"),
            ("\u2168 and more", "IX and more"),
            # What cannot be prepared stays as it is, as in pg_saslprep's callers.
            ("\u0007 and more", "\u0007 and more"),
            ("\u0627 and more", "\u0627 and more"),
            ("\U0001f600 and more", "\U0001f600 and more"),
            ("a\u00a0and\u3000more", "a and more"),
            ("größer und gut", "größer und gut"),
            ("gro\u0308ßer und gut", "größer und gut"),
            # saslprep.c maps the non-ASCII spaces first, and this is one of them although table B.1 has it, too.
            ("zero\u200bwidth space", "zero width space"),
            # saslprep.c looks for what is forbidden before it normalizes: here at a sign younger than Unicode 3.2.
            ("\U0001f130 and more", "\U0001f130 and more"),
            # saslprep.c refuses what becomes empty, and its callers take the bytes as they are.
            ("\u00ad" * 8, "\u00ad" * 8),
        ],
    )
    def test_passwords_are_prepared_as_libpq_does(self, password, prepared):
        secret = postgresql.scram_secret(password, "seed")
        assert lets_in(secret, proof(prepared.encode(), parts(secret)[0], b"x"), b"x")
