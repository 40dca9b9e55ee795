# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_errors
short_description: What is wrong in the variables of the role postgresql
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks names, passwords, access rules, settings and sizes against each other and against the machine.
  - A message never repeats a password.
options:
  _input:
    description: The variables by their names without C(postgresql_), and C(machine_memory) in MiB.
    type: dict
    required: true
"""

EXAMPLES = r"""
__errors: "{{ {'users': postgresql_users, 'databases': postgresql_databases} | web2py.deployment.postgresql_errors }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.module_utils import postgresql


class FilterModule:
    def filters(self):
        return {"postgresql_errors": postgresql.errors}
