#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: web2py_ticket_info
short_description: Read web2py's tickets from the database
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Says how many tickets there are by application, server and hour, and by problem. The same error of the same place is
    one problem, on every server, Python and release.
  - Runs on a web host and asks the database that the settings of its applications name.
options:
  since:
    description: Only tickets from this moment on, in ISO 8601, such as V(2026-11-01) or V(2026-11-24T08:00:00+01:00).
    type: str
extends_documentation_fragment: web2py.deployment.tickets
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
seealso:
  - module: web2py.deployment.web2py_tickets
"""

EXAMPLES = r"""
- name: Look for the errors of the last release
  web2py.deployment.web2py_ticket_info:
    since: "2026-11-24T08:00:00+01:00"
  register: tickets

- name: Show what was seen most
  ansible.builtin.debug:
    msg: "{{ tickets.report.problems | sort(attribute='count', reverse=true) | first }}"
"""

RETURN = r"""
report:
  description: What is in the database; all times are UTC.
  returned: success
  type: dict
  contains:
    total:
      description: Number of tickets.
      type: int
    applications:
      description: Number by application.
      type: dict
    servers:
      description: Number by host name of the web host.
      type: dict
    timeline:
      description: Number by hour and application, as C(time), C(application) and C(count).
      type: list
    problems:
      description:
        - Each with C(application), C(fingerprint), C(error_type), C(message), C(layer), C(count), C(first_seen),
          C(last_seen), C(servers), and C(ticket_id) and C(traceback) of the newest ticket that was kept whole. The one
          seen last comes first. At most 2000, with texts of at most 40,000 characters.
      type: list
    left_out:
      description:
        - What is not in the report, as C(application), number of C(tickets) and C(reason). Applications can write into
          the database, too.
      type: list
"""

import datetime

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import beneath
from ansible_collections.web2py.deployment.plugins.module_utils.tickets import report as reports
from ansible_collections.web2py.deployment.plugins.module_utils.tickets import storage


def main():
    module = AnsibleModule(argument_spec={**storage.OPTIONS, "since": {"type": "str"}}, supports_check_mode=True)
    since = None
    if module.params["since"]:
        try:
            since = datetime.datetime.fromisoformat(module.params["since"]).astimezone(datetime.timezone.utc)
        except ValueError:
            module.fail_json(msg=f"since is {module.params['since']!r}; it must be a time such as 2026-11-24T08:00")
    found = storage.applications(module.params["settings"], module.params["data"])
    if not found:
        module.fail_json(
            msg=f"{module.params['settings']}: no application of this host has tickets in a database; "
            "set tickets: database in web2py_applications"
        )

    def read():
        with storage.connect(found[0].database, reading=True) as database:
            return reports.summary(database, module.params["applications"], since)

    try:
        report = beneath.as_user(*beneath.account(module.params["user"]), read)
    except OSError as error:
        module.fail_json(msg=f"the tickets' database cannot be read: {error}")
    module.exit_json(changed=False, report=report)


if __name__ == "__main__":
    main()
