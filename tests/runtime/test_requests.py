# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""web2py behind the handler: what still works, and what a client can no longer do."""

from __future__ import annotations

import os
import re
import secrets
import stat
import unittest
from pathlib import Path

from deployment import PASSWORD, SERVICE_USER, Answer, Browser, Deployment, form_fields, workspace

FORGED = {
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded": "for=127.0.0.1",
    "Forwarded": "for=127.0.0.1;proto=https",
    "X-Real-IP": "127.0.0.1",
    "Proxy": "http://evil.example:3128",
}
FACTS = "/probe/default/facts"
UNKNOWN = "0.0.0.0"


class Serving(unittest.TestCase):
    """One deployment for all tests of a class."""

    deployment = Deployment()

    @classmethod
    def setUpClass(cls) -> None:
        cls.site = cls.enterClassContext(cls.deployment)

    def assert_served(self, answer: Answer) -> None:
        self.assertEqual(200, answer.status, self.site.errors()[-3000:])


class OrdinaryUse(Serving):
    def test_pages_and_static_files(self) -> None:
        page = self.site.get("/welcome/default/index")
        self.assert_served(page)
        self.assertIn("web2py", page.text)
        self.assertEqual("body { color: black; }\n", self.site.get("/probe/static/probe.css").text)
        versioned = self.site.get("/probe/static/_1.2.3/probe.css")
        self.assert_served(versioned)
        self.assertIn("max-age=315360000", versioned.headers["Cache-Control"])

    def test_the_health_url_needs_no_session(self) -> None:
        for method, body in (("GET", "ok\n"), ("HEAD", "")):
            answer = self.site.request(method, "/healthz", headers={"Host": "10.0.0.1"})
            self.assert_served(answer)
            self.assertEqual(body, answer.text)
            self.assertNotIn("Set-Cookie", answer.headers)

    def test_a_session_in_a_file(self) -> None:
        browser = Browser(self.site)
        self.assertEqual(["1", "2", "3"], [browser.get("/probe/default/visits").text for _ in range(3)])
        sessions = self.site.files("probe", "sessions")
        self.assertTrue(sessions)
        for path in sessions:
            self.assertEqual(0, path.stat().st_mode & stat.S_IRWXO, path)

    def test_a_posted_form(self) -> None:
        browser = Browser(self.site)
        fields = form_fields(browser.get("/probe/default/form").text)
        self.assertEqual("hello Zoë", browser.post("/probe/default/form", fields | {"name": "Zoë"}).text)

    def test_an_upload_comes_back_unchanged(self) -> None:
        content = secrets.token_bytes(300_000)
        browser = Browser(self.site)
        fields = form_fields(browser.get("/probe/default/document").text)
        stored = browser.post_file("/probe/default/document", fields, "content", "holiday.bin", content)
        self.assert_served(stored)
        self.assertEqual(content, browser.get(f"/probe/default/download/{stored.text}").body)

    def test_an_error_gives_a_ticket_that_others_cannot_read(self) -> None:
        answer = self.site.get("/probe/default/fail")
        self.assertEqual(500, answer.status)
        ticket = re.search(r"/admin/default/ticket/probe/([\w.-]+)", answer.text)[1]
        path = self.site.state / "probe" / "errors" / ticket
        self.assertEqual(0, path.stat().st_mode & stat.S_IRWXO)
        self.assertIn(b"broken on purpose", path.read_bytes())

    def test_text_files_are_read_in_the_encoding_of_the_process(self) -> None:
        self.assertEqual("naïve\n", self.site.get("/probe/default/text_file").text)

    def test_the_path_counts_wherever_the_server_cut_it(self) -> None:
        self.assert_served(self.site.get("/", "cut_path"))

    def test_the_administrator_can_log_in(self) -> None:
        for password, accepted in (("wrong", False), (PASSWORD, True)):
            browser = Browser(self.site, "admin_https")
            self.assertIn("Administrator Password", browser.get("/admin/default/index").text)
            browser.post("/admin/default/index", {"password": password, "send": "/admin/default/site"})
            self.assertEqual(accepted, browser.get("/admin/default/site").status == 200)


