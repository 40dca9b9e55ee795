# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of the command line that deployments use."""

import argparse
import os
import sys
import traceback

from gluon.globals import Request, Response, Session
from gluon.main import HttpServer, build_environment, run_models_in
from gluon.settings import global_settings
from gluon.version import VERSION


def start():
    parser = argparse.ArgumentParser(prog="web2py.py")
    parser.add_argument("--version", action="version", version=VERSION)
    parser.add_argument("--no_banner", action="store_true")
    parser.add_argument("--no_gui", action="store_true")
    parser.add_argument("-Q", "--quiet", action="store_true")
    parser.add_argument("-S", "--shell", metavar="APPLICATION")
    parser.add_argument("-M", "--import_models", action="store_true")
    parser.add_argument("-R", "--run", metavar="PYTHON_FILE")
    parser.add_argument("-A", "--args", nargs=argparse.REMAINDER, default=[])
    parser.add_argument("-a", "--password")
    parser.add_argument("-i", "--ip", default="127.0.0.1")
    parser.add_argument("-p", "--port", type=int, default=8000)
    parser.add_argument("-d", "--pid_filename", default="httpserver.pid")
    parser.add_argument("-l", "--log_filename", default="httpserver.log")
    options = parser.parse_args()
    if not options.no_banner:
        print(f"a stand-in for web2py, version {VERSION}", flush=True)
    if options.shell:
        run_script(options)
        return
    if options.password is None:
        parser.error("give a password with -a, or -a '<recycle>' to use that of the last start")
    HttpServer(options.ip, options.port, options.password, options.pid_filename, options.log_filename).start()


def run_script(options):
    request = Request({})
    request.application = options.shell
    request.folder = os.path.join(global_settings.applications_parent, "applications", options.shell, "")
    environment = build_environment(request, Response(), Session())
    if options.import_models:
        run_models_in(environment)
    sys.argv = [options.run, *options.args]
    with open(options.run) as file:
        code = compile(file.read(), options.run, "exec")
    try:
        exec(code, environment)  # noqa: S102
    except Exception:
        # Only told: as with web2py, a failed script does not show in the exit status.
        print(traceback.format_exc())
