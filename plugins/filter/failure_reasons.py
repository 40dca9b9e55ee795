# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: failure_reasons
short_description: Why a task with no_log has failed
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Ansible shows nothing of a failed task with C(no_log). This gives the messages of its result, without secrets, for a
    C(rescue) that fails with them.
options:
  _input:
    description: C(ansible_failed_result).
    type: dict
    required: true
  secrets:
    description:
      - What may be in a message and must not be shown, as further arguments. Of dicts, and of what they hold, the texts
        count whose key has C(password) or C(key) in it.
    type: raw
"""

EXAMPLES = r"""
reasons: "{{ ansible_failed_result | web2py.deployment.failure_reasons(postgresql_users) }}"
"""

RETURN = r"""
_value:
  description: The messages, in a loop with the label of each item that failed.
  type: str
  sample: "******** is no password"
"""

from collections.abc import Iterator, Mapping
from typing import Any


def secrets_in(value: Any, secret: bool = False) -> Iterator[str]:
    if isinstance(value, str):
        # A shorter one would be found in words.
        if secret and len(value) >= 4:
            yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_in(item, "password" in str(key) or "key" in str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from secrets_in(item, secret)


def failure_reasons(result: Mapping[str, Any], *secrets: Any) -> str:
    reasons = []
    for one in result.get("results") or [result]:
        if one is not result and not (one.get("failed") or one.get("unreachable")):
            continue
        label = one.get("_ansible_item_label", one.get("item"))
        text = str(one.get("msg") or "no reason was given").strip()
        reasons.append(f"{label}: {text}" if isinstance(label, (str, int)) else text)
    message = "; ".join(dict.fromkeys(reasons)) or str(result.get("msg") or "no reason was given")
    for secret in sorted(secrets_in(list(secrets)), key=len, reverse=True):
        message = message.replace(secret, "********")
    return message


class FilterModule:
    def filters(self):
        return {"failure_reasons": failure_reasons}
