# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: port_errors
short_description: Which variables hold no usable TCP port
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks that each value is a port from 1 to 65535 and that no two variables share one.
options:
  _input:
    description: Names of variables and their values.
    type: dictionary
    required: true
"""

EXAMPLES = r"""
__errors: "{{ {'apache_wsgi_http_port': apache_wsgi_http_port} | web2py.deployment.port_errors }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications


class FilterModule:
    def filters(self):
        return {"port_errors": applications.port_errors}
