# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: host_name_errors
short_description: Which entries are neither a DNS name nor an IP address
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks a list of host names that is about to become part of a web server's configuration.
options:
  _input:
    description: DNS names and IP addresses.
    type: list
    elements: string
    required: true
  variable:
    description: Name of the variable, for the message.
    type: str
    required: true
"""

EXAMPLES = r"""
__errors: "{{ apache_wsgi_server_names | web2py.deployment.host_name_errors('apache_wsgi_server_names') }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications


class FilterModule:
    def filters(self):
        return {"host_name_errors": applications.host_name_errors}
