#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: deployment_run
short_description: Tell what an interrupted run has left
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - A run that is killed between a changed file and the handler that loads it leaves a server with what it had before,
    and the next run finds nothing to change. This module tells what such a run has left; it is changed then, and can
    notify the handlers.
  - Either a play begins with O(state=begun) and ends with O(state=finished), and O(state=begun) is changed when the
    mark of an earlier run is still there. The mark is in C(/run), since after a boot everything is loaded anew. This
    suits what can be reloaded at any time.
  - Or the running O(units) are compared with their files, before the play writes any. This suits what has to be
    restarted, which is to happen for a reason only.
options:
  name:
    description: Name of the play, of letters, digits, C(_) and C(-).
    type: str
  state:
    description: V(begun) sets the mark, V(finished) removes it.
    type: str
    choices:
      - begun
      - finished
  units:
    description: Units of systemd that should run with the files that they have now.
    type: list
    elements: str
  files:
    description: Other files that these units read at their start.
    type: list
    elements: path
    default: []
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

- name: Find an NFS server that runs with an older configuration
  web2py.deployment.deployment_run:
    units: [nfs-server.service]
    files: [/etc/nfs.conf.d/ansible.conf]
  notify: Restart the NFS server
"""

RETURN = r"""
interrupted:
  description: Whether an earlier run has left its mark. Always false with O(state=finished).
  returned: with O(name)
  type: bool
  sample: false
outdated:
  description: Those of the units that a file is newer than, or that systemd has not read anew since.
  returned: with O(units)
  type: list
  elements: str
  sample: [nfs-server.service]
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import interruption


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "state": {"type": "str", "choices": ["begun", "finished"]},
            "units": {"type": "list", "elements": "str"},
            "files": {"type": "list", "elements": "path", "default": []},
        },
        required_one_of=[["name", "units"]],
        mutually_exclusive=[["name", "units"]],
        required_together=[["name", "state"]],
        supports_check_mode=True,
    )
    given = module.params
    if given["units"] is not None:
        shown = module.run_command([*interruption.SHOW, *given["units"]], check_rc=True)[1] if given["units"] else ""
        # Without units there is one empty block.
        blocks = zip(given["units"], shown.split("\n\n"), strict=False)
        outdated = [unit for unit, block in blocks if interruption.is_outdated(block, given["files"])]
        module.exit_json(changed=bool(outdated), outdated=outdated)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", given["name"]):
        module.fail_json(msg=f"name is {given['name']!r}; it must be letters, digits, dashes and underscores")
    try:
        interrupted = interruption.mark_run(given["name"], given["state"], module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"{interruption.RUNS}: {error.strerror}")
    module.exit_json(changed=interrupted, interrupted=interrupted)


if __name__ == "__main__":
    main()
