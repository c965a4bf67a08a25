"""Dagster's own history, cut off: runs, their events and logs grow for ever otherwise."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import dagster as dg

DELETED_A_TICK = 20
"""A run is deleted in some 100 ms; a sensor's tick has 60 s for all it does."""

_FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def delete_old_runs(instance: dg.DagsterInstance, keep_days: int, now: datetime) -> int:
    """Delete finished runs that began too long ago, oldest first, with their events and the output of their steps.

    Dagster then knows no more of what they materialized; that a window is loaded is told it anew from the load log.

    Args:
        instance: Dagster's storage.
        keep_days: how many days a run is kept.
        now: aware.

    Returns:
        int: how many were deleted, at most ``DELETED_A_TICK``.
    """
    # Only here: SQLAlchemy and Alembic come with it, and take longer to import than polars and DuckDB together.
    from dagster._core.storage.event_log import SqliteEventLogStorage

    old = dg.RunsFilter(statuses=_FINISHED, created_before=now - timedelta(days=keep_days))
    runs = instance.get_runs(old, limit=DELETED_A_TICK, ascending=True)
    for run in runs:
        instance.compute_log_manager.delete_logs(prefix=[run.run_id])
        instance.delete_run(run.run_id)
        if isinstance(instance.event_log_storage, SqliteEventLogStorage):
            # Dagster empties the file of the run and leaves it there.
            Path(instance.event_log_storage.path_for_shard(run.run_id)).unlink(missing_ok=True)
    return len(runs)
