#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: web2py_runtime
short_description: Install the runtime package through which every front end calls web2py
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Puts the Python package below O(path) into a folder of its own in O(home)/runtimes and points the link
    O(home)/runtime at it in one atomic step, so that no process ever loads half of an old one.
  - Nothing is sent when the host has it already.
options:
  path:
    description: Folder on the controller that holds the package and its entry script C(wsgi.py).
    type: path
    required: true
  home:
    description: Folder of the releases on the host.
    type: path
    default: /opt/web2py
extends_documentation_fragment: web2py.deployment.release.archive
attributes:
  check_mode:
    description: Predicts a change from the folder's contents; nothing is sent.
    support: full
  diff_mode:
    description: Shows the name of the package's folder before and after.
    support: full
seealso:
  - module: web2py.deployment.web2py_framework
"""

EXAMPLES = r"""
- name: Install the runtime package
  web2py.deployment.web2py_runtime:
    path: "{{ role_path }}/files"
"""

RETURN = r"""
release:
  description: Name of the current folder in O(home)/runtimes, a hash of its contents.
  returned: success
  type: str
  sample: 5f3a9c2e7b10
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import beneath
from ansible_collections.web2py.deployment.plugins.module_utils import release as engine


def main():
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "home": {"type": "path", "default": "/opt/web2py"},
            **engine.ARCHIVE,
        },
        supports_check_mode=True,
    )
    params = module.params
    if fault := engine.fault_of("web2py_runtime", params):
        module.fail_json(msg=fault)
    folder = os.path.join(params["home"], "runtimes")
    final = os.path.join(folder, params["_release"])
    link = os.path.join(params["home"], "runtime")
    target = os.path.join("runtimes", params["_release"])
    before = engine.link_target(link)

    def ensure_folders(check):
        changes = [beneath.ensure_folder(path, 0, 0, 0o755, check) for path in (params["home"], folder)]
        return any(changes)

    result = {
        "release": params["_release"],
        "changed": ensure_folders(True) or not os.path.isdir(final) or before != target,
        "diff": {"before": f"{before or ''}\n", "after": f"{target}\n"},
    }
    if module.check_mode or not result["changed"]:
        module.exit_json(**result)
    if not os.path.isdir(final) and not params["_archive"]:
        module.exit_json(needs_archive=True, **result)
    try:
        ensure_folders(False)
        if not os.path.isdir(final):
            with engine.staging(folder) as staged:
                engine.unpack(params["_archive"], staged)
                engine.own(staged, 0, 0, 0o755, 0o644)
                engine.commit(staged, final)
        engine.switch(link, target)
    except (engine.ReleaseError, OSError) as error:
        module.fail_json(msg=f"the runtime package was not installed, {before or 'nothing'} stays current: {error}")
    # A process that is still on the package before has loaded all of it.
    for name in engine.surplus(engine.releases(folder), 2, {params["_release"]}):
        shutil.rmtree(os.path.join(folder, name))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
