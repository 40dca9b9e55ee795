#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run steps of the test suite, all or those named, and say for each whether it passed and how long it took.

DISTRO=debian12 or DISTRO=debian13 narrows the scenarios, except those whose machines are one site of both
distributions; KEEP=1 leaves their machines up.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import lab

# A step that hangs must not hold a build machine for ever; the longest takes less than half of this. `make test-all`
# and `make scenario`, which run the longest, are more patient.
STEP_LIMIT = 40 * 60

# What fails a step although its program ended well.
FORBIDDEN_OUTPUT = {
    "[DEPRECATION WARNING]": "uses something deprecated",
    "Skipping, no tests found": "has no tests",
}
# These take longest, and begin before the other scenarios: none is left to run alone at the end.
LONG_SCENARIOS = (
    "cluster",
    "release",
    "web2py_daemon",
    "tickets",
    "data",
    "apache_wsgi",
    "apache_proxy",
    "lighttpd_fcgi",
    "postgresql",
    "ssh",
    "frontends",
    "haproxy",
    "tls_certificate",
)
# `make test` leaves these to `make test-all`, to end within an hour: machines with kernels of their own, as in cluster
# and nfs_shared, slow down whatever runs beside them; release runs playbooks two dozen times; ssh deploys two whole
# sites with sudo and a password; and what the others deploy is deployed, asked and removed in frontends, too.
LEFT_OUT = ("apache_proxy", "cluster", "lighttpd_fcgi", "nfs_shared", "release", "ssh", "web2py_daemon")
# `make test` runs these on one distribution each, to end within an hour; `make test-all` on the other one, too.
ONE_DISTRIBUTION = {
    "apache_wsgi": "debian13",
    "apache_proxy": "debian12",
    "lighttpd_fcgi": "debian13",
    "frontends": "debian12",
    "haproxy": "debian12",
    "postgresql": "debian12",
    "ssh": "debian13",
    "tls_certificate": "debian13",
    "web2py_daemon": "debian12",
}
DISTRIBUTIONS = ("debian12", "debian13")
# The machines of these are one site and need each other.
WHOLE_SCENARIOS = ("cluster", "data", "release", "tickets")
# What the newest ansible-core has to pass.
NEWEST = """
newest-python -m pytest --quiet tests/unit &&
ansible-playbook --syntax-check --inventory=inventories/cluster playbooks/*.yml roles/*/meta/example.yml
"""
# Process groups of the steps that run now.
running: set[int] = set()

COLOUR = re.compile(r"\x1b\[[0-9;]*m")
HEADING = re.compile(r"(?:TASK|RUNNING HANDLER) \[|=====")
# Where Ansible or pytest says what failed. The summary repeats it: of a long output often only the end is kept.
CAUSE = re.compile(r"fatal: \[|\[ERROR\]|ERROR |FAILED (?!- RETRYING)")
CAUSE_LINES = 14


@dataclasses.dataclass(frozen=True)
class Step:
    name: str
    command: tuple[str, ...]
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs_web2py: bool = False
    needs_kernels: bool = False
    limit: float = STEP_LIMIT


@dataclasses.dataclass(frozen=True)
class Outcome:
    step: Step
    seconds: float
    problem: str
    lines: list[str]

    @property
    def verdict(self) -> str:
        return f"FAILED: {self.problem}" if self.problem else "passed"

    def causes(self) -> list[str]:
        """What failed last, for a playbook may have mended what failed before; below its heading."""
        start = -CAUSE_LINES
        for number, line in enumerate(self.lines):
            if CAUSE.match(line) and number >= start + CAUSE_LINES:
                start = number
        if start < 0:
            return []
        heading = next(filter(HEADING.match, reversed(self.lines[:start])), "\n")
        return [heading, *self.lines[start : start + CAUSE_LINES]]


def gates() -> list[Step]:
    return [
        Step("lint", ("python", "tests/gates.py", "lint")),
        Step("units", ("python", "-m", "pytest", "--quiet", "tests/unit", "tests/contract", "tests/lab")),
        Step("readme", ("python", "tests/gates.py", "readme")),
        Step("build", ("python", "tests/gates.py", "build")),
        Step("newest", ("python", "tests/lab/newest.py", "sh", "-c", NEWEST)),
        Step("sanity", ("python", "tests/gates.py", "sanity")),
        Step("runtime", ("python", "tests/runtime/run.py"), needs_web2py=True),
    ]


