# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An application exchanges files of its own writable folder while root installs and removes it, and gains nothing."""

from __future__ import annotations

import pytest
import testinfra
from browser import machines, play
from exchange import DATA, FOLDER, MAKE_CANARIES, MIB, Attack, attacked, empty, look, source

# The whole of it is in scenario release.
ATTACKS = [Attack("folder", 4), Attack("flip", 4), Attack("file", 4), Attack("flip", 40 * MIB)]
# Only the step that works in the application's folders: the rest of a site's play does nothing there.
PLAY = """
- hosts: web2py_web
  gather_facts: false
  become: true
  tasks:
    - web2py.deployment.web2py_application: "{{ item }}"
      loop: "{{ evil }}"
      loop_control: {label: "{{ item.name }}"}
      # The application may spoil its own installation.
      failed_when: false
"""


@pytest.fixture
def installed(tmp_path):
    playbook = tmp_path / "play.yml"
    playbook.write_text(PLAY)

    def run(applications: list[dict]) -> None:
        done = play(variables={"evil": applications}, playbook=playbook)
        assert done.status == 0, done.output[-3000:]

    return run


def test_exchanged_paths_lead_root_nowhere(installed, tmp_path, capsys):
    hosts = {name: testinfra.get_host(f"docker://{name}") for name in machines()}
    applications = [source(attack, tmp_path) for attack in ATTACKS]
    # Its folders have to be there before it can exchange anything in them.
    installed(applications)
    for host in hosts.values():
        for attack in ATTACKS:
            assert host.check_output(f"find {attack.folder}/f1 {attack.folder}/d -printf '%u:%g %m\n'").split("\n") == [
                "web2py:web2py 600",
                "web2py:web2py 700",
                "web2py:web2py 600",
            ]
        host.check_output(MAKE_CANARIES)
    before = {name: look(host) for name, host in hosts.items()}
    steps = {f"release {version}": [source(attack, tmp_path, version) for attack in ATTACKS] for version in (2, 3)}
    steps["removal"] = [
        {"name": attack.application, "state": "absent", "purge": True, "writable": [FOLDER]} for attack in ATTACKS
    ]
    succeeded = 0
    for step, arguments in steps.items():
        for name, host in hosts.items():
            empty(host, ATTACKS)
            with attacked(name, ATTACKS) as said:
                installed(arguments)
            with capsys.disabled():
                print(f"\n{name}, {step} (tries, of which succeeded): {', '.join(said)}")
            assert look(host) == before[name], step
            succeeded += sum(int(line.split()[-1]) for line in said)
    assert succeeded > 100 * len(hosts), "the application exchanged next to nothing"
    for name, host in hosts.items():
        # What fought against its removal is removed by the next run.
        installed(steps["removal"])
        assert host.run(f"ls -d {DATA}/evil_*").stdout == "", name
        host.check_output("rm -r /etc/canaries")
