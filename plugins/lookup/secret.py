# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
name: secret
short_description: Secrets in files on the controller, made when they are missing
version_added: 1.0.0
author: web2py.deployment contributors (@web2py)
description:
  - Returns the content of one file for each name. A missing file is created with mode 0600 and a random text of 43
    letters, digits, dashes and underscores (256 bits).
  - A file may be encrypted in place with C(ansible-vault encrypt); it is read like any other vaulted file.
  - In check mode nothing is created; a missing secret then reads C(made-by-the-next-run).
options:
  _terms:
    description: Names of files in O(directory).
    required: true
  directory:
    description: Folder on the controller; created with mode 0700 and a C(.gitignore) that keeps it out of repositories.
    type: path
    required: true
"""

EXAMPLES = r"""
password: "{{ lookup('web2py.deployment.secret', 'shop.database_password', directory=inventory_dir ~ '/.secrets') }}"
"""

RETURN = r"""
_raw:
  description: The secrets, in the order of the names.
  type: list
  elements: str
"""

import contextlib
import os
import re
import secrets

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

PLACEHOLDER = "made-by-the-next-run"


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **options):
        self.set_options(var_options=variables, direct=options)
        directory = self.get_option("directory")
        checking = bool((variables or {}).get("ansible_check_mode"))
        return [self.secret(directory, str(name), checking) for name in terms]

    def secret(self, directory, name, checking):
        if not re.fullmatch(r"\w[\w.-]*", name):
            raise AnsibleLookupError(f"secret: the name is {name!r}; it must be letters, digits, _, - and dots")
        path = os.path.join(directory, name)
        if not os.path.exists(path):
            if checking:
                return PLACEHOLDER
            self.make(directory, path)
        # Decrypts a vaulted file.
        text = self._loader.get_text_file_contents(path) if hasattr(self._loader, "get_text_file_contents") else None
        if text is None:
            text = self._loader._get_file_contents(path)[0].decode()
        text = text.strip()
        if not text:
            raise AnsibleLookupError(f"secret: {path} is empty; delete it, and the next run makes a new secret")
        return text

    @staticmethod
    def make(directory, path):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        ignore = os.path.join(directory, ".gitignore")
        if not os.path.exists(ignore):
            with open(ignore, "w") as file:
                file.write("*\n")
        # Written whole, then linked under its name: of two runs at once, the second takes what the first has made.
        new = f"{path}.{secrets.token_hex(4)}"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
        os.unlink(new)
