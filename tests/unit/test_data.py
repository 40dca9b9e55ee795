# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where applications keep their data: what is refused, and what roles and web2py get to read."""

from __future__ import annotations

import ast
import json
import re
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote

import pytest
from ansible_collections.web2py.deployment.plugins.action import plan
from ansible_collections.web2py.deployment.plugins.plugin_utils import planning, source
from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import documented, documented_options
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import memcached, nfs_shared, web2py
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data, database, inventory
from hypothesis import given
from hypothesis import strategies as st

SERVER = {"host": "db.example.org"}
CACHES = ["cache:11211"]
APPLICATIONS = documented(
    "web2py",
    "web2py_applications",
    [
        {"name": "welcome"},
        {"name": "shop", "database": {}, "sessions": "cookie", "cache": "memcached"},
        {
            "name": "intranet",
            "database": {"name": "intranet 2", "user": "staff", "password": "given by hand", "pool_size": 3},
            "sessions": "database",
            "uploads": "database",
            "session_classes": {"applications.intranet.modules.basket": ["Basket"]},
        },
        {"name": "plain", "sessions": "files", "secure_cookies": False},
        {"name": "gone", "state": "absent", "database": {}, "sessions": "cookie"},
    ],
)
SECRETS = {"shop.database_password": "secret one", "shop.cookie_key": "secret two", "shop.cache_key": "secret three"}

# pydal.adapters.postgres.Postgre.REGEX_URI; a test below compares it with that of the web2py the lab has.
REGEX_URI = (
    r"^(?P<user>[^:@]+)(:(?P<password>[^@]*))?@(?P<host>[^:/]*|\[[^\]]+\])(:(?P<port>\d+))?"
    r"/(?P<db>[^?]+)(\?(?P<uriargs>.*))?$"
)


def read_by_pydal(uri):
    """What pydal gives to psycopg2 with decode_credentials=True, as Postgre._initialize_ does it."""
    kind, rest = uri.split("://", 1)
    assert kind == "postgres"
    found = re.match(REGEX_URI, rest)
    assert found, uri
    # pydal.utils.split_uri_args
    pairs = re.finditer(r"(?P<key>[^=&?]+)(=(?P<value>[^&?]*))?[&?]?", found["uriargs"] or "")
    arguments = dict(pair.group("key", "value") for pair in pairs)
    read = {"user": unquote(found["user"]), "password": unquote(found["password"]), "database": found["db"]}
    if arguments.get("unix_socket"):
        return {**read, "socket": arguments["unix_socket"]}
    return {**read, "host": found["host"], "port": int(found["port"] or 5432), "sslmode": arguments.get("sslmode")}


def connection(**changes):
    return {"name": "shop", "user": "shop", "password": "a@b", "host": "db", **changes}


@pytest.mark.parametrize("head", [False, True])
def test_the_expression_above_is_that_of_pydal(head):
    lab = pytest.importorskip("lab", reason="ansible-test does not know the lab")
    tree, _version = source.framework(source.read_path(str(lab.web2py(head=head).path)))
    module = tree.entries.get("gluon/packages/pydal/pydal/adapters/postgres.py")
    if module is None:
        pytest.skip("the stand-in has no pydal")
    adapter = next(
        node for node in ast.parse(module.read()).body if isinstance(node, ast.ClassDef) and node.name == "Postgre"
    )
    (expression,) = (
        ast.literal_eval(node.value)
        for node in adapter.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "REGEX_URI"
    )
    assert expression == REGEX_URI


