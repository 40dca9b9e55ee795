# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: haproxy_server_name
short_description: The name of a web host in HAProxy
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - What is no letter, digit, dash or underscore becomes a dash.
options:
  _input:
    description: The host's name in the inventory.
    type: str
    required: true
"""

EXAMPLES = r"""
name: "{{ 'www1.example.org' | web2py.deployment.haproxy_server_name }}"
"""

RETURN = r"""
_value:
  description: The name.
  type: str
  sample: www1-example-org
"""

from ansible_collections.web2py.deployment.plugins.module_utils import cluster


class FilterModule:
    def filters(self):
        return {"haproxy_server_name": cluster.haproxy_server_name}