def scenario_names() -> list[str]:
    names = {path.parent.name for path in lab.REPOSITORY.glob("molecule/*/molecule.yml")}
    first = [name for name in LONG_SCENARIOS if name in names]
    return first + sorted(names.difference(first))


def deploys_web2py(name: str) -> bool:
    files = (path for path in (lab.REPOSITORY / "molecule" / name).rglob("*.yml") if path.is_file())
    return any("lab_web2py" in path.read_text() for path in files)


def has_kernels(name: str) -> bool:
    """Whether machines of a scenario are user-mode Linux."""
    inventory = lab.REPOSITORY / "molecule" / name / "inventory" / "hosts.yml"
    return inventory.is_file() and re.search(r"^ *uml:$", inventory.read_text(), re.MULTILINE) is not None


def scenario(name: str, keep: bool, variables: Mapping[str, str] | None = None, remark: str = "") -> Step:
    test = f"molecule test --scenario-name {shlex.quote(name)}"
    if keep:
        # --destroy=never also leaves out the destroying that the sequence begins with.
        test = f"molecule destroy --scenario-name {shlex.quote(name)} && {test} --destroy=never"
    whole = {"DISTRO": ""} if name in WHOLE_SCENARIOS else {}
    return Step(
        f"scenario {name}{remark}",
        ("sh", "-c", test),
        {**(variables or {}), **whole},
        needs_web2py=deploys_web2py(name),
        needs_kernels=has_kernels(name),
    )


def choose(arguments: argparse.Namespace, environment: Mapping[str, str]) -> list[Step]:
    keep = setting("KEEP", ("", "0", "1")) == "1"
    narrowed = setting("DISTRO", ("", *DISTRIBUTIONS))
    if arguments.scenario is not None:
        if arguments.scenario not in scenario_names():
            raise lab.LabError(
                f"NAME is '{arguments.scenario}', which is no scenario; choose one of: {', '.join(scenario_names())}"
            )
        return [dataclasses.replace(scenario(arguments.scenario, keep), limit=3 * STEP_LIMIT)]
    if arguments.steps:
        return [step for step in gates() if step.name in arguments.steps]
    steps = gates()
    for name in scenario_names():
        if name in LEFT_OUT and not arguments.all:
            continue
        distribution = "" if narrowed else ONE_DISTRIBUTION.get(name, "")
        steps.append(on(distribution, name, keep) if distribution else scenario(name, keep))
    demo = Step("demo", ("sh", "-c", "python tests/lab/demo.py start && python tests/lab/demo.py stop"))
    if lab.web2py().kind == "stand-in":
        # The demo asks no more of web2py than the stand-in can do, so a deployment is tested here too.
        return [*steps, demo]
    if arguments.all:
        if not narrowed:
            for name, done in ONE_DISTRIBUTION.items():
                steps += [on(other, name, keep) for other in DISTRIBUTIONS if other != done]
        exchanged = {"LAB_WEB2PY": environment["LAB_WEB2PY_HEAD"], "LAB_WEB2PY_HEAD": environment["LAB_WEB2PY"]}
        if len(set(exchanged.values())) > 1:
            names = filter(deploys_web2py, scenario_names())
            steps += [scenario(name, keep, exchanged, " (trees exchanged)") for name in names]
        steps.append(demo)
        steps = [
            dataclasses.replace(step, limit=3 * STEP_LIMIT, variables={**step.variables, "LAB_LONG": "1"})
            for step in steps
        ]
    return steps


def on(distribution: str, name: str, keep: bool) -> Step:
    return scenario(name, keep, {"DISTRO": distribution}, f" ({distribution})")


def setting(name: str, allowed: tuple[str, ...]) -> str:
    value = os.environ.get(name, "")
    if value not in allowed:
        raise lab.LabError(f"{name} is '{value}'; it must be one of: {', '.join(filter(None, allowed))}")
    return value


