# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The sites of a scenario that has a web host of each distribution, web12 and web13; its conftest.py links to this."""

from __future__ import annotations

import os
import pathlib

import pytest
import testinfra
from browser import Site, site_of

SCENARIO = pathlib.Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"]).name
WEBS = {"debian12": f"{SCENARIO}-web12", "debian13": f"{SCENARIO}-web13"}


def site_on(name: str) -> Site:
    return site_of(name, testinfra.get_host(f"docker://{name}"), "apache_wsgi")


@pytest.fixture(params=WEBS.values(), ids=WEBS.keys())
def site(request) -> Site:
    return site_on(request.param)


@pytest.fixture
def web(site):
    return site.host


@pytest.fixture
def sites() -> list[Site]:
    return [site_on(name) for name in WEBS.values()]
