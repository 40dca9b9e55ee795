# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_scram_secret
short_description: What PostgreSQL stores for a password
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Computes the SCRAM-SHA-256 secret (RFC 5803) on the controller, so that the server and its log never see
    the password.
  - The same password and seed always give the same secret, so that a second run changes nothing.
options:
  _input:
    description: The password in clear text.
    type: string
    required: true
  seed:
    description: Text from which the salt is made, for example the name of the user. It is no secret.
    type: str
    required: true
"""

EXAMPLES = r"""
password: "{{ vault_password | web2py.deployment.postgresql_scram_secret(seed='shop') }}"
"""

RETURN = r"""
_value:
  description: The secret.
  type: str
  sample: SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils import scram


class FilterModule:
    def filters(self):
        return {"postgresql_scram_secret": scram.scram_secret}
