# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: nfs_shared_errors
short_description: What is wrong in the variables of the role nfs_shared
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks exports, mounts and times, each for itself and against each other.
options:
  _input:
    description: The variables by their names without C(nfs_shared_).
    type: dict
    required: true
"""

EXAMPLES = r"""
__errors: "{{ {'exports': nfs_shared_exports, 'mounts': nfs_shared_mounts, 'lease_time': 15, 'grace_time': 30,
  'threads': 8, 'timeout': 10, 'server_wait': 60} | web2py.deployment.nfs_shared_errors }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.module_utils import nfs_shared


class FilterModule:
    def filters(self):
        return {"nfs_shared_errors": nfs_shared.errors}
