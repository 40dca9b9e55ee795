# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: postgresql_users
short_description: Input of the role postgresql, the users of applications
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - One user for each application with a database, and one for tickets that are kept there.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
  secrets:
    description: Passwords that are not given, by names such as C(shop.database_password).
    type: dict
    required: true
  connection_limit:
    description: How many connections each of them may have; as many as the role allows where none is given.
    type: int
"""

EXAMPLES = r"""
postgresql_users: "{{ web2py_applications | web2py.deployment.postgresql_users(secrets, 40) }}"
"""

RETURN = r"""
_value:
  description: The users, as the role's C(postgresql_users).
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import documented
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import database


def postgresql_users(applications, secrets, connection_limit=None):
    return database.users(documented("web2py", "web2py_applications", applications), secrets, connection_limit)


class FilterModule:
    def filters(self):
        return {"postgresql_users": postgresql_users}
