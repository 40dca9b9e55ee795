# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: nfs_shared_mount_path
short_description: The path at which a systemd unit mounts something
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - The reverse of P(web2py.deployment.nfs_shared_mount_unit#filter).
options:
  _input:
    description: The name of the unit.
    type: string
    required: true
"""

EXAMPLES = r"""
path: "{{ 'srv-shared.mount' | web2py.deployment.nfs_shared_mount_path }}"
"""

RETURN = r"""
_value:
  description: The path.
  type: str
  sample: /srv/shared
"""

from ansible_collections.web2py.deployment.plugins.module_utils import nfs_shared


class FilterModule:
    def filters(self):
        return {"nfs_shared_mount_path": nfs_shared.mount_path}
