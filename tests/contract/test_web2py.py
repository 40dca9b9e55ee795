# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the collection takes for granted of web2py, so that the stand-in cannot drift from the real one."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUNTIME = Path(__file__).resolve().parents[2] / "roles" / "web2py" / "files"
# Part of the package on a web host.
SHARED = RUNTIME.parents[2] / "plugins" / "module_utils"
UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
TICKET = re.compile(rf"127\.0\.0\.1\.\d{{4}}-\d\d-\d\d\.\d\d-\d\d-\d\d\.{UUID}")

WSGI_CALL = """
import json, sys, wsgiref.util
from wsgihandler import application
environ = {"PATH_INFO": "/contract/default/seen/one", "REMOTE_ADDR": "192.0.2.7", "wsgi.url_scheme": "https"}
wsgiref.util.setup_testing_defaults(environ)
statuses = []
body = b"".join(application(environ, lambda status, headers: statuses.append(status)))
json.dump({"status": statuses, "body": json.loads(body)}, sys.stdout)
"""


RUNTIME_CALL = """
import sys, wsgiref.util
import web2py_runtime
web2py_runtime.__path__.append(sys.argv[2])
from web2py_runtime.handler import make_application
environ = {"PATH_INFO": "/contract/default/index", "REMOTE_ADDR": "192.0.2.7"}
wsgiref.util.setup_testing_defaults(environ)
print(b"".join(make_application(sys.argv[1])(environ, lambda *answer: None)).decode())
"""


PASSWORD_CALL = """
import gluon.main
from pydal.validators import CRYPT, LazyCrypt

stored = str(CRYPT()("right")[0])
compared = []
compare = LazyCrypt.__eq__
LazyCrypt.__eq__ = lambda self, other: compared.append(other) or compare(self, other)
print(stored == CRYPT()("right")[0], stored == CRYPT()("wrong")[0], compared == [stored] * 2)
"""


class TicketUnpickler(pickle.Unpickler):
    """Loads a ticket without running anything that it may carry."""

    def find_class(self, module, name):
        if (module, name) == ("gluon.html", "XML_unpickle"):
            return lambda data: data
        raise pickle.UnpicklingError(f"a ticket refers to {module}.{name}")


def run(site, *arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=site.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def test_the_tree_has_what_a_deployment_refers_to(site):
    for name in (
        "web2py.py",
        "gluon/main.py",
        "gluon/version.py",
        "gluon/packages/pydal/pydal/__init__.py",
        "gluon/packages/yatl/yatl/__init__.py",
        "gluon/packages/rocket3/rocket3/__init__.py",
        "handlers/wsgihandler.py",
        "applications/welcome/controllers/default.py",
        "applications/welcome/static/images/favicon.ico",
        "applications/welcome/views/default/index.html",
    ):
        assert (site.root / name).is_file(), name


def test_the_version_is_a_supported_one_and_the_program_tells_it(site):
    assert re.match(r"3\.[3-9]\d*\.\d+-\w+", site.version)
    told = run(site, "web2py.py", "--version")
    assert site.version in told.stdout


def test_welcome_answers_with_its_page(site):
    answer = site.ask("/welcome/default/index")
    assert answer.status == 200
    assert answer.headers.get_content_type() == "text/html"
    assert "Welcome to web2py!" in answer.text


def test_routes_choose_the_default_application_and_rewrite(site):
    assert site.ask("/").text == "index of the contract"
    assert site.ask("/short.css").text == (site.application / "static/css/contract.css").read_text()


def test_a_view_renders_what_the_action_returns_and_escapes_it(site):
    assert site.ask("/contract/default/page").text.strip() == "<p>&lt;set by the model&gt;</p>"


def test_an_action_sees_the_request(site):
    seen = json.loads(site.ask("/contract/default/seen/one/two?word=hello").text)
    assert seen == {
        "application": "contract",
        "args": ["one", "two"],
        "client": "127.0.0.1",
        "function": "seen",
        "is_https": False,
        "is_local": True,
        "method": "GET",
        "port": str(site.port),
        "word": "hello",
    }


def test_an_action_sees_a_posted_form(site):
    answer = site.ask(
        "/contract/default/seen", "POST", b"word=posted", Content_Type="application/x-www-form-urlencoded"
    )
    seen = json.loads(answer.text)
    assert (seen["method"], seen["word"]) == ("POST", "posted")


def test_web2py_alone_believes_forwarding_headers(site):
    """The runtime package exists to refuse this; where it is no longer so, the package can shrink."""
    answer = site.ask("/contract/default/seen", X_Forwarded_For="192.0.2.1, 192.0.2.2", X_Forwarded_Proto="https")
    seen = json.loads(answer.text)
    assert (seen["client"], seen["is_https"]) == ("192.0.2.1", True)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/contract/default/refuse", 403),
        ("/contract/default/missing", 404),
        ("/contract/missing/index", 404),
        ("/missing/default/index", 404),
        ("/no-such-name/default/index", 400),
        ("/contract/static/missing.css", 404),
        ("/contract/static/../models/settings.py", 400),
        ("/contract/static/%2e%2e/models/settings.py", 400),
        ("/contract/static/..%5cmodels/settings.py", 400),
    ],
)
def test_what_is_not_there_is_refused(site, path, status):
    answer = site.ask(path)
    assert answer.status == status
    assert "set by the model" not in answer.text


