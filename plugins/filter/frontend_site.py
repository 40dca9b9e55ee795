# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: frontend_site
short_description: What every front end has to know of a site, computed once
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Translates the declaration of a site into the rules that the roles C(apache_wsgi), C(apache_proxy) and
    C(lighttpd_fcgi) render, each in the language of its server.
  - The role C(web2py) calls it; its result is the variable C(__web2py_site).
options:
  _input:
    description: Variables of the role C(web2py) without their prefix, and the folders C(root) and C(runtime).
    type: dictionary
    required: true
"""

EXAMPLES = r"""
__web2py_site: >-
  {{ {'server_names': web2py_server_names, 'applications': web2py_applications, 'http_port': web2py_http_port}
     | web2py.deployment.frontend_site }}
"""

RETURN = r"""
_value:
  description: >-
    The site: names, exposed applications, ports, certificate, headers, TLS parameters (Mozilla's "intermediate"),
    the pattern of static files, the environment by which the runtime package decides what is reachable, and
    C(answers): for C(http) and C(https) a list of C(pattern), C(status) and C(location), which the web server
    answers itself; the first pattern that the decoded path matches decides.
  type: dictionary
"""

from ansible_collections.web2py.deployment.plugins.plugin_utils.site import frontend


class FilterModule:
    def filters(self):
        return {"frontend_site": frontend.frontend_site}
