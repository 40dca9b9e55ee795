# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import source
from ansible_collections.web2py.deployment.plugins.plugin_utils.release_action import ReleaseAction


class ActionModule(ReleaseAction):
    """Controller side of module web2py_framework."""

    def prepare(self, arguments: dict[str, Any]) -> tuple[str, source.Tree | None]:
        found = source.read_source(arguments.get("source"), "web2py_source", source.limits(arguments))
        tree, version = source.framework(found)
        return f"{version}-{tree.digest()[:8]}", tree
