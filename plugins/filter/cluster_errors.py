# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: cluster_errors
short_description: What several hosts cannot share
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks C(web2py_applications) against the groups of the inventory, for data that every web host would have its own
    of, and for what cannot be shared.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
  web_hosts:
    description: Hosts of the group C(web2py_web).
    type: list
    elements: str
    required: true
  storage_hosts:
    description: Hosts of the group C(web2py_storage).
    type: list
    elements: str
    required: true
  balancers:
    description: Hosts of the group C(web2py_balancer).
    type: list
    elements: str
    required: true
  database_hosts:
    description: Hosts of the group C(web2py_database).
    type: list
    elements: str
    required: true
  uid:
    description: Number of web2py's user, if it is fixed.
    type: int
    required: true
  gid:
    description: Number of web2py's group, if it is fixed.
    type: int
    required: true
"""

EXAMPLES = r"""
errors: "{{ [{'name': 'shop', 'sessions': 'database'}]
  | web2py.deployment.cluster_errors(['www1', 'www2'], [], ['lb'], ['db'], 950, 950) }}"
"""

RETURN = r"""
_value:
  description: The messages; none if all is well.
  type: list
  sample: []
"""

from ansible_collections.web2py.deployment.plugins.module_utils import cluster


class FilterModule:
    def filters(self):
        return {"cluster_errors": cluster.cluster_errors}
