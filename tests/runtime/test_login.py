# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""However a password of the administration is tried, it counts, and a client that tried too many is sent away."""

from __future__ import annotations

import base64
import json
import secrets
import time
import unittest
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import urlencode

from deployment import PASSWORD, Answer, Deployment

SETTINGS = {"trusted_proxies": ["127.0.0.1"], "administration": "https"}
LIMIT = 5
LOGIN = "/admin/default/index"
FORM = "application/x-www-form-urlencoded"

ROUTES = r"""
default_application = "admin"
routes_in = ((r"/sesame", r"/admin/default/index"), (r"/manage/(?P<any>.*)", r"/admin/\g<any>"))
"""
ROUTERS = """
routers = dict(
    BASE=dict(default_application="admin", applications=["admin", "probe", "welcome"]),
    admin=dict(default_language="en", languages=["en", "de"]),
)
"""


FORMS = (
    LOGIN,
    "/admin",
    "/admin/",
    "/admin/default",
    "/admin/default/",
    f"{LOGIN}/",
    f"{LOGIN}/x",
    f"{LOGIN}/x/y/z",
    f"{LOGIN}.html",
    f"{LOGIN}.json",
    f"{LOGIN}.load",
    f"{LOGIN}.html/x",
    f"/{LOGIN}",
    "/admin//default//index",
    "/./admin/default/index",
    "/admin/./default/index",
    f"{LOGIN}?x=1",
    f"{LOGIN}?send=/admin/default/site",
    f"{LOGIN}/_TEST",
    "/Admin/default/index",
    "/ADMIN/DEFAULT/INDEX",
    "/admin/default/Index",
    "/admin/_TEST",
    "/admin/default/_TEST",
    "/admin/default/site",
    "/admin/default/user/login",
    "/admin/default/change_password",
    "/admin/appadmin",
    "/admin/appadmin/index",
    "/admin/default/about",
    "/admin/plugin_jqmobile/index",
    "/admin/static/css/styles.css",
    "/welcome/appadmin",
    "/welcome/appadmin/index",
    "/welcome/default/user/login",
    "/",
    "/default/index",
    "/index",
    "/default",
    "/sesame",
    "/sesame/x",
    "/manage/default/index",
    "/manage/default/index/x",
    "/manage/default",
    "/de/default/index",
    "/en",
    "/de/index/x",
    "/admin/de/default/index",
    "/admin/en/default/index/x",
    "/admin/de",
)
QUERIES = (LOGIN, "/admin", f"{LOGIN}/x", f"{LOGIN}.json", "/", "/sesame", "/manage/", "/de")
SERVICES = (
    *(
        f"/admin/webservices/{rest}"
        for rest in ("call/jsonrpc", "call/jsonrpc2", "call/xmlrpc", "call/json", "call/run/login", "call", "index", "")
    ),
    "/admin/webservices",
    "/admin//webservices/call/jsonrpc",
    "/manage/webservices/call/jsonrpc",
    "/webservices/call/jsonrpc",
    "/de/webservices/call/jsonrpc",
)
CALL = b'{"method": "login", "params": [], "id": 1, "version": "1.1"}'
XML_CALL = b"<?xml version='1.0'?><methodCall><methodName>login</methodName><params/></methodCall>"


def form(password: str, target: str = LOGIN, method: str = "POST", **headers: str) -> dict[str, Any]:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    body = urlencode({"password": password}).encode()
    return {"method": method, "target": target, "headers": {"Content-Type": FORM} | headers, "body": body}


def query(password: str, target: str = LOGIN, method: str = "GET") -> dict[str, Any]:
    return {"method": method, "target": f"{target}?{urlencode({'password': password})}"}


def form_with_a_file(password: str) -> dict[str, Any]:
    parts = (
        f'Content-Disposition: form-data; name="password"\r\n\r\n{password}',
        'Content-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\ncontent',
    )
    body = "".join(f"--limit\r\n{part}\r\n" for part in parts) + "--limit--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    return {"method": "POST", "target": LOGIN, "headers": headers, "body": body.encode()}


def basic(password: str, target: str, method: str = "POST", word: str = "Basic") -> dict[str, Any]:
    headers = {
        "Authorization": f"{word} {base64.b64encode(f'admin:{password}'.encode()).decode()}",
        "Content-Type": "text/xml" if "xmlrpc" in target else "application/json",
    }
    body = b"" if method == "GET" else XML_CALL if "xmlrpc" in target else CALL
    return {"method": method, "target": target, "headers": headers, "body": body}


