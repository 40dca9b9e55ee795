# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Versions of the application, for all tests of this scenario."""

from __future__ import annotations

import shutil

import pytest
from visitors import COUNTER


@pytest.fixture(scope="session")
def workshop(tmp_path_factory):
    """Where versions of the application are made."""
    return tmp_path_factory.mktemp("versions")


@pytest.fixture
def version(workshop):
    def make(name: str, **files: str) -> dict:
        """Variables of a site with this version of the application, with other text in some of its files."""
        folder = workshop / "counter" / name
        if not folder.exists():
            shutil.copytree(COUNTER, folder)
            for path in ("models/version.py", "modules/loaded.py"):
                (folder / path).write_text((folder / path).read_text().replace('"v1"', f'"{name}"'))
            for path, text in files.items():
                with open(folder / path, "a") as stream:
                    stream.write(text)
        application = {"name": "counter", "source": {"path": str(folder)}, "database": {}, "sessions": "database"}
        return {"web2py_applications": [application]}

    return make
