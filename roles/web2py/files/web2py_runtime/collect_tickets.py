# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Move the tickets of all applications of this host into the database, as web2py-tickets.service does."""

from __future__ import annotations

import sys

from web2py_runtime.tickets.collect import collect_all
from web2py_runtime.tickets.storage import DATA, SETTINGS, applications


def main() -> int:
    done, failed = collect_all(applications(SETTINGS, DATA))
    for name, outcomes in done.items():
        if outcomes:
            print(f"{name}: " + ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items())))
    for name, error in failed.items():
        print(f"{name}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