# What to send for a password, by the name of the way.
WAYS: dict[str, Callable[[str], dict[str, Any]]] = {
    **{f"form to {target}": lambda password, target=target: form(password, target) for target in FORMS},
    **{f"query to {target}": lambda password, target=target: query(password, target) for target in QUERIES},
    **{
        f"{method} with a query": lambda password, method=method: query(password, method=method)
        for method in ("HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND")
    },
    **{
        f"{method} with a form": lambda password, method=method: form(password, method=method)
        for method in ("PUT", "PATCH", "DELETE", "GET")
    },
    "form with a file": form_with_a_file,
    "JSON": lambda password: {
        **form(password, Content_Type="application/json"),
        "body": json.dumps({"password": password}).encode(),
    },
    "form and query": lambda password: form(password, f"{LOGIN}?{urlencode({'password': password})}"),
    "query and an empty form": lambda password: {**form("", f"{LOGIN}?{urlencode({'password': password})}")},
    "ajax": lambda password: form(password, X_Requested_With="XMLHttpRequest"),
    "component": lambda password: form(password, Web2py_Component_Element="c1"),
    "Host: localhost": lambda password: form(password, Host="localhost"),
    "Host with another port": lambda password: form(password, Host="site.example:8001"),
    "forged X-Forwarded-For": lambda password: {**form(password), "forged": f"203.0.113.{secrets.randbelow(256)}, "},
    "other forwarding headers": lambda password: form(password, X_Real_IP="203.0.113.9", Forwarded="for=203.0.113.9"),
    "method override": lambda password: form(password, X_HTTP_Method_Override="GET"),
    "Basic at the login": lambda password: basic(password, LOGIN, "GET"),
    "Basic at appadmin": lambda password: basic(password, "/admin/appadmin/index", "GET"),
    **{f"Basic to {target}": lambda password, target=target: basic(password, target) for target in SERVICES},
    "Basic with GET": lambda password: basic(password, "/admin/webservices/call/jsonrpc", "GET"),
    "bASIC": lambda password: basic(password, "/admin/webservices/call/jsonrpc", word="bASIC"),
}


class Client:
    """One address behind a trusted proxy."""

    def __init__(self, site: Deployment, address: str | None = None) -> None:
        self.site = site
        self.address = address or f"198.18.{secrets.randbelow(256)}.{secrets.randbelow(256)}"

    def send(
        self, method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"", forged: str = ""
    ) -> Answer:
        named = {"For": forged + self.address, "Proto": "https", "Port": "443"}
        sent = {f"X-Forwarded-{name}": value for name, value in named.items()} | (headers or {})
        return self.site.request(method, target, "proxied", headers=sent, body=body)

    def log_in(self, password: str = PASSWORD, cookies: dict[str, str] | None = None) -> Answer:
        return self.send(**form(password, **({"Cookie": written(cookies)} if cookies else {})))

    def administers(self, cookies: dict[str, str]) -> bool:
        page = self.send("GET", "/admin/default/site", {"Cookie": written(cookies)})
        return page.status == 200 and "/logout" in page.text

    def opens(self, way: str, password: str = PASSWORD) -> bool:
        """Whether the answer shows that the password was right."""
        answer = self.send(**WAYS[way](password))
        return b'"result": true' in answer.body or self.administers(cookies_of(answer))


def cookies_of(answer: Answer) -> dict[str, str]:
    lines = answer.headers.get_all("Set-Cookie", [])
    return {name: morsel.coded_value for line in lines for name, morsel in SimpleCookie(line).items()}


def written(cookies: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in cookies.items())


class Serving(unittest.TestCase):
    deployment = Deployment(settings=SETTINGS)

    @classmethod
    def setUpClass(cls) -> None:
        cls.site = cls.enterClassContext(cls.deployment)
        cls.file = cls.site.state / "admin" / "private" / "login_attempts.json"

    def setUp(self) -> None:
        self.file.unlink(missing_ok=True)

    def failures(self) -> dict[str, list[int]]:
        return json.loads(self.file.read_text())["failed"]


