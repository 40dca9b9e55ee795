#!/usr/bin/python
# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: web2py_check
short_description: Warm up a web host and check that its applications answer
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Runs on a web host and sends requests to its own front end, at 127.0.0.1, with the host name of the site, several
    at once so that all processes of web2py load the code. Each must be answered with a status below 500; no redirect is
    followed.
  - Before that, with O(units), sends requests until the processes from before a reload are gone. What the former code
    answers says nothing about the new one.
  - Waits for a server that is just starting, which refuses connections or answers with 503. Any other failure counts.
options:
  paths:
    description: Paths of the requests.
    type: list
    elements: str
    required: true
  host:
    description: Host name of the site, for the C(Host) header and, with O(https=true), for TLS.
    type: str
    required: true
  port:
    description: TCP port of the front end.
    type: int
    default: 80
  https:
    description:
      - Whether the port is one for HTTPS. The certificate is not verified, because it may be self-signed or be meant
        for a balancer, and nothing secret is sent.
    type: bool
    default: false
  requests:
    description: How often each path is asked for.
    type: int
    default: 8
  concurrency:
    description: How many requests are sent at the same time.
    type: int
    default: 4
  timeout:
    description: Seconds that an answer may take.
    type: int
    default: 30
  deadline:
    description: Seconds that a starting server, and processes from before a reload, are waited for.
    type: int
    default: 60
  units:
    description: Services of systemd in whose processes web2py runs.
    type: list
    elements: str
    default: []
  user:
    description: The user as whom web2py runs in them.
    type: str
    default: web2py
  reloaded_by:
    description: File whose time is that of the last reload.
    type: path
    default: /opt/web2py/runtime/wsgi.py
attributes:
  check_mode:
    description: Sends nothing, because what it would ask has not been deployed.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
notes:
  - Each request begins a session of its own, as that of a new visitor does.
  - Processes that finish a long request for longer than O(deadline) are not waited for.
seealso:
  - module: web2py.deployment.web2py_release
"""

EXAMPLES = r"""
- name: Check the applications of this host
  web2py.deployment.web2py_check:
    host: www.example.org
    paths: [/healthz, /shop/default/index]
    units: [apache2.service]
"""

RETURN = r"""
paths:
  description: For each path, how often it was answered with which status, and the seconds that answers took.
  returned: always
  type: list
  elements: dict
  sample: [{"path": "/shop/default/index", "statuses": {"200": 8}, "fastest": 0.011, "slowest": 0.42}]
former_processes:
  description: How many processes from before the reload were still there in the end.
  returned: always
  type: int
  sample: 0
"""

import os
import pwd
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.web2py.deployment.plugins.module_utils import check as engine


def control_groups(module, units):
    """Of each service its control group and its main process, which goes on over a reload."""
    found = []
    for unit in units:
        command = ["systemctl", "show", "--property=ControlGroup", "--property=MainPID", unit]
        lines = module.run_command(command, check_rc=True)[1].splitlines()
        properties = dict(line.split("=", 1) for line in lines if "=" in line)
        if properties.get("ControlGroup"):
            found.append((f"/sys/fs/cgroup{properties['ControlGroup']}", properties.get("MainPID", "")))
    return found


def main():
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "str", "required": True},
            "host": {"type": "str", "required": True},
            "port": {"type": "int", "default": 80},
            "https": {"type": "bool", "default": False},
            "requests": {"type": "int", "default": 8},
            "concurrency": {"type": "int", "default": 4},
            "timeout": {"type": "int", "default": 30},
            "deadline": {"type": "int", "default": 60},
            "units": {"type": "list", "elements": "str", "default": []},
            "user": {"type": "str", "default": "web2py"},
            "reloaded_by": {"type": "path", "default": "/opt/web2py/runtime/wsgi.py"},
        },
        supports_check_mode=True,
    )
    params = module.params
    for name in ("port", "requests", "concurrency", "timeout", "deadline"):
        if params[name] < 1:
            module.fail_json(msg=f"{name} is {params[name]}; it must be at least 1")
    wrong = [
        path for path in params["paths"] if not path.startswith("/") or not path.isascii() or not path.isprintable()
    ]
    if wrong or not params["paths"] or " " in "".join(params["paths"]):
        module.fail_json(msg=f"paths is {params['paths']!r}; it must be URL paths such as /shop/default/index")
    result = {"changed": False, "paths": [], "former_processes": 0}
    if module.check_mode:
        module.exit_json(**result)

    front_end = engine.FrontEnd(params["port"], params["https"], params["host"], params["timeout"])
    deadline = time.monotonic() + params["deadline"]
    numbers = (params["requests"], params["concurrency"])
    if params["units"]:
        try:
            user = pwd.getpwnam(params["user"]).pw_uid
            moment = os.stat(params["reloaded_by"]).st_mtime
        except (KeyError, OSError) as error:
            module.fail_json(msg=f"{error}; deploy with playbooks/site.yml first", **result)

        def old():
            return engine.old_processes(control_groups(module, params["units"]), moment, user)

        result["former_processes"] = engine.warm_up(front_end, params["paths"][0], *numbers, old, deadline)
    problems, failed = [], []
    for path in params["paths"]:
        answers = engine.check_path(front_end, path, *numbers, deadline)
        result["paths"].append(engine.report(path, answers))
        problems.append(engine.problem(path, answers))
        failed += [answer for answer in answers if not answer.good]
    if failed:
        message = "; ".join(filter(None, problems))
        module.fail_json(
            msg=f"the applications of this host are not well: {message}. {engine.advice(failed)}", **result
        )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
