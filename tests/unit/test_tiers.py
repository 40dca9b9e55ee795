# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the roles of each tier take follows from one inventory, which is read as ansible-playbook reads it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from ansible_collections.web2py.deployment.plugins.action import site as action
from ansible_collections.web2py.deployment.plugins.plugin_utils import frontends
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import nfs_shared
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import database, web

APPLICATIONS = [
    {"name": "files"},
    {"name": "shop", "sessions": "database", "uploads": "database", "tickets": "database", "database": {}},
    {"name": "mixed", "sessions": "cookie", "uploads": "files", "database": {"password": "by hand 1"}},
    {"name": "gone", "state": "absent"},
    {"name": "admin", "exposed": False},
]
PUBLIC = {"name": "public", "socket": True}
FACTS = {
    "distribution": "Debian",
    "distribution_release": "trixie",
    "memtotal_mb": 2048,
    "date_time": {},
    "all_ipv4_addresses": [],
    "all_ipv6_addresses": [],
}
TIERS = {"web": ["www1", "www2"], "database": ["db"], "storage": ["nas"], "balancer": ["lb"], "cache": ["mem"]}


def complete(item: dict[str, Any]) -> dict[str, Any]:
    """An application with what it needs beside what its test is about."""
    database = {"database": {}} if "database" in (item.get("sessions"), item.get("uploads")) else {}
    return {"source": {"path": "/code"}, **database, **item}


@pytest.fixture
def reader(tmp_path):
    """Read an inventory: hosts by tier, variables of all hosts, and those of single ones."""

    def reader_(tiers: dict[str, list[str]] | None = None, common=None, **own) -> action.Reader:
        tiers = TIERS if tiers is None else tiers
        names = dict.fromkeys(name for hosts in tiers.values() for name in hosts)
        facts = {
            name: {**FACTS, "default_ipv4": {"address": f"192.0.2.{number}"}, "fqdn": f"{name}.example.org"}
            for number, name in enumerate(names, start=1)
        }
        facts |= {name: own[name].pop("ansible_facts") for name in names if "ansible_facts" in own.get(name, {})}
        hosts = {name: own.get(name, {}) for name in names}
        groups = {f"web2py_{tier}": {"hosts": dict.fromkeys(hosts)} for tier, hosts in tiers.items()}
        common = {
            "web2py_applications": APPLICATIONS,
            "web2py_uid": "950",
            "web2py_gid": 951,
            "web2py_database_ca_file": "/ca.pem",
            "web2py_cache_servers": ["mem:11211"],
            **({} if tiers.get("database") else {"web2py_database_server": {"host": "elsewhere"}}),
            **(common or {}),
        }
        if isinstance(common["web2py_applications"], list):
            common["web2py_applications"] = [complete(item) for item in common["web2py_applications"]]
        path = tmp_path / "hosts.yml"
        path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": common, "children": groups}}, sort_keys=False))
        loader = DataLoader()
        inventory = InventoryManager(loader, [str(path)])
        variables = VariableManager(loader, inventory)
        for name in names:
            variables.set_host_facts(name, facts[name])
        hostvars = HostVars(inventory, variables, loader)
        return action.Reader(inventory.get_groups_dict(), hostvars, Templar(loader), loader)

    return reader_


@pytest.fixture
def read(reader):
    def read_(*arguments, **own) -> tuple[dict[str, Any], list[str]]:
        found = reader(*arguments, **own)
        return found.inputs(list(found.site.hosts))

    return read_


@pytest.fixture
def inputs(read):
    def inputs_(*arguments, **own):
        found, problems = read(*arguments, **own)
        assert problems == []
        return found

    return inputs_


@pytest.fixture
def problems(read):
    return lambda *arguments, **own: read(*arguments, **own)[1]


