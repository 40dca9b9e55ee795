# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Names of variables and roles, and distributions, against what roles document."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.web2py.deployment.plugins.plugin_utils import arguments


def unknown(*variables: str, role: str = "web", allowed: tuple[str, ...] = ("web_port", "web_user")) -> dict:
    return arguments.unknown_variables(role, variables, allowed, ("web_", "web_daemon_", "webber_"))


@pytest.mark.parametrize("name", ["web_port", "__web_ports", "_web_x", "website", "other_web_x", "web", "Web_port"])
def test_names_that_are_options_or_lack_the_prefix_are_silent(name: str) -> None:
    assert unknown(name) == {}


def test_every_misspelled_name_is_reported_with_its_nearest() -> None:
    assert unknown("web_usr", "web_prt", "web_port", "web_prt") == {
        "web_prt": ["web_port"],
        "web_usr": ["web_user"],
    }


def test_the_shared_prefix_does_not_make_names_similar() -> None:
    assert unknown("web_zzzzzz") == {"web_zzzzzz": []}


def test_a_longer_role_name_owns_its_variables() -> None:
    assert unknown("web_daemon_anything") == {}
    assert unknown("web_daemon_anything", role="web_daemon", allowed=()) == {"web_daemon_anything": []}
    assert unknown("webber_x") == {}


def test_an_option_wins_over_a_longer_role_name() -> None:
    """web_daemon_port as an option of role web stays allowed there although a role web_daemon exists."""
    assert unknown("web_daemon_port", allowed=("web_daemon_port",)) == {}


@pytest.mark.parametrize("role", ["tls_certificate", "web2py.deployment.tls_certificate"])
def test_the_role_is_named_short_or_in_full(role: str) -> None:
    assert arguments.short_role_name(role) == "tls_certificate"


@pytest.mark.parametrize("role", ["community.general.x", "deployment.x", "a.b.c.d"])
def test_a_role_of_another_collection_is_refused(role: str) -> None:
    with pytest.raises(AnsibleActionFail, match=r"web2py\.deployment"):
        arguments.short_role_name(role)


@pytest.mark.parametrize("role", ["absent", "../web2py", ""])
def test_a_role_that_does_not_exist_is_refused_with_those_that_do(role: str) -> None:
    with pytest.raises(AnsibleActionFail, match="apache_proxy, apache_site, apache_wsgi, haproxy"):
        arguments.documented_options(role)


def test_a_filter_takes_what_the_role_documents() -> None:
    (found,) = arguments.documented("web2py", "web2py_applications", [{"name": "shop", "exposed": "no"}])
    assert found == {"name": "shop", "state": "present", "exposed": False, "writable": [], "purge": False}
    with pytest.raises(ValueError, match="exposed is 'perhaps'; it must be true or false"):
        arguments.documented("web2py", "web2py_applications", [{"name": "shop", "exposed": "perhaps"}])


DEBIAN = [{"name": "Debian", "versions": ["bookworm", "trixie"]}]


@pytest.mark.parametrize(
    ("platforms", "facts", "found"),
    [
        (DEBIAN, {"distribution": "Debian", "distribution_release": "trixie"}, None),
        ([], {}, None),
        (
            DEBIAN,
            {"distribution": "Debian", "distribution_release": "buster", "distribution_version": "10.1"},
            "is Debian 10.1;",
        ),
        (DEBIAN, {"distribution": "Fedora", "distribution_release": "", "distribution_version": "43"}, "is Fedora 43;"),
        (DEBIAN, {}, "is unknown;"),
    ],
)
def test_the_distribution_is_one_of_those_in_the_meta_data(platforms: list, facts: dict, found: str | None) -> None:
    problem = arguments.platform_problem(platforms, facts)
    assert (problem == "") if found is None else (f"{found} it must be Debian bookworm or trixie." in problem)
