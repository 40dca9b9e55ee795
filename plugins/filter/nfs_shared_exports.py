# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: nfs_shared_exports
short_description: Folders of applications that a storage server shares
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - For C(nfs_shared_exports) of the role P(web2py.deployment.nfs_shared#role). The folders C(sessions), C(uploads)
    and C(errors) of each exposed application, as long as it keeps that kind of data in files; others with
    C(state=absent).
  - Not C(cache), since web2py's C(cache.disk) stops for ever over NFS, and never code.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
  clients:
    description: Addresses of the web hosts. Without any nothing is exported.
    type: list
    elements: str
    required: true
  owner:
    description: Number of web2py's user on all hosts.
    type: int
    required: true
  group:
    description: Number of web2py's group on all hosts.
    type: int
    required: true
"""

EXAMPLES = r"""
exports: "{{ [{'name': 'shop', 'sessions': 'database', 'tickets': 'database'}]
  | web2py.deployment.nfs_shared_exports(['192.0.2.10'], 950, 950) }}"
"""

RETURN = r"""
_value:
  description: The exports.
  type: list
  sample:
    - {name: shop-sessions, state: absent}
    - name: shop-uploads
      path: /srv/web2py/shop/uploads
      clients: [192.0.2.10]
      owner: 950
      group: 950
      mode: '0700'
    - {name: shop-errors, state: absent}
"""

from ansible_collections.web2py.deployment.plugins.module_utils import cluster


class FilterModule:
    def filters(self):
        return {"nfs_shared_exports": cluster.nfs_shared_exports}
