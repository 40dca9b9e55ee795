# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: haproxy_errors
short_description: What is wrong in the variables of the role haproxy
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
positional: interfaces
description:
  - Checks addresses, names, certificates, servers and limits, alone and against each other.
options:
  _input:
    description: The variables by their names without C(haproxy_).
    type: dict
    required: true
  interfaces:
    description: Names of the host's network interfaces. An empty list means that they are not known.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
__errors: "{{ {'mode': haproxy_mode, 'servers': haproxy_servers} | web2py.deployment.haproxy_errors }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.module_utils import haproxy


class FilterModule:
    def filters(self):
        return {"haproxy_errors": haproxy.errors}
