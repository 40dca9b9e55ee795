# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role postgresql mean, and what is wrong in them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import networks
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import (
    Host,
    entry,
    is_present,
    memory_problems,
    out_of_range,
    repeated_names,
    wrong,
)

# Bytes of a name (NAMEDATALEN - 1); PostgreSQL cuts off what is longer.
NAME_LENGTH = 63
HBA_KEYWORDS = {
    "databases": ("all", "sameuser", "samerole", "replication"),
    "users": ("all",),
    "address": ("all", "samehost", "samenet"),
}
HOST_NAME = re.compile(r"\.?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
EXTENSION_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(\.[A-Za-z_][A-Za-z0-9_$]*)?")
# Variables of the role of their own.
RESERVED_SETTINGS = {
    "listen_addresses": "postgresql_listen_addresses",
    "port": "postgresql_port",
    "max_connections": "postgresql_max_connections",
    "password_encryption": "nothing; passwords are SCRAM-SHA-256",
    "ssl": "postgresql_tls",
    "ssl_cert_file": "postgresql_tls",
    "ssl_key_file": "postgresql_tls",
    "hba_file": "postgresql_hba",
}
# The last one is the role that postgresql-restore loads dumps as.
SYSTEM_NAMES = ("postgres", "template0", "template1", "ansible_restore")
VERSIONS = {"bookworm": 15, "trixie": 17}
# A superuser's session in a database takes nothing from its owner, who may change the settings of every session there;
# those of the client win.
SESSION = {
    "role": "none",
    "search_path": "pg_catalog,pg_temp",
    "local_preload_libraries": "",
    "row_security": "off",
    "standard_conforming_strings": "on",
    "client_encoding": "UTF8",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": r"read\ committed",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    problems = [
        *user_problems(values["users"]),
        *database_problems(values["databases"], values["users"]),
        *hba_problems(values["hba"], has_tls=bool(values["tls"])),
        *setting_problems(values["settings"]),
        *server_problems(values, host.fact("memtotal_mb")),
    ]
    if problems:
        return {}, problems
    users, databases = values["users"], [item for item in values["databases"] if is_present(item)]
    settings = [{"name": item["name"], "number": n} for n, item in enumerate(values["settings"]) if is_present(item)]
    secret_options = [name for item in values["hba"] for name in item["options"] if is_secret_name(name)]
    return {
        **installation(VERSIONS.get(host.fact("distribution_release"), 0)),
        # Passwords are read from the variable by the number, where they are needed.
        "users": [
            {
                "name": user["name"],
                "number": number,
                "has_password": "password" in user,
                "connection_limit": user.get("connection_limit", values["connection_limit"]),
            }
            for number, user in enumerate(users)
            if is_present(user)
        ],
        "absent_users": [user["name"] for user in users if not is_present(user)],
        "databases": databases,
        "absent_databases": [item["name"] for item in values["databases"] if not is_present(item)],
        "extensions": [{"database": item["name"], "name": name} for item in databases for name in item["extensions"]],
        "setting_lines": [setting_line(*setting) for setting in server_settings(values).items()],
        "memory_lines": [
            setting_line(*setting)
            for setting in sorted(memory_settings(values["memory"], values["max_connections"]).items())
        ],
        "settings": settings,
        "hba_lines": [hba_line(item) for item in values["hba"]],
        "shows_settings": not any(is_secret_name(item["name"]) for item in settings),
        "shows_hba": not secret_options,
    }, []


def installation(version: int) -> dict[str, str]:
    """Where Debian puts a version of PostgreSQL, and with which options a superuser connects to it."""
    session = {**SESSION, **({"transaction_timeout": "0"} if version >= VERSIONS["trixie"] else {})}
    return {
        "unit": f"postgresql@{version}-main.service",
        "etc": f"/etc/postgresql/{version}/main",
        "data": f"/var/lib/postgresql/{version}/main",
        "binaries": f"/usr/lib/postgresql/{version}/bin",
        "session": " ".join(f"-c {name}={value}" for name, value in session.items()),
    }


def server_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    tls = values["tls"]
    return {
        "listen_addresses": ",".join(values["listen_addresses"]),
        "port": values["port"],
        "max_connections": values["max_connections"],
        "password_encryption": "scram-sha-256",
        "ssl": "on" if tls else "off",
        **(
            {
                "ssl_cert_file": tls["certificate_file"],
                "ssl_key_file": tls["key_file"],
                "ssl_min_protocol_version": "TLSv1.2",
            }
            if tls
            else {}
        ),
    }


def memory_settings(memory: int, connections: int) -> dict[str, str]:
    """Settings for a server that may use so much memory (MiB), by the rules of PostgreSQL's manual and wiki.

    A quarter for shared buffers, three quarters as what the planner may expect to be cached, and work memory such that
    all connections at once, each with one sort, use a quarter.
    """
    return {
        "shared_buffers": f"{max(memory // 4, 32)}MB",
        "effective_cache_size": f"{memory * 3 // 4}MB",
        "maintenance_work_mem": f"{min(max(memory // 16, 16), 1024)}MB",
        "work_mem": f"{max(memory * 1024 // 4 // connections, 1024)}kB",
    }


def setting_line(name: str, value: Any) -> str:
    """One line of postgresql.conf."""
    text = str(value).replace("\\", "\\\\").replace("'", "''")
    return f"{name} = '{text}'"


def is_secret_name(name: str) -> bool:
    """Whether a setting or an option of pg_hba.conf holds a secret: primary_conninfo, ldapbindpasswd and their like."""
    return re.search("conninfo|pass|secret", name, re.IGNORECASE) is not None


def _hba_name(key: str, name: str) -> str:
    # In quotes, a keyword or a sign at the beginning would lose its meaning.
    if name in HBA_KEYWORDS[key]:
        return name
    sign, name = ("+", name[1:]) if name.startswith("+") and key == "users" else ("", name)
    return sign + (name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name != "samegroup" else f'"{name}"')


def hba_line(item: Mapping[str, Any]) -> str:
    """One entry of `postgresql_hba` as a line of pg_hba.conf, without its options: they may hold secrets."""
    fields = [item["type"]]
    fields += [",".join(_hba_name(key, name) for name in item[key]) for key in ("databases", "users")]
    if address := item.get("address"):
        # Not for a host name or a keyword.
        with contextlib.suppress(ValueError):
            address = str(networks.network(address))
        fields.append(address)
    return " ".join([*fields, item["method"]])


def name_problem(variable: str, name: Any) -> str | None:
    """What is wrong with the name of a database or user."""
    allowed = None
    if not isinstance(name, str) or not name:
        allowed = "a text that is not empty"
    elif len(name.encode()) > NAME_LENGTH:
        allowed = f"at most {NAME_LENGTH} bytes in UTF-8"
    elif set(name) & set('"\\%') or not name.isprintable():
        # Statements are formatted with the name in them, here and in community.postgresql.
        allowed = "letters, digits, spaces and signs, but no double quote, backslash, percent sign or control character"
    elif name in SYSTEM_NAMES or name in {*HBA_KEYWORDS["databases"], "public", "none"} or name.startswith("pg_"):
        allowed = "a name that means nothing to PostgreSQL itself"
    elif name[0] in "+@/":
        allowed = "a name that does not begin with +, @ or /, which pg_hba.conf reads in a way of its own"
    return allowed and wrong(variable, name, allowed)


def list_problems(variable: str, items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from repeated_names(variable, items)
    for number, item in enumerate(items):
        if problem := name_problem(f"{variable}[{number}]: name", item["name"]):
            yield problem


def user_problems(users: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong in `postgresql_users`; no message repeats a password."""
    yield from list_problems("postgresql_users", users)
    for number, user in enumerate(users):
        where = entry("postgresql_users", number, user)
        if is_present(user):
            if "password" in user and not password_allowed(user["password"]):
                yield f"{where}: password is not shown; it must have 8 to 1024 characters and no NUL."
            yield from limit_problems(f"{where}: connection_limit", user.get("connection_limit", -1))


def password_allowed(password: Any) -> bool:
    return isinstance(password, str) and 8 <= len(password) <= 1024 and "\0" not in password


def limit_problems(variable: str, limit: int) -> Iterator[str]:
    if limit != -1 and not 1 <= limit < 10**9:
        yield wrong(variable, limit, "a number from 1, or -1 for none")


def database_problems(databases: Sequence[Mapping[str, Any]], users: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from list_problems("postgresql_databases", databases)
    known = [user["name"] for user in users if is_present(user)]
    for number, item in enumerate(databases):
        where = entry("postgresql_databases", number, item)
        if is_present(item) and item.get("owner") not in known:
            yield wrong(f"{where}: owner", item.get("owner"), "a name in postgresql_users")
        for extension in item["extensions"]:
            if not EXTENSION_NAME.fullmatch(extension):
                allowed = "the name of an extension, of letters, digits, underscores and dashes"
                yield wrong(f"{where}: extensions", extension, allowed)


def hba_problems(rules: Sequence[Mapping[str, Any]], *, has_tls: bool) -> Iterator[str]:
    """What is wrong in `postgresql_hba`, by the number of the entry."""
    for number, rule in enumerate(rules):
        where = f"postgresql_hba[{number}]"
        kind, method, address = rule["type"], rule["method"], rule.get("address")
        if kind == "local" and address is not None:
            yield wrong(f"{where}: address", address, "left out with type local")
        elif kind != "local" and (problem := address_problem(f"{where}: address", address)):
            yield problem
        for only_method, only_type in (("peer", "local"), ("cert", "hostssl")):
            if method == only_method and kind != only_type:
                yield wrong(f"{where}: type", kind, f"{only_type} with method {only_method}")
        if kind == "hostssl" and not has_tls:
            yield wrong(f"{where}: type", kind, "another type while postgresql_tls is empty")
        for key in ("databases", "users"):
            if not rule[key]:
                yield f"{where}: {key} is empty; it must have at least one name, or 'all'."
            for name in rule[key]:
                # A slash is read as the begin of an expression even in quotes, from PostgreSQL 16 on.
                if not name or '"' in name or not name.isprintable() or name.startswith("/"):
                    yield wrong(f"{where}: {key}", name, "names without a double quote, and no regular expressions")
        for name, value in rule["options"].items():
            if not re.fullmatch(r"[a-z_]+", name) or '"' in str(value) or not str(value).isprintable():
                yield f"{where}: option {name!r} has a value with a double quote or a control character."


def address_problem(variable: str, address: str | None) -> str | None:
    if address is None:
        return wrong(variable, address, "given unless type is local")
    if address in HBA_KEYWORDS["address"] or (HOST_NAME.fullmatch(address) and not re.fullmatch(r"[\d.]+", address)):
        return None
    problem = networks.network_error(address)
    return problem and f"{variable} {problem} Host names and all, samehost and samenet are allowed as well."


def setting_problems(settings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong in `postgresql_settings` and can be seen without the server; no message repeats a value."""
    yield from repeated_names("postgresql_settings", [{"name": item["name"].lower()} for item in settings])
    for number, item in enumerate(settings):
        where, name, value = entry("postgresql_settings", number, item), item["name"], item.get("value")
        if not SETTING_NAME.fullmatch(name):
            yield wrong(f"{where}: name", name, "the name of a setting of PostgreSQL")
        elif name.lower() in RESERVED_SETTINGS:
            yield wrong(f"{where}: name", name, "another setting", f"Use {RESERVED_SETTINGS[name.lower()]} for it")
        elif is_present(item) and (value is None or isinstance(value, Mapping | list) or not str(value).isprintable()):
            yield f"{where}: value is not shown; it must be a text or a number."


def server_problems(values: Mapping[str, Any], machine_memory: int) -> Iterator[str]:
    for name, lowest, highest, why in (
        ("port", 1, 65535, ""),
        ("memory", 128, machine_memory, " (MiB, all of this machine)"),
        ("max_connections", 10, 10000, ""),
        ("backup_keep_days", 1, 36500, ""),
        ("backup_timeout", 60, 604800, " (seconds)"),
    ):
        yield from out_of_range(f"postgresql_{name}", values[name], lowest, highest, why)
    yield from limit_problems("postgresql_connection_limit", values["connection_limit"])
    if values["tls"] and not (values["tls"].get("certificate_file") and values["tls"].get("key_file")):
        yield "postgresql_tls has one file; it must have both certificate_file and key_file."
    yield from memory_problems("postgresql_backup_memory_max", values["backup_memory_max"])
    if not re.fullmatch("/[A-Za-z0-9._/-]+", values["backup_directory"]):
        allowed = "an absolute path of letters, digits, dots, dashes and underscores"
        yield wrong("postgresql_backup_directory", values["backup_directory"], allowed)