class HostileUse(Serving):
    def test_ambiguous_paths_are_refused(self) -> None:
        for target in (
            "/%2561dmin/default/index",
            "/admin%5cdefault%5cindex",
            "/admin%255cdefault%255cindex",
            "/probe/default%2f..%2f..%2fadmin",
            "/probe/static/../private/text.txt",
            "/probe/static/%2e%2e/private/text.txt",
            "/probe/static/..%5cprivate%5ctext.txt",
            "/probe/static/probe.css%00.html",
            "/probe/default/index%0d%0aX-Injected:%20yes",
            "/probe/default/index%7f",
            "/..",
            "/probe/static/..",
            "*",
        ):
            with self.subTest(target):
                answer = self.site.get(target)
                self.assertEqual((400, "400 Bad Request\n"), (answer.status, answer.text))
                self.assertNotIn("Set-Cookie", answer.headers)
        self.assert_served(self.site.get("/probe/default/facts/a..b/c...d"))

    def test_a_client_cannot_forge_where_it_comes_from(self) -> None:
        for front_end, https in (("http", False), ("https", True)):
            facts = self.site.get(FACTS, front_end, headers=FORGED).json()
            self.assertEqual(("203.0.113.7", False, https), (facts["client"], facts["is_local"], facts["is_https"]))
            self.assertEqual(["HTTP_CONNECTION", "HTTP_HOST"], facts["headers"])

    def test_absolute_urls_have_the_scheme_of_the_request(self) -> None:
        for front_end in ("http", "https"):
            url = self.site.get(FACTS, front_end).json()["url"]
            self.assertEqual(f"{front_end}://site.example/probe/default/facts", url)

    def test_a_proxy_nobody_trusts_is_a_client(self) -> None:
        facts = self.site.get(FACTS, "proxied", headers={"X-Forwarded-For": "198.51.100.1"}).json()
        self.assertEqual("127.0.0.1", facts["client"])

    def test_a_peer_without_an_address_is_not_taken_for_this_host(self) -> None:
        facts = self.site.get(FACTS, "unix_socket", headers=FORGED).json()
        self.assertEqual((UNKNOWN, False, False), (facts["client"], facts["is_local"], facts["is_https"]))


class BehindAProxy(Serving):
    deployment = Deployment(settings={"trusted_proxies": ["127.0.0.1", "unix"]})

    def facts(self, front_end: str, **headers: str) -> tuple[str, bool, bool]:
        sent = {f"X-Forwarded-{name}": value for name, value in headers.items()}
        facts = self.site.get(FACTS, front_end, headers=sent).json()
        self.assertEqual(["HTTP_CONNECTION", "HTTP_HOST"], facts["headers"])
        return facts["client"], facts["is_local"], facts["is_https"]

    def test_the_proxys_word_counts_and_not_the_clients(self) -> None:
        for front_end in ("proxied", "unix_socket"):
            with self.subTest(front_end):
                self.assertEqual(
                    ("198.51.100.9", False, True),
                    self.facts(front_end, For="127.0.0.1, 198.51.100.9", Proto="http, https"),
                )
                self.assertEqual(("198.51.100.9", False, False), self.facts(front_end, For="198.51.100.9"))
                self.assertEqual(("127.0.0.1", True, False), self.facts(front_end, For="127.0.0.1"))

    def test_without_the_proxys_word_nobody_is_local(self) -> None:
        for headers in ({}, {"For": ""}, {"For": "unknown"}, {"For": "127.0.0.1, unknown"}):
            with self.subTest(headers):
                self.assertEqual((UNKNOWN, False, False), self.facts("proxied", **headers))

    def test_those_who_come_without_the_proxy_are_not_believed(self) -> None:
        self.assertEqual(("203.0.113.7", False, False), self.facts("http", For="127.0.0.1", Proto="https"))


