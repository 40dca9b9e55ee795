# Copyright: web2py.deployment contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the variables of the role tls_certificate mean, and what is wrong in them and in the files they name."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import (
    Host,
    entry,
    is_present,
    out_of_range,
    repeated_names,
    wrong,
)

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
except ImportError as error:
    CRYPTOGRAPHY_ERROR: ImportError | None = error
else:
    CRYPTOGRAPHY_ERROR = None

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@\\-]{0,254}")
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z)(\*\.)?{LABEL}(\.{LABEL})*")
LONGEST_COMMON_NAME = 64
LONGEST_VALIDITY = 825
VAULT = b"$ANSIBLE_VAULT;"


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
        wrong("subject_alt_names", text, "DNS:<host name> (ASCII, a leading '*.' is possible) or IP:<address>")
    )


def issued_names(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return common_name and subject_alt_names of a certificate that the role issues."""
    common_name = item.get("common_name")
    names = list(item["subject_alt_names"])
    if not names and common_name:
        try:
            ipaddress.ip_address(common_name)
        except ValueError:
            names = [f"DNS:{common_name}"]
        else:
            names = [f"IP:{common_name}"]
    if not names:
        raise Problem(
            "subject_alt_names is empty and common_name is not set; one of them must name what the certificate is for, "
            "for example 'DNS:www.example.org'."
        )
    names = [alt_name(name) for name in names]
    common_name = common_name or names[0].partition(":")[2]
    if len(common_name) > LONGEST_COMMON_NAME:
        raise Problem(
            f"common_name has {len(common_name)} characters ('{common_name}'); it must have at most "
            f"{LONGEST_COMMON_NAME}. Set a shorter one, clients look at subject_alt_names only."
        )
    return {"common_name": common_name, "subject_alt_names": names}


def issued_days(item: Mapping[str, Any]) -> None:
    valid, renew = item["valid_days"], item["renew_before_days"]
    if not 1 <= valid <= LONGEST_VALIDITY:
        raise Problem(wrong("valid_days", valid, f"between 1 and {LONGEST_VALIDITY}"))
    if not 0 <= renew < valid:
        raise Problem(
            wrong(
                "renew_before_days",
                renew,
                f"between 0 and valid_days - 1 = {valid - 1}",
                "Every run would issue the certificate again",
            )
        )


def read(option: str, path: str | None, host: Host) -> bytes:
    if not path:
        raise Problem(f"{option} is not set; with provider 'files' it must be an absolute path on the controller.")
    if not Path(path).is_absolute():
        raise Problem(wrong(option, path, "an absolute path on the controller, such as one below {{ inventory_dir }}"))
    if not Path(path).is_file():
        raise Problem(wrong(option, path, "a file on the controller", "There is no such file"))
    try:
        return host.read_file(path)
    except OSError as error:
        raise Problem(f"{option} is '{path}', which cannot be read: {error}") from error


def load_certificates(option: str, path: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise Problem(wrong(option, path, "a file that holds a certificate in PEM")) from error


def key_fits(option: str, path: str, content: bytes, passphrase: str, certificate: x509.Certificate) -> None:
    """Check that the private key can be used and belongs to the certificate; say nothing about its content."""
    try:
        key = load_pem_private_key(content, passphrase.encode() or None)
    except (TypeError, ValueError) as error:
        raise Problem(
            wrong(option, path, f"a private key in PEM {'with this' if passphrase else 'without a'} passphrase")
        ) from error
    encoding = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*encoding) != certificate.public_key().public_bytes(*encoding):
        raise Problem(wrong(option, path, "the private key of the certificate"))


def check_dates(option: str, path: str, certificate: x509.Certificate, host: Host) -> None:
    if certificate.not_valid_after_utc <= host.now:
        raise Problem(
            f"{option} is '{path}', which expired on {certificate.not_valid_after_utc:%Y-%m-%d}; "
            "it must be a valid certificate."
        )
    if certificate.not_valid_before_utc > host.now:
        raise Problem(
            f"{option} is '{path}', which is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} "
            "UTC; it must be valid now. Correct the controller's clock or wait."
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
                wrong(
                    "subject_alt_names",
                    name,
                    f"covered by certificate_file ({', '.join(sorted(covered)) or 'it has no names'})",
                )
            )


def check_chain(certificates: Sequence[x509.Certificate]) -> None:
    for issued, issuer in pairwise(certificates):
        try:
            issued.verify_directly_issued_by(issuer)
        except (InvalidSignature, TypeError, ValueError) as error:
            raise Problem(
                f"chain_file or certificate_file has '{issuer.subject.rfc4514_string()}' after "
                f"'{issued.subject.rfc4514_string()}', which is not its issuer; the order must be the certificate, its "
                "issuer, the issuer's issuer."
            ) from error


def pem(certificates: Sequence[x509.Certificate]) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def given(item: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """Check the files of the provider `files`; return what they hold besides the private key."""
    path, key_path, chain_path = (item.get(key) for key in ("certificate_file", "key_file", "chain_file"))
    certificates = load_certificates("certificate_file", path, read("certificate_file", path, host))
    key = read("key_file", key_path, host)
    if chain_path:
        certificates += load_certificates("chain_file", chain_path, read("chain_file", chain_path, host))
    certificate = certificates[0]
    key_fits("key_file", key_path, key, "", certificate)
    check_dates("certificate_file", path, certificate, host)
    check_names(item["subject_alt_names"], certificate)
    check_chain(certificates)
    return {
        "certificate_pem": pem(certificates[:1]),
        "chain_pem": pem(certificates[1:]),
        "days_left": (certificate.not_valid_after_utc - host.now).days,
    }


def check_authority(directory: str, passphrase: str, needed_days: int, host: Host) -> bool:
    """Check the CA on the controller; return whether it exists."""
    if not Path(directory).is_absolute():
        raise Problem(wrong("tls_certificate_ca_directory", directory, "an absolute path on the controller"))
    path, key_path = f"{directory}/ca.pem", f"{directory}/ca.key"
    if not Path(path).exists():
        return False
    option = "tls_certificate_ca_directory"
    for file in (path, key_path):
        with contextlib.suppress(OSError):
            if Path(file).read_bytes().startswith(VAULT):
                raise Problem(
                    f"{option} has {file}, encrypted by Ansible Vault; it must be a file that the modules that sign "
                    "certificates can read. Decrypt it (ansible-vault decrypt), and give the key a passphrase "
                    "(tls_certificate_ca_passphrase)."
                )
    certificate = load_certificates(option, path, read(option, path, host))[0]
    check_dates(option, path, certificate, host)
    key_fits(
        f"{option} with tls_certificate_ca_passphrase",
        key_path,
        read(option, key_path, host),
        passphrase,
        certificate,
    )
    if certificate.not_valid_after_utc < host.now + timedelta(days=needed_days):
        raise Problem(
            f"{option} is '{directory}', and the CA there is valid only until "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}; it must be valid for the {needed_days} days of "
            "renew_before_days. Move the folder away, and the next run creates a new CA and issues all certificates "
            "again."
        )
    return True


def check_common(item: Mapping[str, Any]) -> None:
    for unit in item["reload"]:
        if not UNIT.fullmatch(unit):
            raise Problem(wrong("reload", unit, "names of systemd units such as 'apache2.service'"))


def on_controller(path: str) -> str:
    """A path of the controller, where ~ is the home of who runs Ansible."""
    return str(Path(path).expanduser()) if path.startswith("~") else path


def plan(values: Mapping[str, Any], host: Host) -> tuple[dict[str, Any], list[str]]:
    """Return the certificates with all that was left open filled in, and every problem found on the way."""
    if CRYPTOGRAPHY_ERROR is not None:
        return {}, [
            "The role tls_certificate needs the Python package cryptography, 42 or later, on the controller: "
            f"{CRYPTOGRAPHY_ERROR}"
        ]
    directory, ca_directory = values["directory"], on_controller(values["ca_directory"])
    problems = out_of_range("tls_certificate_ca_valid_days", values["ca_valid_days"], 1, 36500)
    if not Path(directory).is_absolute() or ".." in Path(directory).parts or len(Path(directory).parts) < 3:
        problems.append(wrong("tls_certificate_directory", directory, "the absolute path of a folder for certificates"))
    problems += repeated_names("tls_certificate_certificates", values["certificates"])
    certificates = []
    for number, item in enumerate(values["certificates"]):
        files = {key: on_controller(item[key]) for key in ("certificate_file", "key_file", "chain_file") if key in item}
        certificates.append({**item, **files})
        try:
            certificates[-1].update(checked(certificates[-1], host))
        except Problem as problem:
            problems.append(f"{entry('tls_certificate_certificates', number, item)}: {problem}")

    signed = [item for item in certificates if is_present(item) and item["provider"] == "ca"]
    ca_needed = values["ca_trust"] or bool(signed)
    ca_exists = False
    if ca_needed:
        try:
            needed_days = max((item["renew_before_days"] for item in signed), default=0)
            ca_exists = check_authority(ca_directory, values["ca_passphrase"], needed_days, host)
        except Problem as problem:
            problems.append(str(problem))
    issues = any(is_present(item) and item["provider"] != "files" for item in certificates)
    return {
        "certificates": certificates,
        "ca_directory": ca_directory,
        "ca_missing": ca_needed and not ca_exists,
        "packages": [
            *(["python3-cryptography"] if issues else []),
            *(["ca-certificates"] if values["ca_trust"] else []),
        ],
        "warnings": [
            f"The certificate '{item['name']}' expires in {item['days_left']} days: replace certificate_file "
            f"and key_file (tls_certificate_certificates, renew_before_days is {item['renew_before_days']})."
            for item in certificates
            if item.get("days_left", item["renew_before_days"]) < item["renew_before_days"]
        ],
    }, problems


def checked(item: Mapping[str, Any], host: Host) -> dict[str, Any]:
    """Check one certificate; return what it holds, or what it is to be issued with."""
    if not NAME.fullmatch(item["name"]):
        raise Problem(
            wrong("name", item["name"], "up to 64 letters, digits, '_', '.' and '-', the first a letter or digit")
        )
    if not is_present(item):
        return {}
    check_common(item)
    if item["provider"] == "files":
        return given(item, host)
    issued_days(item)
    return issued_names(item)
