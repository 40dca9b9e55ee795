# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.web2py.deployment.plugins.plugin_utils.arguments import (
    documented_options,
    platform_problem,
    role_prefixes,
    short_role_name,
    supported_platforms,
    unknown_message,
    unknown_variables,
)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(
            argument_spec={
                "role": {"type": "str", "required": True},
                "also": {"type": "list", "elements": "str", "default": []},
            }
        )
        role = short_role_name(arguments["role"])
        allowed = {*documented_options(role), *arguments["also"]}
        unknown = unknown_variables(role, task_vars or {}, allowed, role_prefixes())

        platform = platform_problem(supported_platforms(role), (task_vars or {}).get("ansible_facts") or {})
        problems = [unknown_message(role, unknown)] if unknown else []
        problems += [platform] if platform else []

        result.update(changed=False, unknown=list(unknown))
        if problems:
            result.update(failed=True, msg="\n".join(problems))
        return result
