# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an operator finds who runs the play again, changes something, or makes a mistake."""

from __future__ import annotations

import contextlib
import functools
import pathlib
import socket
import ssl

import browser
import pytest
import yaml
from balancers import CERTIFICATE, SERVERS, Visitors, balancer_of, restore
from browser import NAME, wait_for

SCENARIO = pathlib.Path(__file__).parents[1]
# The role alone, and with all that is around it.
play = functools.partial(browser.play, playbook=SCENARIO / "balancer.yml")
converge = functools.partial(browser.play, playbook=SCENARIO / "converge.yml")
INVENTORY = yaml.safe_load((SCENARIO / "inventory/group_vars/docker.yml").read_text())
DEFAULTS = yaml.safe_load((SCENARIO.parents[1] / "roles/haproxy/defaults/main.yml").read_text())
VIRTUAL = "10.66.77.88"


def main_processes(balancers) -> list[str]:
    return [balancer.run("systemctl show --value --property MainPID haproxy") for balancer in balancers]


# Each run says all that is different from the inventory, so none has to undo what the one before it did.
@pytest.fixture(autouse=True)
def all_servers(balancers):
    for balancer in balancers:
        restore(balancer)


@pytest.mark.parametrize(("run_again", "arguments"), [(converge, ["--diff"]), (play, ["--check", "--diff"])])
def test_another_run_changes_nothing(balancers, run_again, arguments):
    started = main_processes(balancers)
    run = run_again(*arguments)
    assert run.status == 0, run.output
    assert run.changed_tasks() == []
    assert main_processes(balancers) == started


def test_values_given_as_text_mean_the_same():
    variables = {name: INVENTORY.get(name, default) for name, default in DEFAULTS.items()}
    run = play(variables=browser.as_text(variables))
    assert run.status == 0, run.output
    assert run.changed_tasks() == []


def test_changes_are_loaded_and_no_request_is_lost(balancers):
    started = main_processes(balancers)
    servers = INVENTORY["haproxy_servers"]
    elsewhere = {"port": 8102, "tls": True, "verify": False, "tls_name": "any.example", "weight": 50}
    variables = {
        "haproxy_servers": [{**servers[0], **elsewhere}, servers[1], {"name": "three", "state": "absent"}],
        "haproxy_redirect_to_https": True,
        "haproxy_hsts_max_age": 600,
        "haproxy_balance": "leastconn",
        "haproxy_socket_group": "adm",
        "haproxy_statistics_port": 0,
        "haproxy_health_status": "200-299",
    }
    loaded = ["Configure HAProxy", "Load HAProxy's configuration", "Allow the group to command HAProxy"]
    for balancer in balancers:
        balancer.wait_for_all()
        balancer.command("set server servers/two state drain")
    with contextlib.ExitStack() as stack:
        visitors = [stack.enter_context(Visitors(balancer, 1, 0.1)) for balancer in balancers]
        run = play("--check", variables=variables)
        assert run.status == 0 and run.changed_tasks() == loaded, run.output
        run = play("--diff", variables=variables)
        assert run.status == 0, run.output
        assert run.changed_tasks() == loaded
    for visitor in visitors:
        assert set(visitor.failures()) <= {("new", 301)}, "redirected from now on"
        assert visitor.sent_twice() == []
    assert main_processes(balancers) == started, "not restarted"
    for balancer in balancers:
        assert set(balancer.statistics()) == {"one", "two", "BACKEND"}
        assert balancer.status("two") == "DRAIN"
        # Not where the state of before has it.
        seen = [balancer.seen("/", "https") for _ in range(4)]
        assert {one["port"] for one in seen} == {8102}
        answer = balancer.ask("/a/b?c=%25", host=f"{NAME}:80")
        assert (answer.status, answer["Location"]) == (301, f"https://{NAME}/a/b?c=%25")
        assert answer["Strict-Transport-Security"] is None
        for path, status in (("/", 200), ("/admin", 404)):
            answer = balancer.ask(path, "https")
            assert (answer.status, answer["Strict-Transport-Security"]) == (status, "max-age=600")
        assert balancer.ask("/", host="other.example").status == 404
        assert balancer.run("stat -c '%U %G' /run/haproxy/admin.sock").split() == ["root", "adm"]
        assert ":8404" not in balancer.run("ss -Hltn")


