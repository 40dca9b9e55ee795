# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role web2py mean, and what is wrong in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.frontends import FRONT_ENDS
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import (
    Host,
    either,
    entry,
    ip_address,
    is_present,
    memory_problems,
    out_of_range,
    password_problems,
    port_problems,
    proxy_problems,
    repeated_names,
    wrong,
)
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import postgresql
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.applications import exposed
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.frontend import public_names, public_ports
from ansible_collections.web2py.deployment.plugins.plugin_utils.site.storage import shared_folders

ETC = "/etc/web2py"
# gluon.rewrite routes no other application names ([a-zA-Z0-9_]); a dash gives 400 on every dynamic URL.
NAME = re.compile(r"[A-Za-z0-9_]+")
BUNDLED = ("admin", "examples", "welcome")
# Code stays read-only, and static files stay readable for the web server.
NEVER_WRITABLE = ("models", "views", "controllers", "modules", "compiled", "static")
# One reading in every server: no %, no backslash, no space, and no fragment, which is not sent.
CHECK_PATH = re.compile(r"/[!$&-;=?-Z_a-z~]*")
HEALTH_PATH = re.compile(r"/[A-Za-z0-9._~/-]+")
HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
SOCKET = re.compile(r"/.+/\.s\.PGSQL\.\d+")
RANGES = {
    "releases_to_keep": (1, 1000),
    "source_max_files": (1, 10**9),
    "source_max_bytes": (1, 10**15),
    "source_max_ratio": (1, 10**6),
    "job_tasks_max": (1, 10000),
    "job_timeout": (1, 604800),
}


# What other tiers follow from.
DECLARATION = ("applications", "database_server", "database_ca_file", "cache_servers", "server_names")


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    applications = values["applications"]
    names = exposed(applications)
    # The first that is exposed, never admin.
    first = next((name for name in names if name != "admin"), "")
    default = values.get("default_application", first)
    settings = [item["name"] for item in data.with_data(applications)]
    databases = [item["name"] for item in data.with_data(applications) if data.has_database(item)]
    tickets = data.tickets_applications(applications)
    server = values["database_server"]
    uses_database = databases or (tickets and server)
    uses_cache = any(item.get("cache") == "memcached" for item in applications if is_present(item))
    seen = found_on_host(values, host.found or {})
    derived = {
        **seen,
        "default_application": default,
        "applications": [
            {
                **item,
                "writable": list(dict.fromkeys([*item["writable"], *(["private"] if item["name"] == "admin" else [])])),
                "has_settings": item["name"] in settings,
                "shows_tickets": item["name"] in [*tickets, *(["admin"] if tickets else [])],
                "shared": shared_folders(item) if values["storage_server"] else [],
                "expires": is_present(item) and values["session_lifetime"] > 0,
            }
            for item in applications
        ],
        "settings": settings,
        "former_settings": [name for name in seen["found_settings"] if name not in settings],
        "databases": databases,
        "drivers": [
            *(["python3-psycopg2"] if uses_database else []),
            *(["python3-pymemcache"] if uses_cache else []),
        ],
        "secrets": data.data_secrets(applications),
        "installs_ca": bool(values["database_ca_file"]) and (server.get("tls") or {}).get("ca_file") == data.CA_FILE,
        "collects_tickets": bool(tickets),
        "tickets_in_file": bool(tickets) and not server,
        "runtime": {
            "root": "/var/lib/web2py",
            "framework": "/opt/web2py/current",
            "trusted_proxies": values["trusted_proxies"],
            "health_path": values["health_path"],
            "names": public_names(values),
            "ports": public_ports(values),
        },
        "absent_passwords": [item["port"] for item in values["admin_passwords"] if not is_present(item)],
    }
    web_hosts = host.groups.get("web2py_web", [])
    return derived, [
        *declaration_problems(values, web_hosts),
        *value_problems(values),
        *(
            []
            if default in ["", *names]
            else [wrong("web2py_default_application", default, either(names or ["empty: no application is exposed"]))]
        ),
        *(
            []
            if values["migrate_host"] in (web_hosts or [host.name])
            else [wrong("web2py_migrate_host", values["migrate_host"], f"one of {', '.join(web_hosts or [host.name])}")]
        ),
        *host_problems(values, host, seen),
    ]


