# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: client_addresses
short_description: Addresses from which hosts come to other hosts of the site
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Of each host C(web2py_client_addresses) where it is set, else the address of its default route, IPv4 before IPv6.
  - A host of which neither is known is an error.
options:
  _input:
    description: The variables of each host, with its facts in C(ansible_facts).
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
addresses: "{{ [hostvars.web1, hostvars.web2] | web2py.deployment.client_addresses }}"
"""

RETURN = r"""
_value:
  description: IP addresses and networks, as C(postgresql_hba) takes them.
  type: list
  sample: ['192.0.2.10', '2001:db8::10']
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.web2py.deployment.plugins.plugin_utils.site import inventory


def client_addresses(hosts):
    try:
        return inventory.client_addresses(hosts)
    except inventory.SiteError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    def filters(self):
        return {"client_addresses": client_addresses}
