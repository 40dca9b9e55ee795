# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An application whose database and cache servers are on the machine itself, without a variable for it."""

from __future__ import annotations

import re

from browser import wait_for

NOTES = "/notes/default"


def test_a_session_a_note_and_cached_values_are_in_the_servers(site):
    assert [site.ask(f"{NOTES}/visits").body for _ in range(3)] == [b"1", b"2", b"3"]
    key = re.search(r'name="_formkey" type="hidden" value="([^"]*)"', site.ask(f"{NOTES}/index").body.decode()).group(1)
    body = f"title=one+machine&created=2026-11-24+00:00:00&_formkey={key}&_formname=note/create".encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert site.ask(f"{NOTES}/index", method="POST", body=body, headers=headers).status == 303
    assert b"one machine" in site.fresh().ask(f"{NOTES}/index").body
    assert len({site.fresh().ask(f"{NOTES}/clock").body for _ in range(8)}) == 1
    assert site.run("cd /var/lib/web2py/data/notes && find sessions uploads cache databases -type f") == ""


def test_nothing_of_it_listens_to_the_network(site):
    listening = site.run("ss -Hltn").splitlines()
    addresses = {line.split()[3] for line in listening if line.split()[3].endswith((":5432", ":11211"))}
    assert addresses == {"127.0.0.1:5432", "[::1]:5432", "127.0.0.1:11211"}


def test_a_restart_of_the_database_is_forgotten_at_once(site):
    assert site.ask(f"{NOTES}/visits").status == 200
    site.run("systemctl restart 'postgresql@*-main'")
    assert wait_for(lambda: site.fresh().ask(f"{NOTES}/visits").status == 200, 5) < 5
