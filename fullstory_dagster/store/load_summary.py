"""What the load log comes to: how much is in, how fast it came, and what a year of it will be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import mean, median

from fullstory_dagster.store.database import naive
from fullstory_dagster.store.warehouse import Load

RECENT_WINDOWS = 28
"""The newest so many windows say what is usual now."""


@dataclass(frozen=True)
class LoadSummary:
    """The loads of all windows in a few numbers. Times are naive UTC.

    Attributes:
        n_windows: windows that are loaded.
        n_recent: how many of them, the newest, the averages are of.
        first: start of the oldest.
        last: end of the newest.
        rows: that FullStory sent for all of them.
        bytes: of their bundles, gzip.
        rejected: rows that could not become events.
        rows_a_window: mean.
        bytes_a_window: mean.
        fetch_s: median, as the next two.
        parse_s: of the parse.
        append_s: of the append.
        hours_after_end: median time from the end of a window to its rows being there.
        rows_a_year: what a year of windows like these will be.
        bytes_a_year: of bundles, gzip.
        asked_for: what FullStory was asked for when the newest was fetched.
    """

    n_windows: int
    n_recent: int
    first: datetime
    last: datetime
    rows: int
    bytes: int
    rejected: int
    rows_a_window: float
    bytes_a_window: float
    fetch_s: float
    parse_s: float
    append_s: float
    hours_after_end: float
    rows_a_year: float
    bytes_a_year: float
    asked_for: str


def hours_after_end(load: Load) -> float:
    """Hours from the end of the window to its rows being there."""
    return (load.loaded_at - naive(load.window.end)) / timedelta(hours=1)


def summarize_loads(loads: Sequence[Load]) -> LoadSummary | None:
    """Sum up the current loads of windows; None if there are none.

    Args:
        loads: oldest window first.
    """
    if not loads:
        return None
    # What was said of a window when its time to be kept was up is not how it came in.
    recent = [load for load in loads if not load.rows_expired][-RECENT_WINDOWS:] or list(loads[-RECENT_WINDOWS:])
    newest = recent[-1]
    windows_a_year = timedelta(days=365) / (newest.window.end - newest.window.start)
    rows, n_bytes = mean(load.rows_in for load in recent), mean(load.bundle_bytes for load in recent)
    return LoadSummary(
        n_windows=len(loads),
        n_recent=len(recent),
        first=naive(loads[0].window.start),
        last=naive(loads[-1].window.end),
        rows=sum(load.rows_in for load in loads),
        bytes=sum(load.bundle_bytes for load in loads),
        rejected=sum(load.rows_rejected for load in loads),
        rows_a_window=rows,
        bytes_a_window=n_bytes,
        fetch_s=median(load.fetch_s for load in recent),
        parse_s=median(load.parse_s for load in recent),
        append_s=median(load.append_s for load in recent),
        hours_after_end=median(hours_after_end(load) for load in recent),
        rows_a_year=rows * windows_a_year,
        bytes_a_year=n_bytes * windows_a_year,
        asked_for=_asked_for(newest),
    )


def _asked_for(load: Load) -> str:
    fields = load.settings.get("fields")
    which = f"{len(fields)} fields" if fields else "all fields"
    if load.api == "bundle":
        return "bundles of the Data Export pack"
    return f"segment export of {load.settings.get('segment_id') or 'everyone'}, {which}"