def declaration_problems(values: Mapping[str, Any], web_hosts: Sequence[str]) -> list[str]:
    """What is wrong in the variables that DECLARATION names."""
    return [
        *host_name_problems(values["server_names"]),
        *application_problems(values["applications"]),
        *data_problems(values, web_hosts),
    ]


def found_on_host(values: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run has left there, by the files that tasks/look.yml finds."""
    files = found.get("files", [])
    paths = [file["path"] for file in files]
    former = [
        name
        for name, front_end in sorted(FRONT_ENDS.items())
        if front_end.marker in paths and name != values["frontend"]
    ]
    # The folder of logs: what web2py's user has belongs to the same numbers.
    log = next(
        (
            file
            for file in files
            if file["path"] == "/var/log/web2py"
            and (file["pw_name"], file["gr_name"]) == (values["user"], values["group"])
        ),
        None,
    )
    return {
        "former_frontends": former,
        "frontend_steps": frontend_steps(values["frontend"], former),
        "second_frontend": wrong(
            "web2py_frontend",
            values["frontend"],
            f"{' and '.join(former)}, which this host has: one front end on a host",
            "playbooks/site.yml replaces one by another. To do it by hand, include the role "
            f"{former[0]} with tasks_from: remove",
        )
        if former
        else "",
        "former_daemon": "/etc/systemd/system/web2py@.service" in paths,
        # Whether folders of applications are, or were, mounted.
        "former_mounts": any(path.endswith(".mount") for path in paths),
        "former_tickets": "/etc/systemd/system/web2py-tickets.timer" in paths,
        "found_settings": [
            path.removeprefix(f"{ETC}/applications/").removesuffix(".json")
            for path in paths
            if path.startswith(f"{ETC}/applications/")
        ],
        "found_numbers": [log["uid"], log["gid"]] if log else [],
    }


def frontend_steps(chosen: str, former: Sequence[str]) -> list[dict[str, str]]:
    """The roles that put the front end in the place of others, with their entry points."""
    # Where the new one cannot be installed, the former one goes on.
    steps = [(chosen, "install"), *((name, "remove") for name in former)] if former else []
    return [{"role": role, "tasks_from": tasks} for role, tasks in [*steps, (chosen, "deploy")]]


def host_problems(values: Mapping[str, Any], host: Host, seen: Mapping[str, Any]) -> Iterator[str]:
    """What does not go with what is there already."""
    found = host.found or {}
    if numbers := seen["found_numbers"]:
        wanted = [values.get("uid", numbers[0]), values.get("gid", numbers[1])]
        if wanted != numbers:
            yield (
                f"web2py_uid and web2py_gid are {wanted[0]} and {wanted[1]}; they must be {numbers[0]} and "
                f"{numbers[1]}, to which what user {values['user']} has on {host.name} belongs. Set these numbers on "
                'all hosts of a cluster: "What is in files" in docs/cluster.md.'
            )
    # In a play that lists the front end's role, that role would say so only after this one has changed the host.
    if seen["second_frontend"] and values["frontend"] in found.get("play_roles", []):
        yield seen["second_frontend"]
    schedule = found.get("schedule", {})
    if data.tickets_applications(values["applications"]) and schedule.get("rc", 0) != 0:
        said = schedule.get("stderr") or schedule.get("msg", "")
        yield wrong(
            "web2py_tickets_schedule",
            values["tickets_schedule"],
            "an OnCalendar of systemd.time(7) such as *:0/5",
            f"systemd says: {said.strip().rstrip('.')}",
        )


def value_problems(values: Mapping[str, Any]) -> Iterator[str]:
    for name, (lowest, highest) in RANGES.items():
        yield from out_of_range(f"web2py_{name}", values[name], lowest, highest)
    yield from memory_problems("web2py_job_memory_max", values["job_memory_max"])
    path = values["health_path"]
    if not HEALTH_PATH.fullmatch(path) or ".." in path:
        yield wrong("web2py_health_path", path, "a URL path such as /healthz")
    if values["frontend"] not in FRONT_ENDS:
        yield wrong("web2py_frontend", values["frontend"], either(sorted(FRONT_ENDS)))
    yield from proxy_problems("web2py_trusted_proxies", values["trusted_proxies"])
    yield from header_problems(values["headers"])
    for prefix in ("", "public_"):
        ports = (f"{prefix}{scheme}_port" for scheme in ("http", "https"))
        yield from port_problems({f"web2py_{name}": values[name] for name in ports})
    seen = set()
    for number, item in enumerate(values["admin_passwords"]):
        where, port = f"web2py_admin_passwords[{number}] (port {item['port']})", item["port"]
        yield from out_of_range(f"web2py_admin_passwords[{number}]: port", port, 1, 65535)
        if port in seen:
            yield f"{where}: this port is listed twice; each port must be there once."
        seen.add(port)
        if is_present(item):
            yield from password_problems(where, item)


def header_problems(headers: Mapping[str, Any]) -> Iterator[str]:
    """Response headers that no web server could send."""
    for name, value in headers.items():
        if not re.fullmatch("[A-Za-z0-9_-]+", name):
            yield f"web2py_headers has the name {name!r}; it must be of letters, digits, dashes and underscores."
        elif isinstance(value, Mapping | list) or value is None or not re.fullmatch("[ -~]+", str(value)):
            yield wrong(f"web2py_headers: {name}", value, "a text of printable ASCII characters")


def host_name_problems(names: Sequence[str]) -> Iterator[str]:
    """Entries that are neither a DNS name nor an IP address."""
    if not names:
        yield "web2py_server_names is empty; it must have at least one DNS name or IP address."
    elif ":" in names[0] and ip_address(names[0]):
        yield wrong("web2py_server_names[0]", names[0], "a DNS name or an IPv4 address, as the canonical name")
    for number, name in enumerate(names):
        labels = all(HOST_LABEL.fullmatch(label) for label in name.split("."))
        if not (labels and len(name) < 254) and not ip_address(name):
            yield wrong(f"web2py_server_names[{number}]", name, "a DNS name without a port, or an IP address")


def application_problems(applications: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from repeated_names("web2py_applications", applications)
    for number, item in enumerate(applications):
        where, name = entry("web2py_applications", number, item), item["name"]
        if problems := list(path_problems(f"{where}: ", name, item["writable"])):
            yield from problems
            continue
        path = item.get("check_path")
        if path is not None and (not CHECK_PATH.fullmatch(path) or ".." in path):
            yield wrong(
                f"{where}: check_path",
                path,
                f"a URL path such as /{name}/default/index, which begins with a slash and has no %, \\, .. and spaces",
            )
        if is_present(item) and not item.get("source") and name not in BUNDLED:
            yield wrong(
                f"{where}: source",
                item.get("source") or None,
                "{path: …}, {url: …, checksum: …} or {git: …, version: …}",
                f"Only {', '.join(BUNDLED)} come with web2py",
            )


def path_problems(where: str, name: Any, writable: Sequence[Any]) -> Iterator[str]:
    """What is wrong with what becomes part of a path, on the controller and on the host."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield wrong(f"{where}name", name, "of letters, digits and underscores only; web2py routes no other names")
    for folder in writable:
        if not isinstance(folder, str) or not NAME.fullmatch(folder) or folder in NEVER_WRITABLE:
            allowed = f"the name of a folder directly in the application, but not {either(NEVER_WRITABLE)}"
            yield wrong(f"{where}writable", folder, allowed)


def data_problems(values: Mapping[str, Any], web_hosts: Sequence[str]) -> Iterator[str]:
    """What is wrong in where applications keep their data."""
    server, applications = values["database_server"], values["applications"]
    tickets = data.tickets_applications(applications)
    if server:
        yield from server_problems(server)
    elif len(web_hosts) > 1 and tickets:
        # Each host would have an SQLite file of its own, and every page and report the tickets of one host.
        yield (
            f"web2py_applications ({tickets[0]!r}): tickets is 'database' on {len(web_hosts)} web hosts "
            f"({', '.join(web_hosts)}), but there is no database server for them to share. Put a host into the group "
            "web2py_database or set web2py_database_server, or have tickets: files."
        )
    owners: dict[tuple[str, str], str] = {}
    for number, item in enumerate(applications):
        if is_present(item):
            where = entry("web2py_applications", number, item)
            yield from storage_problems(where, item, values)
            if data.has_database(item):
                yield from database_problems(where, item, values, owners)


def storage_problems(where: str, item: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[str]:
    for key in ("sessions", "uploads"):
        if item.get(key) == "database" and not data.has_database(item):
            yield f"{where}: {key} is 'database', but the application has none. Add database: {{}} to it."
    if item.get("cache") == "memcached" and not values["cache_servers"]:
        yield (
            f"{where}: cache is 'memcached', but there is no cache server. Put a host into the group web2py_cache or "
            "set web2py_cache_servers."
        )


def database_problems(
    where: str, item: Mapping[str, Any], values: Mapping[str, Any], owners: dict[tuple[str, str], str]
) -> Iterator[str]:
    """What is wrong with the database of an application; owners has what the applications before it have."""
    server, database = values["database_server"], item["database"]
    if not server:
        yield (
            f"{where} has a database, but there is no database server. Put a host into the group web2py_database or "
            "set web2py_database_server."
        )
    if (server.get("tls") or {}).get("ca_file") == data.CA_FILE and not values["database_ca_file"]:
        yield (
            f"web2py_database_ca_file is empty, but the database server of application {item['name']!r} is to be "
            "verified by it. Give the file on the controller (docs/data.md)."
        )
    for key, text in (("name", "database"), ("user", "database user")):
        found = database.get(key, item["name"])
        yield from filter(None, [postgresql.name_problem(f"{where}: {key} of its database", found)])
        if found == data.TICKETS[key]:
            yield f"{where}: the {text} {found!r} is that of tickets. Give it another name."
        if (key, found) in owners:
            yield f"{where} and application {owners[key, found]!r} have the same {text}, {found!r}. Give it another."
        owners[key, found] = item["name"]
    if "?" in database.get("name", ""):
        yield f"{where}: the name of its database has a question mark, which web2py cannot read. Give it another name."
    if "password" in database and not postgresql.password_allowed(database["password"]):
        yield f"{where}: the password of its database must be a text of 8 to 1024 characters."


def server_problems(server: Mapping[str, Any]) -> Iterator[str]:
    variable, host, socket = "web2py_database_server", server.get("host"), server.get("socket")
    if bool(host) == bool(socket):
        yield f"{variable} has {'both' if host else 'none'} of host and socket; it must have one of them."
    elif socket and not SOCKET.fullmatch(socket):
        yield wrong(f"{variable}: socket", socket, "the path of a socket, such as /var/run/postgresql/.s.PGSQL.5432")
    elif host and ":" in host and (server.get("tls") or {}).get("mode", "verify-full") == "verify-full":
        # pydal gives it to the driver in brackets, with which no certificate agrees.
        yield wrong(
            f"{variable}: host",
            host,
            "a DNS name, because verify-full cannot verify an IPv6 address here",
            "Or set tls: {mode: verify-ca, ca_file: …}",
        )
