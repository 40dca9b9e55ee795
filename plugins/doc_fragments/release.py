# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """What the modules that install a release get from their action plugins."""

    DOCUMENTATION = r"""
options:
  _release:
    description: Name of the release's folder. Set by the action plugin on the controller, never by a playbook.
    type: str
  _archive:
    description: Packed release on the host. Set by the action plugin on the controller, never by a playbook.
    type: path
"""

    LIMITS = r"""
options:
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
"""
