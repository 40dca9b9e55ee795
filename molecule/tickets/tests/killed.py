# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kill collectors at random moments while tickets arrive: killed.py <folder> <kills> <tickets> <collectors at once>

Prints the names of all tickets that were written.
"""

import os
import pickle
import random
import subprocess
import sys
import threading
import time
import uuid

folder, kills, tickets, at_once = sys.argv[1], *map(int, sys.argv[2:])
written: list[str] = []
over = threading.Event()
line = 'Traceback (most recent call last):\n  File "/x/applications/faulty/controllers/default.py", line 1, in f\n'


def write(number: int) -> None:
    """As web2py does: in the open, in several pieces."""
    name = f"192.0.2.1.2026-11-24.10-00-00.{uuid.uuid4()}"
    report = {
        "layer": "x",
        "code": "y" * 3000,
        "output": "z",
        "traceback": f"{line}ValueError: {number}\n",
        "snapshot": {"a": "b" * 9000},
    }
    data = pickle.dumps(report)
    written.append(name)
    with open(os.path.join(folder, name), "wb", buffering=0) as file:
        middle = random.randrange(len(data))  # noqa: S311
        file.write(data[:middle])
        file.write(data[middle:])


def arrive() -> None:
    number = 0
    while not over.is_set():
        write(number)
        number += 1
        time.sleep(0.01)


def be_killed(times: int) -> None:
    for _ in range(times):
        with subprocess.Popen([sys.executable, "-m", "web2py_runtime.collect_tickets"]) as collector:
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311
            collector.kill()
        # There is always something to collect.
        for number in range(tickets // kills):
            write(number)


for number in range(tickets):
    write(number)
threads = [threading.Thread(target=be_killed, args=[kills // at_once]) for _ in range(at_once)]
arriving = threading.Thread(target=arrive)
arriving.start()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
over.set()
arriving.join()
subprocess.run([sys.executable, "-m", "web2py_runtime.collect_tickets"], check=True)
print("\n".join(sorted(written)))
