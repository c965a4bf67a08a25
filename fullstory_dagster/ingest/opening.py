"""An account's parts, put together as its settings say: the only place that knows which of them there are."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from fullstory_dagster.api.clock import Clock, SystemClock
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.parse.promotion import promote_fields
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.attempts import AttemptLog
from fullstory_dagster.store.bundles import BundleStore
from fullstory_dagster.store.dataset import EventDataset
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.forgotten import ForgottenList
from fullstory_dagster.store.lake import Lake
from fullstory_dagster.store.named_locks import CatalogLocks, FileLocks, NamedLocks
from fullstory_dagster.store.objects import LocalStore
from fullstory_dagster.store.opening import open_database
from fullstory_dagster.store.remote_objects import RemoteStore
from fullstory_dagster.store.snapshot import ReadSnapshot
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.store.window_locks import WindowLocks


def open_ingestion(settings: Settings, clock: Clock | None = None, *, patience_s: float | None = None) -> Ingestion:
    """Put the parts together as the settings say. Opens nothing yet.

    Args:
        settings: of the account.
        clock: the time, by default the system's.
        patience_s: for a caller who cannot wait for an object store for minutes.

    Raises:
        SettingsError: what reaches the object store is not installed, or the environment does not say enough for it.
    """
    here = LocalStore(settings.store_dir)
    is_here = isinstance(settings.store, Path)
    objects = here if is_here else RemoteStore(str(settings.store), here, patience_s)
    database = open_database(
        settings.warehouse,
        lake_files=settings.lake_files,
        scratch=settings.scratch_dir,
        lock_timeout_s=settings.lock_timeout_s,
        memory_limit=settings.duckdb_memory_limit,
        threads=settings.duckdb_threads,
    )
    warehouse = Warehouse(
        database, settings.schema, load_memory_limit=settings.load_memory_limit, promote=promote_fields
    )

    def new_locks() -> NamedLocks:
        if isinstance(database, Lake):
            return CatalogLocks(database.server, str(settings.store))
        return FileLocks(settings.store_dir / "locks")

    snapshot = None
    if isinstance(database, DatabaseFile):
        every = timedelta(minutes=settings.snapshot_minutes)
        snapshot = ReadSnapshot(settings.data_dir / "read", warehouse, database, every)
    return Ingestion(
        settings=settings,
        bundles=BundleStore(
            objects, settings.schema, max_bytes=settings.max_bundle_bytes, max_ratio=settings.max_bundle_ratio
        ),
        dataset=EventDataset(objects),
        warehouse=warehouse,
        snapshot=snapshot,
        attempts=AttemptLog(objects, settings.schema, at_hand=None if is_here else here),
        window_locks=WindowLocks(new_locks(), settings.lock_timeout_s),
        forgotten=ForgottenList(objects, new_locks, lock_timeout_s=settings.lock_timeout_s),
        clock=clock or SystemClock(),
    )
