# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an operator finds who runs the site playbook again, changes something, or makes a mistake."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import pathlib
import shutil
import tarfile
import threading

import pytest
import yaml
from browser import NAME, PROBE, PROJECT, closed_port, load, play

MAXIMUM_TASKS = 50
INVENTORY = yaml.safe_load((pathlib.Path(__file__).parents[1] / "inventory/group_vars/web2py_web.yml").read_text())
CERTIFICATE = {"name": "web2py", "provider": "files"}


def nothing_changed(run) -> bool:
    return all(host["changed"] == 0 for host in run.stats().values())


def test_a_second_run_changes_nothing_and_is_short(capsys):
    run = play()
    assert run.status == 0, run.output
    assert nothing_changed(run), run.changed_tasks()
    assert run.tasks() <= MAXIMUM_TASKS
    with capsys.disabled():
        print(f"\nA run without a change: {run.tasks()} tasks, {run.seconds:.1f} s for {len(run.stats())} machines")


def test_check_mode_on_the_finished_machine_predicts_no_change():
    run = play("--check", "--diff")
    assert run.status == 0, run.output
    assert nothing_changed(run), run.changed_tasks()
    assert "DEPRECATION WARNING" not in run.output


# Another value each time, so that the test can be run again on the same machine.
MAX_AGE = int.from_bytes(os.urandom(2), "big") + 1


@pytest.fixture(scope="class")
def one_change():
    variables = {"web2py_static_max_age": MAX_AGE, "web2py_administration_over_http": "redirect"}
    yield play("--diff", variables=variables)
    assert play().status == 0


class TestOneChange:
    """A change of two settings changes only the site file, and Apache is reloaded, not restarted."""

    def test_nothing_else_is_done(self, one_change):
        assert one_change.status == 0, one_change.output
        assert one_change.changed_tasks() == ["Configure the site", "Load Apache's configuration"]
        assert f"max-age={MAX_AGE}" in one_change.output, "--diff shows it"

    def test_it_is_in_force(self, one_change, site):
        answer = site.ask("/welcome/static/css/bootstrap.min.css")
        assert answer["Cache-Control"] == f"public, max-age={MAX_AGE}"
        for path in ("/admin", "/admin/default/site", "/welcome/appadmin/index"):
            redirected = site.ask(path)
            assert (redirected.status, redirected["Location"]) == (302, f"https://{NAME}{path}")
        assert site.ask("/welcome/%2561ppadmin/index").status == 400, "no other spelling is redirected to"

    def test_check_mode_predicts_the_way_back(self, one_change):
        assert play("--check").changed_tasks() == ["Configure the site"]


def with_application(**entry) -> dict:
    return {"web2py_applications": [{"name": "welcome"}, entry]}


