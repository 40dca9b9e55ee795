# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: dal_uri
short_description: The connection string of a database for web2py's DAL
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Encodes any sign in user and password, for C(DAL(..., decode_credentials=True)). Understands IPv6 addresses,
    Unix sockets and TLS.
options:
  _input:
    description: The database as C({name, user, password, host, port, socket, tls}), as in C(web2py_database_server).
    type: dict
    required: true
"""

EXAMPLES = r"""
uri: "{{ {'name': 'shop', 'user': 'shop', 'password': 'a@b', 'host': 'db'} | web2py.deployment.dal_uri }}"
"""

RETURN = r"""
_value:
  description: The URI.
  type: str
  sample: postgres://shop:a%40b@db:5432/shop?sslmode=verify-full
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data


class FilterModule:
    def filters(self):
        return {"dal_uri": data.dal_uri}
