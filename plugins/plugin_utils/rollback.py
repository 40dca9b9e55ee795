# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where several web hosts go back to together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.web2py.deployment.plugins.module_utils.deployments import Snapshot, describe, nothing_before


def rollback_target(hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The one snapshot that all hosts go back to; a host that has it already, after a run that was cut off, stays.

    For each host its result of the module `web2py_release`. Where there is no such snapshot, `errors` says why.
    """
    candidates: list[Snapshot] = []
    for host in hosts.values():
        snapshot = host.get("previous")
        if (
            snapshot
            and snapshot not in candidates
            and all(snapshot in (other.get("previous"), other.get("present")) for other in hosts.values())
        ):
            candidates.append(snapshot)
    if len(candidates) == 1:
        return {"target": candidates[0], "errors": []}
    if hosts and not any(host.get("previous") for host in hosts.values()):
        return {"target": None, "errors": [nothing_before(host.get("present") for host in hosts.values())]}
    found = [
        f"{name} has {describe(host.get('present'))} and would go back to {describe(host.get('previous'))}"
        for name, host in hosts.items()
    ]
    return {
        "target": None,
        "errors": [
            f"the web hosts would not go back to one and the same release: {'; '.join(found)}. Deploy the release that "
            "you want on all of them with playbooks/release.yml"
        ],
    }
