#!/usr/bin/python

# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_role
short_description: Report misspelled variables of a role of this collection, and hosts it does not support
version_added: "1.0.0"
description:
  - Fails when a variable of the host begins with the name of a role of this collection and an underscore,
    but is no option in the entry point C(main) of that role's C(meta/argument_specs.yml).
  - Ansible's own check of a role's arguments looks only at the options it knows. A misspelled variable is
    ignored there, and the role runs with a default that nobody asked for.
  - A name that begins with the longer name of another role of this collection belongs to that role. For
    example C(web2py_daemon_port) is never reported for the role P(web2py.deployment.web2py#role).
  - All misspelled variables are reported in one message, each with the nearest allowed names. Values are
    never read and never printed.
  - Fails also when the host's distribution is none of the C(platforms) in the role's C(meta/main.yml).
    Facts must have been gathered for that.
options:
  role:
    description:
      - Name of the role, with or without C(web2py.deployment.) in front of it.
    type: str
    required: true
  also:
    description:
      - Names that are allowed although they are no options of the role, for example variables that
        a playbook reads.
    type: list
    elements: str
    default: []
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
author:
  - web2py.deployment contributors (@web2py)
"""

EXAMPLES = r"""
- name: Report misspelled variables of the role
  web2py.deployment.validate_role:
    role: tls_certificate

- name: Allow a name that only the playbook reads
  web2py.deployment.validate_role:
    role: web2py.deployment.web2py
    also:
      - web2py_frontend
"""

RETURN = r"""
unknown:
  description: Names of the variables that the role does not have, sorted.
  returned: always
  type: list
  elements: str
  sample:
    - tls_certificate_certifcates
"""
