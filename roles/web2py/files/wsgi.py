# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The WSGI script of mod_wsgi and uWSGI; its modification time is what makes them load the code again."""

import os
import sys

# mod_wsgi leaves the folder of its script out of the module path. The link to it may be switched while this process
# lives.
sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))

from web2py_runtime.handler import make_application

application = make_application(os.environ.get("WEB2PY_RUNTIME_CONFIG", "/etc/web2py/runtime.json"))
