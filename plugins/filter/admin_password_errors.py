# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: admin_password_errors
short_description: What is wrong in web2py_admin_passwords
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks ports, duplicates and the form of passwords and hashes,
    so that a role can refuse them before it changes anything.
options:
  _input:
    description: The value of C(web2py_admin_passwords).
    type: list
    elements: dictionary
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.assert:
    that: __errors | length == 0
    fail_msg: "{{ __errors | join(\"\n\") }}"
  vars:
    __errors: "{{ web2py_admin_passwords | web2py.deployment.admin_password_errors }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications


class FilterModule:
    def filters(self):
        return {"admin_password_errors": applications.admin_password_errors}
