# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Root does nothing by path in a tree that a service user can write: a call or a task that might is listed here."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.web2py.deployment.plugins.module_utils import beneath, release

REPOSITORY = Path(__file__).resolve().parents[2]

# --- Python that runs on hosts ----------------------------------------------------------------------------------------

# What changes something, or walks, by path.
CALLS = {
    "os": {
        *("chmod", "chown", "lchmod", "lchown", "link", "makedirs", "mkdir", "mkfifo", "mknod", "remove"),
        *("removedirs", "rename", "renames", "replace", "rmdir", "setxattr", "symlink", "truncate", "unlink"),
        *("utime", "walk", "fwalk", "system", "popen"),
    },
    "shutil": {"chown", "copy", "copy2", "copyfile", "copymode", "copystat", "copytree", "move", "rmtree"},
    "subprocess": {"run", "Popen", "call", "check_call", "check_output"},
    "tempfile": {"TemporaryDirectory", "mkdtemp", "mkstemp", "NamedTemporaryFile"},
}
METHODS = {"atomic_move", "set_fs_attributes_if_different", "set_owner_if_different", "set_mode_if_different"}
METHODS |= {"write_text", "write_bytes", "unlink", "rmdir", "mkdir", "touch", "chmod", "symlink_to", "hardlink_to"}
OPT = "below /opt/web2py, which only root writes"
STAGED = "a folder of root's own beside the releases"
USER = "runs as the service user, in beneath.as_user"
RUN = "in /run/web2py.deployment, which only root writes"
# File and function: the calls, and why they are right. `open` stands for one that writes.
SAFE: dict[tuple[str, str], tuple[set[str], str]] = {
    ("module_utils/release.py", "unpack"): ({"os.makedirs", "os.chmod", "os.utime", "os.symlink", "open"}, STAGED),
    ("module_utils/release.py", "staging"): ({"shutil.rmtree", "tempfile.mkdtemp"}, STAGED),
    ("module_utils/release.py", "commit"): ({"os.utime", "os.rename"}, STAGED),
    ("module_utils/release.py", "own"): ({"os.walk", "os.chown", "os.chmod"}, f"{STAGED}; of seed, {USER}"),
    ("module_utils/release.py", "provide"): ({"os.makedirs"}, USER),
    ("module_utils/release.py", "copy"): ({"shutil.copytree", "os.unlink"}, USER),
    ("module_utils/release.py", "clear"): ({"shutil.rmtree", "os.unlink"}, USER),
    ("module_utils/release.py", "link_state"): ({"shutil.rmtree", "os.symlink"}, STAGED),
    ("module_utils/release.py", "complete_application"): ({"os.makedirs", "open"}, STAGED),
    ("module_utils/interruption.py", "mark_run"): ({"os.makedirs", "os.unlink"}, RUN),
    ("module_utils/deployments.py", "write"): ({"tempfile.mkstemp", "open", "os.replace", "os.unlink"}, OPT),
    ("module_utils/deployments.py", "switch_all"): ({"os.unlink"}, "a link in /var/lib/web2py/applications, root's"),
    ("module_utils/check.py", "processes"): ({"os.walk"}, "reads /sys/fs/cgroup"),
    ("modules/web2py_application.py", "install"): ({"os.chmod"}, STAGED),
    ("modules/web2py_application.py", "absent"): ({"os.unlink"}, "a link in /var/lib/web2py/applications, root's"),
    ("modules/web2py_application.py", "main"): ({"shutil.rmtree"}, OPT),
    ("modules/web2py_framework.py", "attempt"): ({"tempfile.TemporaryDirectory", "subprocess.run"}, USER),
    ("modules/web2py_framework.py", "install"): ({"subprocess.run"}, STAGED),
    ("modules/web2py_framework.py", "main"): ({"shutil.rmtree"}, OPT),
    ("modules/web2py_runtime.py", "main"): ({"shutil.rmtree"}, OPT),
    ("modules/web2py_release.py", "record"): ({"shutil.rmtree"}, OPT),
}
# They run as the service user, or by descriptors; each says so at its head.
WHOLE_FILES = {"module_utils/beneath.py", "module_utils/tickets/collect.py"}


