# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """What modules that install or switch releases have in common; module_utils/release.py has their argument specs."""

    DOCUMENTATION = r"""
options:
  home:
    description: Folder of the releases on the host.
    type: path
    default: /opt/web2py
  root:
    description: The web2py root as the running web2py sees it.
    type: path
    default: /var/lib/web2py
"""

    ARCHIVE = r"""
options:
  _release:
    description: Name of the release's folder. Set by the action plugin on the controller, never by a playbook.
    type: str
  _archive:
    description: Packed release on the host. Set by the action plugin on the controller, never by a playbook.
    type: path
notes:
  - Needs root on the host, and no package beyond Python itself.
"""

    SOURCE = r"""
options:
  user:
    description: The service user, owner of what web2py writes.
    type: str
    default: web2py
  group:
    description: The service group, which may read the code.
    type: str
    default: web2py
  keep:
    description:
      - How many releases stay on the host, the current one included; at least 1.
      - Releases that have passed their check (M(web2py.deployment.web2py_release)) stay first; the last of them always.
    type: int
    default: 3
  source_max_files:
    description: How many files, folders and links a source may hold. It is refused before more of it is read.
    type: int
    default: 50000
  source_max_bytes:
    description: How many bytes all files of a source may have, unpacked. One file has at most 268435456 (256 MiB).
    type: int
    default: 1073741824
  source_max_ratio:
    description: How many times as large as its archive a source of more than 16 MiB may be, unpacked.
    type: int
    default: 200
attributes:
  check_mode:
    description: Predicts a change from the source alone; nothing is sent.
    support: full
  diff_mode:
    description: Shows the release before and after.
    support: full
"""
