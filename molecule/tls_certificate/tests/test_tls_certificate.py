# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The role tls_certificate: real TLS connections from outside, renewal under a running server, refusals, secrets.

Each test drives all machines of the scenario at once through apply.yml, which is nothing but the role.
"""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from browser import Run, play, wait_for
from cryptography import x509
from cryptography.hazmat.primitives import serialization

SCENARIO = Path(__file__).resolve().parents[1]
WORK = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
CA = WORK / "ca"
PKI = WORK / "pki"
FOLDER = "/etc/ssl/tls_certificate"
PORTS = {"own": 8441, "www": 8442, "bought": 8443}
CERTIFICATES = yaml.safe_load((SCENARIO / "inventory/group_vars/docker.yml").read_text())[
    "tls_certificate_certificates"
]


class Machine:
    """One of the scenario's machines, seen from inside (`host`) and over the network."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.host = testinfra.get_host(f"docker://{name}")
        self.address = self.host.check_output("hostname -I").split()[0]

    def read(self, certificate: str, file: str = "cert.pem") -> str:
        return self.host.file(f"{FOLDER}/{certificate}/{file}").content_string

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.read(name).encode())

    def serial(self, name: str) -> int:
        return self.certificate(name).serial_number

    def connect(self, certificate: str, trusted: Path | str, server_name: str) -> x509.Certificate:
        """Return the certificate that the server shows to a client that trusts only `trusted`."""
        context = ssl.create_default_context()
        if isinstance(trusted, Path):
            context.load_verify_locations(cafile=trusted)
        else:
            context.load_verify_locations(cadata=trusted)
        with (
            socket.create_connection((self.address, PORTS[certificate]), timeout=10) as connection,
            context.wrap_socket(connection, server_hostname=server_name) as channel,
        ):
            shown = channel.getpeercert(binary_form=True)
        assert shown is not None
        return x509.load_der_x509_certificate(shown)

    def serves(self, certificate: str, trusted: Path | str, server_name: str) -> bool:
        return self.connect(certificate, trusted, server_name).serial_number == self.serial(certificate)

    def main_pid(self, unit: str) -> str:
        return self.host.check_output(f"systemctl show --value --property MainPID {unit}")

    def state(self) -> str:
        """Everything the role could change, as text that two moments can be compared by."""
        return self.host.check_output(
            f"find {FOLDER} /usr/local/share/ca-certificates -printf '%p %u %g %m %T@\\n' | sort; "
            f"find {FOLDER} -type f -exec sha256sum {{}} + | sort; stat -c %Y /var/lib/dpkg/status"
        )


def groups() -> list[str]:
    return [os.environ["DISTRO"]] if os.environ.get("DISTRO") else ["debian12", "debian13"]


MACHINES = [Machine(f"tls_certificate-{group}") for group in groups()]
every_machine = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


def changed(run: Run) -> set[int]:
    """How many tasks changed something, as a set: one number where all machines agree."""
    return {counts["changed"] for counts in run.stats().values()}


def apply(
    *arguments: str, playbook: str = "apply.yml", environment: dict[str, str] | None = None, **variables: Any
) -> Run:
    run = play(*arguments, variables=variables, playbook=SCENARIO / playbook, environment=environment)
    assert "[DEPRECATION WARNING]" not in run.output
    return run


def certificates(**changes: dict[str, Any]) -> dict[str, Any]:
    """Return a list of the named certificates only: the inventory's entries, changed so, and entries of other names."""
    known = {entry["name"]: entry for entry in CERTIFICATES}
    entries = [{**known.get(name, {}), "name": name, **change} for name, change in changes.items()]
    return {"tls_certificate_certificates": entries}


def succeed(run: Run) -> Run:
    assert run.status == 0, run.output
    return run


@every_machine
def test_files_have_their_owners_and_modes(machine: Machine) -> None:
    listing = machine.host.check_output(f"find {FOLDER} -mindepth 1 -printf '%P %u:%g %m\\n'").splitlines()
    expected = []
    for name in ("own", "www", "bought"):
        key = "root:www-data 640" if name == "www" else "root:root 600"
        expected += [f"{name} root:root 755", f"{name}/privkey.pem {key}"]
        expected += [f"{name}/{file}.pem root:root 644" for file in ("cert", "chain", "fullchain")]
    assert sorted(listing) == sorted(expected)


