# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What holds for the whole process."""

import os

from gluon.storage import Storage
from gluon.version import VERSION

global_settings = Storage(web2py_version=VERSION)
global_settings.gluon_parent = os.environ.get("web2py_path", os.getcwd())  # noqa: SIM112
global_settings.applications_parent = global_settings.gluon_parent