class TestConnectionString:
    @given(st.text(min_size=1), st.text())
    def test_any_user_and_password_arrive(self, user, password):
        read = read_by_pydal(data.dal_uri(connection(user=user, password=password)))
        assert read == {
            "user": user,
            "password": password,
            "database": "shop",
            "host": "db",
            "port": 5432,
            "sslmode": "verify-full",
        }

    @given(st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters='"\\%'), min_size=1, max_size=15))
    def test_any_allowed_name_of_a_database_arrives(self, name):
        application = {"name": "shop", "database": {"name": name}}
        if not list(web2py.database_problems("shop", application, {"database_server": SERVER}, {})):
            assert read_by_pydal(data.dal_uri(connection(name=name)))["database"] == name

    @given(st.ip_addresses(v=6), st.integers(1, 65535))
    def test_an_ipv6_address_has_brackets_and_is_given_to_the_driver_without(self, address, port):
        database = connection(host=str(address), port=port)
        read = read_by_pydal(data.dal_uri(database))
        assert (read["host"], read["port"]) == (f"[{address}]", port)
        assert data.dal_driver_args(database) == {"connect_timeout": 3, **data.DEAD_PEER, "hostaddr": str(address)}

    def test_the_certificate_of_a_server_with_an_ipv6_address_can_be_verified(self):
        """libpq compares it with `host`, which pydal takes from the URI, never with `hostaddr` (fe-secure-common.c)."""
        application, server = {"name": "shop", "database": {"password": "long enough"}}, {"host": "2001:db8::1"}
        uri = data.application_settings(application, server, [], {})["database"]["uri"]
        assert list(web2py.server_problems(server)) or read_by_pydal(uri)["host"] == "2001:db8::1"

    @given(st.ip_addresses(v=4))
    def test_an_ipv4_address(self, address):
        assert read_by_pydal(data.dal_uri(connection(host=str(address))))["host"] == str(address)
        assert data.dal_driver_args(connection(host=str(address)))["hostaddr"] == str(address)

    def test_a_host_name_is_left_to_the_resolver(self):
        assert data.dal_driver_args(connection()) == {"connect_timeout": 3, **data.DEAD_PEER}

    def test_a_socket_takes_the_place_of_host_and_tls(self):
        socket = "/var/run/postgresql/.s.PGSQL.5433"
        database = connection(socket=socket, host="ignored", tls={"ca_file": "/ca.pem"})
        assert read_by_pydal(data.dal_uri(database)) == {
            "user": "shop",
            "password": "a@b",
            "database": "shop",
            "socket": socket,
        }
        # pydal gives the driver no more of the socket than its folder.
        assert data.dal_driver_args(database) == {"connect_timeout": 3, "port": 5433}
        assert (data.libpq(database)["host"], data.libpq(database)["port"]) == ("/var/run/postgresql", 5433)

    @pytest.mark.parametrize(
        ("tls", "mode", "certificate"),
        [
            (None, "verify-full", None),
            ({}, "verify-full", None),
            ({"mode": "disable"}, "disable", None),
            ({"mode": "verify-ca", "ca_file": "/ca.pem"}, "verify-ca", "/ca.pem"),
            ({"ca_file": "/ca.pem"}, "verify-full", "/ca.pem"),
        ],
    )
    def test_tls(self, tls, mode, certificate):
        database = connection(tls=tls)
        assert read_by_pydal(data.dal_uri(database))["sslmode"] == mode
        assert data.dal_driver_args(database).get("sslrootcert") == certificate


RULE = {"type": "hostssl", "databases": ["shop"], "users": ["shop"], "method": "scram-sha-256"}
FACTS = {"inventory_hostname": "web1", "ansible_facts": {"default_ipv4": {"address": "192.0.2.1"}}}


def problems_of_postgresql(**variables: Any) -> list[str]:
    given = {"tls": {"certificate_file": "/c.pem", "key_file": "/k.pem"}, "memory": 512, "connection_limit": 50}
    given = {f"postgresql_{name}": value for name, value in {**given, **variables}.items()}
    facts = {"memtotal_mb": 512, "distribution_release": "trixie"}
    return plan.plan("postgresql", given, Host(facts, open, datetime.now(timezone.utc)))[1]


# What a host may report as the address of its default route.
WIDE = ["0.0.0.0/0", "::/0", "0.0.0.0", "::", "0.0.0.0/1", "10.0.0.0/8", "10.0.0.0/24", "192.0.2.1/31", "127.0.0.1"]
WIDE += ["224.0.0.1", "all", "samenet", "*", ".example.org", "192.0.2.1,0.0.0.0/0", "192.0.2.1\n0.0.0.0/0", "", " "]
# Python takes any text for the zone of an IPv6 address, and gives it back.
WIDE += ["fe80::1%x trust\nhost all all all trust #", "fe80::1%eth0", "::ffff:0.0.0.0/96"]


