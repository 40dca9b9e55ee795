# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_hba_line
short_description: An access rule as a line of pg_hba.conf
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Quotes names where C(pg_hba.conf) would read them in a way of its own, and leaves its keywords alone.
options:
  _input:
    description: One entry of C(postgresql_hba), as the role's C(argument_specs) describe it.
    type: dict
    required: true
"""

EXAMPLES = r"""
line: "{{ {'type': 'hostssl', 'databases': ['shop'], 'users': ['shop'],
  'address': '192.0.2.7', 'method': 'scram-sha-256'}
  | web2py.deployment.postgresql_hba_line }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
  sample: hostssl shop shop 192.0.2.7/32 scram-sha-256
"""

from ansible_collections.web2py.deployment.plugins.module_utils import postgresql


class FilterModule:
    def filters(self):
        return {"postgresql_hba_line": postgresql.hba_line}
