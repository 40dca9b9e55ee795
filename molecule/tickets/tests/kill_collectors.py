# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kill collectors while tickets arrive: kill_collectors.py <folder> <kills> <tickets> <collectors at once>

Prints, as JSON, the names of all tickets that were written, how many collectors were killed while they ran, how many of
these had removed files before, and how many files the others found to be in the database already.
"""

import json
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable

from web2py_runtime.tickets.collect import collect_all
from web2py_runtime.tickets.storage import DATA, SETTINGS, applications

folder, kills, number_of_tickets, at_once = sys.argv[1], *map(int, sys.argv[2:])
written: list[str] = []
# More than one batch is always there, so that no collector has nothing to do.
AT_LEAST = 600
over = threading.Event()
lock = threading.Lock()
seen: Counter[str] = Counter()
# Small batches, too: there is as much time between them as in them.
COLLECTOR = (
    "import sys; from web2py_runtime import collect_tickets; from web2py_runtime.tickets import collect; "
    "collect.BATCH_TICKETS = int(sys.argv[1]); sys.exit(collect_tickets.main())"
)
line = 'Traceback (most recent call last):\n  File "/x/applications/faulty/controllers/default.py", line 1, in f\n'


def write(number: int) -> None:
    """As web2py does: in the open, in several pieces."""
    name = f"192.0.2.1.2026-11-24.10-00-00.{uuid.uuid4()}"
    report = {
        "layer": "x",
        "code": "y" * 500,
        "output": "z",
        "traceback": f"{line}ValueError: {number}\n",
        "snapshot": {"a": "b" * 2000},
    }
    data = pickle.dumps(report)
    written.append(name)
    with open(os.path.join(folder, name), "wb", buffering=0) as file:
        middle = random.randrange(len(data))  # noqa: S311
        file.write(data[:middle])
        file.write(data[middle:])


def arrive() -> None:
    """Without a break: a hundred a second."""
    number = 0
    while not over.wait(0.01):
        write(number)
        number += 1


def first() -> str:
    """The file with which a collector begins."""
    with os.scandir(folder) as entries:
        return next((entry.path for entry in entries if entry.is_file()), "")


def wait(condition: Callable[[], bool], seconds: float) -> None:
    """At most so long."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.0005)


def is_killed(batch: int, latest: float) -> None:
    """One collector; only if it is killed while it runs does it count."""
    begins_with = first()
    arguments = [sys.executable, "-c", COLLECTOR, str(batch)]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as collector:
        if latest < 0.5:
            wait(lambda: not os.path.lexists(begins_with) or collector.poll() is not None, 10)
        wait(lambda: collector.poll() is not None, random.uniform(0, latest))  # noqa: S311
        alive = collector.poll() is None
        collector.kill()
    with lock:
        seen["killed"] += alive and collector.returncode < 0
        seen["had removed files"] += alive and not os.path.lexists(begins_with)


def collect() -> bool:
    """In this process, to the end; says whether the database was there."""
    done, failed = collect_all(applications(SETTINGS, DATA))
    with lock:
        for outcomes in done.values():
            seen.update(outcomes)
    return not failed


def work() -> None:
    for attempt in range(20 * kills):
        if seen["killed"] >= kills:
            return
        if attempt % 10 == 9:
            # While it still removes the files of a large batch: the rest of them is there already.
            is_killed(500, 0)
            collect()
        else:
            # Any moment of its start; or after its first commit, within some batches or while it still removes files.
            is_killed(random.choice([5, 500]), random.choice([0.5, 0.03, 0.001]))  # noqa: S311
        for number in range(AT_LEAST - len(os.listdir(folder))):
            write(number)


for number in range(number_of_tickets):
    write(number)
threads = [threading.Thread(target=work) for _ in range(at_once)]
arriving = threading.Thread(target=arrive)
arriving.start()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
over.set()
arriving.join()
# The database may just be restarting.
wait(collect, 60)
print(json.dumps({"written": sorted(written), **seen}))
