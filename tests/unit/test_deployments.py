# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The history of a web host: what is remembered, and where it goes back to."""

from __future__ import annotations

import json
import os
import pathlib
import shutil

import pytest
from ansible_collections.web2py.deployment.plugins.module_utils import deployments, release
from ansible_collections.web2py.deployment.plugins.modules import web2py_release
from ansible_collections.web2py.deployment.plugins.plugin_utils import rollback
from hypothesis import given
from hypothesis import strategies as st


def snapshot(framework, **applications):
    return {"framework": framework, "applications": applications}


V1, V2, V3, V4 = (snapshot("3.3.3-a", shop=f"v{number}") for number in range(1, 5))


def always(_snapshot):
    return True


class Machine:
    """A host's folders, and what the playbooks do to them."""

    def __init__(self, folder):
        self.home, self.root = str(folder / "opt"), str(folder / "var")
        os.makedirs(f"{self.home}/releases")
        os.makedirs(f"{self.root}/applications")

    def host(self, check=False):
        return web2py_release.Host({"home": self.home, "root": self.root}, check)

    def deploy(self, found):
        """As the modules that install releases do: only the links count here."""
        os.makedirs(f"{self.home}/releases/{found['framework']}", exist_ok=True)
        release.switch(f"{self.home}/current", f"releases/{found['framework']}")
        for name, version in found["applications"].items():
            folder = deployments.application_folder(self.home, name, version)
            os.makedirs(folder, exist_ok=True)
            release.switch(f"{self.root}/applications/{name}", folder)

    def release(self, found):
        self.deploy(found)
        self.host().record(None)

    def roll_back(self, target=None):
        self.host().go_back(target)
        self.host().record(None)

    @property
    def now(self):
        return deployments.present(self.home, self.root)

    @property
    def passed(self):
        return deployments.read(self.home).passed


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


class TestRecorded:
    def test_what_passed_is_added_once(self, machine):
        machine.release(V1)
        assert machine.passed == [V1] and machine.host().settled
        assert machine.host().record(None)[0] is False
        machine.release(V2)
        assert machine.passed == [V1, V2]

    def test_the_file_is_read_by_all_and_written_by_root_in_one_step(self, machine):
        machine.release(V1)
        assert os.listdir(machine.home).count(deployments.FILE) == 1
        assert not [name for name in os.listdir(machine.home) if name.startswith(".")]
        assert os.stat(f"{machine.home}/{deployments.FILE}").st_mode & 0o777 == 0o644

    def test_check_mode_writes_nothing(self, machine):
        assert machine.host(check=True).record(3)[0] is True
        machine.deploy(V1)
        assert machine.host(check=True).record(3)[0] is True
        assert not os.path.exists(f"{machine.home}/{deployments.FILE}")

    def test_on_a_host_without_web2py_there_is_nothing_to_remember(self, machine):
        with pytest.raises(release.ReleaseError, match=r"site\.yml first"):
            machine.host().record(None)

    def test_links_that_somebody_else_made_do_not_count(self, machine, tmp_path):
        machine.deploy(V1)
        os.symlink(tmp_path, f"{machine.root}/applications/by_hand")
        os.makedirs(f"{machine.root}/applications/folder")
        assert machine.now == V1

    def test_a_switch_after_the_check_is_noticed(self, machine):
        machine.release(V1)
        future = 1 + os.stat(f"{machine.home}/{deployments.FILE}").st_mtime
        release.switch(f"{machine.home}/current", "releases/3.3.3-a")
        os.utime(f"{machine.home}/current", (future, future), follow_symlinks=False)
        assert not machine.host().settled
        machine.deploy(V2)
        assert not machine.host().settled

    def test_snapshots_whose_code_is_gone_are_forgotten(self, machine):
        for found in (V1, V2, V1, V3):
            machine.release(found)
        shutil.rmtree(deployments.application_folder(machine.home, "shop", "v2"))
        machine.release(V4)
        assert machine.passed == [V1, V3, V4], "two neighbours that are the same are one"

    def test_the_history_has_an_end(self):
        history = deployments.History([snapshot(f"f{number}") for number in range(deployments.MOST)])
        after = deployments.recorded(history, V1, always)
        assert len(after.passed) == deployments.MOST and after.passed[-1] == V1


