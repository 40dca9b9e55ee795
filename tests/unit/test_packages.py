# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The action plugin packages: what it makes of apt's result. The scenarios install with it."""

from __future__ import annotations

import pytest
from ansible_collections.web2py.deployment.plugins.action.packages import apt_arguments, predicted

MISSING = {"failed": True, "msg": "No package matching 'apache2' is available"}
BROKEN = {"failed": True, "msg": "Could not get lock /var/lib/dpkg/lock-frontend"}


def test_check_mode_without_package_lists_predicts_a_change() -> None:
    result = predicted(MISSING, check_mode=True)
    assert result["changed"] is True and "failed" not in result


def test_services_are_left_alone_on_demand() -> None:
    assert apt_arguments(["apache2"], start=False)["policy_rc_d"] == 101
    assert "policy_rc_d" not in apt_arguments(["apache2"], start=True)


@pytest.mark.parametrize(
    ("result", "check_mode"),
    [(MISSING, False), (BROKEN, True), (BROKEN, False), ({"changed": False}, True), ({"changed": True}, False)],
)
def test_everything_else_is_apts_own_result(result: dict, check_mode: bool) -> None:
    assert predicted(result, check_mode) == result
