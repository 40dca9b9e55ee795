# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pytest
import testinfra
from browser import Site, machines, site_of


@pytest.fixture
def site(host) -> Site:
    """The site of one machine; a test that takes it runs once for each."""
    return site_of(host.backend.host, host)


@pytest.fixture
def sites() -> list[Site]:
    """The sites of all machines, for tests around one run of the playbook."""
    return [site_of(name, testinfra.get_host(f"docker://{name}")) for name in machines()]