class EveryWay(Serving):
    deployment = Deployment(routes=ROUTES, settings=SETTINGS)

    def test_the_passwords_that_can_be_tried_are_as_many_in_all_ways_together(self) -> None:
        opening = []
        for way in WAYS:
            self.file.unlink(missing_ok=True)
            if Client(self.site).opens(way):
                opening.append(way)
        print(f"{len(WAYS)} ways, of which {len(opening)} open with the right password")
        self.assertGreater(len(opening), 20)
        self.assertEqual([], [way for way in opening if "webservices" in way])
        for way in opening:
            self.file.unlink(missing_ok=True)
            with self.subTest(way):
                client = Client(self.site)
                for _ in range(LIMIT):
                    client.send(**WAYS[way]("wrong"))
                self.assertEqual({client.address: LIMIT}, {who: count for who, (count, _) in self.failures().items()})
                refused = client.log_in()
                self.assertEqual(429, refused.status)
                self.assertTrue(0 < int(refused.headers["Retry-After"]) <= 3600)
        self.file.unlink()
        client = Client(self.site)
        for way, request in WAYS.items():
            started = time.monotonic()
            answer = client.send(**request("wrong"))
            self.assertNotEqual(500, answer.status, f"{way}: {self.site.errors()[-2000:]}")
            self.assertLess(time.monotonic() - started, 2, way)
        self.assertEqual({client.address: LIMIT}, {who: count for who, (count, _) in self.failures().items()})
        self.assertEqual([], [way for way in WAYS if client.opens(way)])


class EveryWayUnderARouter(EveryWay):
    deployment = Deployment(routes=ROUTERS, settings=SETTINGS)


class LockOut(Serving):
    def lock_out(self, client: Client) -> None:
        for number in range(LIMIT):
            self.assertEqual(200, client.log_in(f"wrong {number}").status)

    def test_it_refuses_all_of_admin_at_once_and_nothing_else(self) -> None:
        client = Client(self.site)
        self.lock_out(client)
        for target in ("/admin", LOGIN, "/admin/default/site", "/admin/appadmin/index", "/admin/default/logout"):
            for method in ("GET", "POST", "HEAD"):
                started = time.monotonic()
                answer = client.send(method, target)
                self.assertEqual(429, answer.status)
                self.assertLess(time.monotonic() - started, 1)
                self.assertTrue(3500 < int(answer.headers["Retry-After"]) <= 3600)
                self.assertNotIn("Set-Cookie", answer.headers)
        for target in ("/welcome/default/index", "/probe/default/facts", "/admin/static/favicon.ico"):
            self.assertEqual(200, client.send("GET", target).status)
        self.assertEqual(303, Client(self.site).log_in().status, "another client")

    def test_it_spares_a_session_that_is_open_until_its_logout(self) -> None:
        """At one end of an SSH tunnel, or behind one router, all are one client."""
        client = Client(self.site)
        cookies = cookies_of(client.log_in())
        stranger = cookies_of(client.send("GET", LOGIN))
        self.lock_out(client)
        self.assertTrue(client.administers(cookies))
        for cookie in (stranger, {"session_id_admin": "127.0.0.1-forged"}):
            self.assertEqual(429, client.send("GET", LOGIN, {"Cookie": written(cookie)}).status)
        client.send("GET", "/admin/default/logout", {"Cookie": written(cookies)})
        self.assertEqual(429, client.send("GET", LOGIN, {"Cookie": written(cookies)}).status)

    def test_it_ends_when_the_file_is_removed(self) -> None:
        client = Client(self.site)
        self.lock_out(client)
        self.file.unlink()
        self.assertEqual(303, client.log_in().status)

    def test_it_ends_after_an_hour(self) -> None:
        client = Client(self.site)
        self.lock_out(client)
        self.file.write_text(json.dumps({"failed": {client.address: [LIMIT, int(time.time()) - 3590]}, "known": {}}))
        refused = client.log_in()
        self.assertEqual(429, refused.status)
        self.assertLessEqual(int(refused.headers["Retry-After"]), 10)
        self.file.write_text(json.dumps({"failed": {client.address: [LIMIT, int(time.time()) - 3600]}, "known": {}}))
        self.assertEqual(303, client.log_in().status)

    def test_the_right_password_makes_the_count_begin_anew(self) -> None:
        client = Client(self.site)
        for _ in range(3):
            for number in range(LIMIT - 1):
                self.assertIn(client.log_in(f"wrong {number}").status, (200,))
            self.assertEqual(303, client.log_in().status)

    def test_who_tries_is_told_how_often_it_may(self) -> None:
        client = Client(self.site)
        told = [client.log_in("wrong").text for _ in range(LIMIT)]
        self.assertIn("invalid password", told[0])
        self.assertIn("one more login attempt", told[3])
        self.assertIn("too many invalid login attempts", told[4])

    def test_no_number_of_parallel_tries_exceeds_the_limit(self) -> None:
        client = Client(self.site)
        with ThreadPoolExecutor(64) as pool:
            statuses = [answer.status for answer in pool.map(client.log_in, ["wrong"] * 256)]
        self.assertLessEqual(set(statuses), {200, 429, 503})
        self.assertLessEqual(statuses.count(200), LIMIT)
        self.assertEqual(statuses.count(200), self.failures()[client.address][0])

    def test_an_ipv6_network_is_one_client(self) -> None:
        for number in range(LIMIT):
            self.assertEqual(200, Client(self.site, f"2001:db8:0:1::{number + 1:x}").log_in("wrong").status)
        self.assertEqual(429, Client(self.site, "2001:db8:0:1:ffff::").log_in().status)
        self.assertEqual(303, Client(self.site, "2001:db8:0:2::1").log_in().status)

    def test_the_password_of_an_administrator_cannot_be_guessed_with_a_stolen_session(self) -> None:
        client = Client(self.site)
        cookies = cookies_of(client.log_in())
        target = "/admin/default/change_password"
        fields = {"current_admin_password": "wrong", "new_admin_password": "aB3!aaaa", "_formname": "no_table/create"}
        statuses = []
        for _ in range(LIMIT + 1):
            page = client.send("GET", target, {"Cookie": written(cookies)})
            self.assertEqual(200, page.status)
            key = page.text.partition('name="_formkey" type="hidden" value="')[2].partition('"')[0]
            body = urlencode(fields | {"new_admin_password_again": "aB3!aaaa", "_formkey": key}).encode()
            statuses.append(
                client.send("POST", target, {"Cookie": written(cookies), "Content-Type": FORM}, body).status
            )
        self.assertEqual([200] * LIMIT + [429], statuses)
        self.assertEqual(LIMIT, self.failures()[client.address][0])

    def test_an_error_page_of_the_site_does_not_answer_for_it(self) -> None:
        routes = 'routes_onerror = (("*/*", "/probe/default/facts"),)\n'
        with Deployment(routes=routes, settings=SETTINGS) as site:
            client = Client(site)
            for _ in range(LIMIT):
                client.log_in("wrong")
            answer = client.log_in()
            self.assertEqual((429, True), (answer.status, "Retry-After" in answer.headers))

    def test_a_count_that_cannot_be_written_refuses(self) -> None:
        folder = self.file.parent
        folder.rename(folder.with_name("away"))
        folder.write_text("no folder")
        try:
            client = Client(self.site)
            self.assertEqual(503, client.log_in().status)
        finally:
            folder.unlink()
            folder.with_name("away").rename(folder)
        self.assertEqual(303, client.log_in().status)


