# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: application_errors
short_description: What is wrong in web2py_applications
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks names, duplicates, writable folders and missing sources,
    so that a role can refuse them before it changes anything.
options:
  _input:
    description: The value of C(web2py_applications).
    type: list
    elements: dictionary
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.assert:
    that: __errors | length == 0
    fail_msg: "{{ __errors | join(\"\n\") }}"
  vars:
    __errors: "{{ web2py_applications | web2py.deployment.application_errors }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications


class FilterModule:
    def filters(self):
        return {"application_errors": applications.application_errors}