class TestBalancer:
    def test_it_reaches_a_web_host_as_that_says(self, inputs):
        found = inputs(
            www1={"web2py_balancer_https": "yes", "web2py_https_port": "8443"},
            www2={"web2py_client_addresses": ["2001:db8::10", "2001:db8::11"], "web2py_http_port": "8080"},
            lb={"haproxy_servers": [{"name": "old", "address": "192.0.2.99", "port": 80}]},
        )["lb"]["haproxy_servers"]
        assert [server["name"] for server in found] == ["old", "www1", "www2"]
        assert found[1:] == [
            {"name": "www1", "address": "192.0.2.1", "port": 8443, "tls": True, "tls_name": "www1.example.org"},
            {"name": "www2", "address": "2001:db8::10", "port": 8080},
        ]

    def test_haproxy_takes_any_name_of_a_host(self, inputs):
        found = inputs({"web": ["www-1_a.example.org"], "balancer": ["lb"]}, {"web2py_applications": []})
        assert found["lb"]["haproxy_servers"][0]["name"] == "www-1_a-example-org"
        assert found["www-1_a.example.org"]["name_at_balancer"] == "www-1_a-example-org"

    def test_it_waits_for_health_as_long_as_the_storage_server_boots(self, inputs):
        tiers = {"web": ["www"], "balancer": ["lb"]}
        assert inputs(tiers)["lb"]["haproxy_health_timeout"] == 5
        assert inputs({**tiers, "storage": ["nas"]})["lb"]["haproxy_health_timeout"] == 60

    def test_what_the_inventory_says_of_it_comes_first(self, inputs):
        own = {
            "haproxy_server_names": ["own.example"],
            "haproxy_health_path": "/own",
            "haproxy_health_timeout": 7,
            "haproxy_denied_paths": [],
            "haproxy_certificates": [],
            "haproxy_https_port": 0,
        }
        found = inputs(lb=own)["lb"]
        assert {name: found.get(name, 0) for name in own} == own
        found = inputs(None, {"web2py_server_names": ["www.example"], "web2py_health_path": "/up"})["lb"]
        assert (found["haproxy_server_names"], found["haproxy_health_path"]) == (["www.example"], "/up")
        assert found["haproxy_certificates"][0]["key_file"] == "/etc/ssl/tls_certificate/web2py/privkey.pem"


class TestStorage:
    def test_a_web_host_mounts_what_the_storage_server_exports(self, inputs):
        absent = {"state": "absent"}
        found = inputs(
            nas={"nfs_shared_exports": [{"name": "own", **absent}]},
            www1={"nfs_shared_mounts": [{"name": "more", **absent}]},
        )
        own, export = found["nas"]["nfs_shared_exports"]
        more, mount = found["www1"]["nfs_shared_mounts"]
        assert (own["name"], more["name"]) == ("own", "more")
        assert mount["export"] == export["path"] and mount["server"] == "nas"
        assert (export["owner"], export["group"], export["clients"]) == (950, 951, ["192.0.2.1", "192.0.2.2"])
        assert mount["before_units"] == ["apache2.service", "web2py-sessions@files.service"]
        assert nfs_shared.MODE.fullmatch(export["mode"])

    @pytest.mark.parametrize(
        ("tiers", "applications"),
        [
            ({"web": ["www"], "storage": ["www"]}, APPLICATIONS),
            ({"web": ["www"], "storage": ["nas"]}, APPLICATIONS[3:]),
            ({"web": ["www"], "storage": []}, APPLICATIONS),
        ],
    )
    def test_without_hosts_or_files_nothing_is_shared(self, inputs, tiers, applications):
        found = inputs({**tiers, "database": ["db"]}, {"web2py_applications": applications})
        absent = [{"name": "web2py", "state": "absent"}]
        assert found["www"]["nfs_shared_mounts"] == absent
        assert all(found[host]["nfs_shared_exports"] == absent for host in tiers["storage"])


