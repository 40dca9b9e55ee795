# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: data_applications
short_description: Applications that say where they keep their data
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Names of the applications of a site that have a database, or say where sessions, uploads, cache or tickets are
    kept.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
names: "{{ web2py_applications | web2py.deployment.data_applications }}"
"""

RETURN = r"""
_value:
  description: The names.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data


class FilterModule:
    def filters(self):
        return {"data_applications": data.data_applications}
