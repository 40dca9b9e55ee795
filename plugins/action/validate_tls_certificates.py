# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.vault import is_encrypted
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
except ImportError as error:
    CRYPTOGRAPHY_ERROR: ImportError | None = error
else:
    CRYPTOGRAPHY_ERROR = None

SPECIFICATION = Path(__file__).resolve().parents[2] / "roles" / "tls_certificate" / "meta" / "argument_specs.yml"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,254}")
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?{LABEL}(\.{LABEL})*")
LONGEST_COMMON_NAME = 64
LONGEST_VALIDITY = 825

ReadFile = Callable[[str], bytes]


class Problem(Exception):
    """One fault in the variables, told in words for the person who wrote them."""


def alt_name(text: str) -> str:
    """Return a name in the one form that a certificate holds, so that comparing works."""
    kind, _colon, value = text.partition(":")
    if kind == "DNS" and HOST_NAME.fullmatch(value):
        return f"DNS:{value.lower()}"
    if kind == "IP":
        try:
            return f"IP:{ipaddress.ip_address(value).compressed}"
        except ValueError:
            pass
    raise Problem(
        f"subject_alt_names has '{text}', allowed are DNS:<host name> (ASCII, a leading '*.' is possible) "
        "and IP:<address>."
    )


def issued_names(entry: dict[str, Any]) -> dict[str, Any]:
    """Return common_name and subject_alt_names of a certificate that the role issues."""
    common_name = entry["common_name"]
    names = list(entry["subject_alt_names"])
    if not names and common_name:
        try:
            ipaddress.ip_address(common_name)
        except ValueError:
            names = [f"DNS:{common_name}"]
        else:
            names = [f"IP:{common_name}"]
    if not names:
        raise Problem(
            "subject_alt_names is empty and common_name is not set: name what the certificate is for, "
            "for example 'DNS:www.example.org'."
        )
    names = [alt_name(name) for name in names]
    common_name = common_name or names[0].partition(":")[2]
    if len(common_name) > LONGEST_COMMON_NAME:
        raise Problem(
            f"common_name has {len(common_name)} characters ('{common_name}'), allowed are "
            f"{LONGEST_COMMON_NAME}: set a shorter one, clients look at subject_alt_names only."
        )
    return {"common_name": common_name, "subject_alt_names": names}


def issued_days(entry: dict[str, Any]) -> None:
    valid, renew = entry["valid_days"], entry["renew_before_days"]
    if not 1 <= valid <= LONGEST_VALIDITY:
        raise Problem(f"valid_days is {valid}, allowed is 1 to {LONGEST_VALIDITY}.")
    if not 0 <= renew < valid:
        raise Problem(
            f"renew_before_days is {renew}, allowed is 0 to valid_days - 1 = {valid - 1}: "
            "every run would issue the certificate again."
        )


def read(option: str, path: str | None, read_file: ReadFile) -> bytes:
    if not path:
        raise Problem(f"{option} is not set, provider 'files' needs it: give an absolute path on the controller.")
    if not Path(path).is_absolute():
        raise Problem(
            f"{option} is '{path}', allowed is an absolute path on the controller, such as one below "
            "{{ inventory_dir }}."
        )
    if not Path(path).is_file():
        raise Problem(f"{option} is '{path}', there is no such file on the controller.")
    try:
        return read_file(path)
    except (AnsibleError, OSError) as error:
        raise Problem(f"{option} is '{path}', which cannot be read: {error}") from error


def load_certificates(option: str, path: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise Problem(f"{option} is '{path}', which holds no certificate in PEM.") from error


def key_fits(option: str, path: str, content: bytes, passphrase: str, certificate: x509.Certificate) -> None:
    """Check that the private key can be used and belongs to the certificate; say nothing about its content."""
    try:
        key = load_pem_private_key(content, passphrase.encode() or None)
    except (TypeError, ValueError) as error:
        raise Problem(
            f"{option} is '{path}', which cannot be loaded as a private key in PEM "
            f"{'with' if passphrase else 'without'} a passphrase."
        ) from error
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*encoding) != certificate.public_key().public_bytes(*encoding):
        raise Problem(f"{option} is '{path}', which does not belong to the certificate.")


