# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations


class ModuleDocFragment:
    """What both modules for tickets have in common; module_utils/tickets/storage.py has their argument spec."""

    DOCUMENTATION = r"""
options:
  applications:
    description: Only the tickets of these applications, instead of all.
    type: list
    elements: str
    default: []
  settings:
    description: Folder with the settings files of applications, which name the database.
    type: path
    default: /etc/web2py/applications
  data:
    description: Folder with the data of applications.
    type: path
    default: /var/lib/web2py/data
  user:
    description: The service user, as whom this is done once the settings are read.
    type: str
    default: web2py
"""
