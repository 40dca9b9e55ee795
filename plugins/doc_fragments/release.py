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
