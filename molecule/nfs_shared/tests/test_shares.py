# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the clients can do with the shares, and what nobody can."""

from __future__ import annotations

import pytest
from browser import wait_for

NOTES = "/var/lib/shop/all-notes"
REFERENCE = "/var/lib/shop/reference"
UNIT = "var-lib-shop-all\\x2dnotes.mount"

# Says whether somebody has the lock, takes it, says when, and keeps it until told.
LOCK = """
import fcntl, sys, time
file = open(sys.argv[1], "a+b")
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("taken", flush=True)
    fcntl.flock(file, fcntl.LOCK_EX)
else:
    print("free", flush=True)
print(time.time(), flush=True)
sys.stdin.read()
print(time.time(), flush=True)
"""
# Adds one, so many times, to a number in a file.
COUNT = """
import fcntl, sys
for turn in range(int(sys.argv[2])):
    with open(sys.argv[1], "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        number = int(file.read()) + 1
        file.seek(0)
        file.write(b"%d" % number)
"""
# Appends numbers, each written through to the server, until told; says each that is there.
APPEND = """
import os, select, sys
with open(sys.argv[1], "ab") as file:
    number = 0
    while not select.select([sys.stdin], [], [], 0)[0]:
        number += 1
        file.write(b"%d\\n" % number)
        file.flush()
        os.fsync(file.fileno())
        print(number, flush=True)
"""


def test_a_lock_of_one_client_keeps_the_other_out_until_it_is_released(first, second, program):
    holder = program(first, LOCK, f"{NOTES}/lock")
    assert holder.read() == "free"
    holder.read()
    waiter = program(second, LOCK, f"{NOTES}/lock")
    assert waiter.read() == "taken"
    holder.tell()
    released = float(holder.read())
    granted = float(waiter.read())
    # The machines' clocks are the same one, read by two kernels.
    assert -0.1 < granted - released < 10
    assert [holder.end(), waiter.end()] == [0, 0]


def test_two_clients_that_count_in_one_file_lose_nothing(first, second, program):
    first.shop(f"printf 0 > {NOTES}/number")
    counting = [program(machine, COUNT, f"{NOTES}/number", "300") for machine in (first, second)]
    assert [one.end() for one in counting] == [0, 0]
    assert second.shop(f"cat {NOTES}/number") == "600"


def test_a_new_file_is_there_for_the_other_client_that_has_just_missed_it(first, second):
    assert second.attempt(f"test -e {NOTES}/new", shop=True).rc == 1
    first.shop(f"echo hello > {NOTES}/new")
    assert second.shop(f"cat {NOTES}/new") == "hello\n"


def test_root_of_a_client_is_nobody(server, first, second):
    first.shop(f"umask 077 && echo mine > {NOTES}/mine")
    # A mount of its own: the other one remembers what root was refused before.
    first.run("mount -t nfs4 -o nfsvers=4.2,nosharecache nfs-shared-server:/srv/shared/notes /mnt")
    try:
        for command in ("cat /mnt/mine", "touch /mnt/root", "rm /mnt/mine", "chown 0:0 /mnt/mine"):
            done = first.attempt(command)
            assert done.rc != 0 and "Permission denied" in done.stderr + done.stdout, (command, done)
    finally:
        first.run("umount /mnt")
    assert second.shop(f"cat {NOTES}/mine") == "mine\n"
    assert server.run("stat -c '%u:%g %a' /srv/shared/notes/mine /srv/shared/notes").split("\n") == [
        "2001:2001 600",
        "2001:2001 750",
    ]


def test_nothing_on_a_share_is_a_program_or_a_device(first):
    first.shop(f"printf '#!/bin/sh\\n' > {NOTES}/script && chmod 755 {NOTES}/script")
    assert "Permission denied" in first.attempt(f"{NOTES}/script", shop=True).stderr
    (options,) = [line.split()[3] for line in first.run("cat /proc/mounts").splitlines() if f" {NOTES} nfs4 " in line]
    assert {"hard", "vers=4.2", "proto=tcp", "nosuid", "nodev", "noexec", "sec=sys"} <= set(options.split(","))


def test_what_is_for_reading_is_not_written_whatever_the_client_wants(server, first):
    server.run("echo 42 > /srv/shared/reference/answer && chmod 644 /srv/shared/reference/answer")
    assert first.shop(f"cat {REFERENCE}/answer") == "42\n"
    assert "Read-only" in first.attempt(f"touch {REFERENCE}/more", shop=True).stderr
    first.run("mount -t nfs4 -o nfsvers=4.2,rw,nosharecache nfs-shared-server:/srv/shared/reference /mnt")
    try:
        assert "Read-only" in first.attempt("touch /mnt/more", shop=True).stderr
    finally:
        first.run("umount /mnt")


