# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: nfs_shared_exports
short_description: The folder that a storage server shares with web hosts
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - For C(nfs_shared_exports) of the role P(web2py.deployment.nfs_shared#role). Web hosts keep the folders C(sessions),
    C(uploads) and C(errors) of each exposed application in it that keeps such data in files; with C(state=absent) if
    none does. Not C(cache), since web2py's C(cache.disk) stops for ever over NFS, and never code.
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
exports: "{{ [{'name': 'shop'}] | web2py.deployment.nfs_shared_exports(['192.0.2.10'], 950, 950) }}"
"""

RETURN = r"""
_value:
  description: The exports.
  type: list
  sample:
    - name: web2py
      path: /srv/web2py
      clients: [192.0.2.10]
      owner: 950
      group: 950
      mode: '0700'
"""

from ansible_collections.web2py.deployment.plugins.module_utils import cluster


class FilterModule:
    def filters(self):
        return {"nfs_shared_exports": cluster.nfs_shared_exports}
