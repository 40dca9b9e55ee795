# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of the role memcached."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host

ADDRESSES = ["127.0.0.1", "::1", "192.0.2.7"]
FACTS = {"memtotal_mb": 1024, "all_ipv4_addresses": ["192.0.2.7"], "all_ipv6_addresses": ["2001:db8::7"]}


def plan(facts: dict[str, Any] = FACTS, **options: Any) -> tuple[dict[str, Any], list[str]]:
    variables = {f"memcached_{name}": value for name, value in {"addresses": ADDRESSES, **options}.items()}
    return action.plan("memcached", variables, Host(facts, open, datetime.now(timezone.utc)))


def test_a_role_without_a_fault():
    assert plan()[1] == []
    assert plan(memory=1024, max_item_size=512, port=1, max_connections=16)[1] == []
    assert plan(memory=8, port=65535, max_connections=65536)[1] == []


def test_the_group_of_the_service():
    assert plan(socket_group="www-data")[0]["group"] == "memcache"
    assert plan(socket_group="www-data", socket=True)[0]["group"] == "www-data"


def test_a_missing_fact_is_named():
    (problem,) = plan({"all_ipv4_addresses": [], "all_ipv6_addresses": []})[1]
    assert "fact memtotal_mb is unknown" in problem and "Gather facts" in problem


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"addresses": []}, ["memcached_addresses", "empty", "at least one"]),
        ({"addresses": ["localhost"]}, ["memcached_addresses", "'localhost'"]),
        ({"addresses": ["127.0.0.1", "10.0.0.0/8"]}, ["memcached_addresses", "'10.0.0.0/8'"]),
        ({"addresses": ["127.0.0.1:11211"]}, ["memcached_addresses", "'127.0.0.1:11211'"]),
        ({"addresses": [None]}, ["memcached_addresses[0]", "not set"]),
        *(
            ({"addresses": [text]}, ["memcached_addresses", text, "every interface"])
            for text in ("0.0.0.0", "::", "::0")
        ),
        ({"addresses": ["192.0.2.8"]}, ["memcached_addresses", "'192.0.2.8'", "192.0.2.7, 2001:db8::7"]),
        ({"port": 0}, ["memcached_port", "is 0;", "between 1 and 65535"]),
        ({"port": 65536}, ["memcached_port", "65536", "between 1 and 65535"]),
        ({"memory": 7}, ["memcached_memory", "is 7;", "between 8 and 1024"]),
        ({"memory": 1025}, ["memcached_memory", "1025", "between 8 and 1024"]),
        ({"max_connections": 15}, ["memcached_max_connections", "15", "between 16 and 65536"]),
        ({"max_connections": 65537}, ["memcached_max_connections", "65537", "between 16 and 65536"]),
        ({"max_item_size": 0}, ["memcached_max_item_size", "is 0;", "between 1 and 32"]),
        ({"max_item_size": 33}, ["memcached_max_item_size", "33", "between 1 and 32"]),
        (
            {"max_item_size": 1025, "memory": 8192, "facts": {**FACTS, "memtotal_mb": 8192}},
            ["memcached_max_item_size", "between 1 and 1024"],
        ),
    ],
)
def test_a_fault_names_the_variable_what_was_found_and_what_is_allowed(changes, words):
    errors = plan(**changes)[1]
    assert len(errors) == 1
    assert [word for word in words if word not in errors[0]] == []


def test_all_faults_at_once():
    assert len(plan(addresses=["0.0.0.0", "x"], port=0, max_connections=0)[1]) == 4
