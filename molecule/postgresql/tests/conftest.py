# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

import dataclasses
import shlex

import pytest
import testinfra
from browser import machines

UNIT = "postgresql@*-main.service"


@dataclasses.dataclass
class Server:
    """The server of one machine, and who may be a client of it."""

    name: str
    host: object

    def run(self, command: str) -> str:
        return self.host.check_output(command)

    def ask(self, statement: str, database: str = "postgres") -> str:
        """As the superuser on the machine itself."""
        return self.run(
            f"cd / && runuser -u postgres -- psql -XAtqc {shlex.quote(statement)} {connection(dbname=database)}"
        )

    def pid(self) -> str:
        return self.run("head -n 1 /var/lib/postgresql/*/main/postmaster.pid").strip()

    def unit(self) -> str:
        (unit,) = self.run("systemctl list-units --plain --no-legend 'postgresql@*-main.service'").split("\n")[:1]
        return unit.split()[0]

    def client(self, statement: str, password: str = "", **parameters: str):
        """From the other machine, with the certificate verified, unless told otherwise."""
        others = [name for name in machines() if name != self.name] or [self.name]
        host = testinfra.get_host(f"docker://{others[0]}")
        host.run(f"mkdir -p /root/ca && printf %s {shlex.quote(self.certificate())} > /root/ca/{self.name}.pem")
        given = {"host": self.name, "sslmode": "verify-full", "sslrootcert": f"/root/ca/{self.name}.pem", **parameters}
        command = f"PGPASSWORD={shlex.quote(password)} psql -XAtqc {shlex.quote(statement)} {connection(**given)}"
        return host.run(command)

    def certificate(self) -> str:
        return self.host.file("/etc/ssl/tls_certificate/database/fullchain.pem").content_string


def connection(**parameters: str) -> str:
    def quoted(value: str) -> str:
        return "'{}'".format(value.replace("\\", "\\\\").replace("'", "\\'"))

    return shlex.quote(" ".join(f"{name}={quoted(value)}" for name, value in parameters.items()))


@pytest.fixture
def server(host) -> Server:
    return Server(host.backend.host, host)


@pytest.fixture
def servers() -> list[Server]:
    return [Server(name, testinfra.get_host(f"docker://{name}")) for name in machines()]
