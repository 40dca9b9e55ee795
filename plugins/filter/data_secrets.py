# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: data_secrets
short_description: Secrets that applications need beside those that are given
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Passwords of databases, keys of cookie sessions and of cached values, by the names under which the lookup
    P(web2py.deployment.secret#lookup) keeps them.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
names: "{{ web2py_applications | web2py.deployment.data_secrets }}"
"""

RETURN = r"""
_value:
  description: The names.
  type: list
  sample: [shop.database_password]
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data


class FilterModule:
    def filters(self):
        return {"data_secrets": data.data_secrets}
