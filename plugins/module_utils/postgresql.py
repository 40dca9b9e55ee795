# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks and texts of the role postgresql, without Ansible and without a server."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import stringprep
import unicodedata
from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.module_utils import networks
from ansible_collections.web2py.deployment.plugins.module_utils.items import entries, present

# Bytes of a name (NAMEDATALEN - 1); PostgreSQL cuts off what is longer.
NAME_LENGTH = 63
HBA_TYPES = ("local", "host", "hostssl", "hostnossl")
# Neither trust, nor what sends or stores passwords in a weak form.
HBA_METHODS = ("scram-sha-256", "peer", "cert", "reject", "gss", "ldap", "pam", "radius")
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
SCRAM_ITERATIONS = 4096  # PostgreSQL's own
# Tables of RFC 3454: what RFC 4013 prohibits, and what was unassigned.
FORBIDDEN_IN_PASSWORDS = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def name_error(variable: str, name: Any) -> str | None:
    """What is wrong with the name of a database or user."""
    wrong = None
    if not isinstance(name, str) or not name:
        wrong = "a text that is not empty"
    elif len(name.encode()) > NAME_LENGTH:
        wrong = f"at most {NAME_LENGTH} bytes in UTF-8"
    elif set(name) & set('"\\%') or not name.isprintable():
        # community.postgresql formats its statements with the name in them.
        wrong = "letters, digits, spaces and signs, but no double quote, backslash, percent sign or control character"
    elif name in SYSTEM_NAMES or name in {*HBA_KEYWORDS["databases"], "public", "none"} or name.startswith("pg_"):
        wrong = "a name that means nothing to PostgreSQL itself"
    elif name[0] in "+@/":
        wrong = "a name that does not begin with +, @ or /, which pg_hba.conf reads in a way of its own"
    return wrong and f"{variable}: found {name!r}, allowed is {wrong}"


def user_errors(users: Any) -> list[str]:
    """All that is wrong in `postgresql_users`; no message repeats a password."""
    errors, seen = [], set()
    for item in entries(users):
        name = item.get("name")
        if wrong := name_error("postgresql_users", name):
            errors.append(wrong)
        elif name in seen:
            errors.append(f"postgresql_users: {name!r} is listed twice; each name may be there once")
        elif present(item) and "password" in item and not password_allowed(item["password"]):
            errors.append(
                f"postgresql_users: the password of {name!r} must be a text of 8 to 1024 characters without NUL"
            )
        limit = item.get("connection_limit")
        if present(item) and limit is not None and not limit_allowed(limit):
            errors.append(
                f"postgresql_users: connection_limit of {name!r} is {limit!r}; "
                "it must be a number from 1, or -1 for none"
            )
        seen.add(name)
    return errors


def limit_allowed(limit: Any) -> bool:
    return str(limit) == "-1" or bool(re.fullmatch("[1-9][0-9]{0,8}", str(limit)))


def password_allowed(password: Any) -> bool:
    return isinstance(password, str) and 8 <= len(password) <= 1024 and "\0" not in password


def database_errors(databases: Any, users: Any) -> list[str]:
    """All that is wrong in `postgresql_databases`."""
    errors, seen = [], set()
    known = {item.get("name") for item in entries(users) if present(item)}
    for item in entries(databases):
        name = item.get("name")
        if wrong := name_error("postgresql_databases", name):
            errors.append(wrong)
        elif name in seen:
            errors.append(f"postgresql_databases: {name!r} is listed twice; each name may be there once")
        elif present(item) and item.get("owner") not in known:
            errors.append(
                f"postgresql_databases: the owner of {name!r} is {item.get('owner')!r}, "
                "allowed are the names in postgresql_users"
            )
        for extension in item.get("extensions") or []:
            if not EXTENSION_NAME.fullmatch(str(extension)):
                errors.append(
                    f"postgresql_databases: extensions of {name!r} has {extension!r}; "
                    "it must be the name of an extension, of letters, digits, underscores and dashes"
                )
        seen.add(name)
    return errors


def _address_error(address: Any) -> str | None:
    text = str(address)
    if address in HBA_KEYWORDS["address"]:
        return None
    if HOST_NAME.fullmatch(text) and not re.fullmatch(r"[\d.]+", text):
        return None
    wrong = networks.network_error(text)
    return wrong and f"address {wrong} Host names and all, samehost and samenet are allowed as well."