class TestClientAddresses:
    def test_the_default_route_unless_told(self):
        six = {"ansible_facts": {"default_ipv4": {}, "default_ipv6": {"address": "2001:db8::1"}}}
        told = {**FACTS, "web2py_client_addresses": ["10.0.0.0/24", "10.1.0.1"]}
        found = inventory.client_addresses([FACTS, six, told])
        assert found == ["192.0.2.1", "2001:db8::1", "10.0.0.0/24", "10.1.0.1"]

    @pytest.mark.parametrize("facts", [{}, {"ansible_facts": {}}])
    def test_a_host_without_facts_is_named(self, facts):
        with pytest.raises(inventory.SiteError, match=r"'web2'.*--limit"):
            inventory.client_addresses([FACTS, {"inventory_hostname": "web2", **facts}])

    @pytest.mark.parametrize("address", WIDE)
    @pytest.mark.parametrize("version", ["ipv4", "ipv6"])
    def test_a_host_is_one_address_whatever_its_facts_say(self, address, version):
        facts = {f"default_{version}": {"address": address}}
        with pytest.raises(inventory.SiteError, match="'web2'"):
            inventory.client_addresses([{"inventory_hostname": "web2", "ansible_facts": facts}])

    def test_no_fact_stands_for_a_variable(self):
        """Facts become variables, and come before those of the inventory."""
        facts = {**FACTS["ansible_facts"], "web2py_client_addresses": ["192.0.2.66"]}
        host = {"inventory_hostname": "web2", "ansible_facts": facts, "web2py_client_addresses": ["192.0.2.66"]}
        with pytest.raises(
            inventory.SiteError, match=r"web2py_client_addresses of host 'web2' is a fact, \['192.0.2.66'\];"
        ):
            inventory.client_addresses([host])

    @pytest.mark.parametrize(
        "given", [["0.0.0.0/0"], ["::/0"], ["10.0.0.0/7"], ["2001::/15"], ["10.0.0.0/8", "11.0.0.0/8"], "all", ["all"]]
    )
    def test_an_administrator_gives_networks_no_wider_than_a_site(self, given):
        with pytest.raises(inventory.SiteError, match="web2py_client_addresses of host 'web2' is "):
            inventory.client_addresses([{"inventory_hostname": "web2", "web2py_client_addresses": given}])


@pytest.mark.parametrize(
    "errors",
    [
        lambda text: problems_of_postgresql(hba=[{**RULE, "address": text}]),
        lambda text: [nfs_shared.client_problem("clients", text)],
        lambda text: list(planning.proxy_problems("web2py_trusted_proxies", [text])),
        lambda text: memcached.address_problems([text], ["192.0.2.1", "10.0.0.0"]),
    ],
    ids=["postgresql_hba", "nfs_shared_exports", "web2py_trusted_proxies", "memcached_addresses"],
)
@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0", "0.0.0.0", "::", "128.0.0.0/1", "::ffff:0.0.0.0/96", *WIDE[-3:]])
def test_rules_of_who_may_connect_refuse_what_is_too_wide(errors, text):
    """The class: each variable that says who may connect, or whose word is believed."""
    assert [error for error in errors(text) if error] != []


names = st.text("ab_1", min_size=1, max_size=3)
signs = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=6)
declared = st.builds(
    lambda name, database: {"name": name, "database": database},
    names,
    st.fixed_dictionaries({}, optional={"name": signs, "password": st.text(max_size=12)}),
)


@given(st.lists(declared, max_size=3, unique_by=lambda item: item["name"]))
def test_the_role_postgresql_takes_what_was_found_right(applications):
    applications = documented("web2py", "web2py_applications", applications)
    values = {"applications": applications, "database_server": SERVER, "cache_servers": CACHES}
    if list(web2py.data_problems(values, [])):
        return
    secrets = dict.fromkeys(data.data_secrets(applications), "made by the lookup")
    users = database.users(applications, secrets)
    databases = database.databases(applications)
    rules = database.hba(applications, ["192.0.2.7"])
    assert problems_of_postgresql(users=users, databases=databases, hba=rules) == []
    for application in applications:
        settings = data.application_settings(application, SERVER, CACHES, secrets)
        read = read_by_pydal(settings["database"]["uri"])
        assert {"name": read["user"], "password": read["password"]} in users


