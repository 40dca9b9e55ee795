# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes the certificates that somebody would have bought: make_pki.py FOLDER."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.now(timezone.utc)


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def main(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True)
    keys = {who: ec.generate_private_key(ec.SECP256R1()) for who in ("root", "chain", "bought", "expired")}

    def issue(who: str, issuer: str, days: int) -> None:
        is_ca = who in ("root", "chain")
        issuer_key = keys[issuer]
        builder = (
            x509.CertificateBuilder(name(issuer), name(who), keys[who].public_key(), x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=30))
            .not_valid_after(NOW + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(keys[who].public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        )
        if is_ca:
            usage = dict.fromkeys(
                (
                    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
                    *("key_agreement", "encipher_only", "decipher_only"),
                ),
                False,
            )
            builder = builder.add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        else:
            alt_name = x509.SubjectAlternativeName([x509.DNSName(f"{who}.example.org")])
            builder = builder.add_extension(alt_name, critical=False)
        certificate = builder.sign(issuer_key, hashes.SHA256())
        (folder / f"{who}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / f"{who}.key").write_bytes(
            keys[who].private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    issue("root", "root", 3650)
    issue("chain", "root", 3650)
    issue("bought", "chain", 300)
    issue("expired", "chain", -1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
