# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import ssl

import pytest
from browser import Site, address_of


@pytest.fixture
def site(host):
    machine = host.backend.host
    context = ssl.create_default_context(
        cadata=host.file("/etc/ssl/tls_certificate/web2py/fullchain.pem").content_string
    )
    return Site(machine, address_of(machine), context, host)
