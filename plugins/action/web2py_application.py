# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import hashlib
import json
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.web2py.deployment.plugins.plugin_utils import source
from ansible_collections.web2py.deployment.plugins.plugin_utils.release_action import ReleaseAction
from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import web2py


class ActionModule(ReleaseAction):
    """Controller side of module web2py_application."""

    def prepare(self, arguments: dict[str, Any]) -> tuple[str, source.Tree | None]:
        name = arguments.get("name")
        # Before the name becomes part of a path, on either side.
        for problem in web2py.path_problems("", name, arguments.get("writable") or []):
            raise source.SourceError(problem)
        if arguments.get("state", "present") != "present":
            return "", None
        own = arguments.get("source")
        variable = f"source of application {name!r} in web2py_applications" if own else "web2py_source"
        tree = source.read_source(own or arguments.get("framework_source"), variable, source.limits(arguments))
        tree = source.application(tree, str(name), bundled=not own)
        if arguments.get("settings_file"):
            tree = source.with_model(tree, str(arguments["settings_file"]))
            if boolean(arguments.get("tickets", False)):
                tree = source.with_ticket_storage(tree, str(arguments["settings_file"]))
        elif boolean(arguments.get("tickets", False)):
            tree = source.with_ticket_pages(tree)
        # The links to writable folders are part of a release, so they are part of its identity.
        writable = json.dumps(sorted(arguments.get("writable") or []))
        return hashlib.sha256(f"{tree.digest()} {writable}".encode()).hexdigest()[:12], tree
