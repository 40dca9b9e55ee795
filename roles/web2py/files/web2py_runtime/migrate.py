# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring the tables of an application to what its models say: web2py.py -S <application> -M -R …/migrate.py

The models have run before this. It prints "migrated" when what is known of the tables has changed.
"""

import os
import sys
import traceback

from web2py_runtime.application import MIGRATE, known_tables

if os.environ.get(MIGRATE) != "1":
    sys.exit(f"set {MIGRATE}=1: only then the managed model lets tables change")

# web2py ends with 0 after an error in a script.
try:
    database = db  # noqa: F821 (a name of the models)
    # With lazy tables, the models have only named them.
    for name in list(database.tables):
        database[name]
    database.commit()
    changed = known_tables(database) != database.web2py_tables_before
except Exception:
    traceback.print_exc()
    sys.exit(1)
print("migrated" if changed else "nothing to migrate")
