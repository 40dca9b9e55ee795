# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: haproxy_server_name
short_description: Name of a web host in HAProxy
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - The name by which the balancer playbook makes a web host known to HAProxy, and by which a release drains it.
options:
  _input:
    description: Name of the host in the inventory.
    type: string
    required: true
"""

EXAMPLES = r"""
server: "{{ 'web1.example.org' | web2py.deployment.haproxy_server_name }}"
"""

RETURN = r"""
_value:
  description: The name, with a dash for every character that HAProxy does not take.
  type: string
"""

from ansible_collections.web2py.deployment.plugins.module_utils import cluster


class FilterModule:
    def filters(self):
        return {"haproxy_server_name": cluster.haproxy_server_name}
