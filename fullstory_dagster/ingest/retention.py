"""What is deleted when its time is up: events, their Parquet and raw bundles."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from datetime import timedelta

from fullstory_dagster.errors import WarehouseLockedError, WarehouseUnreachableError, WindowBusyError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.store.retention import expire_windows
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window

_TOGETHER = 100
"""Windows that are deleted in one transaction; each of them holds its lock, which is an open file, meanwhile."""


def delete_expired_events(ingestion: Ingestion) -> list[Window]:
    """Delete events, rejects and Parquet of windows past ``FULLSTORY_KEEP_EVENTS_DAYS``.

    What somebody else is at work on, a window or the whole warehouse, has its turn next time.

    Returns:
        list: the windows, oldest first; dbt has to build them again, which takes out what it made of them.
    """
    days = ingestion.settings.keep_events_days
    if days is None:
        return []
    deleted: list[Window] = []
    with suppress(WarehouseLockedError, WarehouseUnreachableError):
        loads = ingestion.warehouse.current_loads()
        past = {window for window, load in loads.items() if ingestion.is_expired(window) and _has_rows(load)}
        # Also what a crash left here after the rows were gone.
        before = ingestion.clock.now() - timedelta(days=days)
        left = ingestion.dataset.windows(ingestion.settings.grid.length, before)
        past |= {window for window in left if ingestion.is_expired(window)}
        in_order = sorted(past)
        for at in range(0, len(in_order), _TOGETHER):
            deleted += _delete_together(ingestion, in_order[at : at + _TOGETHER])
    return deleted


def _delete_together(ingestion: Ingestion, windows: list[Window]) -> list[Window]:
    with ExitStack() as stack:
        held = []
        for window in windows:
            with suppress(WindowBusyError):
                stack.enter_context(ingestion.window_locks.held(window, timeout_s=0))
                held.append(window)
        loads = ingestion.warehouse.current_loads()
        full = [window for window in held if window in loads and _has_rows(loads[window])]
        if full:
            expire_windows(ingestion.warehouse, full, ingestion.clock.now())
        for window in held:
            ingestion.dataset.delete(window)
    return full


def _has_rows(load: Load) -> bool:
    return load.rows_kept + load.rows_rejected > 0


def delete_old_bundles(ingestion: Ingestion) -> int:
    """Delete raw bundles past ``FULLSTORY_KEEP_BUNDLES_DAYS`` whose window is loaded and settled; how many."""
    days = ingestion.settings.keep_bundles_days
    if days is None:
        return 0
    oldest_kept = ingestion.clock.now() - timedelta(days=days)
    n_deleted = 0
    kept = ingestion.bundles.slugs()
    for window, load in ingestion.warehouse.current_loads().items():
        if window.slug not in kept or window.end >= oldest_kept or not load.is_settled:
            continue
        bundle = ingestion.bundles.get(window)
        # A bundle that was fetched again since waits to be parsed and appended.
        if bundle and bundle.received_at.replace(tzinfo=None) == load.received_at:
            with suppress(WindowBusyError), ingestion.window_locks.held(window, timeout_s=0):
                ingestion.bundles.delete(window)
                n_deleted += 1
    return n_deleted
