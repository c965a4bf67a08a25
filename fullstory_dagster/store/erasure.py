"""Rows of erased people in the warehouse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from duckdb import DuckDBPyConnection

from fullstory_dagster.forgotten import CARRIER_COLUMNS, Carrier, Matcher, Names, normalized
from fullstory_dagster.store.bundles import StoredBundle
from fullstory_dagster.store.database import naive
from fullstory_dagster.store.tables import EVENTS, LOADS, REJECTED, quote, table
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.windows import Window

_FETCHED = 50_000
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
    if not warehouse.database.exists:
        return ErasedFromWarehouse(0, 0, [])
    schema = warehouse.schema

    def erase(connection: DuckDBPyConnection) -> ErasedFromWarehouse:
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

    return warehouse.change(erase)


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
