# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What follows from the site for the database server: the variables of the role postgresql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import is_present
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.data import (
    TICKETS,
    data_secrets,
    database_of,
    has_database,
    tickets_applications,
    tickets_database,
    with_data,
)
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.inventory import InventoryHost, Site
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.web import processes

# PostgreSQL keeps three for superusers; then the backup and persons at psql.
NOT_OF_WEB_HOSTS = 10
# On each web host a migration, and sessions that are deleted or tickets that are collected.
JOBS = 2
# At a reload, processes that finish their last requests stand beside those that begin.
GENERATIONS = 2


def tier(site: Site, host: InventoryHost) -> dict[str, Any]:
    declared = site.declared_at(host)
    applications = declared.values["web2py_applications"]
    needed = user_connections(site.web_hosts)
    limit = GENERATIONS * needed if site.web_hosts else None
    secrets = data_secrets(applications)
    clients = site.clients_of("database")
    rules = hba(applications, clients)
    return {
        # For validation only: users and rules may hold secrets, and the play puts them together when it needs them.
        "postgresql_users": [
            *users(applications, dict.fromkeys(secrets, "made when needed"), limit),
            *host.own.get("postgresql_users", []),
        ],
        "postgresql_databases": [*host.values["postgresql_databases"], *databases(applications)],
        "postgresql_hba": [*host.own.get("postgresql_hba", []), *rules],
        "database_rules": rules,
        "postgresql_listen_addresses": host.own.get("postgresql_listen_addresses", ["*"] if clients else ["localhost"]),
        "postgresql_max_connections": host.own.get("postgresql_max_connections", connections(applications, needed)),
        "postgresql_tls": host.own.get("postgresql_tls", host.certificate("database") if clients else {}),
        # An application that takes more leaves the others theirs.
        "connection_limit": limit,
        "declared_at": declared.name,
        "secrets": secrets,
        "secrets_directory": declared.values["web2py_secrets_directory"],
    }


def users(applications: Any, secrets: Mapping[str, str], connection_limit: int | None = None) -> list[dict[str, Any]]:
    """One user for each application with a database, and one for tickets."""
    found = [database_of(item, secrets) for item in with_data(applications) if has_database(item)]
    if tickets_applications(applications):
        found.append(tickets_database(secrets))
    limit = {"connection_limit": connection_limit} if connection_limit else {}
    return [{"name": database["user"], "password": database["password"], **limit} for database in found]


def databases(applications: Any) -> list[dict[str, Any]]:
    """The database of each application, and the one of tickets."""
    found = [
        {"name": item["database"].get("name", item["name"]), "owner": item["database"].get("user", item["name"])}
        for item in with_data(applications)
        if has_database(item)
    ]
    if tickets_applications(applications):
        found.append({"name": TICKETS["name"], "owner": TICKETS["user"]})
    return found


def hba(applications: Any, clients: Sequence[str]) -> list[dict[str, Any]]:
    """Each user reaches his database, from the host itself and from these addresses."""
    rules: list[dict[str, Any]] = []
    for database in databases(applications):
        rule = {"databases": [database["name"]], "users": [database["owner"]], "method": "scram-sha-256"}
        rules.append({"type": "local", **rule})
        rules += [{"type": "hostssl", "address": client, **rule} for client in clients]
    return rules


def user_connections(web_hosts: Sequence[InventoryHost]) -> int:
    """How many connections one user needs when all web hosts work for its application.

    pydal gives each thread a connection while it works, and keeps no more of them in a process than it has threads.
    """
    needed = 1
    for host in web_hosts:
        needed += JOBS + sum(number * threads for number, threads in processes(host))
        # Each worker of the scheduler, and each task that it runs.
        needed += sum(
            2 * item["workers"] for item in host.values["web2py_daemon_scheduler_workers"] if is_present(item)
        )
    return needed


def connections(applications: Any, needed: int) -> int:
    """How many connections the database server has to take, when each user needs so many.

    So many that one user who has all that its limit allows leaves each of the others what it needs. PostgreSQL changes
    the number only by a restart: the result is 100, 200, 400 and so on.
    """
    number = len(databases(applications))
    wanted = NOT_OF_WEB_HOSTS + ((number - 1 + GENERATIONS) * needed if number else 0)
    found = 100
    while found < wanted:
        found *= 2
    return found
