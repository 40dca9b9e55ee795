#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: web2py_tickets
short_description: Move web2py's tickets into the database now
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Does at once what the timer of the role P(web2py.deployment.web2py#role) does every five minutes, with the same
    code, for each application with C(tickets=database) on the host.
  - A ticket's file is removed when the transaction that holds it has been committed. Killed at any moment, the next run
    makes one row of each ticket. Two runs at once do no harm.
  - What is named like a ticket and is none is moved into C(errors/quarantine), with the reason in a file beside it.
    What is half written is left for a minute. Nothing in a ticket is executed.
extends_documentation_fragment: web2py.deployment.tickets
attributes:
  check_mode:
    description:
      - Says what would be collected. The database is not asked, so what is in it already counts as V(collected).
    support: full
  diff_mode:
    description: There is nothing to show; tickets may hold what nobody should see.
    support: none
notes:
  - Needs root on the host, reads the settings, and goes on as O(user).
  - Needs psycopg2 on the host (C(python3-psycopg2)) for PostgreSQL; the role installs it.
seealso:
  - module: web2py.deployment.web2py_ticket_info
"""

EXAMPLES = r"""
- name: Collect the tickets
  web2py.deployment.web2py_tickets:
"""

RETURN = r"""
applications:
  description:
    - "For each application how many files there were of what: V(collected) into the database, V(already there) and only
      removed, V(quarantined), V(left) for the next time."
  returned: always
  type: dict
  sample: {"shop": {"collected": 12, "quarantined": 1}}
errors:
  description: For each application whose tickets could not be collected, why.
  returned: always
  type: dict
  sample: {}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import beneath
from ansible_collections.web2py.deployment.plugins.module_utils.tickets import collect, storage


def chosen(module, found):
    """The applications that the playbook names, or all."""
    names = module.params["applications"]
    unknown = sorted(set(names).difference(one.application for one in found))
    if unknown:
        known = ", ".join(one.application for one in found) or "none"
        module.fail_json(msg=f"applications is {', '.join(unknown)}; those with tickets in a database are {known}")
    return [one for one in found if not names or one.application in names]


def main():
    module = AnsibleModule(argument_spec=storage.OPTIONS, supports_check_mode=True)
    found = chosen(module, storage.applications(module.params["settings"], module.params["data"]))
    done, errors = {}, {}
    if found:
        try:
            ids = beneath.account(module.params["user"])
            done, errors = beneath.as_user(*ids, lambda: collect.collect_all(found, check=module.check_mode))
        except OSError as error:
            module.fail_json(msg=f"not collected: {error}", applications={}, errors={"": str(error)})
    changed = any(
        outcomes.get(name) for outcomes in done.values() for name in ("collected", "already there", "quarantined")
    )
    result = {"changed": changed, "applications": done, "errors": errors}
    if errors:
        message = "; ".join(f"{name}: {error}" for name, error in errors.items())
        module.fail_json(msg=f"not collected: {message}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
