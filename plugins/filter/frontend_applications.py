# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: frontend_applications
short_description: Names of the applications that a web server exposes
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Translates C(web2py_applications) into the list that the front-end roles take.
options:
  _input:
    description: The value of C(web2py_applications).
    type: list
    elements: dictionary
    required: true
"""

EXAMPLES = r"""
apache_wsgi_applications: "{{ web2py_applications | web2py.deployment.frontend_applications }}"
"""

RETURN = r"""
_value:
  description: Names of the applications that are present and not marked C(exposed=false), in their order.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications


class FilterModule:
    def filters(self):
        return {"frontend_applications": applications.frontend_applications}