def hba_errors(entries_of_hba: Any) -> list[str]:
    """All that is wrong in `postgresql_hba`, by the number of the entry."""
    errors = []
    for number, item in enumerate(entries(entries_of_hba), 1):
        kind, method, address = (item.get(key) for key in ("type", "method", "address"))
        where = f"postgresql_hba, entry {number}"
        if kind not in HBA_TYPES:
            errors.append(f"{where}: type is {kind!r}, allowed are {', '.join(HBA_TYPES)}")
        if method not in HBA_METHODS:
            errors.append(f"{where}: method is {method!r}, allowed are {', '.join(HBA_METHODS)}")
        if kind == "local" and address is not None:
            errors.append(f"{where}: address is {address!r}, allowed is none with type local")
        elif kind in HBA_TYPES[1:] and address is None:
            errors.append(f"{where}: address is missing, type {kind} needs one")
        elif address is not None and (wrong := _address_error(address)):
            errors.append(f"{where}: {wrong}")
        if method == "peer" and kind != "local":
            errors.append(f"{where}: method is 'peer', allowed is that with type local only")
        if method == "cert" and kind != "hostssl":
            errors.append(f"{where}: method is 'cert', allowed is that with type hostssl only")
        for key in ("databases", "users"):
            names = item.get(key) or []
            if not isinstance(names, list | tuple):
                errors.append(f"{where}: {key} is {names!r}, allowed is a list of names")
                continue
            if not names:
                errors.append(f"{where}: {key} is empty, at least one name or 'all' is needed")
            for name in names:
                if not isinstance(name, str) or not name or '"' in name or not name.isprintable():
                    errors.append(f"{where}: {key} has {name!r}, allowed are names without a double quote")
                elif name.startswith("/"):
                    # Read as such even in quotes, from PostgreSQL 16 on.
                    errors.append(f"{where}: {key} has {name!r}, allowed are names, no regular expressions")
        for name, value in (item.get("options") or {}).items():
            if not re.fullmatch(r"[a-z_]+", str(name)) or '"' in str(value) or not str(value).isprintable():
                errors.append(f"{where}: option {name!r} has a value with a double quote or a control character")
    return errors


def _hba_name(key: str, name: str) -> str:
    # In quotes, a keyword or a sign at the beginning would lose its meaning.
    if name in HBA_KEYWORDS[key]:
        return name
    sign, name = ("+", name[1:]) if name.startswith("+") and key == "users" else ("", name)
    return sign + (name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name != "samegroup" else f'"{name}"')


def hba_line(item: Mapping[str, Any]) -> str:
    """One entry of `postgresql_hba` as a line of pg_hba.conf."""
    fields = [item["type"]]
    fields += [",".join(_hba_name(key, name) for name in item[key]) for key in ("databases", "users")]
    if item.get("address") is not None:
        address = str(item["address"])
        # Not for a host name or a keyword.
        with contextlib.suppress(ValueError):
            address = str(networks.network(address))
        fields.append(address)
    fields.append(item["method"])
    fields += [f'{name}="{value}"' for name, value in sorted((item.get("options") or {}).items())]
    return " ".join(fields)


def setting_errors(settings: Any) -> list[str]:
    """All that is wrong in `postgresql_settings` and can be seen without the server."""
    errors, seen = [], set()
    for item in entries(settings):
        name, value = item.get("name"), item.get("value")
        if not isinstance(name, str) or not SETTING_NAME.fullmatch(name):
            errors.append(f"postgresql_settings: found {name!r}, allowed is the name of a setting of PostgreSQL")
            continue
        if name.lower() in RESERVED_SETTINGS:
            errors.append(f"postgresql_settings: found {name!r}; use {RESERVED_SETTINGS[name.lower()]} for it")
        if name.lower() in seen:
            errors.append(f"postgresql_settings: {name!r} is listed twice; each name may be there once")
        if present(item) and (value is None or isinstance(value, Mapping | list) or not str(value).isprintable()):
            errors.append(f"postgresql_settings: the value of {name!r} is {value!r}, allowed are texts and numbers")
        seen.add(name.lower())
    return errors


