# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of the role tls_certificate: every refusal with its message, on real keys and certificates."""

from __future__ import annotations

import ipaddress
import os
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.web2py.deployment.plugins.action import plan as action
from ansible_collections.web2py.deployment.plugins.plugin_utils.planning import Host
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

REPOSITORY = Path(__file__).resolve().parents[2]
NOW = datetime(2030, 6, 15, 12, 0, tzinfo=timezone.utc)
DAY = timedelta(days=1)


class Issued:
    """A key and a certificate of it, signed by `issuer` or by itself."""

    def __init__(
        self,
        name: str,
        issuer: Issued | None = None,
        alt_names: tuple[str, ...] = (),
        not_before: datetime = NOW - DAY,
        not_after: datetime = NOW + 400 * DAY,
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder(self.subject if issuer is None else issuer.subject, self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
        )
        if alt_names:
            names = [
                x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value)
                for kind, value in (name.split(":", 1) for name in alt_names)
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self.certificate = builder.sign(self.key if issuer is None else issuer.key, hashes.SHA256())

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self, passphrase: str = "") -> bytes:
        encryption = (
            serialization.BestAvailableEncryption(passphrase.encode()) if passphrase else serialization.NoEncryption()
        )
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@pytest.fixture(scope="module")
def root() -> Issued:
    return Issued("root", not_after=NOW + 4000 * DAY)


@pytest.fixture(scope="module")
def intermediate(root: Issued) -> Issued:
    return Issued("intermediate", root)


@pytest.fixture(scope="module")
def leaf(intermediate: Issued) -> Issued:
    return Issued("www.example.org", intermediate, ("DNS:www.example.org", "DNS:*.apps.example.org", "IP:192.0.2.1"))


def plan(entries: list[dict[str, Any]], now: datetime = NOW, **changes: Any) -> tuple[dict[str, Any], list[str]]:
    variables = {"certificates": entries, "ca_directory": "/nowhere/ca", **changes}
    host = Host({}, lambda path: Path(path).read_bytes(), now)
    return action.plan("tls_certificate", {f"tls_certificate_{name}": value for name, value in variables.items()}, host)


def problem(entry: dict[str, Any], **changes: Any) -> str:
    """Return the one problem that this entry has."""
    _values, problems = plan([{"name": "www", **entry}], **changes)
    assert len(problems) == 1, problems
    return problems[0]


def issued(**entry: Any) -> dict[str, Any]:
    return {"provider": "selfsigned", "subject_alt_names": ["DNS:www.example.org"], **entry}


@pytest.fixture
def given(tmp_path: Path, leaf: Issued, intermediate: Issued) -> dict[str, Any]:
    """An entry with provider `files` that is right in all respects."""
    (tmp_path / "cert.pem").write_bytes(leaf.pem)
    (tmp_path / "cert.key").write_bytes(leaf.key_pem())
    (tmp_path / "chain.pem").write_bytes(intermediate.pem)
    return {
        "provider": "files",
        "certificate_file": f"{tmp_path}/cert.pem",
        "key_file": f"{tmp_path}/cert.key",
        "chain_file": f"{tmp_path}/chain.pem",
    }


def test_nothing_asked_for_is_nothing_to_do() -> None:
    values, problems = plan([])
    assert problems == []
    assert (values["certificates"], values["packages"], values["ca_missing"]) == ([], [], False)


def test_defaults_and_names_are_filled_in() -> None:
    entry = {"name": "www", "subject_alt_names": ["DNS:WWW.Example.org", "IP:2001:db8:0::1", "DNS:*.example.org"]}
    values, problems = plan([entry])
    assert problems == []
    (certificate,) = values["certificates"]
    assert certificate["subject_alt_names"] == ["DNS:www.example.org", "IP:2001:db8::1", "DNS:*.example.org"]
    assert certificate["common_name"] == "www.example.org"
    assert (certificate["provider"], certificate["key_type"], certificate["key_mode"]) == ("selfsigned", "ECC", "0600")


@pytest.mark.parametrize(("common_name", "expected"), [("Example", "DNS:example"), ("192.0.2.1", "IP:192.0.2.1")])
def test_a_common_name_alone_names_the_certificate(common_name: str, expected: str) -> None:
    values, problems = plan([{"name": "www", "common_name": common_name}])
    assert problems == []
    assert values["certificates"][0]["subject_alt_names"] == [expected]


@pytest.mark.parametrize(
    "name", ["../etc", "a/b", ".hidden", "-rf", "", "a b", "ä", "a\n", "x" * 65, "..", "a;b", "$(id)", "a\x00b"]
)
def test_unsafe_names_of_certificates_are_refused(name: str) -> None:
    _values, problems = plan([{"name": name, **issued()}, {"name": name, "state": "absent"}])
    assert sum("it must be up to 64 letters" in text for text in problems) == 2


