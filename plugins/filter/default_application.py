# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: default_application
short_description: The application that answers the address /
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Picks it from C(web2py_applications) when the inventory names none.
options:
  _input:
    description: The value of C(web2py_applications).
    type: list
    elements: dictionary
    required: true
"""

EXAMPLES = r"""
web2py_default_application: "{{ web2py_applications | web2py.deployment.default_application }}"
"""

RETURN = r"""
_value:
  description: Name of the first exposed application other than V(admin); empty when there is none.
  type: str
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications


class FilterModule:
    def filters(self):
        return {"default_application": applications.default_application}