def written(call: ast.Call) -> str:
    """The name of what is called when it changes something by path, else nothing."""
    match call.func:
        case ast.Attribute(value=ast.Name(id=module), attr=name) if name in CALLS.get(module, ()):
            # With a descriptor of a folder, a name means what it means there.
            by_descriptor = {keyword.arg for keyword in call.keywords} & {"dir_fd", "src_dir_fd"}
            return "" if by_descriptor else f"{module}.{name}"
        case ast.Attribute(attr=name) if name in METHODS:
            return name
        case ast.Name(id="open"):
            mode = next((keyword.value for keyword in call.keywords if keyword.arg == "mode"), None)
            mode = call.args[1] if len(call.args) > 1 else mode
            return "open" if mode is not None and set("wax+") & set(str(ast.literal_eval(mode))) else ""
        case ast.Name(id=name) if name in CALLS["shutil"] | {"walk"}:
            return name
    return ""


def found_in(text: str) -> dict[str, set[str]]:
    """By function: what it calls that changes something by path."""
    found: dict[str, set[str]] = {}

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.Call) and (name := written(node)):
            found.setdefault(function, set()).add(name)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(text), "")
    return found


def host_files() -> Iterator[str]:
    for folder in ("modules", "module_utils"):
        for path in sorted((REPOSITORY / "plugins" / folder).rglob("*.py")):
            yield path.relative_to(REPOSITORY / "plugins").as_posix()


def test_python_on_hosts_changes_by_path_only_what_root_alone_writes():
    found = {
        (name, function): calls
        for name in host_files()
        if name not in WHOLE_FILES
        for function, calls in found_in((REPOSITORY / "plugins" / name).read_text(encoding="utf-8")).items()
    }
    new = {place: calls - SAFE.get(place, (set(), ""))[0] for place, calls in found.items()}
    assert {place: calls for place, calls in new.items() if calls} == {}, "use module_utils/beneath.py, or list it"
    stale = {place: calls - found.get(place, set()) for place, (calls, _why) in SAFE.items()}
    assert {place: calls for place, calls in stale.items() if calls} == {}, "these are gone; take them off the list"


@pytest.mark.parametrize(
    "line",
    [
        "shutil.copytree(a, b)",
        "for x in os.walk(a): pass",
        "os.chown(a, 0, 0)",
        "open(a, 'w')",
        "open(a, mode='ab')",
        "module.atomic_move(a, b)",
        "Path(a).write_text('')",
        "os.replace(a, b)",
        "subprocess.run(['chown', a])",
    ],
)
def test_a_new_call_is_noticed(line):
    assert found_in(f"def new():\n    {line}\n")["new"]
    assert not found_in("def new():\n    os.unlink(a, dir_fd=b)\n    open(a)\n    open(a, 'rb')\n")


# --- Tasks of roles and playbooks -------------------------------------------------------------------------------------

# Trees that the service user writes, as they are called in roles and playbooks: from here on down.
USERS_TREE = re.compile(
    r"(/data\b|/deposit\b|/var/log/web2py|__web2py_log\b|web2py-shared|/instances\b|/private\b|/sessions\b|/errors\b"
    r"|/uploads\b|/cache\b(?!/)|/databases\b|web2py-tickets\b(?!\.)|nfs_shared[_.](absent_)?(exports|mounts)|item\.path"
    r"|__nfs_shared(_unmounted|_stopped|\.mount_marker|\.drop_in_files)|__web2py_daemon\.administered"
    r"|run/web2py-instance)"
)
WEB_ROLES = ("web2py", "web2py_daemon", "nfs_shared", "apache_site", "apache_wsgi", "apache_proxy", "lighttpd_fcgi")
ACTING = (
    "file",
    "copy",
    "template",
    "command",
    "shell",
    "find",
    "lineinfile",
    "blockinfile",
    "unarchive",
    "synchronize",
)
IN_ROOTS = "a name in a folder that only root writes; no content is touched"
IN_ETC = "below /etc"
LISTS = "only lists"
# Role or playbook, and task: why it is right.
SAFE_TASKS = {
    ("web2py", "Create the directories of settings and logs"): IN_ROOTS,
    ("web2py", "Create the folder of the tickets' SQLite database"): IN_ROOTS,
    ("web2py_daemon", "Create the folders of settings"): IN_ROOTS,
    ("web2py_daemon", "Link the site's applications into the roots of administration"): IN_ROOTS,
    ("web2py_daemon", "Find links to applications that are no longer configured"): LISTS,
    ("web2py_daemon", "Set the passwords of the administration"): IN_ROOTS,
    ("web2py_daemon", "Find the roots and passwords of administration"): LISTS,
    ("nfs_shared", "Find files that a mount would hide"): LISTS,
    ("nfs_shared", "Create the folders above the mount points"): IN_ROOTS,
    ("nfs_shared", "Create the mount points"): IN_ROOTS,
    ("nfs_shared", "Make the mount point writable again"): IN_ROOTS,
    ("nfs_shared", "Remove the mount point"): IN_ROOTS,
    ("nfs_shared", "Create the folders above the exported ones"): IN_ROOTS,
    ("nfs_shared", "Create the exported folders"): IN_ROOTS,
    ("nfs_shared", "Make units wait for their mounts"): IN_ETC,
    ("nfs_shared", "Configure the mounts"): IN_ETC,
    ("nfs_shared", "Configure who may mount the folders"): IN_ETC,
    ("nfs_shared", "Remove exports"): IN_ETC,
    (
        "apache_site",
        "Create the folders of the configuration, and take the distribution's default site out of service",
    ): IN_ETC,
    ("tickets.yml", "Write the report as a page and as JSON"): "on the controller, as who runs the playbook",
    ("web2py", "Find what an earlier run has left"): LISTS,
    ("nfs_shared", "Find the mounts of these shares"): LISTS,
    ("nfs_shared", "Find units that wait for these shares"): LISTS,
}


