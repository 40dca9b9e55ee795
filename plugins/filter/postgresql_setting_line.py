# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_setting_line
short_description: A setting as a line of postgresql.conf
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Quotes the value, whatever is in it.
options:
  _input:
    description: Name of the setting.
    type: string
    required: true
  value:
    description: Its value; true and false become V(on) and V(off).
    type: raw
    required: true
"""

EXAMPLES = r"""
line: "{{ 'work_mem' | web2py.deployment.postgresql_setting_line('4MB') }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
  sample: work_mem = '4MB'
"""

from ansible_collections.web2py.deployment.plugins.module_utils import postgresql


class FilterModule:
    def filters(self):
        return {"postgresql_setting_line": postgresql.setting_line}
