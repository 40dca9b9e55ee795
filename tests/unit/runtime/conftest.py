# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
# As on a web host, where the package lies beside its entry script and has what the modules of the collection share.
sys.path[:0] = [str(REPOSITORY / "roles" / "web2py" / "files"), str(Path(__file__).parent)]

import web2py_runtime  # noqa: E402

web2py_runtime.__path__.append(str(REPOSITORY / "plugins" / "module_utils"))


@pytest.fixture(scope="session", params=[False, True], ids=["release", "head"])
def web2py(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the Python files of each web2py that the lab has."""
    from ansible_collections.web2py.deployment.plugins.plugin_utils import source

    lab = pytest.importorskip("lab", reason="ansible-test does not know the lab")
    tree, _version = source.framework(source.read_path(str(lab.web2py(head=request.param).path)))
    if "gluon/packages/pydal/pydal/adapters/sqlite.py" not in tree.entries:
        pytest.skip("the stand-in has no pydal")
    folder = tmp_path_factory.mktemp("web2py")
    for name, entry in tree.entries.items():
        if name.startswith("gluon/") and name.endswith(".py"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(entry.read())
    return folder
