# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: rollback_target
short_description: The release that all web hosts go back to
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Compares what M(web2py.deployment.web2py_release) found on the hosts. All go back to the same snapshot; a host that
    has it already, because a run before was cut off or a release reached only some hosts, stays there.
options:
  _input:
    description: For each host the result of M(web2py.deployment.web2py_release).
    type: dictionary
    required: true
"""

EXAMPLES = r"""
__rollback: >-
  {{ {'web1': hostvars.web1.__release_found, 'web2': hostvars.web2.__release_found}
     | web2py.deployment.rollback_target }}
"""

RETURN = r"""
_value:
  description: C(target), the snapshot, none where there is no such; and C(errors), which then say why.
  type: dictionary
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils import rollback


class FilterModule:
    def filters(self):
        return {"rollback_target": rollback.rollback_target}