class TestPrevious:
    def test_any_number_of_times_in_a_row_and_then_an_error(self, machine):
        for found in (V1, V2, V3):
            machine.release(found)
        machine.roll_back()
        assert (machine.now, machine.passed) == (V2, [V1, V2])
        machine.roll_back()
        assert (machine.now, machine.passed) == (V1, [V1])
        with pytest.raises(release.ReleaseError, match=r"no release before web2py 3\.3\.3-a, shop v1 is left"):
            machine.roll_back()
        assert (machine.now, machine.passed) == (V1, [V1])
        machine.release(V4)
        machine.roll_back()
        assert machine.now == V1

    def test_never_to_what_did_not_pass(self, machine):
        machine.release(V1)
        machine.release(V2)
        machine.deploy(V3)
        machine.deploy(V4)
        machine.roll_back()
        assert machine.now == V2

    def test_past_what_is_not_there_any_more(self, machine):
        for found in (V1, V2, V3):
            machine.release(found)
        shutil.rmtree(deployments.application_folder(machine.home, "shop", "v2"))
        machine.roll_back()
        assert (machine.now, machine.passed) == (V1, [V1])

    def test_one_that_was_cut_off_is_done_again(self, machine):
        """Before the switch, in the middle of it, and before the check."""
        both = [snapshot(f"f{number}", a=f"a{number}", b=f"b{number}") for number in range(3)]
        for cut in range(4):
            folder = machine.home + str(cut)
            os.makedirs(folder)
            other = Machine(pathlib.Path(folder))
            for found in both:
                other.release(found)
            other.host().go_back(None)
            for link, target in [
                (f"{other.home}/current", "releases/f2"),
                (f"{other.root}/applications/b", deployments.application_folder(other.home, "b", "b2")),
                (f"{other.root}/applications/a", deployments.application_folder(other.home, "a", "a2")),
            ][:cut]:
                release.switch(link, target)
            assert not other.host().settled
            assert deployments.previous(other.host().history, other.now, other.host().usable) == both[1]
            other.roll_back()
            assert (other.now, other.passed) == (both[1], both[:2])

    def test_one_that_fails_its_check_leaves_the_history(self, machine):
        machine.release(V1)
        machine.release(V2)
        machine.host().go_back(None)
        machine.host().restore()
        assert machine.now == V2 and not machine.host().settled, "it has still to be loaded"
        machine.host().record(None)
        assert machine.passed == [V1, V2] and machine.host().settled

    def test_a_host_that_is_there_already_stays(self, machine):
        machine.release(V1)
        machine.release(V2)
        assert machine.host().go_back(V2)[0] is False
        assert machine.now == V2
        with pytest.raises(release.ReleaseError, match=r"not to web2py 3\.3\.3-a, shop v4"):
            machine.host().go_back(V4)

    def test_check_mode_says_where_and_changes_nothing(self, machine):
        machine.release(V1)
        machine.release(V2)
        host = machine.host(check=True)
        assert host.go_back(None) == (True, V2, V1)
        assert (machine.now, machine.passed, machine.host().settled) == (V2, [V1, V2], True)

    @given(st.lists(st.sampled_from([V1, V2, V3, V4])))
    def test_rollbacks_come_to_an_end(self, releases):
        history = deployments.History()
        for found in releases:
            history = deployments.recorded(history, found, always)
        now = releases[-1] if releases else None
        for _ in range(len(history.passed)):
            target = deployments.previous(history, now, always)
            if target is None:
                break
            history.rollback = target
            history, now = deployments.recorded(history, target, always), target
            assert history.passed[-1] == now
        assert deployments.previous(history, now, always) is None


class TestRestored:
    def test_every_link_goes_back(self, machine):
        machine.release(snapshot("f1", shop="v1", removed="r1", kept="k1"))
        machine.deploy(snapshot("f2", shop="v2", added="a1"))
        os.unlink(f"{machine.root}/applications/removed")
        shutil.rmtree(f"{machine.home}/applications/removed")
        os.unlink(f"{machine.root}/applications/kept")
        assert machine.host(check=True).restore()[0] is True
        assert machine.now["framework"] == "f2"
        assert machine.host().restore()[0] is True
        assert machine.now == snapshot("f1", shop="v1", kept="k1")
        assert machine.host().restore()[0] is False

    def test_where_nothing_has_passed_there_is_nothing_to_go_back_to(self, machine):
        machine.deploy(V1)
        with pytest.raises(release.ReleaseError, match="no release has passed its check"):
            machine.host().restore()

    def test_code_that_is_gone_is_said_before_anything_is_switched(self, machine):
        machine.release(V1)
        machine.deploy(snapshot("f2", shop="v2"))
        shutil.rmtree(deployments.application_folder(machine.home, "shop", "v1"))
        with pytest.raises(release.ReleaseError, match="shop/v1 is not there any more"):
            machine.host().restore()
        assert machine.now == snapshot("f2", shop="v2")


