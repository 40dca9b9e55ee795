# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: web2py_password_hash
short_description: Hash an administrator's password in the form that web2py checks
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Gives the hash that web2py's C(CRYPT) validator accepts in C(parameters_<port>.py),
    PBKDF2 with HMAC-SHA-512 computed by passlib. The clear text stays on the controller.
  - The same password and seed always give the same hash, so that a second run changes nothing.
notes:
  - The controller needs the Python package passlib.
options:
  _input:
    description: The clear text; 8 to 1024 characters (web2py reads no more than 1024).
    type: string
    required: true
  seed:
    description:
      - Text from which the salt is made; use one per site and port, for example the host's name and the port.
      - It is no secret. It must not depend on the password, which a fast hash of it would give away.
    type: str
    required: true
  iterations:
    description: Rounds of PBKDF2; at least 1000. OWASP's password storage cheat sheet asks for 210000 with SHA-512.
    type: int
    default: 600000
"""

EXAMPLES = r"""
hash: "{{ vault_admin_password | web2py.deployment.web2py_password_hash(seed=inventory_hostname ~ ':443') }}"
"""

RETURN = r"""
_value:
  description: The hash.
  type: str
  sample: pbkdf2(600000,64,sha512)$a1b2c3d4e5f60718$5c0f...
"""

import hashlib

from ansible.errors import AnsibleFilterError

try:
    from passlib.crypto.digest import pbkdf2_hmac
except ImportError:
    pbkdf2_hmac = None

KEY_LENGTH = 64  # bytes, the whole of SHA-512


def web2py_password_hash(password, seed, iterations=600000):
    if pbkdf2_hmac is None:
        raise AnsibleFilterError("web2py_password_hash needs the Python package passlib on the controller")
    if not isinstance(password, str) or not 8 <= len(password) <= 1024:
        raise AnsibleFilterError("the administrator's password must have 8 to 1024 characters")
    if not isinstance(seed, str) or not seed:
        raise AnsibleFilterError(f"seed is {seed!r}; it must be a text that is not empty.")
    if isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1000:
        raise AnsibleFilterError(f"iterations is {iterations!r}; it must be a whole number from 1000.")
    salt = hashlib.sha256(f"web2py.deployment:{seed}".encode()).hexdigest()[:16]
    digest = pbkdf2_hmac("sha512", password.encode("utf-8"), salt.encode("ascii"), iterations, KEY_LENGTH)
    return f"pbkdf2({iterations},{KEY_LENGTH},sha512)${salt}${digest.hex()}"


class FilterModule:
    def filters(self):
        return {"web2py_password_hash": web2py_password_hash}
