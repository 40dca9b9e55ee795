# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: application_settings
short_description: The settings file of one application
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - What the runtime package on a web host connects the application to. Holds secrets.
options:
  _input:
    description: One entry of C(web2py_applications).
    type: dict
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
  secrets:
    description:
      - Secrets that are not given, by names such as C(shop.database_password), C(shop.cookie_key) and
        C(shop.cache_key).
    type: dict
    required: true
  duplicates:
    description: The value of C(web2py_tickets_duplicates).
    type: str
    choices: [keep, count]
    default: keep
"""

EXAMPLES = r"""
settings: >-
  {{ application | web2py.deployment.application_settings(web2py_database_server, web2py_cache_servers, secrets) }}
"""

RETURN = r"""
_value:
  description: The settings.
  type: dict
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import documented
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data


def application_settings(application, server, cache_servers, secrets, duplicates="keep"):
    (typed,) = documented("web2py", "web2py_applications", [application])
    server = documented("web2py", "web2py_database_server", server)
    return data.application_settings(typed, server, cache_servers, secrets, duplicates)


class FilterModule:
    def filters(self):
        return {"application_settings": application_settings}
