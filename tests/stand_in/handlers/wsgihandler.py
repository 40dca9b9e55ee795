# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The WSGI script that a deployment copies into web2py's root."""

import os
import sys

root = os.path.dirname(os.path.abspath(__file__))
os.chdir(root)
if not os.path.isdir("applications"):
    raise RuntimeError("this file belongs into web2py's root, beside the folder applications")
sys.path.insert(0, root)

from gluon.main import wsgibase as application  # noqa: E402, F401