def check_dates(option: str, path: str, certificate: x509.Certificate, now: datetime) -> None:
    if certificate.not_valid_after_utc <= now:
        raise Problem(
            f"{option} is '{path}', which expired on {certificate.not_valid_after_utc:%Y-%m-%d}: "
            "give a valid certificate."
        )
    if certificate.not_valid_before_utc > now:
        raise Problem(
            f"{option} is '{path}', which is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} "
            "UTC: correct the controller's clock or wait."
        )


def covered_names(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {f"DNS:{name.lower()}" for name in names.get_values_for_type(x509.DNSName)} | {
        f"IP:{address}" for address in names.get_values_for_type(x509.IPAddress)
    }


def check_names(wanted: Sequence[str], certificate: x509.Certificate) -> None:
    covered = covered_names(certificate)
    for name in map(alt_name, wanted):
        wildcard = "DNS:*." + name.removeprefix("DNS:").partition(".")[2]
        if name not in covered and wildcard not in covered:
            raise Problem(
                f"subject_alt_names has '{name}', which certificate_file does not cover "
                f"({', '.join(sorted(covered)) or 'it has no names'})."
            )


def check_chain(certificates: Sequence[x509.Certificate]) -> None:
    for issued, issuer in pairwise(certificates):
        try:
            issued.verify_directly_issued_by(issuer)
        except (InvalidSignature, TypeError, ValueError) as error:
            raise Problem(
                f"chain_file or certificate_file has '{issuer.subject.rfc4514_string()}' after "
                f"'{issued.subject.rfc4514_string()}', but that is not its issuer: "
                "the order is the certificate, its issuer, the issuer's issuer."
            ) from error


def pem(certificates: Sequence[x509.Certificate]) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def given(entry: dict[str, Any], read_file: ReadFile, now: datetime) -> dict[str, Any]:
    """Check the files of the provider `files`; return what they hold besides the private key."""
    path = entry["certificate_file"]
    certificates = load_certificates("certificate_file", path, read("certificate_file", path, read_file))
    key = read("key_file", entry["key_file"], read_file)
    if entry["chain_file"]:
        chain = read("chain_file", entry["chain_file"], read_file)
        certificates += load_certificates("chain_file", entry["chain_file"], chain)
    certificate = certificates[0]
    key_fits("key_file", entry["key_file"], key, "", certificate)
    check_dates("certificate_file", path, certificate, now)
    check_names(entry["subject_alt_names"], certificate)
    check_chain(certificates)
    return {
        "certificate_pem": pem(certificates[:1]),
        "chain_pem": pem(certificates[1:]),
        "days_left": (certificate.not_valid_after_utc - now).days,
    }


def check_authority(directory: str, passphrase: str, needed_days: int, read_file: ReadFile, now: datetime) -> bool:
    """Check the CA on the controller; return whether it exists."""
    if not Path(directory).is_absolute():
        raise Problem(f"tls_certificate_ca_directory is '{directory}', allowed is an absolute path on the controller.")
    path, key_path = f"{directory}/ca.pem", f"{directory}/ca.key"
    if not Path(path).exists():
        return False
    option = "tls_certificate_ca_directory"
    for file in (path, key_path):
        with contextlib.suppress(OSError):
            if is_encrypted(Path(file).read_bytes()):
                raise Problem(
                    f"{option}: found {file}, encrypted by Ansible Vault, which what signs certificates cannot read: "
                    "decrypt it (ansible-vault decrypt), and give the key a passphrase (tls_certificate_ca_passphrase)."
                )
    certificate = load_certificates(option, path, read(option, path, read_file))[0]
    check_dates(option, path, certificate, now)
    key_fits(
        f"{option} with tls_certificate_ca_passphrase",
        key_path,
        read(option, key_path, read_file),
        passphrase,
        certificate,
    )
    if certificate.not_valid_after_utc < now + timedelta(days=needed_days):
        raise Problem(
            f"{option} is '{directory}', and the CA there is valid only until "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}, fewer than the {needed_days} days of renew_before_days: "
            "move the folder away, and the next run creates a new CA and issues all certificates again."
        )
    return True


