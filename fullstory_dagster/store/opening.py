"""Which kind of database a warehouse is in: the only place that tells them apart."""

from __future__ import annotations

from pathlib import Path

from fullstory_dagster.store.database import Database
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.lake import Lake
from fullstory_dagster.store.motherduck import MotherDuck
from fullstory_dagster.warehouse_location import LakeCatalog, WarehouseLocation


def open_database(
    location: WarehouseLocation,
    *,
    lake_files: str,
    scratch: Path,
    lock_timeout_s: float = 600,
    memory_limit: str | None = None,
    threads: int | None = None,
) -> Database:
    """The database, not yet opened.

    Args:
        location: where it is.
        lake_files: folder or URL of a lake's Parquet files, with a slash at the end.
        scratch: local folder for what DuckDB has no memory for; beside a file it has its own.
        lock_timeout_s: how long other writers are waited for.
        memory_limit: DuckDB's.
        threads: DuckDB's.
    """
    if isinstance(location, Path):
        return DatabaseFile(location, lock_timeout_s=lock_timeout_s, memory_limit=memory_limit, threads=threads)
    if isinstance(location, LakeCatalog):
        return Lake(
            location,
            lake_files,
            scratch=scratch,
            lock_timeout_s=lock_timeout_s,
            memory_limit=memory_limit,
            threads=threads,
        )
    return MotherDuck(location, lock_timeout_s=lock_timeout_s, memory_limit=memory_limit, threads=threads)
