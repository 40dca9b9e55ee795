# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: memcached_errors
short_description: What is wrong in the variables of the role memcached
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks addresses and sizes against each other and against the machine.
options:
  _input:
    description:
      - The variables by their names without C(memcached_), and of the host C(machine_memory) in MiB and
        C(machine_addresses).
    type: dict
    required: true
"""

EXAMPLES = r"""
__errors: "{{ {'addresses': memcached_addresses, 'port': memcached_port} | web2py.deployment.memcached_errors }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.module_utils import memcached


class FilterModule:
    def filters(self):
        return {"memcached_errors": memcached.errors}
