# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Servers that fail, servers that are taken out, and a balancer that is reloaded or killed, while visitors come."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from balancers import SERVERS, Visitors, in_flight
from browser import wait_for


def names(balancer, number: int = 12) -> set[str]:
    """Which servers answer."""
    return {balancer.seen()["name"] for _ in range(number)}


def test_a_sick_server_gets_no_requests_until_it_is_well(balancer):
    server = "two"
    with Visitors(balancer, 1) as visitors:
        balancer.run(f"touch /var/lib/backends/{server}.sick")
        balancer.wait_for_status(server, "DOWN")
        assert names(balancer) == set(SERVERS) - {server}
        balancer.run(f"rm /var/lib/backends/{server}.sick")
        balancer.wait_for_status(server, "UP")
        assert names(balancer) == set(SERVERS)
    assert visitors.failures() == {}


@pytest.mark.parametrize("server", ["one", "three"])
def test_a_killed_server_fails_nothing_that_may_be_asked_twice(balancer, server):
    with Visitors(balancer) as visitors:
        balancer.run(f"systemctl kill --signal=KILL backend-{server}")
        balancer.wait_for_status(server, "DOWN")
        so_far = visitors.outcomes["new", 200]
        wait_for(lambda: visitors.outcomes["new", 200] > so_far + 50)
        balancer.run(f"systemctl reset-failed backend-{server}; systemctl start backend-{server}")
        balancer.wait_for_status(server, "UP")
    assert visitors.failures("new", "kept") == {}
    # Forms that the server had when it died.
    assert sum(visitors.failures("post").values()) <= 3, visitors.failures()
    assert visitors.sent_twice() == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE"])
def test_what_got_no_answer_is_asked_again_only_if_it_may_be(balancer, method):
    path = f"/drop/{uuid.uuid4().hex}"
    status = balancer.ask(path, "https", method, b"x=1" if method in ("POST", "PUT") else None).status
    again = method in ("GET", "HEAD", "OPTIONS")
    assert status == (200 if again else 502)
    servers = [line.split()[0] for line in balancer.requests(path)]
    assert len(servers) == len(set(servers)) == (2 if again else 1), "another server"


def test_what_was_refused_is_sent_to_another_server_whatever_it_is(balancer):
    balancer.command("disable health servers/one")
    balancer.run("systemctl stop backend-one")
    try:
        answered = {balancer.seen("/", "https", "POST", b"x=1")["name"] for _ in range(12)}
        assert answered == {"two", "three"} and balancer.status("one") == "no check"
    finally:
        balancer.command("enable health servers/one")


@pytest.mark.parametrize(("server", "state"), [("one", "drain"), ("three", "maint")])
def test_a_drained_server_finishes_what_it_has(balancer, server, state):
    mark = uuid.uuid4().hex
    threads, answers = in_flight(balancer, f"/hold/{mark}", 6)
    given = sum(line.startswith(f"{server} ") for line in balancer.requests(mark))
    with Visitors(balancer, 1) as visitors:
        results: list[dict] = []
        drain = threading.Thread(target=lambda: results.append(balancer.module(server=server, state=state)))
        drain.start()
        balancer.wait_for_status(server, state.upper())
        wait_for(lambda: balancer.statistics()[server]["scur"] == str(given), 30, "only those that it had are left")
        assert given > 0 and drain.is_alive() and not answers, "the module waits for those that this server has"
        balancer.release(mark)
        drain.join()
        result = results[0]
        assert result["changed"]
        assert [(row["name"], row["before"], row["requests"]) for row in result["servers"]] == [(server, "ready", 0)]
        before = len(balancer.requests(visitors.mark))
        wait_for(lambda: len(balancer.requests(visitors.mark)) > before + 30)
        assert all(not line.startswith(server) for line in balancer.requests(visitors.mark)[before:])
        for thread in threads:
            thread.join()
        assert [answer.status for answer in answers] == [200] * 6

        assert balancer.module(server=server, state=state)["changed"] is False
        assert balancer.module("--check", server=server, state="ready")["changed"] is True
        balancer.run("systemctl reload haproxy")
        assert balancer.status(server) == state.upper()
        result = balancer.module(server=server, state="ready", timeout=30)
        assert result["changed"]
        assert [(row["name"], row["before"], row["status"]) for row in result["servers"]] == [(server, state, "UP")]
        assert server in names(balancer)
    assert visitors.failures() == {}


