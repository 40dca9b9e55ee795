# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import pathlib
import sys

import pytest
from browser import machines

# The tests share a module beside them, which pytest in this mode of import leaves out of its path.
sys.path.insert(0, str(pathlib.Path(__file__).parent))

from balancers import Balancer, balancer_of, restore


@pytest.fixture
def balancer(host):
    """The balancer of one machine; a test that takes it runs once for each."""
    found = balancer_of(host.backend.host)
    restore(found)
    found.wait_for_all()
    return found


@pytest.fixture
def balancers() -> list[Balancer]:
    """The balancers of all machines, for tests around one run of the playbook."""
    return [balancer_of(name) for name in machines()]
