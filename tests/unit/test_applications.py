# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import hashlib
import string

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.web2py.deployment.plugins.filter.web2py_password_hash import web2py_password_hash
from ansible_collections.web2py.deployment.plugins.plugin_utils import planning
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications
from hypothesis import given
from hypothesis import strategies as st

ROUTABLE = string.ascii_letters + string.digits + "_"


@given(st.text(alphabet=ROUTABLE, min_size=1))
def test_names_that_web2py_routes_are_taken(name):
    assert applications.name_error(name) is None


@given(st.text().filter(lambda name: not name or set(name) - set(ROUTABLE)))
def test_all_other_names_are_refused(name):
    assert "letters, digits and underscores" in applications.name_error(name)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"name": "my-app"}], ["'my-app'"]),
        ([{"name": "shop\n"}], ["shop"]),
        ([{}], ["None"]),
        ([{"name": "shop"}], ["'shop' has no source"]),
        ([{"name": "welcome"}, {"name": "welcome", "state": "absent"}], ["'welcome' is listed twice"]),
        ([{"name": "welcome", "exposed": "false"}], ["'welcome'", "exposed", "'false'"]),
        ([{"name": "welcome", "writable": ["controllers"]}], ["'controllers'", "writable"]),
        ([{"name": "welcome", "writable": ["../x"]}], ["'../x'"]),
    ],
)
def test_faults_in_applications(entries, words):
    errors = applications.application_errors(entries)
    assert len(errors) == 1
    assert all(word in errors[0] for word in words)


def test_applications_without_a_fault():
    assert (
        applications.application_errors(
            [
                {"name": "welcome"},
                {"name": "gone", "state": "absent"},
                {"name": "shop_2", "source": {"path": "x"}, "writable": ["private"]},
            ]
        )
        == []
    )


def test_what_is_exposed_and_what_answers_the_root():
    declared = [
        {"name": "admin"},
        {"name": "batch", "exposed": False},
        {"name": "gone", "state": "absent"},
        {"name": "shop"},
        {"name": "welcome"},
    ]
    assert applications.frontend_applications(declared) == ["admin", "shop", "welcome"]
    assert applications.default_application(declared) == "shop"
    assert applications.default_application([{"name": "admin"}]) == ""


@pytest.mark.parametrize("port", [0, 65536, -1, "http", "0", True, None, 80.0])
def test_no_port(port):
    assert "1 to 65535" in applications.port_errors({"some_port": port})[0]


def test_ports():
    assert applications.port_errors({"a": 1, "b": 65535, "from the command line": "80"}) == []
    assert "which a uses" in applications.port_errors({"a": 80, "b": 80})[0]


@pytest.mark.parametrize("name", ["a/b", "a b", "", "-a", "a:80", "a..b", 'a"b', "a\nb", "[::1]", 5])
def test_no_host_name(name):
    assert "names" in applications.host_name_errors([name], "names")[0]


def test_host_names():
    assert applications.host_name_errors(["www.example.org", "localhost", "192.0.2.1", "2001:db8::1"], "names") == []
    assert "empty" in applications.host_name_errors([], "names")[0]
    assert "first name" in applications.host_name_errors(["::1", "localhost"], "names")[0]
    assert applications.subject_alt_names(["a.example", "192.0.2.1", "::1"]) == [
        "DNS:a.example",
        "IP:192.0.2.1",
        "IP:::1",
    ]
    assert [planning.bracketed(name) for name in ("a.example", "::1")] == ["a.example", "[::1]"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"port": 443}, "exactly one"),
        ({"port": 443, "password": "long enough", "password_hash": "x"}, "exactly one"),
        ({"port": 443, "password": "seven77"}, "8 to 1024"),
        ({"port": 443, "password_hash": "sha512$x$y"}, "pbkdf2("),
        ({"port": 443, "password_hash": 'pbkdf2(1,1,sha512)$a$0"\nimport os'}, "pbkdf2("),
        ({"port": 443, "password": 1234567890}, "text of 8 to 1024"),
        ({"port": 0, "password": "long enough"}, "1 to 65535"),
    ],
)
def test_faults_in_administrators_passwords(entry, words):
    errors = applications.admin_password_errors([entry])
    assert len(errors) == 1 and words in errors[0]
    assert str(entry.get("password")) not in errors[0]


def test_administrators_passwords_without_a_fault():
    made = web2py_password_hash("long enough", "seed", iterations=1000)
    entries = [{"port": 443, "password_hash": made}, {"port": 80, "state": "absent"}]
    assert applications.admin_password_errors(entries) == []
    assert "twice" in applications.admin_password_errors([*entries, {"port": 80, "state": "absent"}])[0]


def test_trusted_proxies():
    assert applications.proxy_errors(["10.0.0.1", "10.0.0.0/8", "2001:db8::/32", "unix"]) == []
    assert "host bits" in applications.proxy_errors(["10.0.0.1/8"])[0]


@pytest.mark.parametrize("value", ["welcome", ["welcome"], None, 5, {"name": "welcome"}])
def test_mistaken_types_are_left_to_the_argument_specs(value):
    assert applications.application_errors(value) == applications.frontend_applications(value) == []
    assert applications.admin_password_errors(value) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("X Y", "a"), ("X:", "a"), ("", "a"), ("X", ""), ("X", None), ("X", "a\nb"), ("X", "ü"), ("X", ["a"])],
)
def test_a_header_that_no_server_could_send(name, value):
    assert "web2py_headers" in applications.header_errors({name: value})[0]


def test_other_headers_are_left_to_the_administrator():
    assert (
        applications.header_errors({"X-Frame-Options": "DENY", "NEL": '{"report_to": "a", "rate": 50%}', "X-Number": 0})
        == []
    )


class TestPasswordHash:
    @given(st.text(min_size=8, max_size=50), st.text(min_size=1))
    def test_it_is_what_web2py_computes(self, password, seed):
        """gluon.validators.CRYPT: pbkdf2(rounds,length,digest)$salt$hex, the salt taken as text."""
        made = web2py_password_hash(password, seed, iterations=1000)
        head, salt, digest = made.split("$")
        assert head == "pbkdf2(1000,64,sha512)"
        assert digest == hashlib.pbkdf2_hmac("sha512", password.encode(), salt.encode(), 1000, 64).hex()
        assert made == web2py_password_hash(password, seed, iterations=1000)

    def test_the_salt_depends_on_the_seed_and_not_on_the_password(self):
        salt = {
            (password, seed): web2py_password_hash(password, seed, 1000).split("$")[1]
            for password in ("password one", "password two")
            for seed in ("a:443", "b:443")
        }
        assert salt["password one", "a:443"] == salt["password two", "a:443"] != salt["password one", "b:443"]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("seven77", "s"), "8 to 1024"),
            (("x" * 1025, "s"), "8 to 1024"),
            ((None, "s"), "8 to 1024"),
            (("long enough", ""), "seed"),
            (("long enough", "s", 999), "from 1000"),
            (("long enough", "s", True), "from 1000"),
        ],
    )
    def test_errors_name_what_is_allowed_and_never_the_password(self, arguments, words):
        with pytest.raises(AnsibleFilterError, match=words) as caught:
            web2py_password_hash(*arguments)
        assert str(arguments[0]) not in str(caught.value)