def execute(step: Step, environment: Mapping[str, str], prefix: str) -> Outcome:
    if prefix:
        print(f"{prefix}starts", flush=True)
    started = time.monotonic()
    lines: list[str] = []
    problems: list[str] = []
    with subprocess.Popen(
        step.command,
        cwd=lab.REPOSITORY,
        env={**environment, **step.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        overdue = threading.Timer(step.limit, os.killpg, (process.pid, signal.SIGKILL))
        overdue.start()
        running.add(process.pid)
        try:
            for line in process.stdout or ():
                print(f"{prefix}{line}", end="", flush=True)
                plain = COLOUR.sub("", line)
                lines.append(plain)
                problems += [meaning for mark, meaning in FORBIDDEN_OUTPUT.items() if mark in plain]
        finally:
            running.discard(process.pid)
            overdue.cancel()
    seconds = time.monotonic() - started
    if seconds > step.limit:
        problems.append(f"stopped after {step.limit // 60} minutes")
    elif process.returncode:
        problems.append(f"ended with {process.returncode}")
    outcome = Outcome(step, seconds, ", ".join(dict.fromkeys(problems)), lines)
    if prefix:
        print(f"{prefix}{outcome.verdict} after {seconds:.1f} s", flush=True)
    return outcome


def execute_all(steps: list[Step], environment: Mapping[str, str], jobs: int) -> list[Outcome]:
    alone = len(steps) == 1
    width = max((len(step.name) for step in steps), default=0)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(execute, step, environment, "" if alone else f"{step.name:{width}} | ") for step in steps
        ]
        try:
            return [future.result() for future in waiting]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for group in list(running):
                os.killpg(group, signal.SIGINT)
            raise


def missing(step: Step) -> str:
    """What this machine does not have and the step needs."""
    # Tests of what only web2py itself does would fail on the stand-in, and tell nothing.
    if step.needs_web2py and lab.web2py().kind == "stand-in":
        return "a real web2py"
    if step.needs_kernels and not (os.access("/dev/net/tun", os.W_OK) and os.geteuid() == 0):
        return "root and /dev/net/tun"
    return ""


def report(outcomes: list[Outcome], impossible: list[Step], seconds: float) -> bool:
    failed = [outcome for outcome in outcomes if outcome.problem]
    if len(outcomes) > 1:
        for outcome in failed:
            print(f"\n--- the end of {outcome.step.name} ---")
            print("".join(outcome.lines[-80:]), end="")
    print("\nSummary")
    for outcome in outcomes:
        print(f"  {outcome.seconds:6.1f} s  {outcome.step.name}: {outcome.verdict}")
        if outcome.problem:
            print("".join(f"            {line}" for line in outcome.causes()), end="")
    for step in impossible:
        print(f"   not run  {step.name}: it needs {missing(step)}, see docs/testing.md")
    print(f"  {seconds:6.1f} s  altogether")
    for found in dict.fromkeys((lab.web2py(), lab.web2py(head=True))):
        print(found)
    print(f"{len(outcomes) - len(failed)} passed, {len(failed)} failed")
    # A step that was asked for by name and could not run is no success.
    return not failed and bool(outcomes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--scenario", metavar="NAME", help="only this Molecule scenario")
    what.add_argument(
        "--all", action="store_true", help="also every scenario with the two web2py trees exchanged, and the demo"
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many steps run at once (default: %(default)s)")
    parser.add_argument("steps", nargs="*", choices=[[], *(step.name for step in gates())], help="only these gates")
    arguments = parser.parse_args()
    # A build machine that gives up sends this; the steps have to end with the suite.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    try:
        with lab.only_one():
            if not arguments.steps or "runtime" in arguments.steps:
                lab.up()
            environment = lab.environment()
        if not sys.stdout.isatty():
            environment["NO_COLOR"] = "1"
        steps = choose(arguments, environment)
        impossible = [step for step in steps if missing(step)]
        if any(step.needs_kernels for step in steps if step not in impossible):
            lab.kernels("image")
    except lab.LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    try:
        outcomes = execute_all([step for step in steps if step not in impossible], environment, arguments.jobs)
    except KeyboardInterrupt:
        print("interrupted; machines may be left: make lab-down", file=sys.stderr)
        return 130
    return 0 if report(outcomes, impossible, time.monotonic() - started) else 1


if __name__ == "__main__":
    sys.exit(main())
