"""From one warehouse into another of another kind: a file into a lake, or back."""

from __future__ import annotations

import shutil
from pathlib import Path

from duckdb import DuckDBPyConnection

from fullstory_dagster.errors import PermanentError
from fullstory_dagster.store.tables import EVENTS, LOADS, REJECTED, columns_of, quote, quote_text, table
from fullstory_dagster.store.warehouse import Warehouse

_COPIED = (EVENTS, LOADS, REJECTED)
"""What loads made. Models are built anew there, and their marks with them: their views name the old place."""


def copy_warehouse(source: Warehouse, target: Warehouse, scratch: Path) -> dict[str, int]:
    """Copy everything that was loaded, in one transaction of the target's; the source stays as it is.

    Args:
        source: is read at one moment.
        target: is made if it is not there. It has no load yet.
        scratch: local folder with room for the events as Parquet; emptied after.

    Returns:
        dict: rows copied, by table.

    Raises:
        PermanentError: there is nothing to copy, or the target has loads already; nothing was changed.
        WarehouseLockedError: somebody else held one of them for too long; nothing was changed.
        DiskFullError: nothing was changed.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        written = _write(source, scratch)

        def insert(connection: DuckDBPyConnection) -> None:
            loads = connection.execute(f"SELECT count(*) FROM {table(target.schema, LOADS)}").fetchone()
            if loads and loads[0]:
                raise PermanentError(
                    f"Nothing was copied: the warehouse {target.database} has {loads[0]} loads in the schema "
                    f"{target.schema} already. Name another one, or drop that schema.",
                    setting="FULLSTORY_WAREHOUSE",
                )
            for name in _COPIED:
                connection.execute(
                    f"INSERT INTO {table(target.schema, name)} BY NAME SELECT * FROM read_parquet(?)",
                    [_file(scratch, name)],
                )
                copied = connection.execute(f"SELECT count(*) FROM {table(target.schema, name)}").fetchone()
                if copied != (written[name],):
                    raise PermanentError(
                        f"Nothing was copied: not all of {written[name]:,} rows of {name} arrived in {target.database}."
                    )

        target.change(insert, "Nothing was copied")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return written


def _write(source: Warehouse, scratch: Path) -> dict[str, int]:
    with source.reading() as connection:
        if connection is None:
            raise PermanentError(
                f"Nothing was copied: there is no warehouse in {source.database} yet.", setting="FULLSTORY_WAREHOUSE"
            )
        return {name: _write_table(connection, source.schema, name, scratch) for name in _COPIED}


def _write_table(connection: DuckDBPyConnection, schema: str, name: str, scratch: Path) -> int:
    columns = ", ".join(map(quote, columns_of(name)))
    row = connection.execute(
        f"COPY (SELECT {columns} FROM {table(schema, name)}) TO {quote_text(_file(scratch, name))} (FORMAT parquet)"
    ).fetchone()
    return int(row[0]) if row else 0


def _file(scratch: Path, name: str) -> str:
    return str(scratch / f"{name}.parquet")
