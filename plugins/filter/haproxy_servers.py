# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: haproxy_servers
short_description: Web hosts as servers of a balancer
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - For C(haproxy_servers) of the role P(web2py.deployment.haproxy#role). Each host is reached at the first of
    C(web2py_client_addresses) where that is set, else at the address of its default route; at C(web2py_http_port), or
    with C(web2py_balancer_https) at C(web2py_https_port).
options:
  _input:
    description: The variables of each web host, with its facts in C(ansible_facts).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
servers: "{{ [hostvars['www1.example.org'], hostvars['www2.example.org']] | web2py.deployment.haproxy_servers }}"
"""

RETURN = r"""
_value:
  description: The servers.
  type: list
  sample:
    - {name: www1-example-org, address: 192.0.2.10, port: 80}
    - {name: www2-example-org, address: 192.0.2.11, port: 443, tls: true, tls_name: www.example.org}
"""

from ansible_collections.web2py.deployment.plugins.module_utils import cluster


class FilterModule:
    def filters(self):
        return {"haproxy_servers": cluster.haproxy_servers}