def setting_line(name: str, value: Any) -> str:
    """One line of postgresql.conf."""
    text = ("on" if value else "off") if isinstance(value, bool) else str(value)
    return "{} = '{}'".format(name, text.replace("\\", "\\\\").replace("'", "''"))


def memory_errors(memory: Any, machine: Any, connections: Any) -> list[str]:
    """What is wrong with the memory (MiB) that the server may use, on a machine with so much (MiB)."""
    errors = []
    if not 128 <= memory <= machine:
        errors.append(f"postgresql_memory: found {memory}, allowed are 128 to {machine} (MiB, all of this machine)")
    if not 10 <= connections <= 10000:
        errors.append(f"postgresql_max_connections: found {connections}, allowed are 10 to 10000")
    return errors


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


def errors(role: Mapping[str, Any]) -> list[str]:
    """All that is wrong in the variables of the role, by their names without `postgresql_`."""
    found = user_errors(role["users"]) + database_errors(role["databases"], role["users"])
    found += hba_errors(role["hba"]) + setting_errors(role["settings"])
    found += memory_errors(role["memory"], role["machine_memory"], role["max_connections"])
    if not limit_allowed(role["connection_limit"]):
        found.append(
            f"postgresql_connection_limit is {role['connection_limit']}; it must be a number from 1, or -1 for none"
        )
    if not 1 <= role["port"] <= 65535:
        found.append(f"postgresql_port: found {role['port']}, allowed are 1 to 65535")
    if not role["tls"] and any(item.get("type") == "hostssl" for item in entries(role["hba"])):
        found.append("postgresql_hba: has an entry of type hostssl, which needs postgresql_tls")
    if role["tls"] and not (role["tls"].get("certificate_file") and role["tls"].get("key_file")):
        found.append("postgresql_tls: needs both certificate_file and key_file")
    if role["backup_keep_days"] < 1:
        found.append(f"postgresql_backup_keep_days: found {role['backup_keep_days']}, allowed is at least 1")
    if not 60 <= role["backup_timeout"] <= 604800:
        found.append(f"postgresql_backup_timeout is {role['backup_timeout']}; it must be 60 to 604800 (seconds)")
    if not re.fullmatch("infinity|[1-9][0-9]*[KMGT]?", role["backup_memory_max"]):
        found.append(
            f"postgresql_backup_memory_max is {role['backup_memory_max']!r}; it must be infinity, or bytes with "
            "K, M, G or T behind them"
        )
    if not re.fullmatch(r"/[A-Za-z0-9._/-]+", role["backup_directory"]):
        found.append(
            f"postgresql_backup_directory: found {role['backup_directory']!r}, allowed is an absolute path of "
            "letters, digits, dots, dashes and underscores"
        )
    return found


def identifier(name: str) -> str:
    """A name quoted for SQL."""
    return '"{}"'.format(name.replace('"', '""'))


def saslprep(password: str) -> str:
    """A password as PostgreSQL's server and libpq prepare it, by their `pg_saslprep`.

    Not quite RFC 4013: what is forbidden is looked for before the normalization, and a password that cannot be
    prepared is taken as it is.
    """
    if password.isascii():
        return password
    # U+200B is in both tables, and a space to PostgreSQL.
    spaced = (" " if stringprep.in_table_c12(sign) or sign == "\u200b" else sign for sign in password)
    mapped = "".join(sign for sign in spaced if not stringprep.in_table_b1(sign))
    if not mapped or any(test(sign) for sign in mapped for test in FORBIDDEN_IN_PASSWORDS):
        return password
    if any(map(stringprep.in_table_d1, mapped)) and (
        any(map(stringprep.in_table_d2, mapped)) or not all(map(stringprep.in_table_d1, (mapped[0], mapped[-1])))
    ):
        return password
    return unicodedata.normalize("NFKC", mapped)


def scram_secret(password: str, seed: str) -> str:
    """What PostgreSQL stores for a password, so that it never learns the password itself (RFC 5803).

    The salt is made from the seed: the same password and seed give the same secret, and a second run changes nothing.
    """
    prepared = saslprep(password)
    salt = hashlib.sha256(f"web2py.deployment:{seed}".encode()).digest()[:16]
    salted = hashlib.pbkdf2_hmac("sha256", prepared.encode(), salt, SCRAM_ITERATIONS)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode() for part in (salt, client, server)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{text[0]}${text[1]}:{text[2]}"
