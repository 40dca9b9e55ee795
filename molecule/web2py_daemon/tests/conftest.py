# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
import testinfra
from browser import Site, address_of, machines


def plain_site(machine: str, host) -> Site:
    certificate = host.file("/etc/ssl/certs/probe.pem").content_string
    return Site(machine, address_of(machine), ssl.create_default_context(cadata=certificate), host, None)


@pytest.fixture
def site(host) -> Site:
    """The machine of a test, trusting just the certificate that lies there."""
    return plain_site(host.backend.host, host)


@pytest.fixture
def on_port() -> Callable[[Site, int], Site]:
    """Gives the same site to helpers that know no ports."""

    def on_port(site: Site, port: int) -> Site:
        other = site.fresh()
        other.connect = lambda scheme, _port=None: site.connect(scheme, port)
        other.fresh = lambda: on_port(site, port)
        return other

    return on_port


@pytest.fixture
def public(site, on_port) -> Site:
    return on_port(site, 8000)


@pytest.fixture
def publics(on_port) -> list[Site]:
    """The public instances of all machines, for tests around one run of the play."""
    return [on_port(plain_site(name, testinfra.get_host(f"docker://{name}")), 8000) for name in machines()]
