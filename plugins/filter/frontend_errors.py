# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: frontend_errors
short_description: Whether a front-end role may run
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - A host has one front end. Finds a role that is not the chosen one, and a play with two of them.
positional: chosen, roles
options:
  _input:
    description: Name of the front-end role that asks.
    type: string
    required: true
  chosen:
    description: The value of C(web2py_frontend); V(null) where it is not defined.
    type: string
    required: true
  roles:
    description: Names of the roles of the play, from C(ansible_play_role_names).
    type: list
    elements: string
    required: true
"""

EXAMPLES = r"""
__errors: "{{ 'apache_wsgi' | web2py.deployment.frontend_errors(web2py_frontend, ansible_play_role_names) }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.module_utils import frontend


class FilterModule:
    def filters(self):
        return {"frontend_errors": frontend.frontend_errors}
