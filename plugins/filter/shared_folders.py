# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: shared_folders
short_description: Folders of an application that all web hosts share
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - C(sessions), C(uploads) and C(errors) as long as the application keeps that kind of data in files. None of an
    application that is not exposed.
options:
  _input:
    description: An entry of C(web2py_applications).
    type: dict
    required: true
"""

EXAMPLES = r"""
folders: "{{ {'name': 'shop', 'sessions': 'database'} | web2py.deployment.shared_folders }}"
"""

RETURN = r"""
_value:
  description: The folders.
  type: list
  sample: [uploads, errors]
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import storage


class FilterModule:
    def filters(self):
        return {"shared_folders": storage.shared_folders}