def test_a_server_with_another_certificate_is_no_server(balancers):
    servers = [*INVENTORY["haproxy_servers"][:2], {**INVENTORY["haproxy_servers"][2], "tls_name": "other.example"}]
    assert play(variables={"haproxy_servers": servers}).status == 0
    for balancer in balancers:
        balancer.wait_for_status("three", "DOWN")
        for name in ("one", "two"):
            balancer.wait_for_status(name)
        assert {balancer.seen()["name"] for _ in range(9)} == {"one", "two"}


def test_a_renewed_certificate_is_loaded(balancers):
    started = main_processes(balancers)
    site = {**INVENTORY["tls_certificate_certificates"][0], "subject_alt_names": [f"DNS:{NAME}", f"DNS:www.{NAME}"]}
    run = converge(variables={"tls_certificate_certificates": [site]})
    assert run.status == 0, run.output
    for balancer in balancers:
        served = ssl.get_server_certificate((balancer.address, 443))
        assert served in balancer.host.file(CERTIFICATE).content_string
        assert balancer_of(balancer.machine).ask("/", "https", host=NAME).status == 200
        # The servers behind have the old one until they start again.
        balancer.run("systemctl restart backend-one backend-two backend-three")
    assert main_processes(balancers) == started
    for balancer in balancers:
        balancer.wait_for_all()


def test_an_authority_that_the_host_trusts_from_now_on_is_loaded(balancers):
    started = main_processes(balancers)
    servers = [dict(server) for server in INVENTORY["haproxy_servers"]]
    del servers[2]["ca_file"]
    anchor = "/usr/local/share/ca-certificates/three.crt"
    assert play(variables={"haproxy_servers": servers}).status == 0
    try:
        for balancer in balancers:
            balancer.wait_for_status("three", "DOWN")
            balancer.run(f"cp {CERTIFICATE} {anchor} && update-ca-certificates")
        run = play(variables={"haproxy_servers": servers})
        assert run.status == 0, run.output
        assert run.changed_tasks() == ["Configure HAProxy", "Load HAProxy's configuration"]
        for balancer in balancers:
            balancer.wait_for_status("three")
    finally:
        for balancer in balancers:
            balancer.run(f"rm -f {anchor} && update-ca-certificates --fresh")
    assert main_processes(balancers) == started


def test_a_configuration_that_does_not_work_is_refused_and_nothing_changes(balancers):
    """What can be seen only with HAProxy itself: a key that belongs to another certificate."""
    for balancer in balancers:
        balancer.run("openssl genpkey -algorithm RSA -out /root/other.pem 2>/dev/null")
    before = [balancer.run("cat /etc/haproxy/haproxy.cfg") for balancer in balancers]
    certificate = {**INVENTORY["haproxy_certificates"][0], "key_file": "/root/other.pem"}
    run = play(variables={"haproxy_certificates": [certificate]})
    assert run.status != 0 and "failed to validate" in run.output, run.output
    assert [balancer.run("cat /etc/haproxy/haproxy.cfg") for balancer in balancers] == before
    for balancer in balancers:
        balancer.run("systemctl reload haproxy")
        assert balancer.ask("/", "https").status == 200
    assert play().status == 0
    for balancer in balancers:
        assert len(balancer.run("ls /etc/haproxy/certificates").split()) == 2