@every_machine
@pytest.mark.parametrize(
    ("user", "name", "allowed"),
    [("nobody", "own", False), ("nobody", "www", False), ("www-data", "own", False), ("www-data", "www", True)],
)
def test_private_keys_are_readable_only_for_whom_they_are(
    machine: Machine, user: str, name: str, allowed: bool
) -> None:
    done = machine.host.run(f"runuser -u {user} -- cat {FOLDER}/{name}/privkey.pem")
    assert (done.rc == 0) is allowed
    assert ("PRIVATE KEY" in done.stdout) is allowed


@every_machine
def test_a_client_that_trusts_the_authority_connects(machine: Machine) -> None:
    shown = machine.connect("www", CA / "ca.pem", "www.example.org")
    assert shown.serial_number == machine.serial("www")
    machine.connect("www", CA / "ca.pem", "192.0.2.1")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        machine.connect("www", CA / "ca.pem", "www.example.com")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        machine.connect("www", PKI / "root.pem", "www.example.org")


@every_machine
def test_a_client_that_trusts_the_public_root_gets_the_whole_chain(machine: Machine) -> None:
    assert machine.serves("bought", PKI / "root.pem", "bought.example.org")
    assert machine.read("bought", "chain.pem") == (PKI / "chain.pem").read_text()


@every_machine
def test_a_client_that_was_given_the_self_signed_certificate_connects(machine: Machine) -> None:
    assert machine.serves("own", machine.read("own", "chain.pem"), "own.example.org")


@every_machine
def test_certificates_are_what_browsers_accept(machine: Machine) -> None:
    for name in ("own", "www"):
        certificate = machine.certificate(name)
        days = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert days.days == 397
        extensions = certificate.extensions
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
        assert extensions.get_extension_for_class(x509.ExtendedKeyUsage).value == x509.ExtendedKeyUsage(
            [x509.ExtendedKeyUsageOID.SERVER_AUTH]
        )
    assert machine.certificate("www").public_key().key_size == 3072
    assert machine.certificate("own").public_key().curve.name == "secp256r1"


def test_the_authority_is_one_and_protected() -> None:
    assert {file.name for file in CA.iterdir()} == {".gitignore", "ca.key", "ca.pem"}
    assert CA.stat().st_mode & 0o777 == 0o700
    assert (CA / "ca.key").stat().st_mode & 0o777 == 0o600
    assert (CA / "ca.key").read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert (CA / ".gitignore").read_text() == "*\n"


def test_check_mode_reports_no_change_where_none_is_needed() -> None:
    run = succeed(apply("--check", "--diff"))
    assert changed(run) == {0}, run.output
    assert "RUNNING HANDLER" not in run.output


def test_values_given_as_text_mean_the_same() -> None:
    """As an INI inventory or -e gives them; numbers and booleans are the role's defaults."""
    numbers = {"valid_days": "397", "renew_before_days": "30"}
    entries = [item if item.get("provider") == "files" else {**item, **numbers} for item in CERTIFICATES]
    text = {"tls_certificate_ca_valid_days": "3650", "tls_certificate_ca_trust": "no"}
    run = succeed(apply(tls_certificate_certificates=entries, **text))
    assert run.changes() == 0, run.changed_tasks()


def test_one_certificate_costs_few_tasks() -> None:
    run = succeed(apply(**certificates(www={})))
    assert changed(run) == {0}
    # One of them gathers facts.
    assert {counts["ok"] for counts in run.stats().values()} == {12}


def test_a_certificate_that_runs_out_is_renewed_and_loaded() -> None:
    """The certificate of 10 days comes about through a damaged one, which is replaced as well."""
    pids = {machine.name: machine.main_pid("tls-reloaded@www") for machine in MACHINES}
    for machine in MACHINES:
        machine.host.check_output(f"sh -c 'echo nonsense > {FOLDER}/www/cert.pem'")
    succeed(apply(**certificates(www={"valid_days": 10, "renew_before_days": 9})))
    short = {machine.name: machine.serial("www") for machine in MACHINES}
    for machine in MACHINES:
        wait_for(lambda machine=machine: machine.serves("www", CA / "ca.pem", "www.example.org"))

    predicted = succeed(apply("--check", **certificates(www={})))
    assert {machine.name: machine.serial("www") for machine in MACHINES} == short
    renewed = succeed(apply(**certificates(www={})))
    assert 0 not in changed(renewed)
    assert "RUNNING HANDLER [Hear of a changed certificate]" in renewed.output
    assert predicted.stats() == renewed.stats()
    for machine in MACHINES:
        assert machine.serial("www") != short[machine.name]
        wait_for(lambda machine=machine: machine.serves("www", CA / "ca.pem", "www.example.org"))
        assert machine.main_pid("tls-reloaded@www") == pids[machine.name], "restarted although it can reload"


