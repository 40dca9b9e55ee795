# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Applications exchange files of their own while root deploys, releases, goes back, removes and retires."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser import PROJECT, Run, play
from exchange import DATA, FOLDER, MAKE_CANARIES, MIB, WAYS, Attack, attacked, empty, look, source
from test_scale import LEAVING, inventories
from visitors import WEB

HOST = WEB[LEAVING]
# Each way with trees of one byte a file, and those that need time with trees of 200 MB.
ATTACKS = [Attack(way, 4) for way in WAYS] + [Attack(way, 200 * MIB) for way in ("flip", "folder", "filled")]


@pytest.fixture
def site(version, tmp_path):
    """Variables of a site with the applications that attack; another number is another version of them."""

    def variables(number: int, **more: object) -> dict:
        applications = version("v1")["web2py_applications"]
        # What is exposed on several hosts may not keep its sessions in files.
        applications += [source(attack, tmp_path, number) | {"exposed": False} | more for attack in ATTACKS]
        return {"web2py_applications": applications}

    return variables


@pytest.fixture
def attempt(site, capsys):
    """Run a play while all attacks go on, and compare what lies outside the applications' folders."""
    run = play(variables=site(1))
    assert run.status == 0, run.output[-3000:]
    for attack in ATTACKS:
        brought = HOST.check_output(f"find {attack.folder}/ -mindepth 1 -type f -printf '%P %u %m %s\n' | sort")
        size = max(1, attack.size // 4)
        assert brought.splitlines() == [f"{name} web2py 600 {size}" for name in ("d/payload", "f1", "f2", "f3")]
    HOST.check_output(MAKE_CANARIES)
    before = look(HOST)

    def attempt(step: str, work: Callable[[], Run], *, may_fail: bool, removed: str = " ") -> None:
        with attacked(LEAVING, ATTACKS) as said:
            run = work()
        with capsys.disabled():
            print(f"\n{step}, {run.seconds:.0f} s (tries, of which succeeded): {', '.join(said)}")
        assert look(HOST) == [line for line in before if not line.startswith(removed)], step
        assert run.status == 0 or may_fail, run.output[-3000:]
        succeeded = [line for line in said if line.split()[-1].isdecimal() and int(line.split()[-1]) > 0]
        assert len(succeeded) >= len(ATTACKS) // 2, said

    yield attempt
    HOST.check_output("rm -r /etc/canaries")


def test_exchanged_paths_lead_root_nowhere(attempt, site):
    release, rollback = (PROJECT / "playbooks" / name for name in ("release.yml", "rollback.yml"))
    absent = {"state": "absent", "purge": True}
    # An application can make fail what fills its own folder, or empties it.
    empty(HOST, ATTACKS)
    attempt("site", lambda: play(variables=site(2)), may_fail=True)
    empty(HOST, ATTACKS)
    attempt("release", lambda: play(variables=site(3), playbook=release), may_fail=True)
    # Attacks above may have failed the release of one host: now all have the same previous one.
    for number in (4, 5):
        run = play(variables=site(number), playbook=release)
        assert run.status == 0, run.output[-3000:]
    attempt("rollback", lambda: play(variables=site(5), playbook=rollback), may_fail=False)
    attempt("removal", lambda: play(variables=site(5, **absent)), may_fail=True)
    # Nothing of the applications is left, nor are attackers in the way.
    assert HOST.run(f"ls -d {DATA}/evil_*").stdout == "" or play(variables=site(5, **absent)).status == 0
    assert FOLDER not in HOST.check_output(f"ls {DATA}/*")


def test_exchanged_paths_lead_root_nowhere_on_a_host_that_is_retired(attempt, site, tmp_path):
    arguments = inventories(tmp_path, retired=True)
    program = "/usr/local/sbin/apache2-lossless-reload "
    attempt("retirement", lambda: play(*arguments, variables=site(1)), may_fail=False, removed=program)
    assert HOST.run("systemctl is-active apache2").stdout.strip() == "inactive"