@pytest.mark.parametrize("state", ["present", "absent"])
def test_one_name_twice_is_refused(state: str) -> None:
    _values, problems = plan([{"name": "www", **issued()}, {"name": "www", **issued(state=state)}])
    assert problems == ["tls_certificate_certificates has 2 entries named 'www'; each name must be there once."]


@pytest.mark.parametrize(
    "name",
    [
        *("www.example.org", "dns:a", "DNS:", "DNS:a b", "DNS:münchen.de", "DNS:-a.org", "DNS:a..b", "DNS:a.*.org"),
        *("DNS:*", "IP:", "IP:1.2.3", "IP:www", "email:a@b", "URI:http://a", "DNS:" + "a" * 64, "DNS:a\n"),
        "DNS:" + ".".join(["a" * 60] * 5),
    ],
)
def test_alternative_names_that_no_client_accepts_are_refused(name: str) -> None:
    assert f"subject_alt_names is {name!r}; it must be DNS:" in problem(issued(subject_alt_names=["DNS:a.org", name]))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (issued(subject_alt_names=[]), "subject_alt_names is empty"),
        (issued(common_name="x" * 65), "common_name has 65 characters"),
        (issued(valid_days=0), "valid_days is 0; it must be between 1 and 825"),
        (issued(valid_days=826), "valid_days is 826"),
        (
            issued(valid_days=30, renew_before_days=30),
            "renew_before_days is 30; it must be between 0 and valid_days - 1 = 29",
        ),
        (issued(renew_before_days=-1), "renew_before_days is -1"),
        (issued(reload=["apache2; reboot"]), "reload is 'apache2; reboot'"),
        (issued(reload=["--now"]), "reload is '--now'"),
        (issued(reload=["a*"]), "reload is 'a*'"),
    ],
)
def test_values_out_of_range_are_refused(entry: dict[str, Any], expected: str) -> None:
    text = problem(entry)
    assert text.startswith("tls_certificate_certificates[0] ('www'): ")
    assert expected in text


@pytest.mark.parametrize("directory", ["relative/path", "/", "/etc", "/etc/ssl/../shadow"])
def test_a_folder_that_is_not_for_certificates_is_refused(directory: str) -> None:
    assert "tls_certificate_directory is" in problem(issued(), directory=directory)


def test_every_problem_is_reported_at_once() -> None:
    _values, problems = plan([{"name": "a/b"}, {"name": "c", **issued(valid_days=0)}], directory="x")
    assert len(problems) == 3


def test_an_absent_certificate_needs_nothing_but_its_name() -> None:
    values, problems = plan([{"name": "www", "state": "absent", "provider": "files"}])
    assert problems == []
    assert values["certificates"][0]["state"] == "absent"


def test_given_files_are_taken_apart(given: dict[str, Any], leaf: Issued, intermediate: Issued, root: Issued) -> None:
    Path(given["chain_file"]).write_bytes(intermediate.pem + root.pem)
    given["subject_alt_names"] = ["DNS:www.example.org", "DNS:shop.apps.example.org", "IP:192.0.2.1"]
    values, problems = plan([{"name": "www", **given}])
    assert problems == []
    (certificate,) = values["certificates"]
    assert certificate["certificate_pem"].encode() == leaf.pem
    assert certificate["chain_pem"].encode() == intermediate.pem + root.pem
    assert certificate["days_left"] == 400


def test_a_chain_in_the_certificate_file_is_found(given: dict[str, Any], leaf: Issued, intermediate: Issued) -> None:
    Path(given["certificate_file"]).write_bytes(b"text before it\n" + leaf.pem + intermediate.pem)
    values, problems = plan([{"name": "www", **given, "chain_file": None}])
    assert problems == []
    assert values["certificates"][0]["certificate_pem"].encode() == leaf.pem
    assert values["certificates"][0]["chain_pem"].encode() == intermediate.pem


@pytest.mark.parametrize("option", ["certificate_file", "key_file", "chain_file"])
def test_files_that_are_not_there_are_refused(given: dict[str, Any], option: str, tmp_path: Path) -> None:
    assert f"{option} is '{tmp_path}/x.pem'; it must be a file on the controller. There is no such file" in problem(
        {**given, option: f"{tmp_path}/x.pem"}
    )
    assert f"{option} is '{tmp_path}'; it must be a file on the controller" in problem({**given, option: str(tmp_path)})
    assert f"{option} is 'x.pem'; it must be an absolute path" in problem({**given, option: "x.pem"})
    if option != "chain_file":
        assert f"{option} is not set" in problem({**given, option: None})


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
@pytest.mark.parametrize("option", ["certificate_file", "chain_file"])
def test_files_without_a_certificate_are_refused(given: dict[str, Any], option: str, content: bytes) -> None:
    Path(given[option]).write_bytes(content)
    assert f"{option} is '{given[option]}'; it must be a file that holds a certificate in PEM" in problem(given)


