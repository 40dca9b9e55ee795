# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where applications keep their data: from `web2py_applications` to what roles and applications take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible_collections.web2py.deployment.plugins.plugin_utils import networks
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import bracketed, is_present

# web2py_applications as the role's documentation declares it.
Applications = Sequence[Mapping[str, Any]]
# Where web2py_database_ca_file comes to lie on a web host.
CA_FILE = "/etc/web2py/database_ca.pem"
# Of libpq. A server that is gone without a word, by a power cut or a network that is down, is noticed in seconds: pydal
# tries its kept connections under a lock of all threads.
DEAD_PEER = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 2, "tcp_user_timeout": 3000}
# With any of these, an application gets the managed model.
KEYS = ("database", "sessions", "uploads", "cache", "tickets", "secure_cookies")
# Secrets of an application: name of the file and what needs it.
SECRETS = {
    "database_password": lambda item: has_database(item) and not item["database"].get("password"),
    "cookie_key": lambda item: item.get("sessions") == "cookie",
    "cache_key": lambda item: item.get("cache") == "memcached",
}

# All applications' tickets are in one database of their own. An application's name has no dash.
TICKETS = {"name": "web2py_tickets", "user": "web2py_tickets"}
TICKETS_SECRET = "web2py-tickets.database_password"  # noqa: S105 (the name of a file)
# Where no database server is.
TICKETS_SQLITE = "/var/lib/web2py/data/web2py-tickets/tickets.sqlite"


def has_database(item: Mapping[str, Any]) -> bool:
    # `database: {}` is one with all defaults.
    return item.get("database") is not None


def with_data(applications: Applications) -> list[Mapping[str, Any]]:
    """The applications that are to be there and say where they keep something; these get the managed model."""
    return [item for item in applications if is_present(item) and any(key in item for key in KEYS)]


def data_secrets(applications: Applications) -> list[str]:
    """Names of the secrets that these applications need beside those that are given."""
    names = [
        f"{item['name']}.{name}" for item in with_data(applications) for name, needed in SECRETS.items() if needed(item)
    ]
    return [*names, TICKETS_SECRET] if tickets_applications(applications) else names


def tickets_applications(applications: Applications) -> list[str]:
    """Names of the applications whose tickets go into the database."""
    return [item["name"] for item in with_data(applications) if item.get("tickets") == "database"]


def database_of(item: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Name, user and password of an application's database, with all defaults filled in."""
    given = item["database"]
    return {
        "name": given.get("name", item["name"]),
        "user": given.get("user", item["name"]),
        "password": given.get("password") or secrets[f"{item['name']}.database_password"],
        "pool_size": given.get("pool_size", 5),
    }


def dal_uri(database: Mapping[str, Any]) -> str:
    """The connection string of pydal; for `DAL(…, decode_credentials=True)`."""
    user, password = (quote(str(database[key]), safe="") for key in ("user", "password"))
    if database.get("socket"):
        return f"postgres://{user}:{password}@/{database['name']}?unix_socket={database['socket']}"
    host = bracketed(str(database["host"]))
    mode = (database.get("tls") or {}).get("mode", "verify-full")
    return f"postgres://{user}:{password}@{host}:{database.get('port', 5432)}/{database['name']}?sslmode={mode}"


def dal_driver_args(database: Mapping[str, Any]) -> dict[str, Any]:
    """What pydal does not read from its connection string: `DAL(…, driver_args=…)`."""
    arguments: dict[str, Any] = {"connect_timeout": 3}
    if database.get("socket"):
        # pydal takes no more than the folder of a socket from the URI.
        return arguments | {"port": socket_place(database)[1]}
    arguments |= DEAD_PEER
    tls = database.get("tls") or {}
    if tls.get("ca_file"):
        arguments["sslrootcert"] = tls["ca_file"]
    # pydal leaves the brackets of an IPv6 address on, which the driver takes for a name.
    with contextlib.suppress(ValueError):
        arguments["hostaddr"] = str(networks.address(database["host"]))
    return arguments


def tickets_database(secrets: Mapping[str, str]) -> dict[str, Any]:
    return {**TICKETS, "password": secrets[TICKETS_SECRET]}


def socket_place(database: Mapping[str, Any]) -> tuple[str, int]:
    """Folder and port of a Unix socket."""
    folder, port = str(database["socket"]).rsplit("/.s.PGSQL.", 1)
    return folder, int(port)


def libpq(database: Mapping[str, Any]) -> dict[str, Any]:
    """The same database as parameters of libpq."""
    parameters = {"dbname": database["name"], "user": database["user"], "password": database["password"]}
    if database.get("socket"):
        folder, port = socket_place(database)
        return {**parameters, "host": folder, "port": port}
    tls = database.get("tls") or {}
    parameters |= {**DEAD_PEER, "host": str(database["host"]), "port": int(database.get("port", 5432))}
    parameters["sslmode"] = tls.get("mode", "verify-full")
    return {**parameters, "sslrootcert": tls["ca_file"]} if tls.get("ca_file") else parameters


def tickets_settings(server: Mapping[str, Any], secrets: Mapping[str, str], duplicates: str) -> dict[str, Any]:
    """Where tickets go: for the collector as parameters of libpq, for admin as what pydal takes."""
    if not server:
        folder, file = os.path.split(TICKETS_SQLITE)
        found = {"database": {"sqlite": TICKETS_SQLITE}, "uri": f"sqlite://{file}", "folder": folder, "driver_args": {}}
    else:
        database = {**server, **tickets_database(secrets)}
        found = {"database": libpq(database), "uri": dal_uri(database), "driver_args": dal_driver_args(database)}
    return {**found, "duplicates": duplicates}


def application_settings(
    application: Mapping[str, Any],
    server: Mapping[str, Any],
    cache_servers: Sequence[str],
    secrets: Mapping[str, str],
    duplicates: str = "keep",
) -> dict[str, Any]:
    """The settings file of one application, which the runtime package reads."""
    name = application["name"]
    settings: dict[str, Any] = {"application": name}
    for key in ("sessions", "uploads", "cache", "secure_cookies", "session_classes"):
        if application.get(key) not in (None, {}):
            settings[key] = application[key]
    if has_database(application):
        database = {**server, **database_of(application, secrets)}
        settings["database"] = {
            "uri": dal_uri(database),
            "driver_args": dal_driver_args(database),
            "pool_size": database["pool_size"],
        }
    if application.get("sessions") == "cookie":
        settings["cookie_key"] = secrets[f"{name}.cookie_key"]
    if application.get("cache") == "memcached":
        settings["cache_servers"] = list(cache_servers)
        settings["cache_key"] = secrets[f"{name}.cache_key"]
    if application.get("tickets") == "database":
        settings["tickets"] = tickets_settings(server, secrets, duplicates)
    return settings