def test_a_unit_that_cannot_reload_is_restarted_and_a_stopped_one_stays_stopped() -> None:
    pids = {machine.name: machine.main_pid("tls-restarted@own") for machine in MACHINES}
    keys = {machine.name: machine.read("own", "privkey.pem") for machine in MACHINES}
    for machine in MACHINES:
        machine.host.check_output("systemctl stop tls-reloaded@www")
    try:
        names = {"subject_alt_names": ["DNS:own.example.org", "DNS:more.example.org"]}
        succeed(apply(**certificates(own=names, www=names)))
        for machine in MACHINES:
            assert machine.serves("own", machine.read("own"), "more.example.org")
            assert machine.main_pid("tls-restarted@own") != pids[machine.name]
            assert machine.read("own", "privkey.pem") == keys[machine.name], "other names need no other key"
            assert not machine.host.service("tls-reloaded@www").is_running
    finally:
        for machine in MACHINES:
            machine.host.check_output("systemctl start tls-reloaded@www")


def test_another_key_type_and_another_provider_replace_what_was_there() -> None:
    keys = {machine.name: machine.read("own", "privkey.pem") for machine in MACHINES}
    succeed(apply(**certificates(own={"provider": "ca", "key_type": "RSA"}, www={"key_type": "ECC"})))
    for machine in MACHINES:
        assert machine.serves("own", CA / "ca.pem", "own.example.org")
        assert machine.read("own", "privkey.pem") != keys[machine.name]
        assert machine.certificate("own").public_key().key_size == 3072
        assert machine.certificate("www").public_key().curve.name == "secp256r1"
    succeed(apply(**certificates(own={}, www={})))
    for machine in MACHINES:
        assert machine.serves("own", machine.read("own"), "own.example.org")
        assert machine.certificate("own").public_key().curve.name == "secp256r1"


SECRET_PASSPHRASE = "a-passphrase-to-look-for"
ADDED = {
    "added_own": {"subject_alt_names": ["DNS:a.example.org"]},
    "added_ca": {"provider": "ca", "subject_alt_names": ["DNS:a.example.org"], "key_type": "RSA"},
    "added_files": {"provider": "files", "certificate_file": f"{PKI}/bought.pem", "key_file": f"{PKI}/bought.key"},
}


TRUSTING = {
    "tls_certificate_ca_directory": f"{WORK}/second_ca",
    "tls_certificate_ca_passphrase": SECRET_PASSPHRASE,
    "tls_certificate_ca_trust": True,
    **certificates(**ADDED),
}


@pytest.fixture(scope="module")
def added() -> Run:
    """One run that creates a second CA, trusts it, and adds a certificate of each kind, as talkative as can be.

    With the strategy `free` every host makes its own way, so all meet at the CA that is not there yet.
    """
    return succeed(apply("-vvv", "--diff", environment={"ANSIBLE_STRATEGY": "free"}, **TRUSTING))


def private_lines(key: str) -> set[str]:
    """Return the lines of a private key in PEM that its public half, which may be shown, does not repeat."""
    loaded = serialization.load_pem_private_key(key.encode(), None)
    encoding = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    public = "".join(loaded.public_key().public_bytes(*encoding).decode().splitlines())
    return {line for line in key.splitlines()[1:-1] if line not in public}


def test_no_secret_is_shown(added: Run) -> None:
    secrets = {SECRET_PASSPHRASE, *(WORK / "second_ca" / "ca.key").read_text().splitlines()[1:-1]}
    for machine in MACHINES:
        for name in ADDED:
            secrets.update(private_lines(machine.read(name, "privkey.pem")))
    assert len(secrets) > 10
    assert [secret for secret in secrets if secret in added.output] == []
    assert "BEGIN CERTIFICATE" in added.output, "the run shows nothing at all, so it proves nothing"


def test_hosts_at_once_share_one_authority_and_trust_it(added: Run) -> None:
    issuer = x509.load_pem_x509_certificate((WORK / "second_ca" / "ca.pem").read_bytes())
    for machine in MACHINES:
        machine.certificate("added_ca").verify_directly_issued_by(issuer)
        machine.host.check_output(f"openssl verify {FOLDER}/added_ca/cert.pem")
        assert machine.host.run(f"openssl verify {FOLDER}/www/cert.pem").rc != 0


