#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long a run of the site playbook takes that changes nothing, for clusters of several sizes; for docs/cluster.md.

python3 tests/lab/lab.py run python3 benchmarks/site_run.py [2 8 20]

Web hosts are containers of this machine. The first one is deployed, the others are copies of it.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

PROJECT = pathlib.Path(__file__).resolve().parents[1]
IMAGE = "web2py-deployment-lab:benchmark"
OTHERS = {"web2py_database": "benchmark-database", "web2py_balancer": "benchmark-balancer"}


def inventory(folder: pathlib.Path, webs: list[str], copies: bool) -> list[str]:
    """One site with so many web hosts; JSON is YAML."""
    hosts = {name: {"docker_image": IMAGE} if copies and name != webs[0] else {} for name in webs}
    certificate = {"name": "web2py", "provider": "ca", "subject_alt_names": ["DNS:probe.example"]}
    database = {
        "name": "database",
        "provider": "ca",
        "subject_alt_names": ["DNS:benchmark-database"],
        "key_group": "postgres",
        "key_mode": "0640",
        "reload": ["postgresql.service"],
    }
    groups = {
        "all": {
            "vars": {
                "web2py_source": {"path": "{{ lab_web2py }}"},
                "web2py_server_names": ["probe.example"],
                "web2py_secrets_directory": str(folder / "secrets"),
                "web2py_database_ca_file": str(folder / "ca/ca.pem"),
                "tls_certificate_ca_directory": str(folder / "ca"),
            }
        },
        "debian12": {"hosts": {**hosts, **{name: {} for name in OTHERS.values()}}},
        "web2py_web": {
            "hosts": {key: {} for key in webs},
            "vars": {
                "tls_certificate_certificates": [certificate],
                "web2py_applications": [
                    {
                        "name": "notes",
                        "source": {"path": str(PROJECT / "docs/examples/notes")},
                        "database": {},
                        "sessions": "database",
                        "uploads": "database",
                        "tickets": "database",
                    },
                    {"name": "welcome", "sessions": "cookie"},
                ],
            },
        },
        "web2py_database": {
            "hosts": {OTHERS["web2py_database"]: {}},
            "vars": {"postgresql_memory": 512, "tls_certificate_certificates": [database]},
        },
        "web2py_balancer": {
            "hosts": {OTHERS["web2py_balancer"]: {}},
            "vars": {"haproxy_https_port": 0, "haproxy_certificates": []},
        },
    }
    path = folder / f"{len(webs)}.yml"
    path.write_text(json.dumps(groups))
    return [f"--inventory={PROJECT / 'molecule/shared/inventory'}", f"--inventory={path}"]


def play(name: str, *arguments: str) -> tuple[float, str]:
    started = time.monotonic()
    settings = {"ANSIBLE_PIPELINING": "1", "ANSIBLE_GATHERING": "smart", "ANSIBLE_FORKS": "20", "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        ["ansible-playbook", *arguments, str(PROJECT / name)],
        env={**os.environ, **settings},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit("\n".join(re.findall(r"^(?:fatal|failed): .*$", done.stdout, re.MULTILINE)) + done.stderr[-2000:])
    return time.monotonic() - started, done.stdout


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or [2, 8, 20]
    machines = [*OTHERS.values(), *(f"benchmark-web{number:02}" for number in range(1, max(sizes) + 1))]
    print("| web hosts | tasks | a run without a change |\n|---|---|---|")
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            first = inventory(folder, machines[2:3], copies=False)
            play("molecule/shared/create.yml", *first)
            play("playbooks/site.yml", *first)
            subprocess.run(["docker", "commit", machines[2], IMAGE], check=True, stdout=subprocess.DEVNULL)
            for size in sizes:
                site = inventory(folder, machines[2 : 2 + size], copies=True)
                play("molecule/shared/create.yml", *site)
                play("playbooks/site.yml", *site)
                seconds, output = play("playbooks/site.yml", *site)
                changed = sum(map(int, re.findall(r"changed=(\d+)", output)))
                tasks = len(re.findall(r"^TASK \[", output, re.MULTILINE))
                print(f"| {size} | {tasks} | {seconds:.0f} s, changed={changed} |", flush=True)
    finally:
        subprocess.run(["docker", "rm", "--force", *machines], check=False, capture_output=True)
        subprocess.run(["docker", "image", "rm", IMAGE], check=False, capture_output=True)


if __name__ == "__main__":
    main()
