# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Applications, names and administrators' passwords as they reach what serves them."""

from __future__ import annotations

import hashlib

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.web2py.deployment.plugins.filter.web2py_password_hash import web2py_password_hash
from ansible_collections.web2py.deployment.plugins.plugin_utils import planning
from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import documented
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications
from hypothesis import given
from hypothesis import strategies as st


def test_what_is_exposed_and_how_it_is_checked():
    declared = [
        {"name": "admin", "check_path": "/admin"},
        {"name": "batch", "exposed": False},
        {"name": "gone", "state": "absent"},
        {"name": "shop"},
    ]
    declared = documented("web2py", "web2py_applications", declared)
    assert applications.exposed(declared) == ["admin", "shop"]
    assert applications.check_paths(declared, "/healthz") == ["/healthz", "/admin", "/shop/default/index"]


def test_names_in_a_certificate_and_in_a_url():
    names = ["a.example", "192.0.2.1", "::1"]
    assert applications.subject_alt_names(names) == ["DNS:a.example", "IP:192.0.2.1", "IP:::1"]
    assert [planning.bracketed(name) for name in names] == ["a.example", "192.0.2.1", "[::1]"]


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
