# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils import source
from ansible_collections.web2py.deployment.plugins.plugin_utils.release_action import ReleaseAction

# One copy of this code serves the modules and the web hosts.
MODULE_UTILS = Path(__file__).resolve().parents[1] / "module_utils"
# What the modules of the collection need as well.
SHARED = ("pickles.py", "tickets/*.py")


class ActionModule(ReleaseAction):
    """Controller side of module web2py_runtime."""

    def prepare(self, arguments: dict[str, Any]) -> tuple[str, source.Tree | None]:
        tree = source.read_directory(str(arguments.get("path")))
        if not tree.has("wsgi.py"):
            raise source.SourceError(f"path: {arguments.get('path')} has no wsgi.py")
        for path in (path for pattern in SHARED for path in MODULE_UTILS.glob(pattern)):
            name = path.relative_to(MODULE_UTILS).as_posix()
            tree.entries[f"web2py_runtime/{name}"] = source.Entry.of(path.read_bytes())
        return tree.digest()[:12], tree
