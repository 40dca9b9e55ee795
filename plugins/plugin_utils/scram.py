# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Passwords as PostgreSQL stores them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import stringprep
import unicodedata

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