def test_only_those_who_are_named_may_mount(first, second):
    mount = "mount -t nfs4 -o nfsvers=4.2,retry=0 nfs-shared-server:/srv/shared/private /mnt"
    first.run(mount)
    try:
        first.shop("echo secret > /mnt/secret")
    finally:
        first.run("umount /mnt")
    assert second.attempt(mount).rc == 32
    assert second.attempt(mount.replace("/srv/shared/private", "/etc")).rc == 32
    # The root of the server is the way to the exports, and there is nothing else on it.
    second.run("mount -t nfs4 -o nfsvers=4.2,retry=0 nfs-shared-server:/ /mnt")
    try:
        seen = second.attempt("cd /mnt && find . -xdev").stdout.split()
    finally:
        second.run("umount /mnt")
    shares = {f"./srv/shared/{name}" for name in ("notes", "reference", "private")}
    assert {".", "./srv", "./srv/shared"} <= set(seen) <= {".", "./srv", "./srv/shared"} | shares


@pytest.mark.parametrize("version", ["3", "4.0", "4.1"])
def test_older_versions_are_refused(first, version):
    done = first.attempt(f"mount -t nfs -o nfsvers={version},nolock,retry=0 nfs-shared-server:/srv/shared/notes /mnt")
    assert done.rc == 32, done


def test_one_port_is_open_and_only_on_the_server(server, first):
    for machine, ports in ((server, {"22", "2049"}), (first, {"22"})):
        listening = machine.run("ss -Hltn").splitlines()
        addresses = {tuple(line.split()[3].rsplit(":", 1)) for line in listening}
        assert {port for address, port in addresses if not address.startswith(("127.", "[::1]"))} == ports
        datagrams = [line.split()[3] for line in machine.run("ss -Hlun").splitlines()]
        assert [address for address in datagrams if not address.startswith(("127.", "[::1]"))] == []


def test_nothing_is_written_where_no_share_is_mounted(first, second):
    starts = second.shop(f"wc -l < {NOTES}/starts")
    second.run(f"systemctl stop '{UNIT}'")
    assert not second.is_active("shop.service"), "it stops with its share"
    assert second.attempt(f"touch {NOTES}/lost", shop=True).rc != 0
    done = second.attempt(f"touch {NOTES}/lost")
    assert done.rc != 0 and "Operation not permitted" in done.stderr, "root neither"
    second.run("systemctl start shop.service")
    assert second.is_active(UNIT)
    wait_for(lambda: int(first.shop(f"wc -l < {NOTES}/starts")) == int(starts) + 1)


@pytest.mark.parametrize("how", ["reboot", "power-cut"])
def test_the_server_goes_down_and_comes_back_while_clients_write_and_hold_a_lock(server, first, second, program, how):
    holder = program(first, LOCK, f"{NOTES}/{how}.lock")
    assert holder.read() == "free"
    holder.read()
    writer = program(first, APPEND, f"{NOTES}/{how}")
    written = writer.follow()
    wait_for(lambda: len(written) > 20)
    if how == "reboot":
        server.reboot()
    else:
        server.cut_power()
        server.power_on()
    before = len(written)
    seconds = wait_for(lambda: len(written) > before + 20, 120, "the client writes again")
    print(f"the client wrote again {seconds:.1f} s after the server was up")
    waiter = program(second, LOCK, f"{NOTES}/{how}.lock")
    assert waiter.read() == "taken", "the lock outlives the server"
    assert writer.end() == 0
    assert server.run(f"cat /srv/shared/notes/{how}").split() == written
    assert written == [str(number + 1) for number in range(len(written))]
    holder.tell()
    released = float(holder.read())
    assert -0.1 < float(waiter.read()) - released < 10
    assert [holder.end(), waiter.end()] == [0, 0]


def test_a_client_boots_with_its_share_before_its_service(first, second):
    before = second.boot_id()
    second.reboot()
    wait_for(lambda: second.is_active("shop.service"), 60)
    assert first.shop(f"tail -n 1 {NOTES}/starts").split() == ["nfs-shared-client-2", second.boot_id()]
    assert second.boot_id() != before
    order = second.run(
        f"systemctl show --value --property ActiveEnterTimestampMonotonic '{UNIT}' && "
        "systemctl show --value --property ExecMainStartTimestampMonotonic shop.service"
    ).split()
    assert int(order[0]) < int(order[1])
    second.run("mount --bind / /mnt")
    try:
        assert second.run(f"ls -A /mnt{NOTES}") == "", "nothing is beneath"
    finally:
        second.run("umount /mnt")


def test_a_client_that_boots_without_its_server_waits_for_it(server, second):
    """As after a power cut that the server takes longer to get over."""
    for machine in (server, second):
        machine.cut_power()
    second.power_on()
    wait_for(lambda: second.run(f"systemctl show --value --property ActiveState '{UNIT}'") == "activating", 60)
    assert not second.is_active("shop.service")
    server.power_on()
    wait_for(lambda: second.is_active("shop.service"), 120)
    assert second.boot_id() in second.shop(f"tail -n 1 {NOTES}/starts")
