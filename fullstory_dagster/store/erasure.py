"""Rows of erased people in the warehouse, and the file itself, whose free pages still hold them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from fullstory_dagster.disk import refuse_small_disk
from fullstory_dagster.errors import PermanentError
from fullstory_dagster.forgotten import CARRIER_COLUMNS, Carrier, Matcher, Names, normalized
from fullstory_dagster.store.bundles import StoredBundle
from fullstory_dagster.store.database import naive, transaction
from fullstory_dagster.store.objects import sync_folder
from fullstory_dagster.store.tables import EVENTS, LOADS, REJECTED, quote, quote_text, table
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.windows import Window

_FETCHED = 50_000
_FRESH = "_fullstory_rewritten"
IsRejectTheirs = Callable[[str | None, str, datetime], bool]
_WHOLE_NUMBERS = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT", "INTEGER", "UINTEGER")


@dataclass(frozen=True)
class ErasedFromWarehouse:
    """What was taken out.

    Attributes:
        events: rows of events.
        rejects: rows of ``_rejected``.
        windows: starts of the windows they were in, naive UTC; each has a new line in the load log.
    """

    events: int
    rejects: int
    windows: list[datetime]


def carriers(warehouse: Warehouse) -> Iterator[Carrier]:
    """What the rows of events say of whose they are, each once.

    Raises:
        WarehouseLockedError: somebody else held the file for too long.
    """
    with warehouse.reading() as connection:
        if connection is not None:
            yield from _carriers(connection, warehouse.schema)


def count_events(warehouse: Warehouse, matcher: Matcher) -> tuple[int, int]:
    """How many events are of erased people, and in how many windows.

    Raises:
        WarehouseLockedError: somebody else held the file for too long.
    """
    with warehouse.reading() as connection:
        if connection is None:
            return 0, 0
        _mark(connection, warehouse.schema, matcher)
        counted = _by_window(connection, warehouse.schema)
        return sum(counted.values()), len(counted)


def erase_rows(
    warehouse: Warehouse,
    matcher: Matcher,
    *,
    is_reject_theirs: IsRejectTheirs,
    bundles: Mapping[Window, StoredBundle],
    erased_at: datetime,
) -> ErasedFromWarehouse:
    """Delete the rows of erased people, and tell the load log, in one transaction.

    Each window that had such rows gets a new line in ``_loads``, like the one before it but for the counts: what was
    kept or rejected is forgotten now. dbt sees a window it has not built, and rebuilds its sessions.

    Args:
        warehouse: which.
        matcher: who was erased.
        is_reject_theirs: given the raw text of a reject, its hash and the start of its window, naive UTC.
        bundles: what is kept of the windows by now; the new lines tell its size and hash.
        erased_at: aware UTC.

    Raises:
        WarehouseLockedError: somebody else held the file for too long.
    """
    if not warehouse.exists:
        return ErasedFromWarehouse(0, 0, [])
    with warehouse.writing() as connection, transaction(connection):
        schema = warehouse.schema
        _mark(connection, schema, matcher)
        n_events = _by_window(connection, schema)
        connection.execute(f"DELETE FROM {table(schema, EVENTS)} AS e USING _theirs WHERE {_is_theirs('e')}")
        n_rejects = _delete_rejects(connection, schema, is_reject_theirs)
        windows = sorted({*n_events, *n_rejects})
        kept = {naive(window.start): bundle for window, bundle in bundles.items()}
        for start in windows:
            counts = (n_events.get(start, 0), n_rejects.get(start, 0))
            _log(connection, schema, start, *counts, kept.get(start), erased_at)
        connection.execute("DROP TABLE _theirs")
        connection.execute("DROP TABLE _others")
    return ErasedFromWarehouse(sum(n_events.values()), sum(n_rejects.values()), windows)


def rewrite_file(warehouse: Warehouse) -> int:
    """Copy everything into a fresh file and put it in the place of the old one, whose free pages hold deleted rows.

    Tables, views, macros, types and sequences of every schema come along. The old file stays until the copy is whole.

    Returns:
        int: bytes of the fresh file.

    Raises:
        WarehouseLockedError: somebody else held the file for too long.
        DiskFullError: there is no room for the copy.
        PermanentError: the copy is not the same; the old file is kept.
    """
    path = warehouse.path
    fresh = path.with_name(f".{path.name}.rewritten")
    if not path.exists():
        return 0
    with warehouse.writing() as connection:
        _remove(fresh)
        refuse_small_disk(path.parent, path.stat().st_size, f"Copying {path} so that no deleted row is left in it")
        try:
            connection.execute("CHECKPOINT")
            is_same = _copy(connection, fresh)
            # The lock beside the file is still held: nobody of ours opens the old one before the fresh one is there.
            connection.close()
            if not is_same:
                raise _not_rewritten(path, "the copy does not hold the same tables, views and rows.")
            if _wal(path).exists() or _wal(fresh).exists():
                raise _not_rewritten(path, "a write-ahead log is left.")
            shutil.copymode(path, fresh)
            with fresh.open("rb") as written:
                os.fsync(written.fileno())
            fresh.replace(path)
            sync_folder(path.parent)
        except duckdb.Error as error:
            raise _not_rewritten(path, " ".join(str(error).split())) from error
        finally:
            _remove(fresh)
        # What killed processes of DuckDB wrote there when memory was short.
        shutil.rmtree(f"{path}.tmp", ignore_errors=True)
        return path.stat().st_size


def other_tables_with(warehouse: Warehouse, names: Names, ours: set[str]) -> dict[str, int]:
    """Tables that are neither ours nor dbt's and hold a name of the person: how many rows, by table.

    Args:
        warehouse: which.
        names: of the person.
        ours: tables of the warehouse's schema not to look at.
    """
    ids = [*names.devices, *names.indv_ids]
    texts = [*names.app_keys, *map(str, ids)]
    emails = sorted({normalized("email", email) for email in names.emails})
    found = {}
    with warehouse.reading() as connection:
        if connection is None:
            return {}
        columns: dict[tuple[str, str], list[tuple[str, str]]] = {}
        for schema, name, column, kind in connection.execute(
            "SELECT c.schema_name, c.table_name, c.column_name, c.data_type FROM duckdb_columns() c "
            "JOIN duckdb_tables() t USING (database_name, schema_name, table_name) "
            "WHERE c.database_name = current_catalog() AND NOT t.internal ORDER BY ALL"
        ).fetchall():
            if schema != warehouse.schema or name not in ours:
                columns.setdefault((schema, name), []).append((column, kind))
        for (schema, name), typed in columns.items():
            tests = []
            for column, kind in typed:
                if kind in _WHOLE_NUMBERS:
                    tests.append(f"list_contains($ids::HUGEINT[], {quote(column)}::HUGEINT)")
                elif kind in ("VARCHAR", "JSON"):
                    text = f"{quote(column)}::VARCHAR"
                    tests.append(f"list_contains($texts::VARCHAR[], {text})")
                    tests.append(f"len(list_filter($emails::VARCHAR[], lambda e: contains(lower({text}), e))) > 0")
            if not tests:
                continue
            row = connection.execute(
                f"SELECT count(*) FROM {table(schema, name)} WHERE {' OR '.join(tests)}",
                {
                    parameter: value
                    for parameter, value in {"ids": ids, "texts": texts, "emails": emails}.items()
                    if any(f"${parameter}" in test for test in tests)
                },
            ).fetchone()
            if row and row[0]:
                found[f"{schema}.{name}"] = int(row[0])
    return found


def _carriers(connection: DuckDBPyConnection, schema: str) -> Iterator[Carrier]:
    columns = ", ".join(map(quote, CARRIER_COLUMNS))
    found = connection.execute(f"SELECT DISTINCT {columns} FROM {table(schema, EVENTS)}")
    while rows := found.fetchmany(_FETCHED):
        yield from map(Carrier._make, rows)


def _mark(connection: DuckDBPyConnection, schema: str, matcher: Matcher) -> None:
    """Note in a temporary table what rows of erased people carry, and before when they are erased."""
    while True:
        n_learnt = len(matcher.learnt)
        theirs = [
            (*carrier, naive(until)) for carrier in _carriers(connection, schema) if (until := matcher.until(carrier))
        ]
        if len(matcher.learnt) == n_learnt:
            break
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE _theirs "
        "(user_id BIGINT, indv_id BIGINT, app_key VARCHAR, email VARCHAR, until TIMESTAMP)"
    )
    if theirs:
        connection.executemany("INSERT INTO _theirs VALUES (?, ?, ?, ?, ?)", theirs)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE _others AS SELECT unnest(?::VARCHAR[]) AS event_id", [sorted(matcher.others)]
    )


def _is_theirs(events: str) -> str:
    pairs = zip(CARRIER_COLUMNS, ("user_id", "indv_id", "app_key", "email"), strict=True)
    same = " AND ".join(f"{events}.{quote(column)} IS NOT DISTINCT FROM _theirs.{name}" for column, name in pairs)
    is_others = f"EXISTS (SELECT 1 FROM _others WHERE _others.event_id = {events}._event_id)"
    return f"{same} AND {events}.EventStart < _theirs.until AND NOT {is_others}"


def _by_window(connection: DuckDBPyConnection, schema: str) -> dict[datetime, int]:
    rows = connection.execute(
        f"SELECT e._window_start, count(*) FROM {table(schema, EVENTS)} e "
        f"JOIN _theirs ON {_is_theirs('e')} GROUP BY ALL"
    ).fetchall()
    return dict(rows)


def _delete_rejects(connection: DuckDBPyConnection, schema: str, is_theirs: IsRejectTheirs) -> dict[datetime, int]:
    counted: dict[datetime, int] = {}
    doomed = []
    found = connection.execute(f"SELECT rowid, window_start, raw_text, raw_sha256 FROM {table(schema, REJECTED)}")
    while rows := found.fetchmany(_FETCHED):
        for row_id, start, text, sha256 in rows:
            if is_theirs(text, sha256, start):
                doomed.append(row_id)
                counted[start] = counted.get(start, 0) + 1
    if doomed:
        connection.execute(f"DELETE FROM {table(schema, REJECTED)} WHERE list_contains(?::BIGINT[], rowid)", [doomed])
    return counted


def _log(
    connection: DuckDBPyConnection,
    schema: str,
    start: datetime,
    n_events: int,
    n_rejects: int,
    bundle: StoredBundle | None,
    erased_at: datetime,
) -> None:
    loads, events = table(schema, LOADS), table(schema, EVENTS)
    connection.execute(
        f"""
        INSERT INTO {loads} BY NAME
        SELECT * REPLACE (
            (SELECT max(load_id) + 1 FROM {loads}) AS load_id,
            rows_kept - $n_events AS rows_kept,
            rows_rejected - $n_rejects AS rows_rejected,
            rows_forgotten + $n_events + $n_rejects AS rows_forgotten,
            (SELECT min(EventStart) FROM {events} WHERE _window_start = $start) AS min_event_start_at,
            (SELECT max(EventStart) FROM {events} WHERE _window_start = $start) AS max_event_start_at,
            CASE WHEN received_at = $received_at THEN $bytes ELSE bundle_bytes END AS bundle_bytes,
            CASE WHEN received_at = $received_at THEN $sha256 ELSE bundle_sha256 END AS bundle_sha256,
            $erased_at AS loaded_at,
            CAST(NULL AS VARCHAR) AS dagster_run_id
        )
        FROM {loads} WHERE window_start = $start ORDER BY load_id DESC LIMIT 1
        """,
        {
            "start": start,
            "n_events": n_events,
            "n_rejects": n_rejects,
            # Another bundle than the one that was loaded may be kept by now.
            "received_at": naive(bundle.received_at) if bundle else None,
            "bytes": bundle.bytes if bundle else None,
            "sha256": bundle.sha256 if bundle else None,
            "erased_at": naive(erased_at),
        },
    )


def _copy(connection: DuckDBPyConnection, fresh: Path) -> bool:
    """Copy the open database; whether the copy holds the same."""
    (catalog,) = connection.execute("SELECT current_catalog()").fetchone() or ("",)
    connection.execute(f"ATTACH {quote_text(str(fresh))} AS {quote(_FRESH)}")
    connection.execute(f"COPY FROM DATABASE {quote(catalog)} TO {quote(_FRESH)}")
    is_same = _contents(connection, catalog) == _contents(connection, _FRESH)
    connection.execute(f"CHECKPOINT {quote(_FRESH)}")
    connection.execute(f"DETACH {quote(_FRESH)}")
    return is_same


def _contents(connection: DuckDBPyConnection, catalog: str) -> tuple[object, ...]:
    """What a database holds: tables with their columns and numbers of rows, and views."""
    columns = connection.execute(
        "SELECT schema_name, table_name, column_name, column_index, data_type, is_nullable FROM duckdb_columns() "
        "WHERE database_name = ? AND NOT internal ORDER BY schema_name, table_name, column_index",
        [catalog],
    ).fetchall()
    views = connection.execute(
        "SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = ? AND NOT internal ORDER BY ALL",
        [catalog],
    ).fetchall()
    tables = connection.execute(
        "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = ? AND NOT internal ORDER BY ALL",
        [catalog],
    ).fetchall()
    counts = [
        connection.execute(f"SELECT count(*) FROM {quote(catalog)}.{table(schema, name)}").fetchone()
        for schema, name in tables
    ]
    return columns, views, tables, counts


def _not_rewritten(path: Path, why: str) -> PermanentError:
    return PermanentError(
        f"The rows are deleted, but the warehouse {path} could not be copied, so that traces of them may be left in "
        f"its free pages: {why} The file is as it was; mend that and run the same command again.",
        setting="FULLSTORY_WAREHOUSE",
    )


def _wal(path: Path) -> Path:
    return Path(f"{path}.wal")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    _wal(path).unlink(missing_ok=True)
    shutil.rmtree(f"{path}.tmp", ignore_errors=True)
