#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Checks that need no machine. Run it with the Python of the lab's virtual environment."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import role_readme
import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = Path(sys.executable).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "web2py-deployment"
COLLECTION = PurePosixPath("ansible_collections/web2py/deployment")

# All that a user of the collection gets. Whatever else appears in the archive is a mistake.
SHIPPED = {
    *("FILES.json", "MANIFEST.json", "README.md", "CHANGELOG.rst", "CONTRIBUTING.md", "LICENSE"),
    *("changelogs", "docs", "inventories", "meta", "playbooks", "plugins", "roles"),
}

# What the unit tests import besides pytest and ansible-core.
UNIT_TEST_PACKAGES = ("cryptography==", "hypothesis==", "passlib==", "pyyaml==")

# The pip that ansible-test of the pinned ansible-core puts into its virtual environments.
PIP = "24.2"
GET_PIP = f"""\
# Stands in for the script that ansible-test would download: installs pip from the wheel beside this file.
import pathlib, runpy, sys
wheel = str(pathlib.Path(__file__).with_name("pip-{PIP}-py3-none-any.whl"))
options = [wheel if option == "pip=={PIP}" else option for option in sys.argv[1:]]
sys.argv = ["pip", "install", *(option for option in options if option not in ("--no-setuptools", "--no-wheel"))]
sys.path.insert(0, wheel)
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


class GateError(Exception):
    """A gate that is not passed."""


def run(*command: str | Path, cwd: Path = REPOSITORY, **variables: str | Path) -> str:
    """Run a program of the virtual environment, show and return what it says; fail on deprecated Ansible content."""
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_DEPRECATION_WARNINGS": "1",
        "NO_COLOR": "1",
        **{name: str(value) for name, value in variables.items()},
    }
    print("$", *command, flush=True)
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = done.stdout.decode(errors="replace")
    print(output, end="", flush=True)
    if done.returncode:
        raise GateError(f"{command[0]} {command[1]} ended with status {done.returncode}")
    if "[DEPRECATION WARNING]" in output:
        raise GateError(f"{command[0]} {command[1]} met deprecated content")
    return output


def files_of_project() -> Iterator[PurePosixPath]:
    """Every file that is or could be committed, so that a new file is checked before its commit."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return (PurePosixPath(name) for name in listing.split("\0") if name and (REPOSITORY / name).is_file())


def copy(files: Iterable[PurePosixPath], target: Path) -> None:
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / file, target / file)


def refuse_skips() -> None:
    """Fail where a rule of ansible-lint is switched off instead of followed."""
    settings = yaml.safe_load((REPOSITORY / ".ansible-lint").read_text())
    found = [f".ansible-lint: {name}" for name in ("skip_list", "warn_list", "enable_list") if settings.get(name)]
    for file in files_of_project():
        if file.name == ".ansible-lint-ignore":
            found.append(str(file))
        elif file.suffix in {".yml", ".yaml"} and re.search(r"#\s*noqa\b", (REPOSITORY / file).read_text()):
            found.append(f"{file}: noqa")
    if found:
        raise GateError("rules of ansible-lint are switched off in " + ", ".join(found))


def every(*steps: Callable[[], object]) -> None:
    """Take all steps, so that one run shows everything there is to correct; then fail if any has failed."""
    failures = []
    for step in steps:
        try:
            step()
        except GateError as error:
            failures.append(str(error))
    if failures:
        raise GateError("; ".join(failures))


def lint() -> None:
    every(
        # The lab has linked the working tree there; without it offline linting knows no role of the collection.
        lambda: run("ansible-lint", "--offline", ANSIBLE_COLLECTIONS_PATH=REPOSITORY / ".ansible" / "collections"),
        refuse_skips,
        lambda: run("yamllint", "--strict", "."),
        lambda: run("ruff", "check", "."),
        lambda: run("ruff", "format", "--check", "."),
        lambda: run("antsibull-changelog", "lint"),
    )


def prepare_ansible_test(home: Path) -> None:
    """Let ansible-test build its virtual environments from the package index that pip is set up for."""
    cache = home / ".ansible" / "test" / "cache"
    if not (cache / f"pip-{PIP}-py3-none-any.whl").exists():
        cache.mkdir(parents=True, exist_ok=True)
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={cache}", f"pip=={PIP}")
    (cache / f"get_pip_{PIP.replace('.', '_')}.py").write_text(GET_PIP)
    for settings in (".config/pip", ".pip"):  # pip's own, which it looks for in HOME
        link = home / settings
        if (Path.home() / settings).is_dir() and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(Path.home() / settings)