class TestDatabase:
    def test_databases_and_who_may_connect(self, inputs):
        found = inputs(db={"postgresql_databases": [{"name": "own", "owner": "shop"}]})["db"]
        assert [item["name"] for item in found["postgresql_databases"]] == ["own", "shop", "mixed", "web2py_tickets"]
        assert {rule.get("address") for rule in found["database_rules"]} == {None, "192.0.2.1", "192.0.2.2"}
        assert found["postgresql_listen_addresses"] == ["*"]
        assert found["postgresql_tls"]["certificate_file"] == "/etc/ssl/tls_certificate/database/fullchain.pem"

    def test_a_server_on_the_web_host_is_reached_by_its_socket_alone(self, inputs):
        found = inputs({"web": ["www"], "database": ["www"]})["www"]
        assert {rule["type"] for rule in found["database_rules"]} == {"local"}
        assert (found["postgresql_listen_addresses"], found["postgresql_tls"]) == (["localhost"], {})

    def test_no_secret_is_returned(self, inputs):
        found = inputs(db={"postgresql_users": [{"name": "own", "password": "by hand 2"}]})
        assert "by hand" not in json.dumps(found)
        assert found["db"]["secrets"] == [
            "shop.database_password",
            "mixed.cookie_key",
            "web2py-tickets.database_password",
        ]
        assert (found["db"]["declared_at"], found["db"]["secrets_directory"][-16:]) == ("www1", "/.web2py_secrets")

    # A user needs one connection, and for each host two and one for each thread; a worker of a scheduler counts twice.
    @pytest.mark.parametrize(
        ("host", "hosts", "needed"),
        [
            ({}, 1, 1 + 2 + 2 * 8),
            ({}, 4, 1 + 4 * (2 + 2 * 8)),
            ({"web2py_frontend": "apache_wsgi", "apache_wsgi_processes": 4, "apache_wsgi_threads": "20"}, 1, 83),
            ({"web2py_frontend": "lighttpd_fcgi"}, 2, 1 + 2 * (2 + 16)),
            ({"web2py_frontend": "apache_proxy"}, 2, 1 + 2 * (2 + 2 * 16)),
            ({"web2py_frontend": "apache_proxy", "web2py_daemon_instances": [{**PUBLIC, "threads": 38}]}, 1, 79),
            ({"web2py_daemon_instances": [{"name": "local", "processes": 1, "state": "absent"}]}, 1, 19),
            ({"web2py_daemon_instances": [{"name": "local", "port": 8000, "processes": "1"}]}, 1, 35),
            ({"web2py_daemon_scheduler_workers": [{"application": "shop", "workers": 30}]}, 1, 79),
        ],
    )
    def test_all_threads_of_all_web_hosts_get_a_connection(self, inputs, host, hosts, needed):
        """Also while one of two users has all that its limit allows: twice what it needs, as at a reload."""
        applications = [{"name": "shop", "database": {}}, {"name": "wiki", "database": {}}]
        tiers = {"web": [f"www{number}" for number in range(hosts)], "database": ["db"]}
        found = inputs(tiers, {"web2py_applications": applications, **host})["db"]
        assert found["connection_limit"] == 2 * needed
        connections = found["postgresql_max_connections"]
        assert connections / 2 < max(2 * needed + needed + database.NOT_OF_WEB_HOSTS, 51) <= connections

    def test_without_web_hosts_the_limit_is_that_of_the_role(self, inputs):
        found = inputs({"database": ["db"]})["db"]
        assert found["connection_limit"] is None and found["postgresql_max_connections"] == 100
        shop = {"name": "shop", "state": "present", "database": {"password": "long enough"}}
        users = database.users([shop], {}, None)
        assert users == [{"name": "shop", "password": "long enough"}]

    def test_applications_without_a_database_need_no_connections(self, inputs):
        tiers = {"web": [f"www{number}" for number in range(40)], "database": ["db"]}
        applications = [{"name": "plain", "sessions": "cookie"}]
        assert inputs(tiers, {"web2py_applications": applications})["db"]["postgresql_max_connections"] == 100


class TestWebHosts:
    def test_each_has_its_own_front_end(self, inputs):
        found = inputs(
            {"web": ["a", "b", "c"]},
            {"web2py_applications": [{"name": "shop"}]},
            a={"web2py_redirect_to_https": "true"},
            b={"web2py_frontend": "lighttpd_fcgi", "web2py_server_names": ["192.0.2.1"]},
            c={
                "web2py_frontend": "apache_proxy",
                "apache_proxy_instance": "shop",
                "web2py_daemon_instances": [{**PUBLIC, "name": "shop"}],
            },
        )
        checks = [found[name]["check"] for name in "abc"]
        assert [check["units"] for check in checks] == [
            ["apache2.service"],
            ["web2py-fcgi.service"],
            ["web2py@shop.service"],
        ]
        assert [check["port"] for check in checks] == [443, 80, 80]
        assert checks[1]["host"] == "192.0.2.1" and checks[0]["paths"] == ["/healthz", "/shop/default/index"]
        assert [found[name]["validated_roles"][-1] for name in "abc"] == [
            "apache_wsgi",
            "lighttpd_fcgi",
            "apache_proxy",
        ]
        assert [found[name]["reloaded_roles"] for name in "abc"] == [
            ["web2py"],
            ["web2py", "lighttpd_fcgi"],
            ["web2py", "web2py_daemon"],
        ]

    def test_a_fourth_front_end_is_one_entry(self, reader, monkeypatch):
        entry = frontends.FrontEnd(marker="/etc/h2o/web2py/h2o.conf", unit="h2o.service", reload=True)
        monkeypatch.setitem(frontends.FRONT_ENDS, "h2o", entry)
        site = reader({"web": ["www"], "storage": ["nas"]}, {"web2py_frontend": "h2o"}).site
        found = web.tier(site, site.hosts["www"])
        assert found["check"]["units"] == ["h2o.service"] == found["nfs_shared_mounts"][0]["before_units"][:1]
        assert found["validated_roles"] == ["tls_certificate", "h2o"]
        assert found["reloaded_roles"] == ["web2py", "h2o"]

    def test_the_daemon_runs_where_it_has_something_to_run(self, inputs, problems):
        found = inputs({"web": ["www"]}, {"web2py_daemon_scheduler_workers": [{"application": "shop"}]})["www"]
        assert found["deployed_roles"] == ["web2py", "tls_certificate", "web2py_daemon"]
        # A misspelled variable is found although nothing is to run.
        found = inputs({"web": ["www"]}, {"web2py_daemon_instances": []})["www"]
        assert (found["validated_roles"][0], found["daemon"]) == ("web2py_daemon", False)
        (problem,) = problems({"web": ["www"]}, {"web2py_daemon_instancs": []})
        assert "did you mean web2py_daemon_instances" in problem