class Stock(Serving):
    """The same requests to web2py as it comes: without the handler each of these holes is open."""

    deployment = Deployment(stock=True)

    def test_ambiguous_paths_reach_the_administration(self) -> None:
        for target in ("/%2561dmin/default/index", "/admin%5cdefault%5cindex", "/admin%255cdefault%255cindex"):
            with self.subTest(target):
                self.assertIn("Administrator Password", self.site.get(target, "https").text)

    def test_a_client_behind_a_proxy_can_be_local(self) -> None:
        facts = self.site.get(FACTS, "proxied", headers={"X-Forwarded-For": "127.0.0.1, 198.51.100.9"}).json()
        self.assertEqual(("127.0.0.1", True), (facts["client"], facts["is_local"]))

    def test_a_client_can_claim_https(self) -> None:
        self.assertTrue(self.site.get(FACTS, headers={"X-Forwarded-Proto": "https"}).json()["is_https"])

    def test_text_files_are_read_as_ascii(self) -> None:
        self.assertEqual(500, self.site.get("/probe/default/text_file").status)


def code_files(*folders: Path) -> dict[str, tuple[int, int]]:
    """Every path below the folders with what changes when it is written to."""
    paths = [path for folder in folders for path in (folder, *folder.rglob("*"))]
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in paths}


class Files(unittest.TestCase):
    def use(self, site: Deployment) -> None:
        browser = Browser(site)
        for target in ("/welcome/default/index", "/probe/default/visits", "/probe/default/fail", "/nosuch/default"):
            browser.get(target)
        fields = form_fields(browser.get("/probe/default/document").text)
        browser.post_file("/probe/default/document", fields, "content", "note.txt", b"text")
        Browser(site, "admin_https").post("/admin/default/index", {"password": PASSWORD})

    def test_nothing_is_written_outside_the_state(self) -> None:
        """As the owner of all files, so that a write would succeed and be seen."""
        with Deployment(own_user=True) as site:
            folders = (site.root, site.base / "applications", *(workspace() / n for n in ("releases", "runtime")))
            before = code_files(*folders)
            self.use(site)
            self.assertEqual(before, code_files(*folders))
            self.assertEqual([], site.files("home") + site.files("temporary"))
            self.assertTrue(site.files("probe", "uploads"))

    def test_the_service_user_can_write_nothing_else(self) -> None:
        with Deployment() as site:
            self.use(site)
            user = os.geteuid() if SERVICE_USER is None else SERVICE_USER
            self.assertEqual({user}, {path.stat().st_uid for path in site.files("probe", "errors")})
            code = [path for path in site.root.rglob("*") if not path.is_symlink()]
            self.assertEqual([], [path for path in code if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH)])
            if SERVICE_USER is not None:
                self.assertNotIn(user, {path.stat().st_uid for path in code})

    def test_a_process_stays_with_its_release(self) -> None:
        with Deployment() as site:
            first = str(workspace() / "releases" / "one" / "gluon")
            self.assertEqual(first, site.get(FACTS).json()["gluon"])
            (site.base / "two" / "gluon").mkdir(parents=True)
            (site.base / "next").symlink_to(site.base / "two")
            os.rename(site.base / "next", site.base / "current")
            self.assertTrue(site.get("/probe/default/late_import").text.startswith(first))


class Start(unittest.TestCase):
    def test_wrong_settings_stop_it_with_their_name(self) -> None:
        for settings, message in (
            ({"framework": "/nowhere"}, "framework is '/nowhere', but there is no folder /nowhere/gluon"),
            ({"root": "/nowhere"}, "root is '/nowhere', but there is no folder /nowhere/applications"),
            ({"trusted": []}, "a setting's name is 'trusted'; allowed: root, framework, trusted_proxies, health_path"),
        ):
            with self.subTest(message), self.assertRaises(RuntimeError) as caught:
                Deployment(settings=settings).__enter__()
            self.assertIn(message, str(caught.exception))


if __name__ == "__main__":
    unittest.main()
