# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ends a worker of web2py's scheduler after its running task: `web2py.py -S app -M -R stop_scheduler.py -A PID`."""

import contextlib
import os
import socket
import sys
import time

from gluon import current

pid = int(sys.argv[-1])
scheduler = current._scheduler
# Not terminate(): it ends all workers of the group, whatever name it is given.
scheduler.set_worker_status(action="TERMINATE", worker_name=f"{socket.gethostname()}#{pid}")
scheduler.db.commit()
with contextlib.suppress(ProcessLookupError):
    while True:
        os.kill(pid, 0)
        time.sleep(0.2)
