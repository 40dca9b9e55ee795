# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: data_errors
short_description: What is wrong in what applications say of their data
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks databases, sessions, uploads, cache and tickets of C(web2py_applications). A message never repeats a
    password.
options:
  _input:
    description: The list C(web2py_applications).
    type: list
    elements: dict
    required: true
  server:
    description: The value of C(web2py_database_server).
    type: dict
    required: true
  cache_servers:
    description: The value of C(web2py_cache_servers).
    type: list
    elements: str
    required: true
  ca_file:
    description: The value of C(web2py_database_ca_file). Not checked unless given.
    type: str
  web_hosts:
    description: The web hosts of the site. Several cannot have their tickets in an SQLite file.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
errors: "{{ web2py_applications | web2py.deployment.data_errors(web2py_database_server, web2py_cache_servers) }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data


class FilterModule:
    def filters(self):
        return {"data_errors": data.data_errors}