@pytest.mark.parametrize(
    ("application", "tiers", "words"),
    [
        ({}, {}, ["'shop'", "sessions", "2 web hosts", "web2py_storage"]),
        ({"sessions": "cookie", "uploads": "files"}, {}, ["uploads", "database"]),
        ({"cache": "disk"}, {"storage": ["nas"]}, ["disk", "memcached"]),
        ({}, {"storage": ["nas", "nas2"]}, ["web2py_storage", "nas, nas2", "one host"]),
        ({}, {"storage": ["www1"], "balancer": []}, ["web2py_storage", "www1"]),
        ({"sessions": "database"}, {"database": ["db", "db2"]}, ["web2py_database", "db, db2", "one host"]),
        ({"sessions": "database"}, {"database": ["www1", "www2"]}, ["web2py_database", "www1, www2"]),
        ({}, {"database": ["www1", "db"], "balancer": []}, ["web2py_database", "www1, db"]),
    ],
)
def test_what_hosts_cannot_share_is_refused(problems, application, tiers, words):
    tiers = {"web": ["www1", "www2"], "balancer": ["lb"], "database": ["db"], **tiers}
    (problem,) = problems(tiers, {"web2py_applications": [{"name": "shop", **application}]})
    assert [word for word in words if word not in problem] == []


def test_files_on_the_storage_server_belong_to_numbers(problems):
    found = problems({"web": ["www1", "www2"], "storage": ["nas"]}, {"web2py_uid": "{{ 'nine' }}"})
    assert found == ["nas: web2py_uid is 'nine'; it must be a whole number."]


@pytest.mark.parametrize(
    ("application", "tiers"),
    [
        ({}, {"web": ["www1"]}),
        ({}, {"balancer": []}),
        ({}, {"storage": ["nas"]}),
        ({"cache": "disk"}, {"web": ["www1"], "storage": ["www1"]}),
        ({"sessions": "database"}, {}),
        ({}, {"database": ["www1", "www2"], "balancer": []}),
        ({"sessions": "database"}, {"database": ["www2"]}),
        ({"exposed": False}, {}),
        ({"state": "absent", "cache": "disk"}, {"storage": ["nas"]}),
    ],
)
def test_what_hosts_can_share_is_allowed(problems, application, tiers):
    tiers = {"web": ["www1", "www2"], "balancer": ["lb"], "database": ["db"], **tiers}
    assert problems(tiers, {"web2py_applications": [{"name": "shop", **application}]}) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [({}, "did not answer, or --limit leaves it out"), ({"default_ipv4": {}}, "has no default route")],
)
def test_a_host_without_an_address_is_named_once(problems, facts, words):
    (problem,) = problems(www2={"ansible_facts": facts})
    assert "ost 'www2'" in problem and words in problem and "web2py_client_addresses" in problem


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"web2py_frontend": "nginx"}, "web2py_frontend is 'nginx'; it must be "),
        ({"web2py_http_port": "many"}, "web2py_http_port is 'many'; it must be a whole number."),
        ({"web2py_health_path": "{{ nowhere }}"}, "web2py_health_path cannot be read: 'nowhere' is undef"),
    ],
)
def test_a_value_that_means_nothing_is_named(problems, variables, problem):
    assert any(problem in found for found in problems(None, variables)), problems(None, variables)


def test_a_mistake_in_any_tier_is_found_with_those_of_the_others(problems):
    found = problems(
        www1={"apache_wsgi_tasks_max": 1},
        db={"postgresql_port": 0},
        nas={"nfs_shared_threads": "0"},
        lb={"haproxy_retries": 11, "haproxy_servrs": []},
        mem={"memcached_port": 70000},
    )
    wanted = ["db: postgresql_port is 0", "mem: memcached_port is 70000", "nas: nfs_shared_threads is 0"]
    wanted += ["www1: apache_wsgi_tasks_max is 1", "lb: haproxy_retries is 11", "lb: haproxy_servrs: role"]
    assert [text for text in wanted if not any(problem.startswith(text) for problem in found)] == [], found
    assert len(found) == len(wanted)


def test_a_tier_alone_needs_nothing_that_only_others_need(reader):
    """As with --limit: one web host and the balancer, of which the web tier has to know the address."""
    found = reader(www2={"ansible_facts": {}})
    assert found.inputs(["www1", "lb"], ["web"])[1] == []
    assert "'www2'" in found.inputs(["www1", "lb"])[1][0]


def test_two_applications_with_one_database_are_told_as_such(problems):
    applications = [{"name": "welcome", "database": {"name": "admin"}}, {"name": "admin", "database": {}}]
    (problem,) = problems({"web": ["www"], "database": ["db"]}, {"web2py_applications": applications})
    assert "('admin') and application 'welcome' have the same database, 'admin'." in problem
