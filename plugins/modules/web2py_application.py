#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: web2py_application
short_description: Install, update or remove one web2py application
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Puts the code of an application into a folder of its own below O(home)/applications, owned by root and readable
    only by the service group (its static files by everyone), and points the link O(root)/applications/<name> at it
    in one atomic step.
  - What the application collects (sessions, errors, uploads, cache, databases) lives outside the code in
    O(root)/data/<name>, readable only by the service user, and survives every update.
  - The source is read, checked and packed on the controller; nothing is sent when the host has that code already.
options:
  name:
    description: Name of the application; letters, digits and underscores, which is what web2py routes.
    type: str
    required: true
  state:
    description:
      - V(present) installs or updates the application.
      - V(absent) removes its code; its data is kept unless O(purge) is true.
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - Where the code comes from, as in M(web2py.deployment.web2py_framework); an archive may be a C(.w2p) package.
      - Without it the application is taken from O(framework_source), which has V(admin), V(examples) and V(welcome).
    type: dict
  framework_source:
    description: Source of the framework; used only for an application without O(source).
    type: dict
  writable:
    description:
      - Folders of the application, beside the five of every application, that it must be able to write.
      - The package's content of such a folder is copied once, when the application is first installed.
    type: list
    elements: str
    default: []
  settings_file:
    description:
      - Settings file on the host that connects the application to its database, sessions, uploads and cache. With it
        the release gets one more model, C(models/000_web2py_deployment.py), which runs before the application's own.
    type: path
  tickets:
    description:
      - With O(settings_file), tells admin that the application's tickets are in the database named there, by the file
        C(private/ticket_storage.txt).
      - Without O(settings_file), for the application C(admin), lets it open such databases.
    type: bool
    default: false
  shared:
    description:
      - Folders that several hosts share. They are made in O(shared_root) as the service user, with links to them. Where
        this host already has files of its own in one, the module fails and says what to do.
    type: list
    elements: str
    choices:
      - sessions
      - errors
      - uploads
      - cache
      - databases
    default: []
  shared_root:
    description: Where the file system is mounted that hosts share.
    type: path
    default: /var/lib/web2py/data/web2py-shared
  purge:
    description: With O(state=absent), delete the application's data too. There is no way back.
    type: bool
    default: false
extends_documentation_fragment:
  - web2py.deployment.release
  - web2py.deployment.release.archive
  - web2py.deployment.release.source
seealso:
  - module: web2py.deployment.web2py_framework
  - module: web2py.deployment.web2py_release
"""

EXAMPLES = r"""
- name: Install an application from a directory beside the playbook
  web2py.deployment.web2py_application:
    name: shop
    source:
      path: "{{ playbook_dir }}/applications/shop"

- name: Remove an application but keep its uploads and databases
  web2py.deployment.web2py_application:
    name: shop
    state: absent
"""

RETURN = r"""
release:
  description: Name of the current release's folder; empty when the application is absent.
  returned: success
  type: str
  sample: 5f3a9c2e7b10
previous:
  description: Name of the release that was current before; empty when there was none.
  returned: success
  type: str
  sample: ""
removed:
  description: Folders deleted, because of O(keep) or O(state=absent).
  returned: success
  type: list
  elements: str
  sample: []
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import beneath, deployments
from ansible_collections.web2py.deployment.plugins.module_utils import release as engine


def absent(module, params, code, data, link, result):
    doomed = [path for path in (code, data if params["purge"] else None) if path and os.path.isdir(path)]
    linked = os.path.islink(link)
    if os.path.lexists(link) and not linked:
        module.fail_json(msg=f"{link} is not a link of this collection; remove it by hand")
    result.update(changed=bool(doomed) or linked, release="", removed=doomed)
    result["diff"]["after"] = "\n"
    if not module.check_mode:
        if linked:
            os.unlink(link)
        try:
            for path in doomed:
                beneath.remove(path)
        except OSError as error:
            module.fail_json(msg=f"application {params['name']} is not served any more, but not removed: {error}")
    module.exit_json(**result)


