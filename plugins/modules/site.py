#!/usr/bin/python

# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: site
short_description: Compute what the roles of all tiers take
version_added: "1.0.0"
description:
  - Reads the groups C(web2py_database), C(web2py_cache), C(web2py_storage), C(web2py_web) and C(web2py_balancer) and
    the variables of their hosts, and returns for each host in the play the variables of its tiers' roles. What the
    inventory itself says of such a variable is kept.
  - Fails when the inventory contradicts itself, or when something is unknown that a tier needs, such as the address of
    a web host. All problems are reported in one message. Facts of all hosts must have been gathered.
  - Runs once for all hosts of a play. Nothing that it returns is secret.
attributes:
  action:
    description: Runs on the controller and needs no connection to the hosts.
    support: full
  bypass_host_loop:
    description: Runs once for all hosts of the play.
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
- name: Compute what the roles of all tiers take
  web2py.deployment.site:
  register: __site_inputs
"""

RETURN = r"""
hosts:
  description: By host, variables of roles with their values, and what else the playbooks need to know of the host.
  returned: success
  type: dict
  sample: {"lb1": {"haproxy_servers": [{"name": "www1", "address": "192.0.2.10", "port": 80}]}}
"""
