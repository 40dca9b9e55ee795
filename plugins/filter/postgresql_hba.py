# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_hba
short_description: Input of the role postgresql, who may connect from where
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Each application's user reaches its database by password, over the Unix socket, and over TLS from the given
    addresses.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
  addresses:
    description: Addresses or networks of the web hosts.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
postgresql_hba: "{{ web2py_applications | web2py.deployment.postgresql_hba(['192.0.2.10']) }}"
"""

RETURN = r"""
_value:
  description: The rules, as the role's C(postgresql_hba).
  type: list
"""

from ansible_collections.web2py.deployment.plugins.module_utils import data


class FilterModule:
    def filters(self):
        return {"postgresql_hba": data.postgresql_hba}