def provide(params, data, name, ids, check):
    """Make a folder for what the application writes: of this host, or one that several share."""
    path = os.path.join(data, name)
    if name not in params["shared"]:
        unshared = engine.unshare(path, params["shared_root"], check)
        if unshared and check:
            return True
        return beneath.ensure_folder(path, *ids, 0o700, check) or unshared
    if os.path.ismount(params["shared_root"]):
        return engine.ensure_shared(path, os.path.join(params["shared_root"], params["name"], name), *ids, check)
    if check:
        return True
    raise engine.ReleaseError(f"{params['shared_root']} is not mounted; the role nfs_shared mounts it")


def install(params, code, data, final, writable, ids):
    uid, gid = ids
    with engine.staging(code) as staged:
        engine.unpack(params["_archive"], staged)
        engine.complete_application(staged)
        engine.own(staged, 0, gid, 0o750, 0o640)
        # Now the service user may read it, which copies this itself.
        for name in params["writable"]:
            source = os.path.join(staged, name)
            if os.path.isdir(source) and not os.path.islink(source):
                engine.seed(source, os.path.join(data, name), uid, gid)
        engine.link_state(staged, data, writable)
        # The web server reads static files itself: it may pass through the application and read those.
        os.chmod(staged, 0o751)
        engine.own(os.path.join(staged, "static"), 0, gid, 0o755, 0o644)
        engine.commit(staged, final)


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "source": {"type": "dict"},
            "framework_source": {"type": "dict"},
            "writable": {"type": "list", "elements": "str", "default": []},
            "settings_file": {"type": "path"},
            "tickets": {"type": "bool", "default": False},
            "shared": {"type": "list", "elements": "str", "choices": list(engine.STATE_FOLDERS), "default": []},
            "shared_root": {"type": "path", "default": "/var/lib/web2py/data/web2py-shared"},
            "purge": {"type": "bool", "default": False},
            **engine.PLACES,
            **engine.SOURCE,
            **engine.ARCHIVE,
        },
        supports_check_mode=True,
    )
    params = module.params
    if fault := engine.fault_of("web2py_application", params):
        module.fail_json(msg=fault)
    code = os.path.join(params["home"], "applications", params["name"])
    data = os.path.join(params["root"], "data", params["name"])
    link = os.path.join(params["root"], "applications", params["name"])
    before = engine.link_target(link)
    result = {
        "changed": False,
        "previous": os.path.basename(before or ""),
        "release": params["_release"],
        "removed": [],
        "diff": {"before": f"{before or ''}\n", "after": f"{os.path.join(code, params['_release'])}\n"},
    }
    if params["state"] == "absent":
        absent(module, params, code, data, link, result)

    final = os.path.join(code, params["_release"])
    writable = [*engine.STATE_FOLDERS, *params["writable"]]
    installed = os.path.isdir(final)
    try:
        result["removed"] = deployments.surplus_of(
            params["home"], code, params["_release"], params["keep"], params["name"]
        )
    except engine.ReleaseError as error:
        module.fail_json(msg=str(error))
    result["changed"] = not installed or before != final or bool(result["removed"])
    try:
        uid, gid = engine.user_id(params["user"]), engine.group_id(params["group"])
    except KeyError as error:
        if not module.check_mode:
            module.fail_json(msg=f"{error.args[0]}: create the service user first (role web2py does)")
        module.exit_json(**{**result, "changed": True})
    if not installed and not params["_archive"] and not module.check_mode:
        module.exit_json(needs_archive=True, **result)
    try:
        changed = [
            beneath.ensure_folder(os.path.dirname(code), 0, gid, 0o751, module.check_mode),
            beneath.ensure_folder(code, 0, gid, 0o751, module.check_mode),
            beneath.ensure_folder(os.path.dirname(data), 0, gid, 0o750, module.check_mode),
            beneath.ensure_folder(data, 0, gid, 0o750, module.check_mode),
            *(provide(params, data, name, (uid, gid), module.check_mode) for name in writable),
        ]
        result["changed"] = result["changed"] or any(changed)
        if module.check_mode:
            module.exit_json(**result)
        if not installed:
            install(params, code, data, final, writable, (uid, gid))
        if before != final:
            engine.switch(link, final)
    except (engine.ReleaseError, OSError) as error:
        module.fail_json(
            msg=f"application {params['name']}: {error}. {'The release before stays in service.' if before else ''}"
        )
    for name in result["removed"]:
        shutil.rmtree(os.path.join(code, name))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
