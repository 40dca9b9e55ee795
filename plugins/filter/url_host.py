# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: url_host
short_description: A host name as it stands in a URL
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Puts an IPv6 address in brackets (RFC 3986, section 3.2.2).
options:
  _input:
    description: A DNS name or IP address.
    type: string
    required: true
"""

EXAMPLES = r"""
url: "https://{{ apache_wsgi_server_names | first | web2py.deployment.url_host }}/"
"""

RETURN = r"""
_value:
  description: The name, in brackets when it is an IPv6 address.
  type: str
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils import planning


class FilterModule:
    def filters(self):
        return {"url_host": planning.bracketed}
