#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: haproxy_server
short_description: Take a server out of a running HAProxy without losing a request, and put it back in
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Sets what a server of a running HAProxy shall be, through HAProxy's socket. A drained server gets no new requests
    and finishes those that it has.
  - Runs on the balancer. The role P(web2py.deployment.haproxy#role) keeps the state over a reload and a restart.
options:
  server:
    description: Names of servers.
    type: list
    elements: str
    required: true
  others:
    description: Whether all servers of the backend are meant that O(server) does not name.
    type: bool
    default: false
  former:
    description: Leave a server alone that is in none of these states.
    type: list
    elements: str
    choices:
      - ready
      - drain
      - maint
    default:
      - ready
      - drain
      - maint
  backend:
    description: Name of the backend that it belongs to.
    type: str
    default: servers
  state:
    description:
      - V(drain) sends it no new requests and goes on checking its health, V(maint) does not check it either, V(ready)
        undoes both.
    type: str
    choices:
      - ready
      - drain
      - maint
    required: true
  wait:
    description:
      - End when the server has no request left, or, with O(state=ready), when its health checks have found it up.
    type: bool
    default: true
  timeout:
    description: Seconds to wait before the task fails. The server stays in the state that was set.
    type: int
    default: 300
  socket:
    description: HAProxy's socket of level C(admin).
    type: path
    default: /run/haproxy/admin.sock
attributes:
  check_mode:
    description: Says whether the state would change, and waits for nothing.
    support: full
  diff_mode:
    description: Shows the state before and after.
    support: full
notes:
  - A reload of HAProxy leaves the requests that had begun before to the former process. They are not waited for.
"""

EXAMPLES = r"""
- name: Let the server finish what it has
  web2py.deployment.haproxy_server:
    server: web1
    state: drain
  delegate_to: balancer

- name: Give it requests again as soon as it is up
  web2py.deployment.haproxy_server:
    server: web1
    state: ready
    timeout: 60
  delegate_to: balancer
"""

RETURN = r"""
servers:
  description: The servers that are meant and were not left alone.
  returned: success, and when one was waited for in vain
  type: list
  elements: dict
  contains:
    name:
      description: Name of the server.
      type: str
      sample: web1
    before:
      description: The state that was set before, V(ready), V(drain) or V(maint).
      type: str
      sample: ready
    requests:
      description: How many requests the server has, and how many wait for it.
      type: int
      sample: 0
    status:
      description: What HAProxy says of the server, for example V(UP), V(DOWN), V(DRAIN) or V(MAINT).
      type: str
      sample: DRAIN
    up:
      description: Whether the server gets new requests.
      type: bool
      sample: false
    check:
      description:
        - What its last health check found, in HAProxy's words, and the status of the answer, for example V(L7OK/200),
          V(L7STS/404) or V(L4CON), V(INI) before the first one. Empty where there are no checks.
      type: str
      sample: L7OK/200
up:
  description: Names of those of them that get new requests.
  returned: success, and when one was waited for in vain
  type: list
  elements: str
  sample: [web2]
healthy:
  description: Names of those that are up and have answered their last health check, or have none.
  returned: success, and when one was waited for in vain
  type: list
  elements: str
  sample: [web2]
summary:
  description: All of them in a line for a message.
  returned: success, and when one was waited for in vain
  type: str
  sample: web1 is DRAIN L7OK/200, web2 is UP L7OK/200
"""

import functools

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import haproxy_socket


def main():
    module = AnsibleModule(
        argument_spec={
            "server": {"type": "list", "elements": "str", "required": True},
            "others": {"type": "bool", "default": False},
            "former": {
                "type": "list",
                "elements": "str",
                "choices": list(haproxy_socket.STATES),
                "default": list(haproxy_socket.STATES),
            },
            "backend": {"type": "str", "default": "servers"},
            "state": {"type": "str", "choices": list(haproxy_socket.STATES), "required": True},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 300},
            "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
        },
        supports_check_mode=True,
    )
    given = module.params
    try:
        result = haproxy_socket.set_state(
            functools.partial(haproxy_socket.talk, given["socket"]),
            given["backend"],
            given["server"],
            given["state"],
            others=given["others"],
            former=given["former"],
            check=module.check_mode,
            wait=given["wait"],
            timeout=given["timeout"],
        )
    except haproxy_socket.RuntimeFault as fault:
        module.fail_json(msg=str(fault), **fault.result)
    diff = {
        "before": {server["name"]: server["before"] for server in result["servers"]},
        "after": {server["name"]: given["state"] for server in result["servers"]},
    }
    module.exit_json(**result, diff=diff)


if __name__ == "__main__":
    main()
