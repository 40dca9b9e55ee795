# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Applications exchange files of their own while root deploys, releases, goes back, removes and retires."""

from __future__ import annotations

import pytest
from browser import PROJECT, play
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


def test_exchanged_paths_lead_root_nowhere(site, tmp_path, capsys):
    run = play(variables=site(1))
    assert run.status == 0, run.output[-3000:]
    for attack in ATTACKS:
        brought = HOST.check_output(f"find {attack.folder}/ -mindepth 1 -type f -printf '%P %u %m %s\n' | sort")
        size = max(1, attack.size // 4)
        assert brought.splitlines() == [f"{name} web2py 600 {size}" for name in ("d/payload", "f1", "f2", "f3")]
    HOST.check_output(MAKE_CANARIES)
    before = look(HOST)
    tries = succeeded = 0
    release, rollback = (PROJECT / "playbooks" / name for name in ("release.yml", "rollback.yml"))
    absent = {"state": "absent", "purge": True}
    # What is attacked, the play, and whether an application can make it fail: only where its own folder is filled.
    steps = [
        ("site", True, lambda: play(variables=site(2))),
        ("release", True, lambda: play(variables=site(3), playbook=release)),
        ("rollback", False, lambda: play(variables=site(3), playbook=rollback)),
        ("removal", True, lambda: play(variables=site(3, **absent))),
        ("retirement", False, lambda: play(*inventories(tmp_path, retired=True), variables=site(3, **absent))),
    ]
    for step, may_fail, work in steps:
        if step == "rollback":
            # Attacks above may have failed the release of one host: now all have the same previous one.
            for number in (4, 5):
                run = play(variables=site(number), playbook=release)
                assert run.status == 0, run.output[-3000:]
        if step in ("site", "release"):
            empty(HOST, ATTACKS)
        with attacked(LEAVING, ATTACKS) as said:
            run = work()
        with capsys.disabled():
            print(f"\n{step}, {run.seconds:.0f} s (tries, of which succeeded): {', '.join(said)}")
        assert look(HOST) == before, step
        assert run.status == 0 or may_fail, run.output[-3000:]
        tries += len(ATTACKS)
        succeeded += sum(int(line.split()[-1]) > 0 for line in said if line.split()[-1].isdecimal())
    assert tries >= 20 and succeeded >= 20, (tries, succeeded)
    # Nothing of the applications is left, nor are attackers in the way.
    assert HOST.run(f"ls -d {DATA}/evil_*").stdout == "" or play(variables=site(3, **absent)).status == 0
    assert FOLDER not in HOST.check_output(f"ls {DATA}/*")
    HOST.check_output("rm -r /etc/canaries")
