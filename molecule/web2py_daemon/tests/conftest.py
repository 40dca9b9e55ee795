# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import json
import os
import ssl
import subprocess
import time
from collections.abc import Callable

import pytest
from browser import PROJECT, Run, Site, address_of


@pytest.fixture
def site(host) -> Site:
    """The machine of a test, trusting just the certificate that lies there."""
    machine = host.backend.host
    certificate = host.file("/etc/ssl/certs/probe.pem").content_string
    return Site(machine, address_of(machine), ssl.create_default_context(cadata=certificate), host, None)


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
def play(host) -> Callable[..., Run]:
    """Deploys the machine of a test, with other variables where it gives some."""

    def run(*arguments: str, variables: dict | None = None) -> Run:
        started = time.monotonic()
        done = subprocess.run(
            [
                "ansible-playbook",
                f"--limit={host.backend.host}",
                f"--extra-vars={json.dumps(variables or {})}",
                *arguments,
                str(PROJECT / "molecule/web2py_daemon/converge.yml"),
            ],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        )
        return Run(done.returncode, done.stdout, time.monotonic() - started)

    return run
