# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""web2py's admin application reads tickets from the database into which they are collected.

admin connects to what an application's `private/ticket_storage.txt` says. The deployment writes there which settings
file has the connection: the password stays in that file, and admin never changes tables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from web2py_runtime.application import load_settings
from web2py_runtime.tickets import storage as tickets

MARK = "web2py.deployment:"


def storage_dal(dal: Callable[..., Any]) -> Callable[..., Any]:
    """`DAL` for admin's controllers; every connection string of others is as it was."""

    def connect(uri: str, *arguments: Any, **options: Any) -> Any:
        if not uri.startswith(MARK):
            return dal(uri, *arguments, **options)
        settings = load_settings(uri[len(MARK) :])
        storage = settings["tickets"]
        # Somebody may look before anything was collected.
        with tickets.connect(storage["database"]) as database:
            database.prepare(settings["application"])
        return dal(
            storage["uri"],
            folder=storage.get("folder"),
            decode_credentials=True,
            driver_args=dict(storage["driver_args"]),
            attempts=1,
            migrate_enabled=False,
        )

    return connect