def check_common(entry: dict[str, Any]) -> None:
    for unit in entry["reload"]:
        if not UNIT.fullmatch(unit):
            raise Problem(f"reload has '{unit}', allowed are names of systemd units such as 'apache2.service'.")


def plan(
    certificates: Sequence[dict[str, Any]],
    directory: str,
    ca_directory: str,
    ca_passphrase: str,
    ca_trust: bool,
    read_file: ReadFile,
    now: datetime,
) -> tuple[dict[str, Any], list[str]]:
    """Return the certificates with all that was left open filled in, and every problem found on the way."""
    problems: list[str] = []
    planned = []
    if not Path(directory).is_absolute() or ".." in Path(directory).parts or len(Path(directory).parts) < 3:
        problems.append(
            f"tls_certificate_directory is '{directory}', allowed is the absolute path of a folder for them."
        )
    names = Counter(entry["name"] for entry in certificates)
    problems += [
        f"tls_certificate_certificates has {number} entries named '{name}': one entry a name."
        for name, number in names.items()
        if number > 1
    ]
    for number, entry in enumerate(certificates):
        planned.append(dict(entry))
        try:
            if not NAME.fullmatch(entry["name"]):
                raise Problem(
                    "name: allowed are up to 64 letters, digits, '_', '.' and '-', the first a letter or digit."
                )
            if entry["state"] == "absent":
                continue
            check_common(entry)
            if entry["provider"] == "files":
                planned[-1].update(given(entry, read_file, now))
            else:
                issued_days(entry)
                planned[-1].update(issued_names(entry))
        except Problem as problem:
            problems.append(f"tls_certificate_certificates[{number}] ('{entry['name']}'): {problem}")

    signed = [entry for entry in certificates if entry["state"] == "present" and entry["provider"] == "ca"]
    ca_needed = ca_trust or bool(signed)
    ca_exists = False
    if ca_needed:
        try:
            needed_days = max((entry["renew_before_days"] for entry in signed), default=0)
            ca_exists = check_authority(ca_directory, ca_passphrase, needed_days, read_file, now)
        except Problem as problem:
            problems.append(str(problem))
    return {"certificates": planned, "ca_needed": ca_needed, "ca_exists": ca_exists}, problems


class ActionModule(ActionBase):
    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        if CRYPTOGRAPHY_ERROR is not None:
            raise AnsibleActionFail(
                "validate_tls_certificates needs the Python package cryptography, 42 or later, on the controller: "
                f"{CRYPTOGRAPHY_ERROR}"
            )
        options = yaml.safe_load(SPECIFICATION.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
        # The role's own specification fills in the defaults inside the list, which Ansible does for no role.
        validated = ArgumentSpecValidator(
            {
                "certificates": options["tls_certificate_certificates"],
                "directory": {"type": "path", "required": True},
                "ca_directory": {"type": "path", "required": True},
                "ca_passphrase": {"type": "str", "default": "", "no_log": True},
                "ca_trust": {"type": "bool", "default": False},
            }
        ).validate(self._task.args)
        if validated.error_messages:
            raise AnsibleActionFail("; ".join(validated.error_messages))

        arguments = validated.validated_parameters
        values, problems = plan(**arguments, read_file=self._read, now=datetime.now(timezone.utc))
        result.update(changed=False)
        if problems:
            result.update(failed=True, msg="\n".join(problems))
            return result
        result.update(values)
        result["warnings"] = [
            f"The certificate '{entry['name']}' expires in {entry['days_left']} days: replace certificate_file "
            f"and key_file (tls_certificate_certificates, renew_before_days is {entry['renew_before_days']})."
            for entry in values["certificates"]
            if entry.get("days_left", entry["renew_before_days"]) < entry["renew_before_days"]
        ]
        return result

    def _read(self, path: str) -> bytes:
        """Return a file of the controller, decrypted where Ansible Vault has encrypted it."""
        lookup = lookup_loader.get("ansible.builtin.file", loader=self._loader, templar=self._templar)
        return lookup.run([path], variables={}, rstrip=False)[0].encode()
