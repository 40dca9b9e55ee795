# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Multiply a ticket: multiply_ticket.py <file> <folder> <number>

In each the text x0000000 is another one of that length.
"""

import os
import sys
import uuid

ticket, folder, number = sys.argv[1:]
with open(ticket, "rb") as file:
    content = file.read()
parts = content.split(b"x0000000")
for one in range(int(number)):
    with open(os.path.join(folder, f"192.0.2.1.2026-11-24.10-00-00.{uuid.uuid4()}"), "wb") as file:
        file.write((b"x%07d" % one).join(parts))
