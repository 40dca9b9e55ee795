# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Administration and applications that a front end does not expose, under each way web2py has to route."""

from __future__ import annotations

import unittest

from deployment import Deployment
from test_requests import Serving

REGEX_ROUTES = """
default_application = "welcome"
routes_in = (
    ("/manage", "/admin/default/index"),
    ("/encoded", "/%61dmin/default/index"),
    ("/pictures/$anything", "/admin/static/$anything"),
    ("/appadmin/$anything", "/welcome/appadmin/$anything"),
    ("/moved", "303->/admin/default/index"),
    ("/granted", "/admin/default/index", {
        "WEB2PY_ADMINISTRATION": "https",
        "WEB2PY_APPLICATIONS": "admin",
        "wsgi.url_scheme": "https",
    }),
)
"""
ROUTERS = """
routers = {
    "BASE": {
        "default_application": "welcome",
        "domains": {"manage.example": "admin", "tables.example": "welcome/appadmin"},
        "map_hyphen": True,
    },
}
"""
ERROR_ROUTES = """
default_application = "welcome"
routes_onerror = (("probe/*", "/admin/default/index"), ("*/404", "/welcome/appadmin/index"), ("*/400", "/admin"))
"""


class Administration(Serving):
    """`targets` are (target, host) of administration; the one front end that grants it must reach each of them."""

    targets: tuple[tuple[str, str], ...] = (
        ("/admin", ""),
        ("/admin/", ""),
        ("/admin/default/index", ""),
        ("/admin/default/index?x=/welcome/default/index", ""),
        ("/%61dmin/default/index", ""),
        ("/admin/static/css/calendar.css", ""),
        ("/admin/static/_1.2.3/css/calendar.css", ""),
        ("/welcome/appadmin", ""),
        ("/welcome/appadmin/index", ""),
        ("/welcome/appadmin/index.html", ""),
        ("/welcome/%61ppadmin/index", ""),
        ("/admin/appadmin/index", ""),
        ("/probe/default/_TEST", ""),
    )

    def statuses(self, front_end: str) -> dict[tuple[str, str], int]:
        headers = {"WEB2PY_ADMINISTRATION": "https", "WEB2PY-Administration": "https"}
        return {
            (target, host): self.site.get(target, front_end, headers=headers | ({"Host": host} if host else {})).status
            for target, host in self.targets
        }

    def test_it_is_off_unless_granted(self) -> None:
        for front_end in ("http", "https", "admin_misspelled"):
            with self.subTest(front_end):
                self.assertEqual(dict.fromkeys(self.targets, 404), self.statuses(front_end))

    def test_it_is_refused_without_encryption(self) -> None:
        self.assertEqual(dict.fromkeys(self.targets, 403), self.statuses("admin_http"))

    def test_it_can_be_reached_where_granted(self) -> None:
        refused = (400, 403, 404, 500)
        self.assertEqual(
            {}, {target: status for target, status in self.statuses("admin_https").items() if status in refused}
        )


class AdministrationByRegex(Administration):
    deployment = Deployment(routes=REGEX_ROUTES)
    targets = (
        *Administration.targets,
        ("/manage", ""),
        ("/encoded", ""),
        ("/pictures/css/calendar.css", ""),
        ("/appadmin/index", ""),
        ("/granted", ""),
    )

    def test_a_redirect_leads_to_the_same_refusal(self) -> None:
        answer = self.site.get("/moved")
        self.assertEqual((303, "/admin/default/index"), (answer.status, answer.headers["Location"]))


class AdministrationByRouters(Administration):
    deployment = Deployment(routes=ROUTERS)
    targets = (
        *(target for target in Administration.targets if "_1.2.3" not in target[0]),
        ("/", "manage.example"),
        ("/default/index", "manage.example"),
        ("/static/css/calendar.css", "manage.example"),
        ("/favicon.ico", "manage.example"),
        ("/appadmin", ""),
        ("/appadmin/index", ""),
        ("/", "tables.example"),
    )


class ErrorPages(Serving):
    """`routes_onerror` makes web2py route a second request in the place of a failed one."""

    deployment = Deployment(routes=ERROR_ROUTES)

    def test_a_failure_does_not_open_the_administration(self) -> None:
        for target, status in (
            ("/probe/default/fail", 404),
            ("/probe/default/nosuch", 404),
            ("/admin/default/index", 404),
            ("/nosuch/default/index", 404),
            ("/welcome//x", 404),
        ):
            for front_end in ("http", "https"):
                with self.subTest(target, front_end=front_end):
                    answer = self.site.get(target, front_end)
                    self.assertEqual(status, answer.status)
                    self.assertNotIn("Administrator Password", answer.text)
        self.assertIn("Administrator Password", self.site.get("/probe/default/fail", "admin_https").text)


class Applications(Serving):
    deployment = Deployment(routes=REGEX_ROUTES)

    def test_only_the_exposed_ones_are_reached(self) -> None:
        for target, status in (
            ("/probe/default/facts", 200),
            ("/probe/static/probe.css", 200),
            ("/welcome/default/index", 404),
            ("/welcome/static/css/web2py.css", 404),
            ("/welcome/appadmin/index", 404),
            ("/admin/default/index", 404),
            ("/pictures/css/calendar.css", 404),
            ("/nosuch/default/index", 404),
            ("/", 404),
        ):
            with self.subTest(target):
                self.assertEqual(status, self.site.get(target, "probe_only").status)
                self.assertEqual(404, self.site.get(target, "nothing").status)

    def test_all_are_reached_where_the_front_end_names_none(self) -> None:
        for target in ("/probe/default/facts", "/welcome/default/index", "/welcome/static/css/web2py.css", "/"):
            with self.subTest(target):
                self.assertEqual(200, self.site.get(target).status)


class SettingsOfADaemon(Serving):
    """A server without keys of its own in the environ: the settings decide, whatever the environ says."""

    deployment = Deployment(settings={"administration": "loopback", "applications": ["admin", "welcome"]})

    def test_a_client_of_this_host_may_administer_unless_something_was_forwarded(self) -> None:
        here = {"Host": "127.0.0.1:8001"}
        for target in ("/admin/default/index", "/welcome/appadmin/index"):
            with self.subTest(target):
                self.assertNotIn(self.site.get(target, "proxied", headers=here).status, (400, 403, 404, 500))
                for more in ({"X-Forwarded-For": "::1"}, {"Via": "1.1 proxy"}, {"Host": "rebound.example:8001"}):
                    self.assertEqual(403, self.site.get(target, "proxied", headers=here | more).status, more)
                self.assertEqual(403, self.site.get(target, "http").status)
                self.assertEqual(403, self.site.get(target, "admin_http").status)
                self.assertNotIn(self.site.get(target, "https").status, (400, 403, 404, 500))

    def test_the_environ_exposes_no_other_application(self) -> None:
        for front_end in ("http", "nothing", "probe_only"):
            with self.subTest(front_end):
                self.assertEqual(200, self.site.get("/welcome/default/index", front_end).status)
                self.assertEqual(404, self.site.get("/probe/default/facts", front_end).status)


class AdministrationOff(Serving):
    deployment = Deployment(settings={"administration": "off"})

    def test_no_front_end_can_grant_it(self) -> None:
        for front_end in ("admin_https", "admin_http", "proxied", "https"):
            with self.subTest(front_end):
                self.assertEqual(404, self.site.get("/admin/default/index", front_end).status)


if __name__ == "__main__":
    unittest.main()
