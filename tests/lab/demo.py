#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Deploy web2py's welcome application with this collection into a container of this machine, and look at the site."""

from __future__ import annotations

import argparse
import http.client
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping

import lab

MACHINE = "web2py-demo"
HTTP, HTTPS = 8080, 8443
CERTIFICATE = "/etc/ssl/tls_certificate/web2py/fullchain.pem"
PAGE = "Welcome to web2py!"


def play(playbook: str, environment: Mapping[str, str]) -> None:
    inventories = ("inventories/single", "molecule/shared/inventory", "tests/lab/demo")
    ended = subprocess.run(
        ["ansible-playbook", *(f"--inventory={path}" for path in inventories), f"--limit={MACHINE}", playbook],
        cwd=lab.REPOSITORY,
        env={**environment, "ANSIBLE_PIPELINING": "true", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    if ended.returncode:
        raise lab.LabError(f"{playbook} failed, see above; for a look inside: docker exec -it {MACHINE} bash")


def refuse_taken_ports() -> None:
    if lab.succeeds("docker", "container", "inspect", MACHINE):
        return
    for port in (HTTP, HTTPS):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise lab.LabError(f"another program of this machine listens on port {port}; stop it for the demo")


def ask(connection: http.client.HTTPConnection, path: str, status: int, content: str = "") -> str:
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode("utf-8", "replace")
    connection.close()
    scheme = "https" if isinstance(connection, http.client.HTTPSConnection) else "http"
    url = f"{scheme}://{connection.host}:{connection.port}{path}"
    if answer.status != status or content not in text:
        wanted = f"{status}{f' with the text {content!r}' if content else ''}"
        raise lab.LabError(f"{url} answers {answer.status}, expected was {wanted}; it said:\n{text[:1000]}")
    lab.say(f"{url} answers {status}{f', {content!r}' if content else ''}")
    return text


def check_site() -> None:
    # The certificate is the machine's own; taken from there it is verified, not merely accepted.
    trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusted.load_verify_locations(cadata=lab.run("docker", "exec", MACHINE, "cat", CERTIFICATE).stdout)
    for connection in (
        http.client.HTTPConnection("127.0.0.1", HTTP, timeout=60),
        http.client.HTTPSConnection("127.0.0.1", HTTPS, timeout=60, context=trusted),
    ):
        page = ask(connection, "/", 200, PAGE)
        static = re.search(r'"(/welcome/static/[^"]+\.css)"', page)
        if not static:
            raise lab.LabError(f"web2py's page refers to no style sheet of its own:\n{page[:1000]}")
        ask(connection, static[1], 200)
        ask(connection, "/welcome/private/appconfig.ini", 404)
        ask(connection, "/welcome/appadmin", 404)


def start() -> None:
    started = time.monotonic()
    with lab.only_one():
        lab.up()
        environment = lab.environment()
    refuse_taken_ports()
    play("molecule/shared/create.yml", environment)
    play("playbooks/site.yml", environment)
    check_site()
    print(
        f"""
The site is up after {time.monotonic() - started:.0f} seconds:

  http://127.0.0.1:{HTTP}/
  https://127.0.0.1:{HTTPS}/   (its certificate is self-signed: the browser will ask)

Deployed: {lab.web2py()}
Where:    Debian 13 in the container {MACHINE}; a look inside: docker exec -it {MACHINE} bash
Stop it:  make demo-stop
"""
    )


def stop() -> None:
    if lab.succeeds("docker", "container", "inspect", MACHINE):
        lab.run("docker", "rm", "--force", "--volumes", MACHINE)
        print("The demo is removed.")
    else:
        print("The demo is not running.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["start", "stop"])
    arguments = parser.parse_args()
    try:
        {"start": start, "stop": stop}[arguments.command]()
    except (lab.LabError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
