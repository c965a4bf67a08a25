"""A DuckDB file with hand-made events, and dbt run on it: what the tests of the dbt project share."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt_common.events.event_manager_client import get_event_manager

from fullstory_dagster.store.database import Database
from fullstory_dagster.store.tables import create_tables

PROJECT = Path(__file__).parents[2] / "dbt_project"
SCHEMA = "fullstory"
DAY_1 = datetime(2026, 1, 1)  # noqa: DTZ001 - the warehouse's timestamps are UTC without zone
MARTS = {
    "sessions": "session_key",
    "page_durations": "page_instance_key",
    "session_timeline": "event_id",
    "custom_events": "event_id",
    "error_events": "event_id",
    "forms": "form_key",
    "frustration_signals": "signal_key",
    "funnel_steps": "step_key",
    "requests": "event_id",
    "web_vitals": "vital_key",
}
"""Tables that are built window by window, and their keys."""

VIEWS = {
    "daily_metrics": "metric_date, dimension, dimension_value",
    "devices": "user_id",
    "errors": "fingerprint",
    "funnels": "funnel, week_start_date, device, step_number",
    "identities": "user_id",
    "pages_daily": "page_date, page",
    "users": "person_key",
}
"""Views over those, and their keys."""

Event = dict[str, Any]


def day(number: int) -> datetime:
    """Start of the window of the given day; 1 is the first."""
    return DAY_1 + timedelta(days=number - 1)


def event(
    event_id: str, start: datetime, *, user: int = 1, session: int = 9, kind: str = "click", **fields: Any
) -> Event:
    """One event under FullStory's names; what is not given is NULL."""
    return {
        "_event_id": event_id,
        "UserId": user,
        "SessionId": session,
        "EventStart": start,
        "EventType": kind,
        **fields,
    }


class TestWarehouse:
    """A warehouse, in a file or elsewhere, as the loader leaves it."""

    __test__ = False

    def __init__(self, path: Path, database: Database | None = None) -> None:
        self.path = path
        self.database = database
        self._has_views = False
        with self.connect() as connection:
            create_tables(connection, SCHEMA)

    @contextmanager
    def connect(self) -> Iterator[duckdb.DuckDBPyConnection]:
        connection = self.database.connect(read_only=False) if self.database else duckdb.connect(str(self.path))
        try:
            yield connection
        finally:
            connection.close()

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(sql).fetchall()

    def load(self, window_start: datetime, events: Iterable[Event]) -> None:
        """Replace one window's rows and write the line of the load, in one transaction, as the loader does."""
        window_end = window_start + timedelta(days=1)
        rows = [row for row in events if window_start <= row["EventStart"] < window_end]
        with self.connect() as connection:
            connection.begin()
            [(load_id,)] = connection.execute(f"SELECT coalesce(max(load_id), 0) + 1 FROM {SCHEMA}._loads").fetchall()
            connection.execute(f"DELETE FROM {SCHEMA}.events WHERE _window_start = ?", [window_start])
            for row in rows:
                stored = {
                    **row,
                    "_window_start": window_start,
                    "_window_end": window_end,
                    "_loaded_at": window_end,
                    "_load_id": load_id,
                }
                _insert(connection, "events", stored)
            counts = dict.fromkeys(
                ("rows_rejected", "rows_outside", "rows_duplicate", "rows_forgotten", "rows_expired", "values_misfit"),
                0,
            )
            load = {
                "load_id": load_id,
                "window_start": window_start,
                "window_end": window_end,
                "api": "segment",
                "rows_in": len(rows),
                "rows_kept": len(rows),
                "loaded_at": window_end,
                **counts,
            }
            _insert(connection, "_loads", load)
            connection.commit()

    def dbt(self, *arguments: str) -> dbtRunnerResult:
        """Run dbt in this process; any warning of dbt's own is an error."""
        try:
            return dbtRunner().invoke(
                ["--quiet", "--warn-error", *arguments, "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
            )
        finally:
            # dbt keeps the file open, and with it the lock, for the next invocation.
            DuckDBConnectionManager.close_all_connections()
            _close_log()

    def build(self, *arguments: str) -> None:
        """Build the models (their data and unit tests run once, in a test of their own).

        Views are made by the first build: they hold whatever their tables do, and cost a quarter of a build.
        """
        is_whole = arguments in ((), ("--full-refresh",))
        only_tables = ("--exclude", "config.materialized:view") if is_whole and self._has_views else ()
        result = self.dbt("run", *arguments, *only_tables)
        self._has_views |= is_whole and bool(result.success)
        assert result.success, result.exception or [(r.node.name, r.message) for r in result.result]

    def mart(self, name: str) -> list[dict[str, Any]]:
        with self.connect() as connection:
            cursor = connection.execute(f"SELECT * FROM {SCHEMA}.{name} ORDER BY {(MARTS | VIEWS)[name]}")
            columns = [column[0] for column in cursor.description]
            return [dict(zip(columns, row, strict=True)) for row in cursor.fetchall()]

    def marts(self) -> dict[str, list[dict[str, Any]]]:
        return {name: self.mart(name) for name in MARTS | VIEWS}

    def marks(self) -> dict[str, int]:
        """Up to which load each model holds everything."""
        return dict(self.execute(f"SELECT model, max(load_id) FROM {SCHEMA}._builds GROUP BY model"))


def _close_log() -> None:
    # dbt leaves its log open to the garbage collector, which warns in whichever test it happens to run.
    for logger in get_event_manager().loggers:
        for handler in logger._python_logger.handlers if logger._python_logger else ():
            if isinstance(handler, logging.FileHandler):
                handler.close()


def _insert(connection: duckdb.DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    names = ", ".join(f'"{name}"' for name in row)
    places = ", ".join("?" for _ in row)
    connection.execute(f"INSERT INTO {SCHEMA}.{table} ({names}) VALUES ({places})", list(row.values()))
