# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How web2py compares a password with its hash: by `==` with what the validator CRYPT makes of it."""

import hashlib
import secrets


class LazyCrypt:
    def __init__(self, password):
        self.password = password

    def __str__(self):
        return self._hash(secrets.token_hex(8))

    def __eq__(self, stored):
        return stored == self._hash(stored.split("$")[1])

    __hash__ = None

    def _hash(self, salt):
        digest = hashlib.pbkdf2_hmac("sha512", self.password.encode(), salt.encode(), 1000, 20).hex()
        return f"pbkdf2(1000,20,sha512)${salt}${digest}"


class CRYPT:
    def __call__(self, value):
        return LazyCrypt(value), None
