#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: web2py_framework
short_description: Install one release of the web2py framework and make it the current one
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Puts a web2py release into its own folder below O(home)/releases, read-only and without applications,
    and points the link O(home)/current at it in one atomic step.
  - Prepares the web2py root O(root) around it, with the folders that web2py would otherwise try to create,
    and links for web2py's own command line.
  - The source is read, checked and packed on the controller, so that the host needs no network;
    nothing is sent when the host has that release already.
  - A release whose source is missing, incomplete, too old or has the wrong checksum changes nothing on the host.
    Neither does one that the host's Python cannot import.
options:
  source:
    description:
      - Where the release comes from. Exactly one of V(path), V(url) and V(git) is given.
      - V(path) is a directory, zip or tar archive on the controller; V(url) with V(checksum) (SHA-256) is
        downloaded by the controller; V(git) with V(version) is cloned by the controller with its submodules.
    type: dict
    required: true
  logs:
    description: Folder that web2py's C(logs) link leads to; it is not created here.
    type: path
    default: /var/log/web2py
extends_documentation_fragment:
  - web2py.deployment.release
  - web2py.deployment.release.archive
  - web2py.deployment.release.source
notes:
  - "Layout from the web2py book, chapter 13 (Deployment recipes): one framework, applications apart from it."
seealso:
  - module: web2py.deployment.web2py_application
  - module: web2py.deployment.web2py_release
"""

EXAMPLES = r"""
- name: Install the official release
  web2py.deployment.web2py_framework:
    source:
      url: https://github.com/web2py/web2py/raw/v3.3.3/binaries/web2py_src.zip
      checksum: d89edf57d31907bfdd2980239ff227e81e91125a28395667418d137725985afc

- name: Install a git commit with fixes newer than the release
  web2py.deployment.web2py_framework:
    source:
      git: https://github.com/web2py/web2py.git
      version: master
"""

RETURN = r"""
release:
  description: Name of the current release's folder, version and content hash.
  returned: success
  type: str
  sample: 3.3.3-d89edf57
previous:
  description: Name of the release that was current before; empty on a new host.
  returned: success
  type: str
  sample: 3.3.2-0a1b2c3d
removed:
  description: Releases deleted because of O(keep).
  returned: success
  type: list
  elements: str
  sample: []
"""

import os
import shutil
import subprocess
import sys
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import beneath, deployments
from ansible_collections.web2py.deployment.plugins.module_utils import release as engine


def try_import(path):
    """Import the release in an empty folder: what fails here would fail at every request.

    Not as the service user, whose other processes could take this one over, and it is in no sandbox.
    """

    def attempt():
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-B", "-c", "import sys; sys.path.insert(0, sys.argv[1]); import gluon.main", path],
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "HOME": folder, "LANG": "C.UTF-8", "web2py_path": folder},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
        return done.returncode, done.stderr.strip()[-500:]

    # The folder is that user's, too, from its making to its removal.
    status, said = beneath.as_user(*beneath.account("nobody"), attempt)
    if status != 0:
        raise engine.ReleaseError(f"Python {sys.version.split()[0]} of this host cannot import the release: {said}")


def prepare_root(params, check):
    """Folders that web2py expects and may not create, and links for `cd /var/lib/web2py; python3 web2py.py …`."""
    home, root, group = params["home"], params["root"], engine.group_id(params["group"])
    changes = [
        beneath.ensure_folder(home, 0, 0, 0o755, check),
        beneath.ensure_folder(os.path.join(home, "releases"), 0, 0, 0o755, check),
        beneath.ensure_folder(root, 0, group, 0o751, check),
        beneath.ensure_folder(os.path.join(root, "applications"), 0, group, 0o751, check),
        beneath.ensure_folder(os.path.join(root, "site-packages"), 0, group, 0o750, check),
        beneath.ensure_folder(os.path.join(root, "deposit"), engine.user_id(params["user"]), group, 0o700, check),
        engine.ensure_link(os.path.join(root, "logs"), params["logs"], check),
    ]
    for name in ("gluon", "handlers", "scripts", "web2py.py"):
        target = os.path.join(home, "current", name)
        changes.append(engine.ensure_link(os.path.join(root, name), target, check))
    return any(changes)


def install(folder, final, archive):
    with engine.staging(folder) as staged:
        engine.unpack(archive, staged)
        # The service user cannot write byte code beside the sources, so it is made once, here.
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", "-s", staged, "-p", final, staged],
            capture_output=True,
            check=False,
        )
        engine.own(staged, 0, 0, 0o755, 0o644)
        try_import(staged)
        engine.commit(staged, final)


def main():
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "dict", "required": True},
            "logs": {"type": "path", "default": "/var/log/web2py"},
            **engine.PLACES,
            **engine.SOURCE,
            **engine.ARCHIVE,
        },
        supports_check_mode=True,
    )
    params = module.params
    if fault := engine.fault_of("web2py_framework", params):
        module.fail_json(msg=fault)
    folder = os.path.join(params["home"], "releases")
    final = os.path.join(folder, params["_release"])
    link = os.path.join(params["home"], "current")
    target = os.path.join("releases", params["_release"])
    before = engine.link_target(link)
    installed = os.path.isdir(final)
    result = {
        "release": params["_release"],
        "previous": os.path.basename(before or ""),
        "changed": not installed or before != target,
        "removed": [],
        "diff": {"before": f"{before or ''}\n", "after": f"{target}\n"},
    }
    try:
        result["removed"] = deployments.surplus_of(params["home"], folder, params["_release"], params["keep"])
    except engine.ReleaseError as error:
        module.fail_json(msg=str(error))
    result["changed"] = result["changed"] or bool(result["removed"])
    if not installed and not params["_archive"] and not module.check_mode:
        module.exit_json(needs_archive=True, **result)
    try:
        result["changed"] = prepare_root(params, module.check_mode) or result["changed"]
        if module.check_mode:
            module.exit_json(**result)
        if not installed:
            install(folder, final, params["_archive"])
        if before != target:
            engine.switch(link, target)
    except KeyError as error:
        if module.check_mode:
            module.exit_json(**{**result, "changed": True})
        module.fail_json(msg=f"{error.args[0]}: create the service user and group first (role web2py does)")
    except (engine.ReleaseError, OSError, subprocess.SubprocessError) as error:
        module.fail_json(
            msg=f"release {params['_release']} was not installed, {before or 'nothing'} stays current: {error}"
        )
    for name in result["removed"]:
        shutil.rmtree(os.path.join(folder, name))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
