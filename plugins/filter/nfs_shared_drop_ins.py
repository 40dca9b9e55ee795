# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: nfs_shared_drop_ins
short_description: The drop-ins by which units wait for the mounts they need
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - One for each mount and each of its C(before_units).
options:
  _input:
    description: The list C(nfs_shared_mounts).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
drop_ins: "{{ nfs_shared_mounts | web2py.deployment.nfs_shared_drop_ins }}"
"""

RETURN = r"""
_value:
  description: The C(path) of each file and the path of the C(mount) it is about.
  type: list
  sample: [{path: /etc/systemd/system/web2py.service.d/nfs_shared_notes.conf, mount: /srv/shared/notes}]
"""

from ansible_collections.web2py.deployment.plugins.module_utils import nfs_shared


class FilterModule:
    def filters(self):
        return {"nfs_shared_drop_ins": nfs_shared.drop_ins}
