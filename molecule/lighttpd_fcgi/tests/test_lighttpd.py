# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is Lighttpd's and uWSGI's own; what holds for every front end is in the folder frontend."""

from __future__ import annotations

import re
import socket

from browser import NAME, PROBE, assert_unavailable_until_it_starts, load, out_of_service, play, wait_for

SITE_FILE = "/etc/lighttpd/web2py/lighttpd_fcgi.conf"


def test_a_second_run_changes_nothing():
    for arguments in ([], ["--check"]):
        run = play(*arguments)
        assert run.status == 0, run.output
        assert run.changed_tasks() == []


def test_a_faulty_configuration_is_not_loaded(site):
    site.run(f"echo 'no.such = (' >> {SITE_FILE}")
    try:
        assert site.host.run("systemctl reload lighttpd").rc != 0
        assert site.ask("/welcome").is_web2py_page()
    finally:
        site.run(rf"sed -i '/^no\.such/d' {SITE_FILE}")
    site.run("systemctl reload lighttpd")


def test_a_reload_with_a_certificate_in_a_folder_of_root_s_alone(site):
    """As Certbot has them."""
    folder = "/etc/ssl/tls_certificate"
    main_process = "systemctl show --property MainPID lighttpd"
    mode, before = site.run(f"stat -c %a {folder}").strip(), site.run(main_process)
    site.run(f"chmod 0700 {folder}")
    try:
        with socket.create_connection((site.address, 80), timeout=30) as kept:
            kept.sendall(f"GET /healthz HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
            assert kept.recv(65536).startswith(b"HTTP/1.1 200")
            site.run("systemctl reload lighttpd")
            # What was open is closed when the files have been read again.
            wait_for(lambda: kept.recv(65536) == b"")
        site.wait(10)
        assert site.ask("/welcome", "https").is_web2py_page()
        assert site.run(main_process) == before, "it was not started anew"
    finally:
        site.run(f"chmod {mode} {folder}")


def test_logs_are_rotated_and_written_on(site, host):
    host.check_output("logrotate --force /etc/logrotate.d/lighttpd")
    site.ask("/welcome?after-rotation")

    def written() -> bool:
        # Lighttpd writes its access log in portions.
        return "after-rotation" in host.file("/var/log/lighttpd/access.log").content_string

    wait_for(written, 30, "the request in the new log")
    assert host.file("/var/log/lighttpd/access.log.1").exists


def test_answers_do_not_tell_the_version(site):
    for path in ("/welcome", "/welcome/static/css/bootstrap.min.css", "/no_such_application"):
        assert site.ask(path, "https")["Server"] == "lighttpd"


def test_only_lighttpd_reaches_the_socket(host):
    host.run("id stranger || useradd --no-create-home stranger")
    connect = "import socket; socket.socket(socket.AF_UNIX).connect('/run/web2py-fcgi/socket')"
    for user, reaches in (("www-data", True), ("stranger", False), ("web2py", False), ("nobody", False)):
        tried = host.run(f"setpriv --reuid={user} --regid=$(id -g {user}) --clear-groups python3 -c %s", connect)
        assert (tried.rc == 0) is reaches, (user, tried.stderr)


def test_the_sandbox(host):
    said = host.check_output("systemd-analyze security web2py-fcgi.service")
    assert float(re.search(r"Overall exposure level.*?: ([0-9.]+)", said).group(1)) <= 2.5


def test_a_restart_of_web2py_loses_no_request(site):
    results = load(site, f"{PROBE}/slow/0.2", 40, lambda: site.run("systemctl restart web2py-fcgi.service"), seconds=3)
    assert set(results) == {200}


def test_a_web2py_that_cannot_start_is_a_503_until_it_can(site):
    assert_unavailable_until_it_starts(site, "/etc/web2py/runtime.json")


def test_a_web2py_out_of_service_is_a_503_that_says_when_to_come_back(site):
    with out_of_service(site):
        answer = site.ask("/welcome")
        assert (answer.status, answer["Retry-After"]) == (503, "5")
    wait_for(lambda: site.ask("/welcome", host=NAME).status == 200, 5)
