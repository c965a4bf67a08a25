"""What is deleted when its time is up: events, their Parquet and raw bundles."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from datetime import timedelta

from fullstory_dagster.errors import WindowBusyError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.store.retention import expire_windows
from fullstory_dagster.windows import Window


def delete_expired_events(ingestion: Ingestion) -> list[Window]:
    """Delete events, rejects and Parquet of windows past ``FULLSTORY_KEEP_EVENTS_DAYS``.

    Returns:
        list: the windows, oldest first; dbt has to build them again, which takes out what it made of them.

    Raises:
        WarehouseLockedError: somebody else held the warehouse for too long; it is done next time.
    """
    if ingestion.settings.keep_events_days is None:
        return []
    expired: list[Window] = []
    with ExitStack() as stack:
        for window, load in ingestion.warehouse.current_loads().items():
            if ingestion.is_expired(window) and load.rows_kept + load.rows_rejected:
                # One that a run is at work on has its turn next time.
                with suppress(WindowBusyError):
                    stack.enter_context(ingestion.window_locks.held(window, timeout_s=0))
                    expired.append(window)
        if expired:
            expire_windows(ingestion.warehouse, expired, ingestion.clock.now())
        for window in ingestion.dataset.windows(ingestion.settings.grid.length):
            # Also what a crash left here after the rows were gone.
            if ingestion.is_expired(window):
                ingestion.dataset.delete(window)
    return expired


def delete_old_bundles(ingestion: Ingestion) -> int:
    """Delete raw bundles past ``FULLSTORY_KEEP_BUNDLES_DAYS`` whose window is loaded and settled; how many."""
    days = ingestion.settings.keep_bundles_days
    if days is None:
        return 0
    oldest_kept = ingestion.clock.now() - timedelta(days=days)
    n_deleted = 0
    for window, load in ingestion.warehouse.current_loads().items():
        if window.end >= oldest_kept or not load.is_settled:
            continue
        bundle = ingestion.bundles.get(window)
        # A bundle that was fetched again since waits to be parsed and appended.
        if bundle and bundle.received_at.replace(tzinfo=None) == load.received_at:
            with suppress(WindowBusyError), ingestion.window_locks.held(window, timeout_s=0):
                ingestion.bundles.delete(window)
                n_deleted += 1
    return n_deleted
