# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: nfs_shared_mount_unit
short_description: The name of the systemd unit that mounts something at a path
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Escapes the path as C(systemd-escape --path --suffix=mount) does.
options:
  _input:
    description: The absolute path.
    type: string
    required: true
"""

EXAMPLES = r"""
unit: "{{ '/srv/shared-notes' | web2py.deployment.nfs_shared_mount_unit }}"
"""

RETURN = r"""
_value:
  description: The name.
  type: str
  sample: srv-shared\x2dnotes.mount
"""

from ansible_collections.web2py.deployment.plugins.module_utils import nfs_shared


class FilterModule:
    def filters(self):
        return {"nfs_shared_mount_unit": nfs_shared.mount_unit}
