#!/usr/bin/python

# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Validate a role's variables and compute what its tasks need
version_added: "1.0.0"
description:
  - Converts every documented variable of a role of this collection to the type in the role's
    C(meta/argument_specs.yml), checks it, and returns the values with everything that the role derives from them.
    Text from C(--extra-vars) or an INI inventory becomes the boolean or number that it means.
  - Fails when a value cannot be converted or is not allowed, when a variable begins with the role's name and is
    misspelled, and when the host's distribution is none of the C(platforms) in the role's C(meta/main.yml). Facts must
    have been gathered. All problems are reported in one message.
  - Call it in the role's own C(tasks/validate.yml), where the role's defaults are known.
  - Values of options with C(no_log) are checked, but neither returned nor repeated in a message.
requirements:
  - cryptography >= 42 on the controller, for the role P(web2py.deployment.tls_certificate#role)
options:
  role:
    description:
      - Name of the role, with or without C(web2py.deployment.) in front of it.
    type: str
    required: true
  found:
    description:
      - What tasks before have seen on the host, for roles that judge their variables by it. Without it, only what
        follows from the variables and the facts is checked.
    type: dict
attributes:
  action:
    description: Runs on the controller and needs no connection to the host.
    support: full
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: Nothing is ever changed, so there is no difference to show.
    support: none
  vault:
    description: Reads files that are encrypted with Ansible Vault.
    support: full
author:
  - web2py.deployment contributors (@web2py)
"""

EXAMPLES = r"""
- name: Validate the variables
  web2py.deployment.plan:
    role: memcached
  register: __memcached
"""

RETURN = r"""
port:
  description:
    - As an example, the variable C(memcached_port). Each variable of the role is returned by its name without the
      role's, with the type that is documented.
    - Names that are no variables are derived, by C(plugins/plugin_utils/roles/) and the name of the role.
  returned: success
  type: int
  sample: 11211
"""
