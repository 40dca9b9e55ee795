# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest
import testinfra
from browser import Site, site_of
from machines import Machine


@pytest.fixture(scope="session")
def webs() -> list[Machine]:
    return [Machine("cluster-web1"), Machine("cluster-web2")]


@pytest.fixture(scope="session")
def storage() -> Machine:
    return Machine("cluster-storage")


@pytest.fixture(scope="session")
def database():
    return testinfra.get_host("docker://cluster-database")


@pytest.fixture(scope="session")
def cache():
    return testinfra.get_host("docker://cluster-cache")


@pytest.fixture(scope="session")
def balancer():
    return testinfra.get_host("docker://cluster-balancer")


@pytest.fixture
def site(balancer) -> Site:
    return site_of("cluster-balancer", balancer, "apache_wsgi")
