# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: nfs_shared_mounts
short_description: The shared folder in its place on a web host
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - For C(nfs_shared_mounts) of the role P(web2py.deployment.nfs_shared#role). Mounts what
    P(web2py.deployment.nfs_shared_exports#filter) exports.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
  server:
    description: Address or name of the storage server. With an empty one nothing is mounted.
    type: str
    required: true
  units:
    description: Systemd units that use the folders.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
mounts: "{{ [{'name': 'shop'}] | web2py.deployment.nfs_shared_mounts('192.0.2.7', ['apache2.service']) }}"
"""

RETURN = r"""
_value:
  description: The mounts.
  type: list
  sample:
    - name: web2py
      server: 192.0.2.7
      export: /srv/web2py
      path: /var/lib/web2py/data/web2py-shared
      before_units: [apache2.service, web2py-sessions@shop.service]
"""

from ansible_collections.web2py.deployment.plugins.module_utils import cluster


class FilterModule:
    def filters(self):
        return {"nfs_shared_mounts": cluster.nfs_shared_mounts}
