# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is Apache's own; what holds for every front end is in the folder frontend, which the scenarios share."""

from __future__ import annotations


def test_a_faulty_configuration_is_not_loaded(site):
    site.run("echo NoSuchDirective >> /etc/apache2/web2py/apache_wsgi.conf")
    try:
        assert site.host.run("systemctl reload apache2").rc != 0
        assert site.ask("/welcome").is_web2py_page()
    finally:
        site.run("sed -i '/^NoSuchDirective$/d' /etc/apache2/web2py/apache_wsgi.conf")
    site.run("systemctl reload apache2")


def test_logs_are_rotated_and_written_on(site, host):
    host.check_output("logrotate --force /etc/logrotate.d/apache2")
    site.wait()
    site.ask("/welcome?after-rotation")
    assert "after-rotation" in host.file("/var/log/apache2/web2py_access.log").content_string
    assert host.file("/var/log/apache2/web2py_access.log.1").exists


def test_answers_tell_neither_version_nor_modules(site):
    for path in ("/welcome", "/welcome/static/css/bootstrap.min.css", "/no_such_application"):
        assert site.ask(path, "https")["Server"] == "Apache"