def test_a_key_of_another_certificate_is_refused(given: dict[str, Any], intermediate: Issued) -> None:
    Path(given["key_file"]).write_bytes(intermediate.key_pem())
    assert f"key_file is '{given['key_file']}'; it must be the private key of the certificate" in problem(given)


@pytest.mark.parametrize("content", [b"", b"nonsense"])
def test_a_file_that_is_no_key_is_refused_and_never_quoted(given: dict[str, Any], content: bytes) -> None:
    Path(given["key_file"]).write_bytes(content)
    text = problem(given)
    assert "it must be a private key in PEM without a passphrase" in text
    assert "nonsense" not in text


def test_a_key_with_a_passphrase_is_refused(given: dict[str, Any], leaf: Issued) -> None:
    Path(given["key_file"]).write_bytes(leaf.key_pem("secret"))
    assert "without a passphrase" in problem(given)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (NOW + 401 * DAY, "which expired on 2031-07-20"),
        (NOW - 2 * DAY, "which is valid only from 2030-06-14 12:00 UTC"),
    ],
)
def test_certificates_that_are_not_valid_now_are_refused(given: dict[str, Any], now: datetime, expected: str) -> None:
    assert expected in problem(given, now=now)


@pytest.mark.parametrize(
    "name", ["DNS:example.org", "DNS:a.b.apps.example.org", "DNS:apps.example.org", "IP:192.0.2.2"]
)
def test_names_that_the_certificate_lacks_are_refused(given: dict[str, Any], name: str) -> None:
    text = problem({**given, "subject_alt_names": ["DNS:www.example.org", name]})
    assert f"subject_alt_names is '{name}'; it must be covered by certificate_file" in text
    assert "DNS:www.example.org, IP:192.0.2.1" in text


def test_a_chain_in_the_wrong_order_is_refused(given: dict[str, Any], intermediate: Issued, root: Issued) -> None:
    Path(given["chain_file"]).write_bytes(root.pem + intermediate.pem)
    assert "has 'CN=root' after 'CN=www.example.org', which is not its issuer" in problem(given)


def test_an_issuer_of_the_right_name_and_the_wrong_key_is_refused(given: dict[str, Any], root: Issued) -> None:
    Path(given["chain_file"]).write_bytes(Issued("intermediate", root).pem)
    assert "which is not its issuer" in problem(given)


@pytest.fixture
def authority(tmp_path: Path) -> Issued:
    made = Issued("ca", not_after=NOW + 100 * DAY)
    (tmp_path / "ca.pem").write_bytes(made.pem)
    (tmp_path / "ca.key").write_bytes(made.key_pem("secret"))
    return made


def test_a_missing_authority_is_to_be_created(tmp_path: Path) -> None:
    for entries, trust in (([{"name": "www", **issued(provider="ca")}], False), ([], True)):
        values, problems = plan(entries, ca_directory=str(tmp_path / "ca"), ca_trust=trust)
        assert problems == []
        assert values["ca_missing"] is True


def test_an_authority_that_is_there_is_used(authority: Issued, tmp_path: Path) -> None:
    values, problems = plan(
        [{"name": "www", **issued(provider="ca")}], ca_directory=str(tmp_path), ca_passphrase="secret"
    )
    assert problems == []
    assert values["ca_missing"] is False


def test_an_authority_nobody_needs_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    assert plan([{"name": "www", **issued()}], ca_directory=str(tmp_path))[1] == []


@pytest.mark.parametrize("passphrase", ["", "guessed"])
def test_a_wrong_passphrase_of_the_authority_is_refused(authority: Issued, tmp_path: Path, passphrase: str) -> None:
    text = problem(issued(provider="ca"), ca_directory=str(tmp_path), ca_passphrase=passphrase)
    assert "tls_certificate_ca_passphrase" in text
    assert "it must be a private key in PEM" in text
    assert "guessed" not in text


def test_a_passphrase_for_a_key_without_one_is_refused(authority: Issued, tmp_path: Path) -> None:
    (tmp_path / "ca.key").write_bytes(authority.key_pem())
    text = problem(issued(provider="ca"), ca_directory=str(tmp_path), ca_passphrase="secret")
    assert "it must be a private key in PEM with this passphrase" in text


