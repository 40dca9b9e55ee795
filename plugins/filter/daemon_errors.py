# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: daemon_errors
short_description: What is wrong in web2py_daemon_instances
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Checks the instances and scheduler workers of the role C(web2py_daemon), among themselves, against the
    applications of the site, and against what listens on the host.
options:
  _input:
    description: The value of C(web2py_daemon_instances).
    type: list
    elements: dictionary
    required: true
  applications:
    description: The value of C(web2py_applications).
    type: list
    elements: dictionary
    default: []
  scheduler_workers:
    description: The value of C(web2py_daemon_scheduler_workers).
    type: list
    elements: dictionary
    default: []
  proc_net_tcp:
    description: Text of C(/proc/net/tcp) and C(/proc/net/tcp6) of the host.
    type: string
    default: ""
  list_sockets:
    description: What C(systemctl list-sockets) says; the sockets of instances count as our own.
    type: string
    default: ""
  frontend_ports:
    description: The ports on which a front end of this host listens or will, by the names of their variables.
    type: dictionary
    default: {}
"""

EXAMPLES = r"""
- ansible.builtin.assert:
    that: __errors | length == 0
    fail_msg: "{{ __errors | join(\"\n\") }}"
  vars:
    __errors: "{{ web2py_daemon_instances | web2py.deployment.daemon_errors(web2py_applications) }}"
"""

RETURN = r"""
_value:
  description: One message for each fault; empty when all is well.
  type: list
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.roles import web2py_daemon


class FilterModule:
    def filters(self):
        return {"daemon_errors": web2py_daemon.daemon_errors}