def tasks_in(content: Any) -> Iterator[dict[str, Any]]:
    """All tasks, those in blocks and of plays among them."""
    for entry in content or []:
        if not isinstance(entry, dict):
            continue
        inner = [
            key for key in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers") if key in entry
        ]
        for key in inner:
            yield from tasks_in(entry[key])
        if not inner:
            yield entry


def acts_below(task: dict[str, Any]) -> bool:
    """Whether a task names a tree of the service user to a module that would follow it there."""
    modules = [key for key in task if key.removeprefix("ansible.builtin.") in ACTING]
    if not modules:
        return False
    # What a copied file says is not where it goes.
    arguments = task[modules[0]]
    arguments = {k: v for k, v in arguments.items() if k != "content"} if isinstance(arguments, dict) else arguments
    loops = {key: task.get(key) for key in ("loop", "with_items", "vars")}
    return USERS_TREE.search(f"{arguments} {loops}") is not None


def acting_tasks() -> Iterator[tuple[str, str]]:
    places = [(role, path) for role in WEB_ROLES for path in (REPOSITORY / "roles" / role).glob("*/*.yml")]
    places = [(role, path) for role, path in places if path.parent.name in ("tasks", "handlers")]
    places += [(path.name, path) for path in (REPOSITORY / "playbooks").rglob("*.yml")]
    for name, path in places:
        for task in tasks_in(yaml.safe_load(path.read_text(encoding="utf-8"))):
            if acts_below(task):
                yield name, task["name"]


def test_tasks_act_by_path_only_where_root_alone_writes():
    found = Counter(acting_tasks())
    assert sorted(set(found) - set(SAFE_TASKS)) == [], "do it in a module by beneath.py, or list it"
    assert sorted(set(SAFE_TASKS) - set(found)) == [], "these are gone; take them off the list"


@pytest.mark.parametrize(
    "task",
    [
        {"ansible.builtin.file": {"path": "/var/lib/web2py/data/shop", "recurse": True}},
        {"ansible.builtin.command": "chown -R web2py /var/lib/web2py/data"},
        {"ansible.builtin.copy": {"dest": "{{ item }}"}, "loop": ["{{ __web2py_root }}/data/shop/private/x"]},
        {"ansible.builtin.shell": {"cmd": "rm -rf {{ __web2py_log }}/x"}},
        {"block": [{"ansible.builtin.template": {"dest": "/var/lib/web2py/deposit/x"}}]},
    ],
)
def test_a_new_task_is_noticed(task):
    assert any(acts_below(found) for found in tasks_in([task]))


def test_nothing_recurses():
    """`recurse` sets owners and modes by path, whatever lies below."""
    for path in (REPOSITORY / "roles").glob("*/*/*.yml"):
        if path.parent.name in ("tasks", "handlers"):
            for task in tasks_in(yaml.safe_load(path.read_text(encoding="utf-8"))):
                assert "recurse" not in (task.get("ansible.builtin.file") or {}), (path, task["name"])


