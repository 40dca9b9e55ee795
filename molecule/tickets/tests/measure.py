# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Run a program, and print how many seconds it took and how many MiB it had at most: measure.py <program> …"""

import os
import subprocess
import sys
import time

started = time.monotonic()
child = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(child.pid, 0)
print(time.monotonic() - started, used.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