def test_static_files_are_served_and_revalidated(site):
    content = (site.application / "static/css/contract.css").read_text()
    answer = site.ask("/contract/static/css/contract.css")
    assert (answer.status, answer.text) == (200, content)
    assert answer.headers.get_content_type() == "text/css"
    again = site.ask("/contract/static/css/contract.css", If_Modified_Since=answer.headers["Last-Modified"])
    assert (again.status, again.text) == (304, "")


def test_versioned_static_files_live_long(site):
    answer = site.ask("/contract/static/_1.2.3/css/contract.css")
    assert answer.status == 200
    assert int(re.search(r"max-age=(\d+)", answer.headers["Cache-Control"])[1]) > 365 * 24 * 3600


def test_each_visitor_has_a_session_file(site):
    before = site.files("sessions")
    first, other = site.ask("/contract/default/visits"), site.ask("/contract/default/visits")
    second = site.ask("/contract/default/visits", Cookie=first.cookie)
    assert [first.text, other.text, second.text] == ["1", "1", "2"]
    created = site.files("sessions") - before
    assert sorted(path.name for path in created) == sorted(answer.cookie.partition("=")[2] for answer in (first, other))
    assert all(re.fullmatch(rf"127\.0\.0\.1-{UUID}", path.name) for path in created)


def test_an_unknown_session_id_is_not_adopted(site):
    forged = "session_id_contract=127.0.0.1-00000000-0000-4000-8000-000000000000"
    answer = site.ask("/contract/default/visits", Cookie=forged)
    assert answer.text == "1"
    assert answer.cookie != forged


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(site):
    cookie = site.ask("/contract/default/visits").headers["Set-Cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_an_error_answers_with_a_ticket_and_keeps_the_details_in_a_file(site):
    before = site.files("errors")
    answer = site.ask("/contract/default/fail")
    assert answer.status == 500
    assert "on purpose" not in answer.text
    (path,) = site.files("errors") - before
    assert TICKET.fullmatch(path.name)
    assert f"contract/{path.name}" in answer.text
    with open(path, "rb") as file:
        ticket = TicketUnpickler(file).load()
    assert set(ticket) == {"layer", "code", "output", "traceback", "snapshot"}
    assert ticket["layer"].endswith("applications/contract/controllers/default.py")
    assert ticket["output"] == "<class 'ValueError'> failed on purpose"
    assert "ValueError: failed on purpose" in ticket["traceback"]
    assert all(isinstance(ticket[name], str) for name in ("layer", "code", "output", "traceback"))
    assert isinstance(ticket["snapshot"], dict)


def test_the_password_file_of_the_port_has_the_hash_our_filter_writes(site):
    text = (site.root / f"parameters_{site.port}.py").read_text()
    found = re.fullmatch(r'password="pbkdf2\((\d+),(\d+),sha512\)\$([0-9a-f]+)\$([0-9a-f]+)"\n', text)
    iterations, length, salt, digest = found.groups()
    assert (
        hashlib.pbkdf2_hmac("sha512", site.password.encode(), salt.encode(), int(iterations), int(length)).hex()
        == digest
    )


def test_the_server_leaves_its_process_id_and_a_log(site):
    site.ask("/contract/default/index")
    assert int((site.root / "contract.pid").read_text()) == site.process.pid
    assert "/contract/default/index" in (site.root / "contract.log").read_text()


def test_the_wsgi_handler_serves_from_the_root(site):
    shutil.copy(site.root / "handlers" / "wsgihandler.py", site.root)
    called = run(site, "-c", WSGI_CALL)
    assert called.returncode == 0, called.stderr
    answer = json.loads(called.stdout.splitlines()[-1])
    assert answer["status"] == ["200 OK"]
    assert answer["body"]["client"] == "192.0.2.7"
    assert answer["body"]["is_https"] is True
    assert answer["body"]["args"] == ["one"]


def test_the_runtime_package_serves_it(site, tmp_path):
    """The layout on a web host: code in a release, everything that changes in a root of its own."""
    application = tmp_path / "applications" / "contract"
    shutil.copytree(site.application / "controllers", application / "controllers")
    settings = tmp_path / "runtime.json"
    settings.write_text(json.dumps({"root": str(tmp_path), "framework": str(site.root)}))
    called = run(site, "-c", RUNTIME_CALL, str(settings), str(SHARED), env=os.environ | {"PYTHONPATH": str(RUNTIME)})
    assert called.returncode == 0, called.stderr
    assert called.stdout.splitlines()[-1] == "index of the contract"
    assert (application / "errors").is_dir()


def test_a_password_is_compared_with_its_hash_in_one_place(site):
    """Where the runtime package counts those of the administration."""
    called = run(site, "-c", PASSWORD_CALL)
    assert called.stdout.splitlines()[-1:] == ["True False True"], called.stderr


def test_the_shell_runs_a_script_with_models_and_arguments(site, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(request.application, greeting, sys.argv[1:])\nsys.exit(7)\n")
    ended = run(site, "web2py.py", "--no_banner", "-S", "contract", "-M", "-R", str(script), "-A", "one", "two")
    assert "contract set by the model ['one', 'two']" in ended.stdout
    assert ended.returncode == 7


def test_the_shell_ends_well_although_the_script_failed(site, tmp_path):
    """Why a task must make its script tell success in another way."""
    script = tmp_path / "script.py"
    script.write_text("raise LookupError('script failed')\n")
    ended = run(site, "web2py.py", "--no_banner", "-S", "contract", "-R", str(script))
    assert "script failed" in ended.stdout + ended.stderr
    assert ended.returncode == 0
