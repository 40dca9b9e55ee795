# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_connections
short_description: Input of the role postgresql, how many connections web hosts may need
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Enough for all threads of all web hosts at work at the same time, even while one user has as many as its limit
    allows (P(web2py.deployment.postgresql_users#filter)), with C(10) for what is not a web host.
  - PostgreSQL takes another number only by a restart, so the result is V(100), V(200), V(400) and so on, and few
    changes of the site change it.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
  hosts:
    description:
      - Variables of the web hosts. Read are C(web2py_frontend), C(web2py_daemon_instances),
        C(web2py_daemon_scheduler_workers), and the processes and threads of the front ends' roles.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
postgresql_max_connections: >-
  {{ web2py_applications | web2py.deployment.postgresql_connections([hostvars['www1'], hostvars['www2']]) }}
"""

RETURN = r"""
_value:
  description: The number, as the role's C(postgresql_max_connections).
  type: int
"""

from ansible_collections.web2py.deployment.plugins.module_utils import data


class FilterModule:
    def filters(self):
        return {"postgresql_connections": data.postgresql_connections}
