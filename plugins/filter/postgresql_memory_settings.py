# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_memory_settings
short_description: Settings of PostgreSQL that follow from the memory it may use
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - A quarter for shared buffers, three quarters as what the planner may expect to be cached, and work memory such
    that all connections at once, each with one sort, use a quarter. See PostgreSQL's manual, "Resource Consumption".
options:
  _input:
    description: Memory in MiB.
    type: int
    required: true
  connections:
    description: The server's C(max_connections).
    type: int
    required: true
"""

EXAMPLES = r"""
settings: "{{ 4096 | web2py.deployment.postgresql_memory_settings(100) }}"
"""

RETURN = r"""
_value:
  description: Names and values.
  type: dict
  sample: {shared_buffers: 1024MB, effective_cache_size: 3072MB, maintenance_work_mem: 256MB, work_mem: 10485kB}
"""

from ansible_collections.web2py.deployment.plugins.module_utils import postgresql


class FilterModule:
    def filters(self):
        return {"postgresql_memory_settings": postgresql.memory_settings}
