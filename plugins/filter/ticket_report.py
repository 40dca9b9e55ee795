# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: ticket_report
short_description: A report of web2py's tickets as an HTML page
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - One page that needs nothing else and no network, for phones and desks, light and dark.
options:
  _input:
    description:
      - What M(web2py.deployment.web2py_ticket_info) returns as C(report), with what
        P(web2py.deployment.tickets_outcomes#filter) gives.
    type: dict
    required: true
"""

EXAMPLES = r"""
page: "{{ tickets.report | combine(outcomes) | web2py.deployment.ticket_report }}"
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils import ticket_report


class FilterModule:
    def filters(self):
        return {"ticket_report": ticket_report.html}
