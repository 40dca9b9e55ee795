# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the two release actions share: ask the host first, send an archive only when it lacks that release."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from ansible.plugins.action import ActionBase

from . import source


class ReleaseAction(ActionBase):
    """Base of the action plugins `web2py_framework` and `web2py_application`."""

    TRANSFERS_FILES = True
    _requires_connection = True

    def prepare(self, arguments: dict[str, Any]) -> tuple[str, source.Tree | None]:
        """Give the name of the release and its tree (none when nothing is installed)."""
        raise NotImplementedError

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        name = f"web2py.deployment.{self._task.action.rsplit('.', 1)[-1]}"
        try:
            release, tree = self.prepare(arguments)
        except source.SourceError as error:
            result.update(failed=True, changed=False, msg=str(error))
            return result
        # Only the controller needs them, and what a module gets is in the host's log: an address may hold a token.
        if "source" in arguments:
            arguments["source"] = {}
        arguments.pop("framework_source", None)
        arguments["_release"] = release
        answer = self._execute_module(module_name=name, module_args=arguments, task_vars=task_vars)
        if answer.pop("needs_archive", False) and tree is not None:
            local = source.packed(tree)
            try:
                folder = self._connection._shell.tmpdir or self._make_tmp_path()
                remote = self._connection._shell.join_path(folder, "release.tar.gz")
                self._transfer_file(local, remote)
                self._fixup_perms2((folder, remote))
                answer = self._execute_module(
                    module_name=name, module_args={**arguments, "_archive": remote}, task_vars=task_vars
                )
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(local)
                self._remove_tmp_path(self._connection._shell.tmpdir)
        answer.pop("invocation", None)
        result.update(answer)
        return result