class Sessions(Serving):
    def sessions(self) -> set[str]:
        return {path.name for path in self.site.files("admin", "sessions")}

    def test_the_session_is_another_after_the_login_and_ends_with_the_logout(self) -> None:
        client = Client(self.site)
        before = cookies_of(client.send("GET", LOGIN))
        name = "session_id_admin"
        self.assertIn(before[name], self.sessions())
        # Whoever knows the first id, or brings one, has nothing after the login.
        after = {**before, **cookies_of(client.log_in(cookies=before))}
        self.assertNotEqual(before[name], after[name])
        self.assertNotIn(before[name], self.sessions())
        self.assertIn(after[name], self.sessions())
        self.assertTrue(client.administers(after))
        self.assertFalse(client.administers(before))
        self.assertEqual(303, client.send("GET", "/welcome/appadmin/index", {"Cookie": written(before)}).status)
        self.assertEqual(200, client.send("GET", "/welcome/appadmin/index", {"Cookie": written(after)}).status)
        client.send("GET", "/admin/default/logout", {"Cookie": written(after)})
        self.assertFalse(client.administers(after))
        self.assertFalse(client.administers(before))
        self.assertEqual(303, client.send("GET", "/welcome/appadmin/index", {"Cookie": written(after)}).status)

    def test_a_second_login_renews_it_again(self) -> None:
        client = Client(self.site)
        first = cookies_of(client.log_in())
        second = cookies_of(client.log_in())
        self.assertNotEqual(first, second)
        self.assertTrue(client.administers(first) and client.administers(second), "two browsers of one person")

    def test_what_the_session_held_stays(self) -> None:
        """The page that was asked for before the login comes after it."""
        client = Client(self.site)
        asked = client.send("GET", "/admin/default/design/probe")
        self.assertEqual(303, asked.status)
        body = urlencode({"password": PASSWORD, "send": "/admin/default/design/probe"}).encode()
        headers = {"Cookie": written(cookies_of(asked)), "Content-Type": FORM}
        self.assertEqual("/admin/default/design/probe", client.send("POST", LOGIN, headers, body).headers["Location"])


if __name__ == "__main__":
    unittest.main()
