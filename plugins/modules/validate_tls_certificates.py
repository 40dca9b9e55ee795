#!/usr/bin/python

# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Documentation only: the work is done on the controller, by the action plugin of the same name.

from __future__ import annotations

DOCUMENTATION = r"""
module: validate_tls_certificates
short_description: Check the certificates that a host is to have
version_added: "1.0.0"
description:
  - Checks the list of certificates of the role P(web2py.deployment.tls_certificate#role) against itself and
    against the files on the controller, and returns it with every default filled in.
  - A given certificate must belong to its key, be valid now, cover the names it is meant for, and be followed
    by its issuers in order. A private CA must be complete, open with its passphrase and have enough days left.
  - All problems are reported in one message. Nothing of a private key is ever printed.
requirements:
  - cryptography >= 42 on the controller
options:
  certificates:
    description:
      - The certificates, in the form of C(tls_certificate_certificates) in the role's C(argument_specs).
    type: list
    elements: dict
    default: []
  directory:
    description: Absolute path on the host of the folder of all certificates.
    type: path
    required: true
  ca_directory:
    description: Absolute path on the controller of the folder of the private CA.
    type: path
    required: true
  ca_passphrase:
    description: Passphrase of the CA's private key, empty where it has none.
    type: str
    default: ""
  ca_trust:
    description: Whether the host is to trust the private CA.
    type: bool
    default: false
attributes:
  action:
    description: Runs on the controller and needs no connection to the host.
    support: full
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: Nothing is ever changed, so there is no difference to show.
    support: none
  vault:
    description: Reads files that are encrypted with Ansible Vault.
    support: full
author:
  - web2py.deployment contributors (@web2py)
"""

EXAMPLES = r"""
- name: Check the certificates
  web2py.deployment.validate_tls_certificates:
    certificates:
      - name: www
        provider: files
        certificate_file: "{{ inventory_dir }}/files/www.pem"
        key_file: "{{ inventory_dir }}/files/www.key"
    directory: /etc/ssl/tls_certificate
    ca_directory: "{{ inventory_dir }}/.tls_ca"
  register: plan
"""

RETURN = r"""
certificates:
  description: The certificates with all defaults, their names in normal form, and what the given files hold.
  returned: success
  type: list
  elements: dict
  sample:
    - name: www
      state: present
      provider: ca
      common_name: www.example.org
      subject_alt_names:
        - DNS:www.example.org
ca_needed:
  description: Whether a certificate is to be signed by the private CA, or the host is to trust it.
  returned: success
  type: bool
  sample: true
ca_exists:
  description: Whether the private CA is there. Never true where it is not needed.
  returned: success
  type: bool
  sample: true
"""
