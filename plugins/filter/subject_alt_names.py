# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: subject_alt_names
short_description: Host names in the form in which a certificate lists them
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Prefixes IP addresses with C(IP:) and everything else with C(DNS:) (RFC 5280, section 4.2.1.6).
options:
  _input:
    description: DNS names and IP addresses.
    type: list
    elements: string
    required: true
"""

EXAMPLES = r"""
subject_alt_names: "{{ web2py_server_names | web2py.deployment.subject_alt_names }}"
"""

RETURN = r"""
_value:
  description: The names, each with its prefix.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import applications


class FilterModule:
    def filters(self):
        return {"subject_alt_names": applications.subject_alt_names}
