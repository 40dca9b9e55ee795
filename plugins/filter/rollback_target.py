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
    description: The variables of all hosts.
    type: dict
    required: true
  hosts:
    description: Names of the hosts that go back.
    type: list
    elements: str
    required: true
  variable:
    description: The variable in which each has registered the result of M(web2py.deployment.web2py_release).
    type: str
    required: true
"""

EXAMPLES = r"""
__rollback: "{{ hostvars | web2py.deployment.rollback_target(['web1', 'web2'], '__release_found') }}"
"""

RETURN = r"""
_value:
  description: C(target), the snapshot, none where there is no such; and C(errors), which then say why.
  type: dictionary
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils import rollback


def rollback_target(hostvars, hosts, variable):
    return rollback.rollback_target({host: hostvars[host][variable] for host in hosts})


class FilterModule:
    def filters(self):
        return {"rollback_target": rollback_target}
