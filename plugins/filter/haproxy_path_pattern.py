# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: haproxy_path_pattern
short_description: A regular expression for every spelling of a path
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Matches the decoded path of a URL that leads to the given path or below it, however many slashes and single dots are
    between its parts, also with a suffix such as C(.html).
options:
  _input:
    description: A path such as V(/admin) or V(/*/appadmin), where C(*) stands for any one part.
    type: string
    required: true
"""

EXAMPLES = r"""
pattern: "{{ '/*/appadmin' | web2py.deployment.haproxy_path_pattern }}"
"""

RETURN = r"""
_value:
  description: The regular expression.
  type: str
"""

from ansible_collections.web2py.deployment.plugins.module_utils import haproxy


class FilterModule:
    def filters(self):
        return {"haproxy_path_pattern": haproxy.path_pattern}
