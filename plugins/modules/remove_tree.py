#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: remove_tree
short_description: Remove folders into which a service user can write
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Removes files, and folders with all that is in them, by descriptors. No link is followed, whoever exchanges what is
    in them meanwhile, and no depth of folders is too deep, while M(ansible.builtin.file) fails at about a thousand.
  - The folders above each path must be writable by root alone; else the module fails.
options:
  paths:
    description: Absolute paths. One that is not there is no error.
    type: list
    elements: path
    required: true
attributes:
  check_mode:
    description: Tells what is there, and leaves it.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
notes:
  - Needs root on the host, and no package beyond Python itself.
"""

EXAMPLES = r"""
- name: Remove the root of an instance
  web2py.deployment.remove_tree:
    paths: [/var/lib/web2py/instances/admin]
"""

RETURN = r"""
removed:
  description: The paths that were there.
  returned: success
  type: list
  elements: str
  sample: [/var/lib/web2py/instances/admin]
"""

import contextlib
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import beneath


def main():
    module = AnsibleModule(
        argument_spec={"paths": {"type": "list", "elements": "path", "required": True}}, supports_check_mode=True
    )
    paths = module.params["paths"]
    wrong = [path for path in paths if not os.path.isabs(path) or os.path.normpath(path) != path or path == "/"]
    if wrong:
        module.fail_json(msg=f"paths is {wrong}; it must be absolute paths without '..' and a slash at the end")
    removed = [path for path in paths if os.path.lexists(path)]
    try:
        for path in removed if not module.check_mode else []:
            # One below another one is gone with that.
            with contextlib.suppress(FileNotFoundError):
                beneath.remove(path)
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
