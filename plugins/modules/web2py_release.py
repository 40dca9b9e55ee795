#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: web2py_release
short_description: Remember the releases of a web host that have passed their check, and go back to one
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Keeps the file O(home)/deployments.json, a list of what was current, framework and applications, when a check such
    as M(web2py.deployment.web2py_check) had passed. A host goes back to an entry of this list only.
  - Switches the links by renaming, one after the other. When it is interrupted, the same call again does the rest.
  - Loads nothing. After a change, have the code reloaded, check it, and call the module with O(state=recorded).
options:
  state:
    description:
      - V(recorded) adds what is current unless it is the last entry already. Call it only when a check has passed.
        After V(previous), it forgets what was newer.
      - V(restored) switches back to the last entry, for when a check has failed. An application that the entry does
        not have is unlinked; one whose code has been removed since stays away.
      - V(previous) switches to the entry before the current one whose code is still there.
    type: str
    choices: [recorded, restored, previous]
    required: true
  target:
    description:
      - With O(state=previous), the entry that all hosts go to, from the filter
        P(web2py.deployment.rollback_target#filter). Nothing is changed on a host that has it
        already; a host that would go elsewhere fails.
    type: dict
  keep:
    description:
      - With O(state=recorded), how many releases of the framework and of each application stay on the host, the current
        ones included. Those that a rollback would need stay first. Without it none is deleted.
    type: int
  run:
    description:
      - With O(state=recorded), the run that M(web2py.deployment.deployment_run) has begun by this name is finished.
    type: str
  finish:
    description:
      - V(false) does not finish O(run), and does nothing where its mark is there; for a check before something is done.
        What a run has left that was cut off may lack a migration, or be a mixture of two releases.
    type: bool
    default: true
extends_documentation_fragment: web2py.deployment.release
attributes:
  check_mode:
    description: Compares with what is on the host at that moment, not with what tasks before it would have switched.
    support: full
  diff_mode:
    description: Shows what is current before and after; with O(state=recorded), the last entry.
    support: full
notes:
  - Needs root on the host.
  - Databases, settings and the configuration of the web server stay as they are.
seealso:
  - module: web2py.deployment.web2py_check
  - plugin: web2py.deployment.rollback_target
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Remember what has passed its check
  web2py.deployment.web2py_release:
    state: recorded

- name: Go back to the release before
  web2py.deployment.web2py_release:
    state: previous
  notify: Reload web2py code
"""

RETURN = r"""
present:
  description: What is current at the end, with C(framework) and C(applications); none on a host without web2py.
  returned: success
  type: dict
  sample: {"framework": "3.3.3-d89edf57", "applications": {"shop": "5f3a9c2e7b10"}}
previous:
  description: Where O(state=previous) would go from there; none where no such entry is left.
  returned: success
  type: dict
  sample: {"framework": "3.3.3-d89edf57", "applications": {"shop": "0a1b2c3d4e5f"}}
settled:
  description:
    - Whether what is current is the last entry, and nothing has been switched since it was added. Otherwise processes
      may run what was current before.
  returned: success
  type: bool
  sample: true
removed:
  description: Folders of releases deleted because of O(keep).
  returned: success
  type: list
  elements: str
  sample: []
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import deployments as engine
from ansible_collections.web2py.deployment.plugins.module_utils.interruption import mark_run
from ansible_collections.web2py.deployment.plugins.module_utils.release import PLACES, ReleaseError


def lines(snapshot):
    return engine.describe(snapshot).replace(", ", "\n") + "\n"


class Host:
    def __init__(self, params, check):
        self.home, self.root, self.check = params["home"], params["root"], check
        self.found = self.history = engine.read(self.home)
        self.now = engine.present(self.home, self.root)
        self.settled = engine.settled(self.history, self.home, self.root)
        self.removed = []

    def usable(self, snapshot):
        return engine.exists(self.home, snapshot)

    def write(self):
        if not self.check:
            engine.write(self.home, self.history)

    def record(self, keep):
        """Tell whether anything changed, and what the last entry was and is."""
        if self.now is None:
            if self.check:
                return True, None, None
            raise ReleaseError(f"{self.home}/current is not there; deploy with playbooks/site.yml first")
        before = self.history
        last = before.passed[-1] if before.passed else None
        self.history = engine.recorded(before, self.now, self.usable)
        if keep is not None:
            self.removed = engine.prune(self.home, self.now, self.history, keep)
            for path in self.removed if not self.check else []:
                shutil.rmtree(path)
            gone = set(self.removed)
            self.history = engine.recorded(
                self.history, self.now, lambda found: self.usable(found) and not gone & set(self.folders(found))
            )
        changed = self.history != before or not self.settled
        if changed:
            self.write()
            self.settled = True
        return changed or bool(self.removed), last, self.now

    def folders(self, snapshot):
        found = [os.path.join(self.home, "releases", snapshot["framework"])]
        return found + [engine.application_folder(self.home, *pair) for pair in snapshot["applications"].items()]

    def go(self, snapshot):
        before = self.now
        changed = engine.switch_all(self.home, self.root, snapshot, self.check)
        self.now = snapshot if self.check else engine.present(self.home, self.root)
        self.settled = self.settled and not changed
        return bool(changed), before, self.now

    def restore(self):
        if not self.history.passed:
            raise ReleaseError(
                f"there is nothing to go back to: no release has passed its check on this host ({self.home}/"
                f"{engine.FILE}); correct the release and deploy it again"
            )
        # First, so that a run that is cut off from here on is known to have been.
        self.history.rollback, self.history.restored = None, True
        self.write()
        self.settled = False
        return self.go(self.history.passed[-1])

    def go_back(self, target):
        snapshot = engine.previous(self.history, self.now, self.usable)
        if target is not None and self.now == target != snapshot:
            return False, self.now, self.now
        if snapshot is None:
            raise ReleaseError(engine.nothing_before([self.now]))
        if target is not None and snapshot != target:
            raise ReleaseError(
                f"this host would go back to {engine.describe(snapshot)}, not to {engine.describe(target)}; "
                "deploy the release that you want with playbooks/release.yml"
            )
        if self.history.rollback != snapshot:
            self.history.rollback = snapshot
            self.write()
            self.settled = False
        return self.go(snapshot)


def main():
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["recorded", "restored", "previous"], "required": True},
            "target": {"type": "dict"},
            "keep": {"type": "int"},
            "run": {"type": "str"},
            "finish": {"type": "bool", "default": True},
            **PLACES,
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["keep"] is not None and params["keep"] < 1:
        module.fail_json(msg=f"keep is {params['keep']}; it must be at least 1")
    if params["target"] is not None and not engine.is_snapshot(params["target"]):
        module.fail_json(msg=f"target is {params['target']!r}; it must be what the filter rollback_target gives")
    try:
        host = Host(params, module.check_mode)
        if params["state"] == "recorded":
            run, finish = params["run"], params["finish"]
            if run and not finish and mark_run(run, "begun", check=True):
                changed, before, after = False, host.now, host.now
            else:
                changed, before, after = host.record(params["keep"])
            if run and finish:
                mark_run(run, "finished", module.check_mode)
        elif params["state"] == "restored":
            changed, before, after = host.restore()
        else:
            changed, before, after = host.go_back(params["target"])
    except (ReleaseError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=changed,
        present=host.now,
        previous=engine.previous(host.found if module.check_mode else host.history, host.now, host.usable),
        settled=host.settled,
        removed=host.removed,
        diff={"before": lines(before), "after": lines(after)},
    )


if __name__ == "__main__":
    main()
