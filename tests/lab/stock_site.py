# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""web2py as the book and common how-tos set it up, beside the deployed site on the same machine, to show its holes."""

from __future__ import annotations

PORT = 8088
ROOT = "/srv/usual"
# Other spellings, which web2py decodes and a web server's rule does not recognize.
ADMIN = ("/%2561dmin/default/index", "/admin%5cdefault%5cindex", "/admin%255cdefault%255cindex")
APPADMIN = ("/welcome/%2561ppadmin/index", "/welcome%5cappadmin%5cindex")


def make_root(host) -> None:
    """A web2py root of its own with the stock handler, which the server may write."""
    host.check_output(
        f"mkdir -p {ROOT} && cd {ROOT} && for n in gluon handlers scripts web2py.py; do "
        "ln -sfn /opt/web2py/current/$n $n; done && cp handlers/wsgihandler.py . && "
        "cp -rL /var/lib/web2py/applications . && for port in 8000 8001; do "
        "cp /var/lib/web2py/parameters_8001.py parameters_$port.py; done && chown -R web2py: . && chmod -R go+rX ."
    )


def start(host, unit: str, command: str) -> None:
    host.check_output(
        f"systemd-run --quiet --collect --unit={unit} --uid=web2py --gid=web2py --working-directory={ROOT} "
        f"--setenv=LANG=C.UTF-8 --setenv=PYTHONDONTWRITEBYTECODE=1 {command}"
    )


def remove_root(host) -> None:
    host.check_output(f"rm -r {ROOT}")
