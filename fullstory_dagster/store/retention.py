"""Windows whose time is up: their rows go, and the load log says so."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from duckdb import DuckDBPyConnection

from fullstory_dagster.store.database import naive
from fullstory_dagster.store.tables import EVENTS, LOADS, REJECTED, table
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.windows import Window


def expire_windows(warehouse: Warehouse, windows: Sequence[Window], expired_at: datetime) -> None:
    """Delete the events and rejects of windows, and tell the load log, in one transaction.

    Each window gets a new line in ``_loads``, like the one before it but for the counts: what was kept or rejected is
    expired now. dbt sees a window it has not built, and takes out of the models what was made of it.

    Args:
        warehouse: which.
        windows: that are loaded.
        expired_at: aware UTC.

    Raises:
        WarehouseLockedError: somebody else held the file for too long.
    """
    schema = warehouse.schema

    def expire(connection: DuckDBPyConnection) -> None:
        loads = table(schema, LOADS)
        for window in windows:
            start = naive(window.start)
            connection.execute(f"DELETE FROM {table(schema, EVENTS)} WHERE _window_start = ?", [start])
            connection.execute(f"DELETE FROM {table(schema, REJECTED)} WHERE window_start = ?", [start])
            connection.execute(
                f"""
                INSERT INTO {loads} BY NAME
                SELECT * REPLACE (
                    (SELECT max(load_id) + 1 FROM {loads}) AS load_id,
                    0 AS rows_kept,
                    0 AS rows_rejected,
                    coalesce(rows_expired, 0) + rows_kept + rows_rejected AS rows_expired,
                    $expired_at AS loaded_at,
                    CAST(NULL AS VARCHAR) AS dagster_run_id
                )
                FROM {loads} WHERE window_start = $start ORDER BY load_id DESC LIMIT 1
                """,
                {"start": start, "expired_at": naive(expired_at)},
            )

    warehouse.change(expire, "The windows past FULLSTORY_KEEP_EVENTS_DAYS were not deleted")