def test_a_run_that_was_cut_off_before_the_trust_store_knew_is_made_good(added: Run) -> None:
    for machine in MACHINES:
        machine.host.check_output("mv /usr/local/share/ca-certificates/tls_certificate_ca.crt /root/")
        machine.host.check_output("update-ca-certificates --fresh")
        machine.host.check_output("mv /root/tls_certificate_ca.crt /usr/local/share/ca-certificates/")
        assert machine.host.run(f"openssl verify {FOLDER}/added_ca/cert.pem").rc != 0
    assert changed(succeed(apply(**TRUSTING))) == {1}
    for machine in MACHINES:
        machine.host.check_output(f"openssl verify {FOLDER}/added_ca/cert.pem")
    assert changed(succeed(apply(**TRUSTING))) == {0}


def test_what_is_absent_is_removed(added: Run) -> None:
    absent = certificates(**{name: {"state": "absent"} for name in ADDED})
    predicted = succeed(apply("--check", **absent))
    assert all(machine.host.file(f"{FOLDER}/{name}/privkey.pem").exists for machine in MACHINES for name in ADDED)
    removed = succeed(apply(**absent))
    # The certificates, and the trust in the CA.
    assert changed(predicted) == changed(removed) == {2}
    for machine in MACHINES:
        assert not any(machine.host.file(f"{FOLDER}/{name}").exists for name in ADDED)
        command = f"openssl x509 -in {FOLDER}/www/chain.pem -noout -subject"
        assert "tls_certificate private CA" in machine.host.check_output(command)
        bundle = machine.host.file("/etc/ssl/certs/ca-certificates.crt").content_string
        assert (WORK / "second_ca" / "ca.pem").read_text().strip() not in bundle


PREFIX = "tls_certificate_certificates"
REFUSED = {
    "misspelled variable": (
        {"tls_certificate_certifcates": []},
        ["tls_certificate_certifcates: role web2py.deployment.tls_certificate has no such variable; did you mean"],
    ),
    "wrong keys and values": (
        certificates(own={"provider": "acme"}, www={"key_typ": "RSA"}),
        ["value of provider must be one of: files, selfsigned, ca, got: acme", "key_typ"],
    ),
    "wrong in themselves and against the files": (
        {
            "tls_certificate_ca_passphrase": "wrong",
            **certificates(
                own={"provider": "ca"},
                www={
                    "provider": "files",
                    "certificate_file": f"{PKI}/expired.pem",
                    "key_file": f"{PKI}/expired.key",
                },
                bought={"certificate_file": "/nowhere.pem"},
                foreign={"provider": "files", "certificate_file": f"{PKI}/bought.pem", "key_file": f"{PKI}/root.key"},
                **{"../own": {"common_name": "a"}},
            ),
        },
        [
            f"{PREFIX}[1] ('www'): certificate_file is '{PKI}/expired.pem', which expired on",
            f"{PREFIX}[2] ('bought'): certificate_file is '/nowhere.pem'; it must be a file on the controller",
            f"{PREFIX}[3] ('foreign'): key_file is '{PKI}/root.key'; it must be the private key of the certificate",
            f"{PREFIX}[4] ('../own'): name is '../own'; it must be",
            "tls_certificate_ca_directory with tls_certificate_ca_passphrase is",
        ],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_before_anything_is_changed(case: str) -> None:
    variables, messages = REFUSED[case]
    before = [machine.state() for machine in MACHINES]
    run = apply(**variables)
    assert run.status == 2, run.output
    for message in messages:
        assert message in " ".join(run.output.replace("''", "'").split())
    assert changed(run) == {0}
    assert [machine.state() for machine in MACHINES] == before


def test_another_release_of_debian_is_refused() -> None:
    before = [machine.state() for machine in MACHINES]
    for machine in MACHINES:
        machine.host.check_output(
            "sh -c 'rm /etc/os-release && sed -e s/bookworm/bullseye/ -e s/trixie/bullseye/ /usr/lib/os-release "
            "> /etc/os-release && cp /etc/debian_version /etc/debian_version.kept && echo 11.11 > /etc/debian_version'"
        )
    try:
        run = apply()
    finally:
        for machine in MACHINES:
            machine.host.check_output(
                "sh -c 'ln -fs ../usr/lib/os-release /etc/os-release; mv /etc/debian_version.kept /etc/debian_version'"
            )
    assert run.status == 2
    output = " ".join(run.output.split())
    assert "distribution is Debian 11.11; it must be Debian bookworm or trixie." in output
    assert changed(run) == {0}
    assert [machine.state() for machine in MACHINES] == before
