# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host goes from front end to front end, each time by one run of the site playbook."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
import testinfra
from browser import FRONT_ENDS, NAME, PROBE, Site, machines, play, site_of

# What no other front end may leave behind, as regular expressions on the lines of `traces()`.
BELONGS_TO = {
    "apache_wsgi": r"apache2-lossless-reload|wsgi\.(load|conf)|apache_wsgi\.conf|\(wsgi:",
    "apache_proxy": r"apache_proxy\.conf|gunicorn|web2py@|web2py-retry|/run/web2py/|web2py-daemon|/etc/web2py/daemon",
    "lighttpd_fcgi": r"lighttpd|uwsgi|web2py-fcgi",
}
# The service's drop-in among it: both front ends with Apache have one.
APACHE = r"htcacheclean|apache2\.service|/usr/sbin/apache2|sites-enabled/web2py|/etc/apache2/web2py"
TRACES = r"""
systemctl list-unit-files --no-legend --state=enabled,enabled-runtime,linked | awk '{print "enabled " $1}'
systemctl list-units --no-legend --plain --state=active,activating,failed | awk '{print $3, $1}'
find /etc/systemd/system /etc/apache2/sites-enabled /etc/apache2/sites-available /etc/apache2/mods-enabled \
  /etc/apache2/web2py /etc/lighttpd/web2py /etc/lighttpd/conf-enabled/* /etc/tmpfiles.d /etc/web2py \
  /usr/local/sbin /run/web2py /run/web2py-fcgi 2>/dev/null
ss --no-header --listening --tcp --processes | awk '{print "port", $4, $6}' | sed 's/pid=[0-9]*,fd=[0-9]*//g'
ss --no-header --listening --unix | awk '{print "socket", $5}' | grep -v '@'
ps -eo args= | sed 's/^/process /'
"""
# What may differ although nothing was left: the listing itself, names made anew, and packages, which stay.
PASSING = re.compile(
    r"session|user@|\.scope|^process (/bin/sh -c|awk|sed|ps|sh|bash|ss|find|grep|\[|/usr/bin/python3 -c)|run-docker"
    r"|ansible|apt-daily"
    r"|systemd-(tmpfiles|hostnamed|timedated|localed)|wsgi\.\d|^port .*pid|\.mount$|\.device$|dpkg|logrotate"
)


def traces(host) -> set[str]:
    found = {re.sub(r"\s+", " ", line).strip() for line in host.run(TRACES).stdout.splitlines()}
    return {line for line in found if line and not PASSING.search(line)}


def ports(host) -> set[str]:
    return set(re.findall(r":(\d+)\s", host.check_output("ss --no-header --listening --tcp --numeric")))


def hosts() -> dict[str, object]:
    return {name: testinfra.get_host(f"docker://{name}") for name in machines()}


def visit(site: Site, visits: int) -> None:
    """The site as a visitor knows it: pages, files, the session of before, and what is refused."""
    for scheme in ("http", "https"):
        assert site.ask("/", scheme).is_web2py_page()
        assert site.ask("/welcome/static/css/bootstrap.min.css", scheme)["Cache-Control"] == "public, max-age=3600"
        assert site.ask("/welcome", scheme, host="unknown.example").status == 404
    assert site.ask(f"{PROBE}/visits").body == str(visits).encode(), "the session goes on"
    assert site.ask("/admin/default/index").status == 403
    assert site.ask("/admin/default/index", "https").is_login_page()
    assert site.ask(f"{PROBE}/request_info", "https").json()["url"] == f"https://{NAME}{PROBE}/index"


# Each makes one step of the switch fail.
OBSTACLES = {
    "no package can be fetched": (
        'echo \'Acquire::http::Proxy "http://127.0.0.1:9"; Acquire::https::Proxy "http://127.0.0.1:9";\' > {file}',
        "/etc/apt/apt.conf.d/99-no-way",
    ),
    "the former web server cannot be stopped": (
        "mkdir -p /run/systemd/system/apache2.service.d && "
        "printf '[Unit]\\nRefuseManualStop=yes\\n' > {file} && systemctl daemon-reload",
        "/run/systemd/system/apache2.service.d/obstacle.conf",
    ),
}


def interrupted(sites: Iterable[Site], front_end: str) -> None:
    """What fails in between leaves the former front end in service, and the next run takes it up."""
    for obstacle, (command, file) in OBSTACLES.items():
        for site in sites:
            site.run(command.format(file=file))
        try:
            run = play(variables={"web2py_frontend": front_end})
        finally:
            for site in sites:
                site.run(f"rm {file} && rmdir --ignore-fail-on-non-empty $(dirname {file}) && systemctl daemon-reload")
        assert run.status != 0, obstacle
        for site in sites:
            assert site.ask("/").is_web2py_page(), obstacle


def throughput(site: Site) -> str:
    """Requests a second on kept connections, for docs/frontends.md; of the dynamic page and of a file."""
    found = []
    for path in (f"{PROBE}/echo/1", "/welcome/static/css/bootstrap.min.css"):
        said = site.run(f"ab -q -k -c 16 -n 3000 -H 'Host: {NAME}' 'http://127.0.0.1{path}'")
        assert re.search(r"Failed requests: +0\n", said) and "Non-2xx" not in said, said
        found.append(re.search(r"Requests per second: +(\d+)", said).group(1))
    return " / ".join(found)


