# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: dal_driver_args
short_description: What web2py's DAL does not read from a connection string
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Arguments for the driver psycopg2, beside the string that P(web2py.deployment.dal_uri#filter) gives.
options:
  _input:
    description: The database as C({name, user, password, host, port, socket, tls}), as in C(web2py_database_server).
    type: dict
    required: true
"""

EXAMPLES = r"""
arguments: "{{ {'name': 'shop', 'host': '2001:db8::1'} | web2py.deployment.dal_driver_args }}"
"""

RETURN = r"""
_value:
  description: The arguments.
  type: dict
  sample:
    connect_timeout: 3
    keepalives_idle: 5
    keepalives_interval: 2
    keepalives_count: 2
    tcp_user_timeout: 3000
    hostaddr: '2001:db8::1'
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import data


class FilterModule:
    def filters(self):
        return {"dal_driver_args": data.dal_driver_args}
