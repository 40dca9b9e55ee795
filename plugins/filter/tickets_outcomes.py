# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: tickets_outcomes
short_description: What was collected from several web hosts
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Adds up the results of M(web2py.deployment.web2py_tickets) for the report that
    P(web2py.deployment.ticket_report#filter) writes.
options:
  _input:
    description: The variables of all hosts.
    type: dict
    required: true
  hosts:
    description: Names of the hosts that should have a result; one without counts as failed.
    type: list
    elements: str
    required: true
  variable:
    description: The variable in which each has registered its result.
    type: str
    required: true
"""

EXAMPLES = r"""
outcomes: "{{ hostvars | web2py.deployment.tickets_outcomes(ansible_play_hosts_all, 'collected') }}"
"""

RETURN = r"""
_value:
  description:
    - When that was (C(generated)), by application how many files were C(quarantined), and as a list what C(failed),
      each with C(server), C(application) (empty where it was the whole host) and C(error).
  type: dict
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils import ticket_report


def tickets_outcomes(hostvars, hosts, variable):
    return ticket_report.outcomes({host: hostvars[host].get(variable, {}) for host in hosts})


class FilterModule:
    def filters(self):
        return {"tickets_outcomes": tickets_outcomes}
