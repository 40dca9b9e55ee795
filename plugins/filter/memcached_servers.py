# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: memcached_servers
short_description: Addresses of cache servers with their port
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - For C(web2py_cache_servers). IPv6 addresses get brackets.
options:
  _input:
    description: Host names and IP addresses.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - Variables of the hosts that are in the inventory, of which C(ansible_host) is where one is reached, and
        C(memcached_port) at which port.
    type: dict
    default: {}
  port:
    description: TCP port of those whose variables name none.
    type: int
    default: 11211
"""

EXAMPLES = r"""
servers: >-
  {{ ['cache1', '2001:db8::1'] | web2py.deployment.memcached_servers({'cache1': {'ansible_host': '192.0.2.7'}}) }}
"""

RETURN = r"""
_value:
  description: The addresses.
  type: list
  sample: ['192.0.2.7:11211', '[2001:db8::1]:11211']
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import inventory


class FilterModule:
    def filters(self):
        return {"memcached_servers": inventory.memcached_servers}