def test_what_is_drained_or_down_stays_so_over_a_restart(balancer):
    balancer.command("set server servers/one state drain")
    balancer.run("touch /var/lib/backends/two.sick")
    balancer.wait_for_status("two", "DOWN")
    balancer.run("systemctl restart haproxy")
    assert (balancer.status("one"), balancer.status("two")) == ("DRAIN", "DOWN")
    assert names(balancer, 6) == {"three"}


def test_an_old_state_does_not_outlive_a_crash(balancer):
    balancer.command("set server servers/one state drain")
    balancer.run("systemctl reload haproxy")
    balancer.command("set server servers/one state ready")
    main = balancer.run("systemctl show --value --property MainPID haproxy").strip()
    balancer.run(f"kill -KILL {main} $(pgrep --parent {main})")
    wait_for(lambda: balancer.host.run("/usr/local/sbin/haproxy-state answers").rc == 0)
    balancer.wait_for_status("one")


def test_waiting_ends(balancer):
    mark = uuid.uuid4().hex
    threads, answers = in_flight(balancer, f"/hold/{mark}", 3)
    result = balancer.module(server="one", state="drain", timeout=1)
    assert (result["failed"], result["changed"]) == (True, True)
    assert [(row["name"], row["requests"], row["status"]) for row in result["servers"]] == [("one", 1, "DRAIN")]
    assert "'one' is set to drain, but after 1 seconds it has 1 requests" in result["msg"]
    balancer.release(mark)
    for thread in threads:
        thread.join()
    assert [answer.status for answer in answers] == [200] * 3
    balancer.run("touch /var/lib/backends/two.sick")
    balancer.wait_for_status("two", "DOWN")
    result = balancer.module(server="two", state="ready", timeout=1)
    assert result["failed"] and "'two' is set to ready, but after 1 seconds its status is DOWN" in result["msg"]
    result = balancer.module(server="four", state="drain")
    assert result["failed"] and "it must be a server of 'servers': one, three, two" in result["msg"]


def test_no_reload_loses_a_connection(balancer):
    with Visitors(balancer) as visitors:
        main = balancer.run("systemctl show --value --property MainPID haproxy")
        for _ in range(5):
            balancer.run("systemctl reload haproxy")
        assert balancer.run("systemctl show --value --property MainPID haproxy") == main
    assert visitors.failures() == {}
    assert visitors.sent_twice() == []
    assert visitors.outcomes["kept", 200] > 20 and visitors.outcomes["new", 200] > 20


def test_a_reload_that_cannot_work_is_an_error_and_the_old_process_goes_on(balancer):
    balancer.run("cp /etc/haproxy/haproxy.cfg /root/haproxy.cfg")
    try:
        for line in ("nonsense", "listen x\n  bind 192.0.2.77:81\n  mode tcp"):
            balancer.run(
                f"cp /root/haproxy.cfg /etc/haproxy/haproxy.cfg; printf '\\n{line}\\n' >> /etc/haproxy/haproxy.cfg"
            )
            assert balancer.host.run("systemctl reload haproxy").rc != 0
            assert names(balancer) == set(SERVERS)
    finally:
        balancer.run("cp /root/haproxy.cfg /etc/haproxy/haproxy.cfg; systemctl reload haproxy")
    assert names(balancer) == set(SERVERS)


def test_a_killed_balancer_comes_back(balancer):
    for victim in ("$(systemctl show --value --property MainPID haproxy)", "$(pgrep --newest --exact haproxy)"):
        balancer.run(f"kill -KILL {victim}")
        wait_for(lambda: balancer.host.run("curl --silent --max-time 5 --output /dev/null http://127.0.0.1/").rc == 0)
        balancer.wait_for_status("one")


def test_a_full_server_lets_requests_wait(balancer):
    balancer.command("set maxconn server servers/one 1")
    for name in ("two", "three"):
        balancer.command(f"set server servers/{name} state maint")
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(balancer.fresh().ask("/slow/0.3").status)) for _ in range(6)
    ]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6 and time.monotonic() - started > 6 * 0.3
    balancer.command("set maxconn server servers/one 0")
