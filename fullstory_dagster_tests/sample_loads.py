"""A line of the load log, made by hand."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window


def load(number: int, **changes: Any) -> Load:
    """The load of a day of June 2026, an hour after it settled; a hundred rows for each day of the month."""
    start = datetime(2026, 6, number, tzinfo=timezone.utc)
    window = Window(start, start + timedelta(days=1))
    at = (window.settled_at + timedelta(hours=1)).replace(tzinfo=None)
    values: dict[str, Any] = {
        "load_id": number,
        "window": window,
        "api": "segment",
        "export_id": "e1",
        "bundle_bytes": 20_000 * number,
        "rows_in": 100 * number,
        "rows_kept": 100 * number - 3,
        "rows_rejected": 1,
        "rows_outside": 2,
        "rows_duplicate": 0,
        "rows_forgotten": 0,
        "rows_expired": 0,
        "values_misfit": 0,
        "min_event_start_at": None,
        "max_event_start_at": None,
        "requested_at": at,
        "received_at": at,
        "loaded_at": at,
        "fetch_s": 1.0,
        "parse_s": 0.5,
        "append_s": 0.1 * number,
        "settings": {"segment_id": "everyone", "fields": []},
        "dagster_run_id": None,
    }
    return Load(**(values | changes))
