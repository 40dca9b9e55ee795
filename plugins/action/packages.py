# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

# Package lists that are older than this are fetched again.
LISTS_VALID_SECONDS = 3600


def apt_arguments(name: list[str], start: bool) -> dict[str, Any]:
    """Return what M(ansible.builtin.apt) is asked for."""
    return {
        "name": name,
        "install_recommends": False,
        "update_cache": True,
        "cache_valid_time": LISTS_VALID_SECONDS,
        # invoke-rc.d(8): 101 forbids what a package would do to services.
        **({} if start else {"policy_rc_d": 101}),
    }


def predicted(result: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """Return the result of M(ansible.builtin.apt), corrected where check mode could not know better."""
    if check_mode and result.get("failed") and "No package matching" in result.get("msg", ""):
        return {"changed": True, "msg": "Would fetch the package lists and install what is missing."}
    return result


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "name": {"type": "list", "elements": "str", "required": True},
                "start": {"type": "bool", "default": True},
            }
        )
        done = self._execute_module(
            module_name="ansible.builtin.apt",
            module_args=apt_arguments(**arguments),
            task_vars=task_vars,
        )
        result.update(predicted(done, self._task.check_mode))
        return result