class TestTranslation:
    def test_applications_with_data_and_the_secrets_they_need(self):
        assert [item["name"] for item in data.with_data(APPLICATIONS)] == ["shop", "intranet", "plain"]
        assert data.data_secrets(APPLICATIONS) == list(SECRETS)

    def test_what_the_role_postgresql_gets(self):
        assert database.users(APPLICATIONS, SECRETS) == [
            {"name": "shop", "password": "secret one"},
            {"name": "staff", "password": "given by hand"},
        ]
        assert database.databases(APPLICATIONS) == [
            {"name": "shop", "owner": "shop"},
            {"name": "intranet 2", "owner": "staff"},
        ]

    def test_each_user_reaches_his_own_database_only_with_a_password_and_from_outside_only_by_tls(self):
        rules = database.hba(APPLICATIONS, ["192.0.2.7", "2001:db8::/64"])
        assert {(*rule["databases"], *rule["users"]) for rule in rules} == {("shop", "shop"), ("intranet 2", "staff")}
        assert {rule["method"] for rule in rules} == {"scram-sha-256"}
        assert [(rule["type"], rule.get("address")) for rule in rules[:3]] == [
            ("local", None),
            ("hostssl", "192.0.2.7"),
            ("hostssl", "2001:db8::/64"),
        ]
        assert len(rules) == 6

    def test_a_pool_is_as_large_as_the_role_says(self):
        options = documented_options("web2py")["web2py_applications"]["options"]["database"]["options"]
        shop = data.database_of({"name": "shop", "database": {}}, SECRETS)
        assert options["pool_size"]["default"] == shop["pool_size"]

    def test_memcached_servers(self):
        assert inventory.memcached_servers(["cache1", "192.0.2.7"]) == ["cache1:11211", "192.0.2.7:11211"]
        assert inventory.memcached_servers(["2001:db8::1"], port=1234) == ["[2001:db8::1]:1234"]
        assert inventory.memcached_servers([]) == []
        known = {"cache1": {"ansible_host": "192.0.2.7"}, "cache2": {"memcached_port": 11212}}
        found = ["192.0.2.7:11211", "cache2:11212", "127.0.0.1:11211"]
        assert inventory.memcached_servers(["cache1", "cache2", "127.0.0.1"], known) == found


class TestSettings:
    def settings(self, name):
        (application,) = (item for item in APPLICATIONS if item["name"] == name)
        return data.application_settings(application, SERVER, CACHES, SECRETS)

    def test_all_that_an_application_asked_for(self):
        assert self.settings("shop") == {
            "application": "shop",
            "sessions": "cookie",
            "cache": "memcached",
            "database": {
                "uri": "postgres://shop:secret%20one@db.example.org:5432/shop?sslmode=verify-full",
                "driver_args": {"connect_timeout": 3, **data.DEAD_PEER},
                "pool_size": 5,
            },
            "cookie_key": "secret two",
            "cache_servers": CACHES,
            "cache_key": "secret three",
        }
        database = self.settings("intranet")["database"]
        assert database["pool_size"] == 3
        assert read_by_pydal(database["uri"])["database"] == "intranet 2"

    def test_nothing_that_it_did_not_ask_for(self):
        assert self.settings("plain") == {"application": "plain", "sessions": "files", "secure_cookies": False}

    @pytest.mark.parametrize("name", ["intranet", "plain"])
    def test_no_secret_of_another_application(self, name):
        text = json.dumps(self.settings(name))
        assert not [secret for secret in SECRETS.values() if secret in text or secret.replace(" ", "%20") in text]

    def test_a_secret_that_it_does_not_need_is_left_out(self):
        application = {"name": "shop", "sessions": "files", "cache": "ram"}
        assert not set(data.application_settings(application, SERVER, CACHES, SECRETS)) & {"cookie_key", "cache_key"}

    @given(st.text(min_size=8, max_size=30))
    def test_they_can_be_written_as_json_and_do_not_change_the_declaration(self, password):
        application = {"name": "shop", "database": {"password": password}}
        before = json.dumps([application, SERVER])
        settings = json.loads(json.dumps(data.application_settings(application, SERVER, CACHES, {})))
        assert read_by_pydal(settings["database"]["uri"])["password"] == password
        assert json.dumps([application, SERVER]) == before
