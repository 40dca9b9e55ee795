# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Passwords as PostgreSQL stores them, in the conversation of RFC 7677."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from types import SimpleNamespace

import pytest
from ansible_collections.web2py.deployment.plugins.plugin_utils import scram
from hypothesis import given, settings
from hypothesis import strategies as st

# RFC 7677, section 3: user "user", password "pencil".
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CONVERSATION = f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={NONCE}".encode()
CLIENT_PROOF = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SERVER_SIGNATURE = base64.b64decode("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")


def parts(secret):
    """Read a secret as PostgreSQL's parse_scram_secret does: salt, StoredKey and ServerKey."""
    iterations, salt, stored, server = re.fullmatch(
        r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/]+=*)\$([A-Za-z0-9+/]+=*):([A-Za-z0-9+/]+=*)", secret
    ).groups()
    assert iterations == "4096"
    return tuple(base64.b64decode(part) for part in (salt, stored, server))


def exclusive_or(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def proof(password, salt, conversation):
    """What a client sends that knows the password, in the bytes that it makes of it (RFC 5802, section 3)."""
    key = hmac.digest(hashlib.pbkdf2_hmac("sha256", password, salt, 4096), b"Client Key", "sha256")
    return exclusive_or(key, hmac.digest(hashlib.sha256(key).digest(), conversation, "sha256"))


def lets_in(secret, proof_of_client, conversation):
    """Whether a server with this secret accepts the client's proof."""
    _salt, stored, _server = parts(secret)
    key = exclusive_or(proof_of_client, hmac.digest(stored, conversation, "sha256"))
    return hmac.compare_digest(hashlib.sha256(key).digest(), stored)


class TestScram:
    def test_the_client_and_server_of_the_rfc_understand_each_other(self, monkeypatch):
        """The salt is that of the RFC instead of one made from the seed; all else is as always."""

        def sha256(text):
            seeded = text.startswith(b"web2py.deployment:")
            return SimpleNamespace(digest=lambda: SALT) if seeded else hashlib.sha256(text)

        monkeypatch.setattr(scram, "hashlib", SimpleNamespace(sha256=sha256, pbkdf2_hmac=hashlib.pbkdf2_hmac))
        secret = scram.scram_secret("pencil", "rfc 7677")
        salt, _stored, server = parts(secret)
        assert salt == SALT
        assert proof(b"pencil", SALT, CONVERSATION) == CLIENT_PROOF
        assert lets_in(secret, CLIENT_PROOF, CONVERSATION)
        assert hmac.digest(server, CONVERSATION, "sha256") == SERVER_SIGNATURE
        assert not lets_in(secret, proof(b"pencils", SALT, CONVERSATION), CONVERSATION)

    @settings(max_examples=20)
    @given(st.text(st.characters(max_codepoint=126, min_codepoint=32), min_size=8), st.text())
    def test_a_client_with_the_password_is_let_in_and_no_other(self, password, seed):
        secret = scram.scram_secret(password, seed)
        assert secret == scram.scram_secret(password, seed), "a second run changes nothing"
        salt = parts(secret)[0]
        assert len(salt) == 16
        assert lets_in(secret, proof(password.encode(), salt, b"x"), b"x")
        assert not lets_in(secret, proof(password.encode() + b".", salt, b"x"), b"x")

    def test_the_salt_depends_on_the_seed_and_not_on_the_password(self):
        salts = {(p, s): parts(scram.scram_secret(p, s))[0] for p in ("password 1", "password 2") for s in "ab"}
        assert salts["password 1", "a"] == salts["password 2", "a"] != salts["password 1", "b"]

    @pytest.mark.parametrize(
        ("password", "prepared"),
        [
            # RFC 4013, section 3.
            ("I\u00adX and more", "IX and more"),
            ("USER AND MORE", "USER AND MORE"),
            ("\u00aa and more", "a and more"),
            ("\u2168 and more", "IX and more"),
            # What cannot be prepared stays as it is, as in pg_saslprep's callers.
            ("\u0007 and more", "\u0007 and more"),
            ("\u0627 and more", "\u0627 and more"),
            ("\U0001f600 and more", "\U0001f600 and more"),
            ("a\u00a0and\u3000more", "a and more"),
            ("größer und gut", "größer und gut"),
            ("gro\u0308ßer und gut", "größer und gut"),
            # saslprep.c maps the non-ASCII spaces first, and this is one of them although table B.1 has it, too.
            ("zero\u200bwidth space", "zero width space"),
            # saslprep.c looks for what is forbidden before it normalizes: here at a sign younger than Unicode 3.2.
            ("\U0001f130 and more", "\U0001f130 and more"),
            # saslprep.c refuses what becomes empty, and its callers take the bytes as they are.
            ("\u00ad" * 8, "\u00ad" * 8),
        ],
    )
    def test_passwords_are_prepared_as_libpq_does(self, password, prepared):
        secret = scram.scram_secret(password, "seed")
        assert lets_in(secret, proof(prepared.encode(), parts(secret)[0], b"x"), b"x")
