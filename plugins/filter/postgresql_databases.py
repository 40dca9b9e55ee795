# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_databases
short_description: Input of the role postgresql, the databases of applications
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - The database of each application that has one, with its owner.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
postgresql_databases: "{{ web2py_applications | web2py.deployment.postgresql_databases }}"
"""

RETURN = r"""
_value:
  description: The databases, as the role's C(postgresql_databases).
  type: list
"""

from ansible_collections.web2py.deployment.plugins.module_utils import data


class FilterModule:
    def filters(self):
        return {"postgresql_databases": data.postgresql_databases}
