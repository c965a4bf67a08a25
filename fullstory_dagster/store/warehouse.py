"""The warehouse: the loader's tables in a database, and the one way in which a window's rows get there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import duckdb
from duckdb import DuckDBPyConnection

from fullstory_dagster.errors import WarehouseMismatchError, WindowShrankError
from fullstory_dagster.store.bundles import StoredBundle
from fullstory_dagster.store.database import NOT_CHANGED, Database, aware, naive, transaction
from fullstory_dagster.store.dataset import ParsedWindow
from fullstory_dagster.store.tables import (
    EVENTS,
    LOAD_COLUMNS,
    LOADS,
    REJECTED,
    quote,
    quote_text,
    table,
)
from fullstory_dagster.store.upgrade import Promote, is_up_to_date, refuse_newer, upgrade_tables
from fullstory_dagster.windows import Window

T = TypeVar("T")

_CONFLICTS = 5
"""How often a transaction is tried while other writers are first; with the lock held there should be none."""
_CONFLICT_WAIT_S = 0.2

Query = Callable[..., list[dict[str, Any]]]
"""Takes SQL and its parameters by name, gives rows by column name."""


@dataclass(frozen=True)
class Load:
    """A line of ``_loads``. Times are naive UTC, as in the table; see ``store.tables`` for the columns."""

    load_id: int
    window: Window
    api: str
    export_id: str
    bundle_bytes: int
    rows_in: int
    rows_kept: int
    rows_rejected: int
    rows_outside: int
    rows_duplicate: int
    rows_forgotten: int
    rows_expired: int
    values_misfit: int
    min_event_start_at: datetime | None
    max_event_start_at: datetime | None
    requested_at: datetime
    received_at: datetime
    loaded_at: datetime
    fetch_s: float
    parse_s: float
    append_s: float
    settings: dict[str, Any]
    dagster_run_id: str | None

    @property
    def is_settled(self) -> bool:
        """Whether the export was asked for late enough to stay as it is."""
        return self.requested_at >= naive(self.window.settled_at)

    @property
    def is_whole(self) -> bool:
        """Whether every row that came in is accounted for."""
        taken_out = self.rows_forgotten + self.rows_expired
        return self.rows_in == self.rows_kept + self.rows_rejected + self.rows_outside + self.rows_duplicate + taken_out


class Warehouse:
    """The loader's tables in a database.

    Attributes:
        database: a file, a lake, or whatever else can do what :class:`Database` says.
        schema: of every table.
        promote: fills columns that an older version of this project did not have.
    """

    def __init__(
        self,
        database: Database,
        schema: str,
        *,
        load_memory_limit: str | None = None,
        promote: Promote | None = None,
    ) -> None:
        self.database = database
        self.promote = promote
        self.schema = schema
        self._load_memory_limit = load_memory_limit

    @contextmanager
    def writing(self, failed: str = NOT_CHANGED) -> Iterator[DuckDBPyConnection]:
        """A connection that may write; its tables are there and up to date. Closed on the way out, whatever happened.

        Args:
            failed: what did not happen if DuckDB or the disk fails, as a sentence.

        Raises:
            WarehouseLockedError: somebody else held the warehouse for too long.
            DiskFullError: the disk is full; what was not committed is undone.
            StoreTooNewError: a newer version of this project made the tables.
        """
        with self.database.locked():
            connection = self.database.connect(read_only=False)
            try:
                if upgrade_tables(connection, self.schema, self.promote):
                    self.database.arrange(connection, self.schema)
                yield connection
            except duckdb.Error as error:
                raise self.database.error_of(error, failed) from error
            finally:
                connection.close()

    def change(self, work: Callable[[DuckDBPyConnection], T], failed: str = NOT_CHANGED) -> T:
        """Do something in one transaction; the whole of it again if another writer was first.

        Args:
            work: given a connection in the open transaction; done more than once, it has to begin anew each time.
            failed: as for :meth:`writing`.

        Raises:
            WarehouseLockedError: somebody else held the warehouse for too long, or was first too often.
        """
        for attempt in range(1, _CONFLICTS + 1):
            with self.writing(failed) as connection:
                try:
                    with transaction(connection):
                        self.database.fence(connection)
                        done = work(connection)
                    return done
                except duckdb.Error as error:
                    if attempt == _CONFLICTS or not self.database.is_conflict(error):
                        raise
            time.sleep(_CONFLICT_WAIT_S * attempt)
        raise AssertionError("the last conflict is raised")

    @contextmanager
    def reading(self) -> Iterator[DuckDBPyConnection | None]:
        """A read-only connection, None while there is no warehouse yet. Keep it short: on a file it shuts writers out.

        Raises:
            WarehouseLockedError: as for :meth:`writing`.
            StoreTooNewError: as for :meth:`writing`.
        """
        with self._opened() as connection:
            if connection is None or not self._has_tables(connection):
                yield None
                return
            refuse_newer(connection, self.schema)
            if is_up_to_date(connection, self.schema):
                yield connection
                return
        with self.writing():
            pass  # brings the tables up to date
        with self._opened() as connection:
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[DuckDBPyConnection | None]:
        if not self.database.exists:
            yield None
            return
        with self.database.shared():
            connection = self.database.connect(read_only=True)
            try:
                yield connection
            except duckdb.Error as error:
                raise self.database.error_of(error) from error
            finally:
                connection.close()

    def replace_windows(
        self,
        windows: Sequence[tuple[ParsedWindow, StoredBundle]],
        *,
        loaded_at: datetime,
        dagster_run_id: str | None = None,
        min_rows_pct: int = 0,
    ) -> list[Load | WindowShrankError]:
        """Replace the rows and rejects of windows and add their lines to the load log, all in one transaction.

        Small windows are cheaper together: DuckDB writes a row group of theirs once, and not again for every window.

        Args:
            windows: what the Parquet file holds, and what it was made from.
            loaded_at: aware UTC.
            dagster_run_id: the run that does it, if one does.
            min_rows_pct: of the rows FullStory sent for the load that is replaced, how many it has to send now, %.

        Returns:
            list: of each window its load, or the error of one that came back with too few rows; it keeps those it had.

        Raises:
            WarehouseMismatchError: the warehouse holds windows of another length; nothing was changed, as with all
                other errors.
            WarehouseLockedError: somebody else held the warehouse for too long.
        """
        named = f"window {windows[0][0].window} was" if len(windows) == 1 else f"{len(windows)} windows were"

        def replace(connection: DuckDBPyConnection) -> list[Load | WindowShrankError]:
            if self._load_memory_limit:
                connection.execute("SET memory_limit = ?", [self._load_memory_limit])
            # Threads then write row groups side by side, each of its own part of the file, which is a short time still.
            connection.execute("SET preserve_insertion_order = false")
            # To hold row groups back, and write several together, costs a tenth more.
            connection.execute("SET write_buffer_row_group_count = 1")
            return [
                self._replace_window(connection, parsed, bundle, loaded_at, dagster_run_id, min_rows_pct)
                for parsed, bundle in windows
            ]

        return self.change(replace, f"The {named} not loaded")

    def _replace_window(
        self,
        connection: DuckDBPyConnection,
        parsed: ParsedWindow,
        bundle: StoredBundle,
        loaded_at: datetime,
        dagster_run_id: str | None,
        min_rows_pct: int,
    ) -> Load | WindowShrankError:
        started = time.perf_counter()
        self._refuse_other_window_length(connection, parsed.window)
        if shrank := self._shrank(connection, parsed, min_rows_pct):
            return shrank
        load_id = self._next_load_id(connection)
        self._delete_window(connection, parsed.window)
        n_inserted = self._insert_events(connection, parsed, load_id, loaded_at)
        self._insert_rejects(connection, parsed, load_id)
        values = {
            "load_id": load_id,
            "window_start": naive(parsed.window.start),
            "window_end": naive(parsed.window.end),
            "api": bundle.api,
            "export_id": bundle.export_id,
            "bundle_bytes": bundle.bytes,
            "bundle_sha256": bundle.sha256,
            "rows_in": parsed.rows_in,
            "rows_kept": n_inserted,
            "rows_rejected": parsed.rows_rejected,
            "rows_outside": parsed.rows_outside,
            "rows_duplicate": parsed.rows_kept - n_inserted,
            "rows_forgotten": parsed.rows_forgotten,
            "rows_expired": 0,
            "values_misfit": parsed.values_misfit,
            "min_event_start_at": parsed.min_event_start_at,
            "max_event_start_at": parsed.max_event_start_at,
            "requested_at": naive(bundle.requested_at),
            "received_at": naive(bundle.received_at),
            "loaded_at": naive(loaded_at),
            "fetch_s": bundle.fetch_s,
            "parse_s": parsed.parse_s,
            "append_s": time.perf_counter() - started,
            "settings": json.dumps(parsed.shaping),
            "dagster_run_id": dagster_run_id,
        }
        columns = ", ".join(map(quote, LOAD_COLUMNS))
        marks = ", ".join("?" for _ in LOAD_COLUMNS)
        connection.execute(
            f"INSERT INTO {table(self.schema, LOADS)} ({columns}) VALUES ({marks})",
            [values[column] for column in LOAD_COLUMNS],
        )
        (load,) = self._loads(connection, "WHERE load_id = ?", [load_id])
        return load

    def current_loads(self) -> dict[Window, Load]:
        """The latest load of every window that was ever loaded, oldest window first."""
        latest = "QUALIFY row_number() OVER (PARTITION BY window_start ORDER BY load_id DESC) = 1 ORDER BY window_start"
        with self.reading() as connection:
            return {} if connection is None else {load.window: load for load in self._loads(connection, latest, [])}

    def built_up_to(self) -> dict[str, int]:
        """For every dbt model that was ever built, the last load it holds."""
        with self.reading() as connection:
            if connection is None:
                return {}
            rows = connection.execute(
                f"SELECT model, max(load_id) FROM {table(self.schema, '_builds')} GROUP BY model"
            ).fetchall()
            return dict(rows)

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a short read-only query, by column name; none while there is no warehouse.

        Raises:
            WarehouseLockedError: as for :meth:`reading`.
        """
        with self.querying() as query:
            return query(sql, parameters)

    @contextmanager
    def querying(self) -> Iterator[Query]:
        """:meth:`query` for several queries that are to see the same rows; writers wait meanwhile.

        Raises:
            WarehouseLockedError: as for :meth:`reading`.
        """
        with self.reading() as connection:

            def query(sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
                if connection is None:
                    return []
                result = connection.execute(sql, parameters or {})
                names = [column[0] for column in result.description or ()]
                return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

            yield query

    def _loads(self, connection: DuckDBPyConnection, clause: str, parameters: list[Any]) -> list[Load]:
        names = [name for name in LOAD_COLUMNS if name not in ("bundle_sha256",)]
        rows = connection.execute(
            f"SELECT {', '.join(map(quote, names))} FROM {table(self.schema, LOADS)} {clause}", parameters
        ).fetchall()
        loads = []
        for row in rows:
            values = dict(zip(names, row, strict=True))
            window = Window(aware(values.pop("window_start")), aware(values.pop("window_end")))
            settings = json.loads(values.pop("settings") or "{}")
            # A line that a version without the column wrote.
            values["rows_expired"] = values["rows_expired"] or 0
            loads.append(Load(window=window, settings=settings, **values))
        return loads

    def _has_tables(self, connection: DuckDBPyConnection) -> bool:
        found = connection.execute(
            "SELECT 1 FROM information_schema.tables WHERE table_schema = ? AND table_name = ?", [self.schema, LOADS]
        ).fetchone()
        return found is not None

    def _refuse_other_window_length(self, connection: DuckDBPyConnection, window: Window) -> None:
        other = connection.execute(
            f"SELECT window_end - window_start, min(window_start) FROM {table(self.schema, LOADS)} "
            "WHERE window_end - window_start <> ? GROUP BY ALL LIMIT 1",
            [window.end - window.start],
        ).fetchone()
        if other:
            raise WarehouseMismatchError(
                f"The window {window} was not loaded: the warehouse holds windows of {_hours(other[0])} h since "
                f"{other[1]:%Y-%m-%d}, and FULLSTORY_BUNDLE_HOURS now says {_hours(window.end - window.start)}. Set it "
                "back, or load into another FULLSTORY_SCHEMA with another FULLSTORY_STORE_URL.",
                setting="FULLSTORY_BUNDLE_HOURS",
            )

    def _shrank(
        self, connection: DuckDBPyConnection, parsed: ParsedWindow, min_rows_pct: int
    ) -> WindowShrankError | None:
        before = connection.execute(
            f"SELECT rows_in FROM {table(self.schema, LOADS)} WHERE window_start = ? ORDER BY load_id DESC LIMIT 1",
            [naive(parsed.window.start)],
        ).fetchone()
        if not before or parsed.rows_in * 100 >= before[0] * min_rows_pct:
            return None
        return WindowShrankError(
            f"The window {parsed.window} came back with {parsed.rows_in:,} rows, less than {min_rows_pct} % of the "
            f"{before[0]:,} it had (FULLSTORY_MIN_ROWS_PCT); the rows in the warehouse were kept. If the smaller "
            "number is right, run 'fullstory-dagster reset --allow-shrink' for this window.",
            rows_before=before[0],
            rows_now=parsed.rows_in,
        )

    def _next_load_id(self, connection: DuckDBPyConnection) -> int:
        row = connection.execute(f"SELECT coalesce(max(load_id), 0) + 1 FROM {table(self.schema, LOADS)}").fetchone()
        assert row is not None  # noqa: S101 (an aggregate gives a row)
        return int(row[0])

    def _delete_window(self, connection: DuckDBPyConnection, window: Window) -> None:
        start = naive(window.start)
        connection.execute(f"DELETE FROM {table(self.schema, EVENTS)} WHERE _window_start = ?", [start])
        connection.execute(f"DELETE FROM {table(self.schema, REJECTED)} WHERE window_start = ?", [start])

    def _insert_events(
        self, connection: DuckDBPyConnection, parsed: ParsedWindow, load_id: int, loaded_at: datetime
    ) -> int:
        events = table(self.schema, EVENTS)
        # An event that another window brought already has the same EventStart: the range keeps the search to row
        # groups of that time, however large the table is.
        bounds = [naive(parsed.window.start), naive(parsed.window.end)]
        overlap = f"SELECT 1 FROM {events} e WHERE e.EventStart >= ? AND e.EventStart < ?"
        # Next to always there is none, and to join with nothing costs a third of the insert.
        is_alone = connection.execute(f"{overlap} LIMIT 1", bounds).fetchone() is None
        row = connection.execute(
            f"INSERT INTO {events} BY NAME SELECT p.*, ? AS _loaded_at, ? AS _load_id "
            f"FROM read_parquet({quote_text(parsed.events_location)}, hive_partitioning = false) p "
            + ("" if is_alone else f"WHERE NOT EXISTS ({overlap} AND e._event_id = p._event_id)"),
            [naive(loaded_at), load_id, *([] if is_alone else bounds)],
        ).fetchone()
        return int(row[0]) if row else 0

    def _insert_rejects(self, connection: DuckDBPyConnection, parsed: ParsedWindow, load_id: int) -> None:
        if not parsed.rows_rejected:
            return
        connection.execute(
            f"INSERT INTO {table(self.schema, REJECTED)} "
            "SELECT ?, ?, export_id, position, reason, raw_text, raw_sha256 "
            f"FROM read_parquet({quote_text(parsed.rejects_location)}, hive_partitioning = false)",
            [naive(parsed.window.start), load_id],
        )


def _hours(length: timedelta) -> int:
    return int(length.total_seconds() // 3600)
