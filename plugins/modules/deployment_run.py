#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deployment_run
short_description: Tell whether the run of a playbook before this one was interrupted
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - A run that is killed between a changed file and the handler that loads it leaves a server with what it had before,
    and the next run finds nothing to change. So a play begins with O(state=begun) and ends with O(state=finished); when
    the mark of an earlier one is still there, O(state=begun) is changed, and can notify the handlers.
  - The mark is in C(/run), since after a boot everything is loaded anew.
options:
  name:
    description: Name of the play, of letters, digits, C(_) and C(-).
    type: str
    required: true
  state:
    description: V(begun) sets the mark, V(finished) removes it.
    type: str
    choices:
      - begun
      - finished
    required: true
attributes:
  check_mode:
    description: Says whether there is a mark, and leaves it as it is.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: Load what an interrupted run has left
  web2py.deployment.deployment_run:
    name: web
    state: begun
  notify: Load what an interrupted run has left

- name: Note that all is loaded
  web2py.deployment.deployment_run:
    name: web
    state: finished
"""

RETURN = r"""
interrupted:
  description: Whether an earlier run has left its mark. Always false with O(state=finished).
  returned: success
  type: bool
  sample: false
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import release as engine


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["begun", "finished"], "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    if not re.fullmatch(r"[A-Za-z0-9_-]+", given["name"]):
        module.fail_json(msg=f"name: found {given['name']!r}, allowed are letters, digits, dashes and underscores")
    try:
        interrupted = engine.mark_run(given["name"], given["state"], module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"{engine.RUNS}: {error.strerror}")
    module.exit_json(changed=interrupted, interrupted=interrupted)


if __name__ == "__main__":
    main()
