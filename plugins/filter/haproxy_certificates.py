# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: haproxy_certificates
short_description: The names by which HAProxy finds certificates and their keys
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - HAProxy looks for the key of C(x.pem) in C(x.pem.key). Gives each certificate such names, which are different for
    different files.
options:
  _input:
    description: The entries of C(haproxy_certificates). Those with C(state=absent) are left out.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
links: "{{ haproxy_certificates | web2py.deployment.haproxy_certificates }}"
"""

RETURN = r"""
_value:
  description: For each certificate C(certificate_file) and C(key_file), and C(path) and C(key_path) that link to them.
  type: list
  elements: dict
"""

from ansible_collections.web2py.deployment.plugins.module_utils import haproxy


class FilterModule:
    def filters(self):
        return {"haproxy_certificates": haproxy.certificates}
