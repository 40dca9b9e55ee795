# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What several hosts have to know of each other."""

from __future__ import annotations

import re


def haproxy_server_name(host: str) -> str:
    """The name of a web host in HAProxy."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", host)
