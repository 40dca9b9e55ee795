# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The framework's package; like web2py it brings its other packages along."""

import importlib
import os
import sys

for _package in ("pydal", "yatl", "rocket3"):
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "packages", _package))
    importlib.import_module(_package)