def test_units_write_as_root_into_no_folder_of_another_user():
    for path in (REPOSITORY / "roles").glob("web2py*/templates/*.j2"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^Exec\w+=[-@:!]*\+|\]\s*%}\n{{ command }}=\+", text, re.MULTILINE):
            assert not re.search(r"^(Runtime|State|Cache|Logs)Directory=", text, re.MULTILINE), path


# --- The module itself ------------------------------------------------------------------------------------------------

ME = (os.geteuid(), os.getegid())
OTHER = (4711, 4712)
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that another user may pass through; those of pytest are for root alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def test_work_of_another_user_gives_its_result_or_its_error():
    assert beneath.as_user(*OTHER if ME[0] == 0 else ME, lambda: [os.geteuid(), os.getegid(), os.getgroups()]) == (
        [*OTHER, []] if ME[0] == 0 else [*ME, os.getgroups()]
    )
    with pytest.raises(beneath.BeneathError, match="ValueError: invalid literal"):
        beneath.as_user(*ME, lambda: int("wrong"))
    with pytest.raises(beneath.BeneathError, match="gave no result"):
        beneath.as_user(*ME, lambda: os.kill(os.getpid(), 9))
    with pytest.raises(beneath.BeneathError, match="gave no result"):
        beneath.as_user(*ME, object)
    started = time.monotonic()
    with pytest.raises(beneath.BeneathError, match="gave no result"):
        beneath.as_user(*ME, lambda: os.kill(os.getpid(), 19), limit=0.2)
    assert time.monotonic() - started < 5
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@only_root
def test_another_user_cannot_be_left_or_looked_into():
    def work() -> list[str]:
        found = []
        for attempt in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: open("/etc/shadow").close()):
            try:
                attempt()
            except OSError:
                found.append("refused")
        # Who may look into a process is who owns this.
        return [*found, str(os.stat(f"/proc/{os.getpid()}/mem").st_uid)]

    assert beneath.as_user(*OTHER, work) == ["refused"] * 3 + ["0"]


def test_a_folder_is_made_and_corrected(place):
    path = str(place / "a")
    assert beneath.ensure_folder(path, *ME, 0o750, check=True) and not os.path.exists(path)
    assert beneath.ensure_folder(path, *ME, 0o750, check=False)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o750
    assert not beneath.ensure_folder(path, *ME, 0o750, check=False)
    assert beneath.ensure_folder(path, *ME, 0o700, check=True) and stat.S_IMODE(os.stat(path).st_mode) == 0o750
    assert beneath.ensure_folder(f"{path}/b/c", *ME, 0o700, check=True), "check mode on a bare machine"
    with pytest.raises(FileNotFoundError):
        beneath.ensure_folder(f"{path}/b/c", *ME, 0o700, check=False)
    for name, make in (("file", Path.touch), ("link", lambda path: path.symlink_to("a")), ("fifo", os.mkfifo)):
        make(place / name)
        with pytest.raises(beneath.BeneathError, match=f"{name} is not a folder; move it away"):
            beneath.ensure_folder(str(place / name), *ME, 0o700, check=False)


@only_root
@pytest.mark.parametrize("target", ["root's", "/", "../root's"])
def test_root_passes_through_no_folder_of_another_user(place, target):
    """As `static/temp` or `a/b` would have it: a folder to write in a folder to write."""
    (place / "root's").mkdir()
    user = place / "user's"
    user.mkdir()
    os.chown(user, *OTHER)
    (user / "link").symlink_to(target)
    for path in (f"{user}/b", f"{user}/link/b", f"{user}/../user's/b"):
        with pytest.raises(OSError):
            beneath.ensure_folder(path, *OTHER, 0o700, check=False)
    (user / "inner").mkdir()
    with pytest.raises(beneath.BeneathError, match="passes through a folder that user 4711"):
        beneath.remove(f"{user}/inner")
    with pytest.raises(beneath.BeneathError):
        release.switch(f"{user}/link", "elsewhere")
    assert os.listdir(place / "root's") == [] and os.readlink(user / "link") == target
    # A link of root's own leads on.
    (place / "link").symlink_to("root's")
    assert beneath.ensure_folder(str(place / "link/b"), *OTHER, 0o700, check=False)
    assert (place / "root's/b").stat().st_uid == OTHER[0]


