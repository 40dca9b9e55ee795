# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The checks of the role memcached's variables."""

from __future__ import annotations

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import memcached

ROLE = {
    "addresses": ["127.0.0.1", "::1", "192.0.2.7"],
    "port": 11211,
    "memory": 64,
    "machine_memory": 1024,
    "machine_addresses": ["192.0.2.7", "2001:db8::7"],
    "max_connections": 1024,
    "max_item_size": 1,
}


def test_a_role_without_a_fault():
    assert memcached.errors(ROLE) == []
    assert memcached.errors({**ROLE, "memory": 1024, "max_item_size": 512, "port": 1, "max_connections": 16}) == []
    assert memcached.errors({**ROLE, "memory": 8, "port": 65535, "max_connections": 65536}) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"addresses": []}, ["memcached_addresses", "empty list", "at least one"]),
        ({"addresses": ["localhost"]}, ["memcached_addresses", "'localhost'"]),
        ({"addresses": ["127.0.0.1", "10.0.0.0/8"]}, ["memcached_addresses", "'10.0.0.0/8'"]),
        ({"addresses": ["127.0.0.1:11211"]}, ["memcached_addresses", "'127.0.0.1:11211'"]),
        ({"addresses": [None]}, ["memcached_addresses", "'None'"]),
        *(
            ({"addresses": [text]}, ["memcached_addresses", text, "every interface"])
            for text in ("0.0.0.0", "::", "::0")
        ),
        ({"addresses": ["192.0.2.8"]}, ["memcached_addresses", "'192.0.2.8'", "192.0.2.7, 2001:db8::7"]),
        ({"port": 0}, ["memcached_port", "found 0,", "1 to 65535"]),
        ({"port": 65536}, ["memcached_port", "65536", "1 to 65535"]),
        ({"memory": 7}, ["memcached_memory", "found 7,", "8 to 1024"]),
        ({"memory": 1025}, ["memcached_memory", "1025", "8 to 1024"]),
        ({"max_connections": 15}, ["memcached_max_connections", "15", "16 to 65536"]),
        ({"max_connections": 65537}, ["memcached_max_connections", "65537", "16 to 65536"]),
        ({"max_item_size": 0}, ["memcached_max_item_size", "found 0,", "1 to 32"]),
        ({"max_item_size": 33}, ["memcached_max_item_size", "33", "1 to 32"]),
        ({"max_item_size": 1025, "memory": 8192, "machine_memory": 8192}, ["memcached_max_item_size", "1 to 1024"]),
    ],
)
def test_a_fault_names_the_variable_what_was_found_and_what_is_allowed(changes, words):
    errors = memcached.errors({**ROLE, **changes})
    assert len(errors) == 1
    assert [word for word in words if word not in errors[0]] == []


def test_all_faults_at_once():
    assert len(memcached.errors({**ROLE, "addresses": ["0.0.0.0", "x"], "port": 0, "max_connections": 0})) == 4