class TestKeep:
    def test_what_a_rollback_needs_stays_before_what_is_newer(self):
        """After v3, v2, v1 by rollbacks, and a new v4."""
        history = deployments.History([V1])
        assert deployments.doomed(history, ["v4", "v3", "v2", "v1"], 2, ["v4"], "shop") == ["v3", "v2"]
        history = deployments.History([V1, V2, V3])
        assert deployments.doomed(history, ["v4", "v3", "v2", "v1"], 3, ["v4"], "shop") == ["v1"]
        assert deployments.doomed(deployments.History(), ["v4", "v3", "v2"], 2, ["v4"], "shop") == ["v2"]

    def test_releases_that_failed_go_first(self):
        history = deployments.History([V1, V2])
        names = ["bad3", "bad2", "bad1", "v2", "v1"]
        assert deployments.doomed(history, names, 3, ["bad3"], "shop") == ["bad2", "bad1"]

    @given(
        st.lists(st.sampled_from([V1, V2, V3, V4])),
        st.permutations(["v1", "v2", "v3", "v4"]),
        st.integers(min_value=1, max_value=5),
    )
    def test_what_runs_and_what_ran_last_always_stay(self, passed, names, keep):
        gone = deployments.doomed(deployments.History(passed), names, keep, [names[0]], "shop")
        assert names[0] not in gone
        assert not passed or passed[-1]["applications"]["shop"] not in gone
        assert len(names) - len(gone) <= max(keep, 2)

    def test_recorded_keeps_no_more_than_asked(self, machine):
        for found in (V1, V2, V3):
            machine.release(found)
        host = machine.host()
        assert host.record(1)[0] is True
        assert sorted(os.path.basename(path) for path in host.removed) == ["v1", "v2"]
        assert os.listdir(f"{machine.home}/applications/shop") == ["v3"]
        assert machine.passed == [V3]
        assert machine.host().record(1)[0] is False


class TestAllHosts:
    def host(self, present, previous):
        return {"present": present, "previous": previous}

    def test_all_go_to_the_same(self):
        hosts = {"web1": self.host(V2, V1), "web2": self.host(V2, V1)}
        assert rollback.rollback_target(hosts) == {"target": V1, "errors": []}

    def test_one_that_is_there_already_stays(self):
        """A rollback that was cut off; and a release that was stopped after the first host."""
        for hosts in (
            {"web1": self.host(V1, None), "web2": self.host(V2, V1)},
            {"web1": self.host(V2, V1), "web2": self.host(V1, None)},
            {"web1": self.host(V1, V1), "web2": self.host(V2, V1)},
        ):
            assert rollback.rollback_target(hosts)["target"] == V1
        hosts = {"web1": self.host(V3, V2), "web2": self.host(V2, V1)}
        assert rollback.rollback_target(hosts)["target"] == V2

    def test_none_is_left(self):
        (error,) = rollback.rollback_target({"web1": self.host(V1, None)})["errors"]
        assert "no release before web2py 3.3.3-a, shop v1 is left" in error and "playbooks/release.yml" in error

    @pytest.mark.parametrize(
        "hosts",
        [
            {"web1": (V3, V2), "web2": (V3, V1)},
            {"web1": (V3, V2), "web2": (V3, None)},
            {"web1": (V1, V2), "web2": (V2, V1)},
        ],
    )
    def test_hosts_that_would_part_are_named(self, hosts):
        found = rollback.rollback_target({name: self.host(*pair) for name, pair in hosts.items()})
        assert found["target"] is None
        assert "web1 has web2py" in found["errors"][0] and "web2 has web2py" in found["errors"][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"passed": [{}]}',
        '{"passed": [{"framework": "../../etc", "applications": {}}]}',
        '{"passed": [{"framework": "a", "applications": {"shop": "a/b"}}]}',
        '{"passed": [], "rollback": "v1"}',
        '{"passed": [], "restored": 1}',
    ],
)
def test_a_file_that_is_no_history_is_refused(text):
    with pytest.raises(release.ReleaseError, match="delete it"):
        deployments.parse(text, "/opt/web2py/deployments.json")


def test_what_is_written_is_read(tmp_path):
    for history in (
        deployments.History(),
        deployments.History([V1], V2, True),
    ):
        deployments.write(str(tmp_path), history)
        assert deployments.read(str(tmp_path)) == history
    assert json.loads((tmp_path / deployments.FILE).read_text())["passed"] == [V1]