@pytest.mark.parametrize("file", ["ca.key", "ca.pem"])
def test_an_authority_in_a_vault_is_refused(authority: Issued, tmp_path: Path, file: str) -> None:
    (tmp_path / file).write_bytes(b"$ANSIBLE_VAULT;1.1;AES256\n3261\n")
    text = problem(issued(provider="ca"), ca_directory=str(tmp_path), ca_passphrase="secret")
    assert f"tls_certificate_ca_directory has {tmp_path}/{file}, encrypted by Ansible Vault" in text


def test_an_authority_without_its_key_is_refused(authority: Issued, tmp_path: Path) -> None:
    (tmp_path / "ca.key").unlink()
    text = problem(issued(provider="ca"), ca_directory=str(tmp_path), ca_passphrase="secret")
    assert f"tls_certificate_ca_directory is '{tmp_path}/ca.key'; it must be a file" in text


def test_an_authority_that_runs_out_is_refused_in_time(authority: Issued, tmp_path: Path) -> None:
    arguments = {"ca_directory": str(tmp_path), "ca_passphrase": "secret"}
    entry = issued(provider="ca", renew_before_days=30)
    assert plan([{"name": "www", **entry}], now=NOW + 69 * DAY, **arguments)[1] == []
    assert "valid only until 2030-09-23" in problem(entry, now=NOW + 71 * DAY, **arguments)
    assert "which expired on 2030-09-23" in problem(entry, now=NOW + 101 * DAY, **arguments)


def test_a_relative_folder_of_the_authority_is_refused() -> None:
    assert "tls_certificate_ca_directory is 'ca'; it must be an absolute path" in problem(
        issued(provider="ca"), ca_directory="ca"
    )


def run_role(folder: Path, certificates: list[dict[str, Any]], *arguments: str) -> tuple[int, str]:
    """Validate in a play, with the role's defaults and the facts of a supported host."""
    variables = {
        "tls_certificate_certificates": certificates,
        "tls_certificate_ca_directory": f"{folder}/ca",
        "tls_certificate_ca_passphrase": "hush-hush",
        "ansible_facts": {"distribution": "Debian", "distribution_release": "trixie"},
    }
    validate = {"name": "web2py.deployment.tls_certificate", "tasks_from": "validate"}
    tasks = [{"ansible.builtin.include_role": validate}]
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play]))
    link = folder / "ansible_collections" / "web2py" / "deployment"
    if not link.exists():
        link.parent.mkdir(parents=True)
        link.symlink_to(REPOSITORY)
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(folder),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [sys.executable, "-m", "ansible.cli.playbook", "-vvv", "-i", "localhost,", "play.yml", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def test_a_play_reads_a_key_from_ansible_vault_and_shows_nothing_of_it(tmp_path: Path) -> None:
    now = datetime.now(timezone.utc)
    soon = Issued("www", alt_names=("DNS:www.example.org",), not_before=now - DAY, not_after=now + 9 * DAY)
    (tmp_path / "cert.pem").write_bytes(soon.pem)
    (tmp_path / "cert.key").write_bytes(soon.key_pem())
    (tmp_path / "password").write_text("vault password")
    vault = [sys.executable, "-m", "ansible.cli.vault", "encrypt", "--vault-password-file=password", "cert.key"]
    subprocess.run(vault, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "cert.key").read_text().startswith("$ANSIBLE_VAULT")
    certificate = {
        "name": "www",
        "provider": "files",
        "certificate_file": f"{tmp_path}/cert.pem",
        "key_file": f"{tmp_path}/cert.key",
    }

    status, output = run_role(tmp_path, [certificate], "--vault-password-file=password")
    assert status == 0, output
    assert "The certificate 'www' expires in 8 days" in output
    for secret in (*soon.key_pem().decode().splitlines()[1:-1], "hush-hush"):
        assert secret not in output

    status, output = run_role(tmp_path, [certificate])
    assert status == 2
    assert f"key_file is '{tmp_path}/cert.key', which cannot be read" in output
    assert "hush-hush" not in output


def test_a_play_refuses_unknown_keys_and_choices(tmp_path: Path) -> None:
    for entry, expected in (
        ({"name": "www", "provder": "ca"}, "provder"),
        ({"name": "www", "provider": "acme"}, "provider is 'acme'; it must be files, selfsigned or ca."),
        ({"name": "www", "key_mode": "0644"}, "key_mode is '0644'; it must be 0600 or 0640."),
    ):
        status, output = run_role(tmp_path, [entry])
        assert status == 2
        assert expected in output


def test_an_authority_that_is_never_valid_is_refused() -> None:
    assert plan([], ca_valid_days=0)[1] == ["tls_certificate_ca_valid_days is 0; it must be between 1 and 36500."]
