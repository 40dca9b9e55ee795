# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Every filter is registered by the name of its file, and its documented example gives what it documents."""

from __future__ import annotations

import importlib
import re
import time
from datetime import datetime
from pathlib import Path

import jinja2
import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "plugins" / "filter"
PACKAGE = "ansible_collections.web2py.deployment.plugins.filter"
APPLICATIONS = [{"name": "admin"}, {"name": "shop", "database": {}}, {"name": "welcome"}]
SECRETS = {"shop.database_password": "a@b"}
DEAD_PEER = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 2, "tcp_user_timeout": 3000}
DATA = {
    "web2py_applications": APPLICATIONS,
    "web2py_database_server": {"host": "db"},
    "web2py_cache_servers": [],
    "secrets": SECRETS,
}
URI = "postgres://shop:a%40b@db:5432/shop?sslmode=verify-full"

# For each filter, what the variables of its example are, and what the example gives.
EXAMPLES = {
    "application_settings": (
        {**DATA, "application": APPLICATIONS[1]},
        {
            "application": "shop",
            "database": {"uri": URI, "driver_args": {"connect_timeout": 3, **DEAD_PEER}, "pool_size": 5},
        },
    ),
    "client_addresses": (
        {
            "hostvars": {
                "web1": {"ansible_facts": {"default_ipv4": {"address": "192.0.2.10"}}},
                "web2": {"web2py_client_addresses": ["2001:db8::10"]},
            },
        },
        ["192.0.2.10", "2001:db8::10"],
    ),
    "memcached_servers": ({}, ["192.0.2.7:11211", "[2001:db8::1]:11211"]),
    "postgresql_scram_secret": (
        {"vault_password": "long enough"},
        re.compile(r"SCRAM-SHA-256\$4096:[\w+/]{22}==\$[\w+/]{43}=:[\w+/]{43}="),
    ),
    "postgresql_users": (
        DATA,
        [{"name": "shop", "password": "a@b", "connection_limit": 40}],
    ),
    "subject_alt_names": (
        {"web2py_server_names": ["www.example.org", "192.0.2.1"]},
        ["DNS:www.example.org", "IP:192.0.2.1"],
    ),
    "rollback_target": (
        {"hostvars": {name: {"__release_found": {"present": "b", "previous": "a"}} for name in ("web1", "web2")}},
        {"target": "a", "errors": []},
    ),
    "failure_reasons": (
        {
            "inventory_hostname": "db1",
            "ansible_failed_result": {"failed": True, "msg": "tiny-77 is no password"},
            "postgresql_users": [{"name": "shop", "password": "tiny-77"}],
        },
        "******** is no password",
    ),
    "tickets_outcomes": (
        {
            "hostvars": {"www1": {"collected": {"applications": {"shop": {"quarantined": 2}}, "errors": {}}}},
            "ansible_play_hosts_all": ["www1"],
        },
        {"quarantined": {"shop": 2}, "failed": []},
    ),
    "web2py_password_hash": (
        {"vault_admin_password": "long enough", "inventory_hostname": "www"},
        re.compile(r"pbkdf2\(600000,64,sha512\)\$[0-9a-f]{16}\$[0-9a-f]{128}"),
    ),
}
# Their examples show some of the variables that they take; the whole is in their own tests.
SHORTENED = {"ticket_report"}
# Shown with shortened or made-up digits.
SAMPLES_OF_ANOTHER_KIND = {"postgresql_scram_secret", "web2py_password_hash"}
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


def load(name):
    return importlib.import_module(f"{PACKAGE}.{name}")


def returned(name):
    return yaml.safe_load(load(name).RETURN)["_value"]


def texts(value):
    """All texts in a document, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)


def example(name):
    """The expression of the example that uses the filter."""
    found = [text for text in texts(yaml.safe_load(load(name).EXAMPLES)) if f"web2py.deployment.{name}" in text]
    assert len(found) == 1
    return re.search(r"\{\{(.*)\}\}", found[0], re.DOTALL)[1]


def evaluate(name, variables):
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
    environment.filters[f"web2py.deployment.{name}"] = load(name).FilterModule().filters()[name]
    return environment.compile_expression(example(name), undefined_to_none=False)(**variables)


@pytest.mark.parametrize("name", NAMES)
def test_a_filter_is_registered_by_the_name_of_its_file(name):
    module = load(name)
    assert list(module.FilterModule().filters()) == [name]
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["name"] == name
    assert {"description", "type"} <= set(returned(name))


def test_every_filter_has_its_example_here():
    assert sorted({*EXAMPLES, *SHORTENED}) == NAMES


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_example_gives_what_is_documented(name):
    variables, wanted = EXAMPLES[name]
    found = evaluate(name, variables)
    if isinstance(wanted, re.Pattern):
        assert wanted.fullmatch(found)
    elif name == "tickets_outcomes":
        assert abs(datetime.fromisoformat(found.pop("generated")).timestamp() - time.time()) < 60
        assert found == wanted
    else:
        assert found == wanted


@pytest.mark.parametrize(
    "name",
    sorted(name for name in EXAMPLES if name not in SAMPLES_OF_ANOTHER_KIND and "sample" in returned(name)),
)
def test_the_documented_sample_is_what_the_example_gives(name):
    assert returned(name)["sample"] == evaluate(name, EXAMPLES[name][0])


@pytest.mark.parametrize("name", sorted(SHORTENED))
def test_a_shortened_example_uses_the_filter(name):
    assert example(name).strip().endswith(f"| web2py.deployment.{name}")
