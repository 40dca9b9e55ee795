# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_identifier
short_description: A name quoted for SQL
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Puts a name of a database, role or table into double quotes, as PostgreSQL reads it exactly.
options:
  _input:
    description: The name.
    type: string
    required: true
"""

EXAMPLES = r"""
query: "DROP TABLE {{ name | web2py.deployment.postgresql_identifier }}"
"""

RETURN = r"""
_value:
  description: The quoted name.
  type: str
  sample: '"a name"'
"""

from ansible_collections.web2py.deployment.plugins.module_utils import postgresql


class FilterModule:
    def filters(self):
        return {"postgresql_identifier": postgresql.identifier}
