# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Sites that an ordinary user deploys by SSH and sudo, where every new file is its owner's alone (umask 077)."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import re
import subprocess
import time

import pytest
import testinfra
from browser import PROJECT, Site, machines, play, site_of

HOSTS = {name: testinfra.get_host(f"docker://{name}") for name in machines()}
STRICT = sorted(name for name in HOSTS if "-077-" in name)
ADMIN_PASSWORD = "right horse 443"
SECRETS = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "secrets"
# All files, but what the kernel, the user and the tests have there, and what Debian's own programs made with the umask
# of their unit or of the administrator's shell.
LISTING = """find / /run -xdev -regextype egrep -regex '/(\
dev|home|proc|root|sys|tmp|\
run/(dbus|lock|log|sshd.*|sudo|systemd|udev|user)|\
var/lib/(apt|dpkg|postgresql/\\.ansible|sudo|systemd)|var/log/(apt|journal|sudo|[bw]tmp.*|lastlog.*)|var/tmp\
)' -prune -o -printf '%p\\t%y %U:%G %m\\n'"""


@pytest.fixture(params=STRICT)
def site(request) -> Site:
    return site_of(request.param, HOSTS[request.param], "apache_wsgi")


def ansible(machine: str, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    module = ("--module-name=ansible.builtin.command", f"--args={command}")
    return subprocess.run(["ansible", machine, *module, *arguments], check=False, capture_output=True, text=True)


@pytest.mark.parametrize("name", HOSTS)
def test_the_umask_of_the_user_of_sudo_and_of_services(name):
    umask = "0" + name.split("-")[1]
    assert ansible(name, "sh -c 'id -un; umask'").stdout.splitlines()[1:] == ["operator", umask]
    as_root = "sh -c 'id -un; umask; systemd-run --quiet --pipe --wait sh -c umask'"
    assert ansible(name, as_root, "--become").stdout.splitlines()[1:] == ["root", umask, umask]


@pytest.mark.parametrize("name", STRICT)
def test_only_the_password_makes_the_user_root(name):
    refused = ansible(name, "id", "--become", "--extra-vars=ansible_become_password=wrong")
    assert refused.returncode != 0 and "uid=0" not in refused.stdout + refused.stderr
    refused = ansible(name, "id", "--extra-vars=ansible_user=root")
    assert refused.returncode != 0 and "Permission denied" in refused.stdout + refused.stderr


def test_modes_and_owners_are_those_of_a_host_with_umask_022():
    for name in STRICT:
        strict, usual = (listing(machine) for machine in (name, name.replace("-077-", "-022-")))
        both = strict.keys() & usual.keys()
        assert {path: (strict[path], usual[path]) for path in both if strict[path] != usual[path]} == {}
        of_web2py = re.compile("/(etc|opt)/web2py/")
        assert list(filter(of_web2py.match, strict.keys() ^ usual.keys())) == []
        # Else there was nothing to compare.
        assert len(list(filter(of_web2py.match, both))) > 500
        assert made_by_applications(strict) == made_by_applications(usual)


def listing(machine: str) -> dict[str, str]:
    """Kind, owner and mode of each path, after requests of which applications keep files."""
    assert site_of(machine, HOSTS[machine], "apache_wsgi").add_note("of both", b"attached") == 303
    return dict(line.split("\t") for line in HOSTS[machine].check_output(LISTING).splitlines())


def made_by_applications(found: dict[str, str]) -> set[tuple[str, str]]:
    """Names are random, kinds, owners and modes in each folder are not."""
    below = re.compile(r"(/var/lib/web2py/data/\w+/\w+)/")
    return {(match[1], kept) for path, kept in found.items() if (match := below.match(path))}


def test_pages_sessions_uploads_and_cached_values(site):
    assert site.ask("/").is_web2py_page()
    assert site.ask("/welcome/static/css/bootstrap.min.css").status == 200
    assert site.ask("/admin/default/index", "https").is_login_page()
    assert [site.ask("/notes/default/visits").body for _ in range(2)] == [b"1", b"2"]
    content = os.urandom(3 << 20)
    assert site.add_note("attached", content) == 303
    assert site.attachment("attached") == content
    numbers = [int(site.ask("/notes/default/counter").body) for _ in range(2)]
    assert numbers[1] == numbers[0] + 1


def test_a_ticket_goes_into_the_database_and_onto_admins_page(site, tmp_path):
    answer = site.ask("/faulty/default/controller")
    assert answer.status == 500
    name = re.search(rb"/ticket/faulty/([^\"<]+)", answer.body)[1].decode()
    page = tmp_path / "tickets.html"
    variables = {"tickets_report": str(page)}
    run = play(f"--limit={site.machine}", variables=variables, playbook=PROJECT / "playbooks/tickets.yml")
    assert run.status == 0, run.output[-3000:]
    assert "ZeroDivisionError" in page.read_text()
    assert site.post("/admin/default/index", {"password": ADMIN_PASSWORD}, "https").status == 303
    shown = site.ask(f"/admin/default/ticketdb/faulty/{name}", "https")
    assert shown.status == 200 and b"ZeroDivisionError" in shown.body


def test_a_backup_brings_the_database_back(site):
    assert site.add_note("before the accident") == 303
    run = play(f"--limit={site.machine}", playbook=PROJECT / "playbooks/backup.yml")
    assert run.status == 0, run.output[-3000:]
    site.run("cd / && runuser -u postgres -- psql -qc 'DROP DATABASE notes WITH (FORCE)'")
    assert site.fresh().ask("/notes/default/index").status == 500
    variables = {"restore_database": "notes"}
    run = play(f"--limit={site.machine}", variables=variables, playbook=PROJECT / "playbooks/restore.yml")
    assert run.status == 0, run.output[-3000:]
    assert b"before the accident" in site.fresh().ask("/notes/default/index").body


def command_lines() -> set[bytes]:
    """Of all processes here; those of containers are among them."""
    found = set()
    for process in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(process.read_bytes())
    return found


def test_a_second_run_changes_nothing_and_shows_no_password():
    variable = "--args=var=ansible_become_password"
    shown = subprocess.check_output(["ansible", STRICT[0], "--module-name=ansible.builtin.debug", variable], text=True)
    of_sudo = re.search(r"ansible_become_password: (.+)", shown)[1]
    made = [file.read_text().strip() for file in SECRETS.iterdir() if not file.name.startswith(".")]
    assert made
    lines: set[bytes] = set()
    # Ansible's default, with which modules are files that root and postgres have to read.
    copied = {"ANSIBLE_PIPELINING": "false"}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(play, f"--limit={','.join(STRICT)}", "-vvv", "--diff", environment=copied)
        while not running.done():
            lines |= command_lines()
            time.sleep(0.2)
    run = running.result()
    assert (run.status, run.changed_tasks()) == (0, []), run.output[-3000:]
    assert any(b"sudo via ansible" in line and b"sh -c" not in line for line in lines)
    for secret in (of_sudo, ADMIN_PASSWORD, *made):
        assert secret not in run.output
        assert [line for line in lines if secret.encode() in line] == []
