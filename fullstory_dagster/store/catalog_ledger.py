"""Who may ask FullStory when, kept in the lake's catalog: the rate limit is the account's, whatever host asks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from fullstory_dagster.errors import RateLimitedError
from fullstory_dagster.store.postgres import CatalogServer

if TYPE_CHECKING:
    from psycopg import Connection

T = TypeVar("T")

_TABLE = "fullstory_rate_limit"
_LOCK_WAIT_S = 60


class CatalogLedger:
    """A row an account in the catalog's database; what ``api.Ledger`` asks for.

    Args:
        server: of the catalog. Its clock is the one that all hosts go by.
    """

    def __init__(self, server: CatalogServer) -> None:
        self._server = server

    def update(self, account: str, change: Callable[[str, float], tuple[str, T]]) -> T:
        """Change the note of an account, with everybody else shut out.

        Args:
            account: a name.
            change: takes what is noted and the time, Unix seconds; gives what is to be noted, and a result.

        Returns:
            The result.

        Raises:
            RateLimitedError: somebody held the row for more than a minute.
            WarehouseUnreachableError: PostgreSQL does not answer.
        """
        import psycopg

        with self._server.connected() as connection:
            connection.execute("SELECT set_config('lock_timeout', %s, false)", [f"{_LOCK_WAIT_S}s"])
            try:
                _ensure_table(connection)
                connection.execute(f"INSERT INTO {_TABLE} VALUES (%s, '') ON CONFLICT DO NOTHING", [account])
                with connection.transaction():
                    row = connection.execute(
                        f"SELECT noted FROM {_TABLE} WHERE account = %s FOR UPDATE", [account]
                    ).fetchone()
                    # Only now: before, the row may have been waited for.
                    time = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
                    noted, result = change(row[0] if row else "", time[0] if time else 0.0)
                    connection.execute(f"UPDATE {_TABLE} SET noted = %s WHERE account = %s", [noted, account])
            except psycopg.errors.LockNotAvailable:
                raise RateLimitedError(
                    f"Another process has held FullStory's rate limit in the catalog {self._server.catalog} for "
                    f"{_LOCK_WAIT_S} s; end that process if it hangs."
                ) from None
        return result


def _ensure_table(connection: Connection[Any]) -> None:
    if connection.execute("SELECT to_regclass(%s)", [_TABLE]).fetchone() != (None,):
        return
    with connection.transaction():
        # PostgreSQL's IF NOT EXISTS fails for all but one of those who create at the same moment.
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", [_TABLE])
        connection.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE} (account text PRIMARY KEY, noted text NOT NULL)")