BAD_INPUT = {
    "unknown front end": ({"web2py_frontend": "nginx"}, ["web2py_frontend", "nginx", "apache_wsgi"]),
    "misspelled variable": ({"web2py_aplications": []}, ["web2py_aplications", "web2py_applications"]),
    "misspelled variable of the front end": (
        {"apache_wsgi_treads": 4},
        ["apache_wsgi_treads", "apache_wsgi_threads"],
    ),
    "port 0": ({"web2py_http_port": 0}, ["web2py_http_port is 0;", "1 and 65535"]),
    "one port for both": (
        {"web2py_http_port": 443},
        ["web2py_https_port", "443", "web2py_http_port"],
    ),
    "missing certificate file": (
        {
            "tls_certificate_certificates": [
                {**CERTIFICATE, "certificate_file": "/nonexistent/cert.pem", "key_file": "/nonexistent/key.pem"}
            ]
        },
        ["tls_certificate_certificates", "/nonexistent/cert.pem"],
    ),
    "application name ../x": (
        with_application(name="../x", source={"path": "/srv"}),
        ["'../x'", "letters, digits and underscores"],
    ),
    "application name with a dash": (with_application(name="my-app", source={"path": "/srv"}), ["'my-app'", "letters"]),
    "two applications of one name": (with_application(name="welcome"), ["'welcome'", "must be there once"]),
    "application without a source": (with_application(name="shop"), ["'shop'", "source"]),
    "unknown key of an application": (with_application(name="shop", sorce={}), ["web2py_applications", "sorce"]),
    "host name with a slash": ({"web2py_server_names": ["a/b"]}, ["web2py_server_names[0] is 'a/b'"]),
    "short password": (
        {"web2py_admin_passwords": [{"port": 443, "password": "tiny-77"}]},
        ["web2py_admin_passwords", "443", "8 to 1024"],
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_before_anything_changes(name):
    variables, words = BAD_INPUT[name]
    run = play(variables=variables)
    assert run.status != 0
    assert nothing_changed(run), run.changed_tasks()
    assert all(word in run.output for word in words), run.output
    assert "tiny-77" not in run.output


def test_an_unsupported_distribution_is_refused(host):
    """The machine says that it is a Fedora for as long as this test lasts."""
    host.check_output("cp --dereference /etc/os-release /root/os-release; mv /etc/debian_version /root/debian_version")
    host.check_output(r"rm /etc/os-release; printf 'NAME=Fedora\nID=fedora\nVERSION_ID=42\n' > /etc/os-release")
    try:
        run = play(f"--limit={host.backend.host}")
    finally:
        host.check_output("rm /etc/os-release; ln -s ../usr/lib/os-release /etc/os-release")
        host.check_output("mv /root/debian_version /etc/debian_version")
    assert run.status != 0 and nothing_changed(run)
    assert "it must be Debian bookworm or trixie." in run.output


def archive_of(tree: pathlib.Path, path: pathlib.Path) -> str:
    """Pack a tree as a release archive, and give its checksum."""
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(tree, "web2py")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def web_server(tmp_path):
    """The address of a web server of this machine that gives what lies in `tmp_path`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_arguments) -> None:
            pass

    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class TestRefusedSources:
    """What is wrong with a source leaves the running release in service."""

    @staticmethod
    def refused(sites, variables: dict, *words: str) -> None:
        run = play(variables=variables)
        assert run.status != 0
        assert nothing_changed(run), run.changed_tasks()
        assert all(word in run.output for word in words), run.output
        for site in sites:
            assert site.ask("/welcome").status == site.ask(f"{PROBE}/index").status == 200
            # The run after one that was not finished loads everything anew, which is not the matter here.
            site.run("rm -f /run/web2py.deployment/web")

    def test_a_wrong_checksum(self, web_server, tmp_path, sites):
        (tmp_path / "web2py.zip").write_bytes(b"anything")
        source = {"url": f"{web_server}/web2py.zip", "checksum": "0" * 64}
        self.refused(sites, {"web2py_source": source}, "web2py_source", "wrong checksum", "0" * 64)

    def test_an_unreachable_source(self, sites):
        url = f"http://127.0.0.1:{closed_port()}/web2py.zip"
        source = {"url": url, "checksum": "1" * 64}
        self.refused(sites, {"web2py_source": source}, "web2py_source", "cannot download", url)

    def test_a_source_that_is_not_web2py(self, tmp_path, sites):
        (tmp_path / "readme").write_text("nothing")
        self.refused(sites, {"web2py_source": {"path": str(tmp_path)}}, "gluon/main.py is missing")

    def test_an_application_without_controllers(self, tmp_path, sites):
        (tmp_path / "models").mkdir()
        (tmp_path / "models/db.py").write_text("")
        broken = [*INVENTORY["web2py_applications"][:2], {"name": "probe_2", "source": {"path": str(tmp_path)}}]
        self.refused(sites, {"web2py_applications": broken}, "'probe_2'", "controllers")

    def test_a_release_that_the_host_cannot_import(self, tmp_path, sites):
        broken = tmp_path / "web2py"
        shutil.copytree(os.environ["LAB_WEB2PY"], broken)
        with (broken / "gluon/main.py").open("a") as stream:
            stream.write("\nraise RuntimeError('broken release')\n")
        source = {"path": str(broken)}
        self.refused(sites, {"web2py_source": source}, "was not installed", "broken release", "stays current")
        for site in sites:
            assert "incoming" not in site.run("ls -A /opt/web2py/releases")


def test_new_versions_switch_under_load_without_a_lost_request(web_server, tmp_path, sites):
    """The framework comes as an archive over HTTP with one more file, the application with another text."""
    tree = tmp_path / "web2py"
    shutil.copytree(os.environ["LAB_WEB2PY"], tree)
    (tree / "gluon/contrib/marker_of_the_next_release.py").write_text("")
    checksum = archive_of(tree, tmp_path / "web2py.tar.gz")
    application = tmp_path / "probe_2"
    shutil.copytree(PROJECT / "tests/lab/applications/probe_2", application)
    controller = application / "controllers/default.py"
    controller.write_text(controller.read_text().replace('"message": "probe"', '"message": "next version"'))
    variables = {
        "web2py_source": {"url": f"{web_server}/web2py.tar.gz", "checksum": checksum},
        "web2py_applications": [
            {"name": "probe_2", "source": {"path": str(application)}} if a["name"] == "probe_2" else a
            for a in INVENTORY["web2py_applications"]
        ],
    }
    before = [site.run("readlink /opt/web2py/current").strip() for site in sites]
    for site in sites:
        assert site.ask(f"{PROBE}/visits").body == b"1"
    runs = []
    results = load(sites, f"{PROBE}/slow/0.02", 4, lambda: runs.append(play(variables=variables)), seconds=1)
    assert runs[0].status == 0, runs[0].output
    assert "Load Apache's configuration" not in runs[0].changed_tasks(), "new code needs no reload of Apache"
    assert set(results) == {200} and results[200] > 50
    for site, old in zip(sites, before, strict=True):
        assert b"next version" in site.ask(f"{PROBE}/index").body
        assert site.ask(f"{PROBE}/visits").body == b"2", "sessions stay"
        assert site.run("readlink /opt/web2py/current").strip() != old
        site.run(f"test -d /opt/web2py/{old}")
        site.run("test -e /opt/web2py/current/gluon/contrib/marker_of_the_next_release.py")
    back = play()
    assert back.status == 0, back.output
    for site, old in zip(sites, before, strict=True):
        assert site.run("readlink /opt/web2py/current").strip() == old
        assert b"next version" not in site.ask(f"{PROBE}/index").body
        assert site.ask(f"{PROBE}/visits").body == b"3"


def test_an_absent_application_is_gone_and_comes_back_with_its_data(sites):
    for site in sites:
        site.ask(f"{PROBE}/visits")
    absent = [
        {"name": a["name"], "state": "absent"} if a["name"] == "probe_2" else a
        for a in INVENTORY["web2py_applications"]
    ]
    run = play(variables={"web2py_applications": absent, "web2py_administration": "disabled"})
    assert run.status == 0, run.output
    for site in sites:
        for path in ("/admin", "/admin/default/index", "/welcome/appadmin", "/welcome/appadmin/index"):
            assert site.ask(path, "https").status == site.ask(path).status == 404, "administration is off"
        for path in (f"{PROBE}/index", "/probe_2/static/css/probe.css"):
            assert site.ask(path).status == 404
        site.run("test ! -e /opt/web2py/applications/probe_2 -a ! -L /var/lib/web2py/applications/probe_2")
    for site in sites:
        site.run("rm /var/lib/web2py/parameters_443.py")
    shown = play("-vvv", "--diff")
    assert shown.status == 0
    for site in sites:
        assert site.ask(f"{PROBE}/visits").body == b"2"
    # The same run wrote the password files, as verbosely as can be.
    assert "Set the administrators' passwords" in shown.changed_tasks()
    secrets = ("right horse", "other horse", "sha512)$", "PRIVATE KEY")
    assert [secret for secret in secrets if secret in shown.output] == []
    for site in sites:
        assert "right horse" not in site.run("journalctl --no-pager"), "neither does the machine's own log"
