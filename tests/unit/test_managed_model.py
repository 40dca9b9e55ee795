# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The model that connects an application to its database, sessions, uploads and cache."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from ansible_collections.web2py.deployment.plugins.plugin_utils import source
from hypothesis import given
from hypothesis import strategies as st

SETTINGS = "/etc/web2py/applications/shop.json"
MODEL = "models/000_web2py_deployment.py"


def tree(*names):
    return source.Tree("shop.zip", {name: source.Entry.of(name.encode()) for name in names})


def test_it_is_the_only_change():
    before = tree("controllers/default.py", "models/db.py", "models/menu.py", "static/x")
    after = source.with_model(before, SETTINGS)
    assert set(after.entries) - set(before.entries) == {MODEL}
    assert {name: after.entries[name] for name in before.entries} == before.entries
    assert MODEL not in before.entries, "the tree that was given stays as it was"
    assert after.origin == before.origin


def test_the_same_settings_file_gives_the_same_release_and_another_another():
    application = tree("controllers/default.py")
    one, again, other = (
        source.with_model(application, path).digest() for path in (SETTINGS, SETTINGS, "/etc/other.json")
    )
    assert one == again != other


@given(st.text(min_size=1))
def test_it_hands_over_what_web2py_gives_to_models(path):
    """Run as web2py runs a model, with a runtime package that says what it was asked."""
    asked = []
    runtime = ModuleType("web2py_runtime.application")
    runtime.configure = lambda *arguments: asked.append(arguments) or {"db": "the database"}
    names = {"request": 1, "response": 2, "session": 3, "cache": 4}
    code = source.with_model(tree("controllers/default.py"), path).entries[MODEL].read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", ["somewhere", *sys.path])
        patch.setitem(sys.modules, "web2py_runtime", ModuleType("web2py_runtime"))
        patch.setitem(sys.modules, "web2py_runtime.application", runtime)
        exec(compile(code, MODEL, "exec"), names)  # noqa: S102
        exec(compile(code, MODEL, "exec"), names)  # noqa: S102
        assert sys.path[0] == "somewhere" and sys.path.count("/opt/web2py/runtime") == 1
    assert asked == [(path, 1, 2, 3, 4)] * 2
    assert names["db"] == "the database"


@pytest.mark.parametrize("name", ["models/0.py", "models/000_a.py", "models/000_web2py_deployment.py", "models/00.py"])
def test_a_model_that_would_run_before_it_is_refused(name):
    with pytest.raises(source.SourceError) as caught:
        source.with_model(tree("controllers/default.py", "models/db.py", name), SETTINGS)
    assert f"shop.zip: {name} would run before {MODEL}" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["models/000_x.py", "models/001_a.py", "models/_a.py", "models/A.py", "models/default/0.py", "models/0.txt"]
)
def test_what_runs_after_it_or_is_no_model_stays(name):
    assert source.with_model(tree("controllers/default.py", name), SETTINGS).has(name)


def test_a_compiled_application_is_refused():
    compiled = tree("compiled/controllers.default.index.pyc", "controllers/default.py")
    with pytest.raises(source.SourceError, match=r"shop\.zip is compiled.*deploy the source"):
        source.with_model(compiled, SETTINGS)
