"""What keeps writers apart where a lock can be lost: a row that every writer's transaction updates.

Of two such transactions beside each other the engine commits one: it refuses to update, or to delete, what another one
has changed since. So a window is never loaded twice, however the lock was lost, and a lock only spares the work.
"""

from __future__ import annotations

from duckdb import DuckDBPyConnection

from fullstory_dagster.errors import PermanentError
from fullstory_dagster.store.database import transaction
from fullstory_dagster.store.tables import table

FENCE = "_fullstory_writers"
_TABLE = table("main", FENCE)


def ensure_fence(connection: DuckDBPyConnection) -> bool:
    """Make the row in the present catalog if it is not there; whether that had to be done."""
    if connection.execute(
        "SELECT 1 FROM duckdb_tables() "
        "WHERE database_name = current_database() AND schema_name = 'main' AND table_name = ?",
        [FENCE],
    ).fetchone():
        return False
    with transaction(connection):
        connection.execute(f"CREATE TABLE {_TABLE} (n_commits BIGINT NOT NULL)")
        connection.execute(f"INSERT INTO {_TABLE} VALUES (0)")
    return True


def raise_fence(connection: DuckDBPyConnection) -> None:
    """Update the row in the open transaction.

    Raises:
        PermanentError: somebody has deleted or doubled it.
    """
    updated = connection.execute(f"UPDATE {_TABLE} SET n_commits = n_commits + 1").fetchone()
    if updated != (1,):
        raise PermanentError(
            f"Nothing was changed: the table {_TABLE}, which keeps writers apart, must have one row and has not. Set "
            f"it right: DELETE FROM {_TABLE}; INSERT INTO {_TABLE} VALUES (0)",
            setting="FULLSTORY_WAREHOUSE",
        )