@only_root
def test_what_everybody_may_write_leads_root_nowhere(place):
    os.chmod(place, 0o1777)
    (place / "mine").mkdir()
    assert beneath.ensure_folder(str(place / "mine/a"), *OTHER, 0o700, check=False)
    (place / "link").symlink_to("mine")
    with pytest.raises(OSError):
        beneath.ensure_folder(str(place / "link/b"), *OTHER, 0o700, check=False)
    os.chmod(place, 0o777)
    with pytest.raises(beneath.BeneathError):
        beneath.ensure_folder(str(place / "mine/b"), *OTHER, 0o700, check=False)


def test_a_tree_is_removed_whatever_is_in_it(place):
    (place / "kept").write_text("kept")
    tree = place / "tree"
    for name in ("a/b/c", "a/d", "e"):
        (tree / name).mkdir(parents=True)
        (tree / name / "file").touch()
    (tree / "a/link").symlink_to(place)
    (tree / "e/broken").symlink_to("nowhere")
    os.mkfifo(tree / "e/fifo")
    os.link(place / "kept", tree / "e/hard")
    (tree / "a/b").chmod(0)
    # Deeper than a path can be, and than Python goes.
    os.chdir(tree)
    try:
        for _ in range(3000):
            os.mkdir("deep")
            os.chdir("deep")
    finally:
        os.chdir("/")
    beneath.remove(str(tree))
    assert sorted(os.listdir(place)) == ["kept"] and (place / "kept").read_text() == "kept"


