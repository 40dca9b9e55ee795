# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: check_paths
short_description: Paths by which a web host is checked
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Translates C(web2py_applications) into what M(web2py.deployment.web2py_check) asks for.
options:
  _input:
    description: The value of C(web2py_applications).
    type: list
    elements: dictionary
    required: true
  health_path:
    description: The value of C(web2py_health_path).
    type: string
    required: true
"""

EXAMPLES = r"""
paths: "{{ web2py_applications | web2py.deployment.check_paths('/healthz') }}"
"""

RETURN = r"""
_value:
  description:
    - The health path, and for each exposed application its C(check_path), or C(/<application>/default/index).
  type: list
"""

from ansible_collections.web2py.deployment.plugins.module_utils import site


class FilterModule:
    def filters(self):
        return {"check_paths": site.check_paths}