def test_tls_is_passed_through_with_the_client_s_address(balancers):
    servers = [
        {"name": name, "address": "127.0.0.1", "port": 8201 + number, "tls_name": NAME, "ca_file": CERTIFICATE}
        for number, name in enumerate(SERVERS)
    ]
    run = play(
        variables={
            "haproxy_mode": "tcp",
            "haproxy_send_proxy": True,
            "haproxy_servers": servers,
            "haproxy_denied_paths": [],
            "haproxy_redirect_to_https": True,
        }
    )
    assert run.status == 0, run.output
    for balancer in balancers:
        for name in SERVERS:
            balancer.wait_for_status(name)
        seen = [balancer.seen("/%2561", "https") for _ in range(6)]
        assert {(one["client"], one["path"]) for one in seen} == {(balancer.own_address(), "/%2561")}
        assert {one["name"] for one in seen} == set(SERVERS)
        answer = balancer.ask("/a?b")
        assert (answer.status, answer["Location"]) == (301, f"https://{NAME}/a?b")
        # Neither another name nor anything but TLS.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with pytest.raises(OSError), socket.create_connection((balancer.address, 443), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname="other.example")
        with socket.create_connection((balancer.address, 443), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: probe.example\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert plain.recv(100) == b""
        balancer.run("touch /var/lib/backends/one.sick")
        balancer.wait_for_status("one", "DOWN")
        assert {balancer.seen("/", "https")["name"] for _ in range(6)} == {"two", "three"}


def holders(balancers) -> list[str]:
    return [balancer.machine for balancer in balancers if VIRTUAL in balancer.run("ip -4 address show")]


def test_a_second_balancer_takes_over(balancers):
    """The virtual address is on one machine, the one whose HAProxy answers."""
    addresses = {balancer.machine: balancer.address for balancer in balancers}
    keepalived = {
        "interface": "{{ ansible_facts['default_ipv4']['interface'] }}",
        "router_id": 66,
        "virtual_addresses": [f"{VIRTUAL}/32"],
        "password": "lab+pass",
        # Where the scenario has one machine, a peer that does not exist.
        "peers": "{{ lab_addresses | dict2items | rejectattr('key', 'eq', inventory_hostname) | map(attribute='value')"
        " | list or ['192.0.2.250'] }}",
        "priority": "{{ 150 if inventory_hostname == lab_first else 100 }}",
    }
    first, others = balancers[0], balancers[1:]
    variables = {"haproxy_keepalived": keepalived, "lab_addresses": addresses, "lab_first": first.machine}
    run = play("--check", variables=variables)
    assert run.status == 0, run.output
    run = play("--diff", "-vvv", variables=variables)
    assert run.status == 0, run.output
    assert "lab+pass" not in run.output
    interface = first.run("ip -o route show default | grep -o 'dev [^ ]*'").split()[1]
    try:
        wait_for(lambda: holders(balancers) == [first.machine], 30, "the first has the address")
        assert {balancer.run("stat -c %a /etc/keepalived/keepalived.conf").strip() for balancer in balancers} == {"600"}
        assert play(variables=variables).changed_tasks() == []
        first.run("systemctl stop haproxy")
        wait_for(lambda: holders(balancers) == [other.machine for other in others], 30, "another one has the address")
        for other in others:
            first.run(f"ip route replace {VIRTUAL} dev {interface}")
            page = first.run(f"curl --silent --noproxy '*' --header 'Host: {NAME}' http://{VIRTUAL}/")
            assert '"name"' in page
            first.run(f"ip route del {VIRTUAL} dev {interface}")
            assert VIRTUAL in other.run("ip -4 address show")
        first.run("systemctl start haproxy")
        wait_for(lambda: holders(balancers) == [first.machine], 30, "the first has it back")
        for balancer in balancers:
            balancer.run("systemctl kill --signal=KILL keepalived")
            wait_for(lambda balancer=balancer: balancer.host.run("systemctl is-active keepalived").rc == 0)
    finally:
        run = play()
    assert run.status == 0, run.output
    assert holders(balancers) == []
    for balancer in balancers:
        assert balancer.host.run("systemctl is-enabled keepalived").stdout.strip() == "disabled"
        assert not balancer.host.file("/etc/keepalived/keepalived.conf").exists


def test_every_mistake_is_named_before_anything_changes():
    variables = {
        "haproxy_addresses": ["every"],
        "haproxy_server_names": ["www.example.org:443"],
        "haproxy_denied_paths": ["admin"],
        "haproxy_statistics_address": "0.0.0.0",
        "haproxy_certificates": [],
        "haproxy_servers": [{"name": "one", "address": "127.0.0.1", "port": 0}, {"name": "one", "address": "x y"}],
        "haproxy_health_path": "healthz",
        "haproxy_keepalived": {"interface": "eth77", "password": "far too long"},
    }
    run = play(variables=variables)
    assert run.status != 0
    assert run.changed_tasks() == []
    words = [
        *("haproxy_addresses is 'every';", "haproxy_server_names is 'www.example.org:443';"),
        *("haproxy_denied_paths is 'admin';", "haproxy_statistics_address is '0.0.0.0';"),
        *("haproxy_certificates has no certificate;", "2 entries named 'one'", "port is 0;", "'x y'"),
        *(
            "haproxy_health_path is 'healthz';",
            "interface is 'eth77'; it must be one of this host: ",
            "router_id is not set",
            "peers is not set",
            "password is not shown; it must have",
        ),
    ]
    assert [word for word in words if word not in run.output] == [], run.output
    assert "far too long" not in run.output
    run = play(variables={"haproxy_server": []})
    assert run.status != 0 and "haproxy_server: role" in run.output and "haproxy_servers" in run.output
    assert run.changed_tasks() == []