@contextlib.contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """What another user does, in a process that is ended at the end of the block."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(OTHER[1])
            os.setuid(OTHER[0])
            work()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@only_root
def test_a_tree_is_removed_while_its_user_exchanges_everything_in_it(place):
    (place / "outside").mkdir()
    (place / "outside/kept").write_text("kept")
    tree = place / "tree"

    def work() -> None:
        while True:
            for number in range(50):
                for name in (str(number), f"{number}/x"):
                    with contextlib.suppress(OSError):
                        os.rename(tree / name, tree / f"{name}.away")
                    with contextlib.suppress(OSError):
                        os.symlink(place / "outside", tree / name)
                    with contextlib.suppress(OSError):
                        os.mkdir(tree / "0/y")

    with meanwhile(work):
        for _ in range(5):
            for number in range(50):
                (tree / str(number) / "x").mkdir(parents=True)
            # The innermost first: what is still root's stays where it is.
            for path in [*sorted(tree.rglob("*"), reverse=True), tree]:
                os.chown(path, *OTHER, follow_symlinks=False)
            beneath.remove(str(tree))
            assert sorted(os.listdir(place)) == ["outside"] and os.listdir(place / "outside") == ["kept"]
            assert (place / "outside").stat().st_uid == 0


@only_root
def test_a_tree_in_which_its_user_goes_on_is_given_up_with_a_reason(place):
    tree = place / "tree"
    tree.mkdir()
    os.chown(tree, *OTHER)

    def work() -> None:
        folder = os.open(tree, os.O_RDONLY)
        while True:
            with contextlib.suppress(OSError):
                os.mkdir("x", dir_fd=folder)
            with contextlib.suppress(OSError):
                inner = os.open("x", os.O_RDONLY, dir_fd=folder)
                os.close(folder)
                folder = inner

    with meanwhile(work):
        while not os.path.exists(tree / "x"):
            time.sleep(0.01)
        started = time.monotonic()
        # Whoever is faster: the tree is gone, or it is said why not.
        try:
            beneath.remove(str(tree), limit=2)
        except beneath.BeneathError as error:
            assert "Stop the services that run as this user" in str(error)
            assert time.monotonic() - started < 10
        else:
            assert os.listdir(place) == []
    if tree.exists():
        beneath.remove(str(tree))
    assert os.listdir(place) == []


def test_a_file_and_a_link_are_removed(place):
    (place / "kept").mkdir()
    (place / "file").touch()
    (place / "link").symlink_to("kept")
    beneath.remove(str(place / "file"))
    beneath.remove(str(place / "link"))
    assert os.listdir(place) == ["kept"]


@only_root
def test_a_copy_that_was_killed_is_made_again(place):
    source, target = place / "source", place / "target"
    source.mkdir()
    (source / "a").write_text("whole")
    (source / "b").write_text("whole")
    release.own(str(source), 0, OTHER[1], 0o750, 0o640)
    target.mkdir()
    for name, content in (("a", "par"), (release.SEEDING, ""), ("own", "of the application")):
        (target / name).write_text(content)
        os.chown(target / name, *OTHER)
    os.chown(target, *OTHER)
    release.seed(str(source), str(target), *OTHER)
    found = {path.name: path.read_text() for path in target.iterdir()}
    assert found == {"a": "whole", "b": "whole", "own": "of the application"}


@only_root
def test_a_pipe_in_place_of_the_mark_or_of_a_file_is_not_waited_for(place):
    source = place / "source"
    source.mkdir()
    (source / "a").write_text("whole")
    release.own(str(source), 0, OTHER[1], 0o750, 0o640)
    for names in ([release.SEEDING], [release.SEEDING, "a"], ["mark", "a"]):
        target = place / "-".join(names)
        target.mkdir()
        for name in names:
            if name == "mark":
                (target / release.SEEDING).touch()
            else:
                os.mkfifo(target / name)
        for path in [target, *target.iterdir()]:
            os.chown(path, *OTHER)
        started = time.monotonic()
        with pytest.raises(beneath.BeneathError, match="could not be filled"):
            release.seed(str(source), str(target), *OTHER)
        assert time.monotonic() - started < 30


@only_root
def test_a_folder_is_filled_once_and_as_its_user(place):
    source, target = place / "source", place / "target"
    (source / "d").mkdir(parents=True)
    (source / "d/file").write_text("1")
    (source / "run").write_text("2")
    (source / "run").chmod(0o750)
    (source / "link").symlink_to("d/file")
    release.own(str(source), 0, OTHER[1], 0o750, 0o640)
    assert beneath.ensure_folder(str(target), *OTHER, 0o700, check=False)
    release.seed(str(source), str(target), *OTHER)
    found = {
        path.name: (path.lstat().st_uid, path.lstat().st_gid, oct(stat.S_IMODE(path.lstat().st_mode)))
        for path in target.rglob("*")
        if not path.is_symlink()
    }
    assert found == {"d": (*OTHER, "0o700"), "file": (*OTHER, "0o600"), "run": (*OTHER, "0o700")}
    assert os.readlink(target / "link") == "d/file"
    (target / "d/file").write_text("changed")
    release.seed(str(source), str(target), *OTHER)
    assert (target / "d/file").read_text() == "changed"


@only_root
def test_a_folder_that_cannot_be_filled_stays_empty(place):
    source, target = place / "source", place / "target"
    source.mkdir()
    (source / "a").write_text("1")
    (source / "secret").write_text("2")
    (source / "secret").chmod(0o600)
    target.mkdir()
    os.chown(target, *OTHER)
    with pytest.raises(beneath.BeneathError, match=r"target could not be filled: .*Permission denied"):
        release.seed(str(source), str(target), *OTHER)
    assert os.listdir(target) == []


def test_a_user_who_is_not_there_is_named():
    with pytest.raises(beneath.BeneathError, match=r"^user is nobody-of-that-name; it must be a user of this host"):
        beneath.account("nobody-of-that-name")


@only_root
def test_no_folder_says_as_whom_tickets_are_read(place):
    """On a share, `sessions` can be a link that leads to a folder of root: its owner would be the one who works."""
    settings, data = place / "settings", place / "data/shop"
    (data / "errors").mkdir(parents=True)
    (data / "errors").chmod(0o700)
    (data / "sessions").symlink_to("/root")
    settings.mkdir()
    tickets = {"database": {}, "duplicates": "keep"}
    (settings / "shop.json").write_text(json.dumps({"application": "shop", "tickets": tickets}))
    arguments = {"settings": str(settings), "data": str(place / "data"), "user": "nobody", "_ansible_check_mode": True}
    done = subprocess.run(
        [sys.executable, REPOSITORY / "plugins/modules/web2py_tickets.py"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        # ansible-test finds Ansible by it.
        env={**os.environ, "PYTHONPATH": f"{Path(beneath.__file__).parents[5]}:{os.environ.get('PYTHONPATH', '')}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert "Permission denied" in json.loads(done.stdout)["errors"]["shop"], done