def test_the_walk(capsys):
    """apache_wsgi, the proxy, Lighttpd, and back; at the end the host is as it was at the beginning."""
    machines_ = hosts()
    sites = {name: site_of(name, host, "apache_wsgi") for name, host in machines_.items()}
    for site in sites.values():
        visit(site, 1)
    before = {name: traces(host) for name, host in machines_.items()}
    before_ports = {name: ports(host) for name, host in machines_.items()}

    for visits, front_end in enumerate(("apache_proxy", "lighttpd_fcgi", "apache_wsgi"), start=2):
        if front_end == "lighttpd_fcgi":
            interrupted(sites.values(), front_end)
        run = play(variables={"web2py_frontend": front_end})
        assert run.status == 0, run.output
        for name, host in machines_.items():
            sites[name].front_end = FRONT_ENDS[front_end]
            visit(sites[name], visits)
            with capsys.disabled():
                print(f"\n{name}, {front_end}: {throughput(sites[name])} requests/s (echo / file)")
            lines = traces(host)
            for other, pattern in BELONGS_TO.items():
                if other != front_end:
                    left = [line for line in lines if re.search(pattern, line)]
                    assert left == [], (name, front_end, other)
            if not front_end.startswith("apache"):
                assert [line for line in lines if re.search(APACHE, line)] == [], name
            assert ports(host) == before_ports[name], (name, front_end)
            assert host.run("systemctl --failed --no-legend").stdout.strip() == ""
    for name, host in machines_.items():
        after = traces(host)
        assert after - before[name] == set(), name
        # These are there since the installation of the packages, and nothing needs them: our site loads its modules.
        packages = re.compile("htcacheclean|mods-enabled/wsgi")
        assert [line for line in before[name] - after if not packages.search(line)] == [], name


BAD_INPUT = {
    "two front ends": ({"web2py_frontend": ["apache_wsgi", "lighttpd_fcgi"]}, ["web2py_frontend", "apache_wsgi"]),
    "unknown front end": ({"web2py_frontend": "nginx"}, ["web2py_frontend", "nginx", "lighttpd_fcgi"]),
    "an application exposed that is not declared": (
        {
            "web2py_frontend": "apache_proxy",
            "web2py_daemon_instances": [{"name": "public", "socket": True, "applications": ["ghost"]}],
        },
        ["public", "ghost"],
    ),
    "a default application that is not declared": (
        {"web2py_default_application": "ghost"},
        ["web2py_default_application", "ghost"],
    ),
    "an instance on a taken port": (
        {"web2py_daemon_instances": [{"name": "extra", "address": "127.0.0.1", "port": 80}]},
        ["extra", "80"],
    ),
    "an instance on a port that the front end will have": (
        {"web2py_http_port": 8080, "web2py_daemon_instances": [{"name": "extra", "port": 8080}]},
        ["extra", "port is 8080; it must be another than web2py_http_port"],
    ),
    "administration on a plain public listener": (
        {
            "web2py_daemon_instances": [
                {"name": "extra", "address": "0.0.0.0", "port": 8000, "administration": True, "password": "long enough"}
            ]
        },
        ["address is '0.0.0.0'; it must be a loopback address", "needs tls"],
    ),
    "administration through Apache on a shared host": (
        {"web2py_frontend": "apache_proxy", "apache_proxy_shared_host": True},
        ["apache_proxy_shared_host", "web2py_administration: disabled"],
    ),
    "administration through Apache on a shared host, asked for in the instance alone": (
        {
            "web2py_frontend": "apache_proxy",
            "apache_proxy_shared_host": True,
            "web2py_administration": "disabled",
            "web2py_daemon_instances": [{"name": "public", "socket": True, "administration_through_proxy": True}],
        },
        ["web2py_daemon_instances", "public", "administration_through_proxy"],
    ),
    "a proxy without its instance": (
        {"web2py_frontend": "apache_proxy", "web2py_daemon_instances": [{"name": "other", "port": 8000}]},
        ["apache_proxy_instance", "socket: true"],
    ),
    "a misspelled variable of Lighttpd's role": (
        {"web2py_frontend": "lighttpd_fcgi", "lighttpd_fcgi_proceses": 4},
        ["lighttpd_fcgi_proceses", "lighttpd_fcgi_processes"],
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_refused_before_anything_changes(name):
    variables, words = BAD_INPUT[name]
    play(variables=variables).assert_refused(words)


def test_a_role_alone_refuses_a_host_that_has_another_front_end(tmp_path):
    play_of_one_role = tmp_path / "play.yml"
    play_of_one_role.write_text(
        "- hosts: web2py_web\n  become: true\n  roles: [web2py.deployment.web2py, web2py.deployment.lighttpd_fcgi]\n"
    )
    run = play(variables={"web2py_frontend": "lighttpd_fcgi"}, playbook=play_of_one_role)
    assert run.status != 0
    assert "it must be apache_wsgi, which this host has" in run.output
    assert run.changed_tasks() == []