def sanity() -> None:
    # Kept between runs: the virtual environments in it take half a minute.
    home = CACHE / "ansible-test"
    prepare_ansible_test(home)
    with tempfile.TemporaryDirectory() as folder:
        # A copy, because ansible-test follows no link to a collection.
        target = Path(folder) / COLLECTION

        def ansible_test(*arguments: str) -> None:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            run("ansible-test", *arguments, "--color=no", f"--python={version}", cwd=target, HOME=home)

        def content() -> None:
            # Without what roles copy to hosts and applications for web2py: those are programs in their own right.
            files = (file for file in files_of_project() if file.parts[0] in {*SHIPPED, "galaxy.yml"})
            copy((file for file in files if file.parts[2:3] != ("files",) and file.parts[1:2] != ("examples",)), target)
            ansible_test("sanity")

        def units() -> None:
            """The unit tests again, with the loader and the environment that ansible-test gives any collection."""
            copy(files_of_project(), target)
            pins = (REPOSITORY / "tests" / "lab" / "requirements.txt").read_text().splitlines()
            needed = [pin for pin in pins if pin.lower().startswith(UNIT_TEST_PACKAGES)]
            (target / "tests" / "unit" / "requirements.txt").write_text("\n".join(needed))
            ansible_test("units", "--venv", "--requirements")

        every(content, units)


def readme(write: bool) -> None:
    stale = []
    for specification in sorted((REPOSITORY / "roles").glob("*/meta/argument_specs.yml")):
        role = specification.parents[1]
        text, file = role_readme.readme(role), role / "README.md"
        if write:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(str(file.relative_to(REPOSITORY)))
    if stale:
        raise GateError(f"not current: {', '.join(stale)}; run `python tests/gates.py readme --write`")


def check_archive(archive: Path) -> None:
    with tarfile.open(archive) as content:
        members = content.getmembers()
    names = {PurePosixPath(member.name) for member in members if member.isfile()}
    wrong = sorted(
        str(name)
        for name in names
        if name.parts[0] not in SHIPPED or "__pycache__" in name.parts or name.suffix in {".pyc", ".retry"}
    )
    wrong += [
        f"{member.name} (neither file nor folder)" for member in members if not (member.isfile() or member.isdir())
    ]
    missing = sorted(
        str(file)
        for file in files_of_project()
        if file.parts[0] in SHIPPED and file.name != ".gitignore" and file not in names
    ) + sorted(SHIPPED - {name.parts[0] for name in names})
    if wrong or missing:
        raise GateError(f"{archive.name} should not have: {wrong or 'nothing'}; lacks: {missing or 'nothing'}")
    print(f"{archive.name}: {len(names)} files, {archive.stat().st_size // 1024} KiB")


def build() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source, collections = work / "source", work / "collections"
        copy(files_of_project(), source)
        variables: Mapping[str, str | Path] = {
            "ANSIBLE_HOME": work / "home",
            "ANSIBLE_COLLECTIONS_PATH": collections,
        }
        run("ansible-galaxy", "collection", "build", f"--output-path={work}", cwd=source, **variables)
        (archive,) = work.glob("*.tar.gz")
        check_archive(archive)
        # The package ansible in the virtual environment is what provides the collections this one depends on.
        install = ("ansible-galaxy", "collection", "install", "--offline", f"--collections-path={collections}", archive)
        run(*install, cwd=work, **variables)

        installed = collections / COLLECTION
        roles = work / "roles.yml"
        names = [f"web2py.deployment.{role.name}" for role in sorted((installed / "roles").iterdir())]
        roles.write_text(yaml.safe_dump([{"hosts": "all", "roles": names}]))
        examples = sorted((installed / "roles").glob("*/meta/example.yml"))
        for playbook in ("web2py.deployment.site", installed / "playbooks" / "site.yml", roles, *examples):
            check = ("ansible-playbook", "--syntax-check", f"--inventory={installed}/inventories/single", playbook)
            run(*check, cwd=work, **variables)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    gates = parser.add_subparsers(dest="gate", required=True)
    gates.add_parser("lint", help="ansible-lint, yamllint, ruff, changelog fragments")
    gates.add_parser("sanity", help="ansible-test sanity and units")
    gates.add_parser("readme", help="README.md of every role is current").add_argument(
        "--write", action="store_true", help="write them instead"
    )
    gates.add_parser("build", help="the collection's archive: content, installation, syntax of what is in it")
    arguments = vars(parser.parse_args())
    try:
        {"lint": lint, "sanity": sanity, "readme": readme, "build": build}[arguments.pop("gate")](**arguments)
    except GateError as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
