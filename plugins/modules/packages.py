#!/usr/bin/python

# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done by the action plugin of the same name, through ansible.builtin.apt.

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install packages of the distribution, also on a machine that never fetched package lists
version_added: "1.0.0"
description:
  - Installs packages without what they only recommend. Package lists that are older than an hour are fetched
    again before.
  - On a machine without package lists, check mode of M(ansible.builtin.apt) fails, as it may not fetch any and
    finds no package. Here it says that something would change.
options:
  name:
    description: Names of packages, as M(ansible.builtin.apt) takes them.
    type: list
    elements: str
    required: true
  start:
    description:
      - Whether packages start their services, as is the distribution's custom. With V(false) they neither start nor
        restart any, for example because another server still has the port.
    type: bool
    default: true
attributes:
  check_mode:
    description: Says whether something would be installed.
    support: full
  diff_mode:
    description: Shows what M(ansible.builtin.apt) shows.
    support: full
seealso:
  - module: ansible.builtin.apt
author:
  - web2py.deployment contributors (@web2py)
"""

EXAMPLES = r"""
- name: Install Apache
  web2py.deployment.packages:
    name: [apache2, logrotate]
"""

RETURN = r"""
msg:
  description: Why nothing could be installed, or what check mode could not look up.
  returned: on failure, and in check mode without package lists
  type: str
  sample: Would fetch the package lists and install what is missing.
"""
