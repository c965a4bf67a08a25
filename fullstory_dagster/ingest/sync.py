"""Many windows at once: fetch and parse side by side, append one at a time, and lose none because another failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime

from fullstory_dagster.errors import (
    AuthenticationError,
    ClockAheadError,
    FullStoryError,
    StoreRefusedError,
    StoreUnreachableError,
    UsageError,
    WarehouseLockedError,
    WarehouseMismatchError,
    WarehouseUnreachableError,
    sentence_of,
)
from fullstory_dagster.ingest.ingestion import TOGETHER_ROWS, Ingestion
from fullstory_dagster.ingest.retention import delete_expired_events, delete_old_bundles
from fullstory_dagster.ingest.side_by_side import Outcome, as_they_end
from fullstory_dagster.ingest.status import Status, WindowStatus, read_status
from fullstory_dagster.store.dataset import ParsedWindow
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window

_ENDS_THE_SYNC = (
    AuthenticationError,
    ClockAheadError,
    StoreRefusedError,
    StoreUnreachableError,
    WarehouseLockedError,
    WarehouseMismatchError,
    WarehouseUnreachableError,
)
"""What would fail every other window as well, after a wait of its own."""
_TOGETHER_S = 10
"""How long a window that is prepared may wait for others to be appended with."""


_EXPIRED = "older than FULLSTORY_KEEP_EVENTS_DAYS"


@dataclass
class SyncSummary:
    """What a sync or a reset did.

    Attributes:
        loaded: one load a window.
        skipped: windows left as they are, with the reason.
        failed: windows that failed, with the sentence; what the warehouse held of them is still there.
        expired: windows whose events were deleted because the time to keep them is up.
        not_deleted: why something whose time is up is still there, as a sentence; None if nothing is.
        seconds: wall time, dbt not included.
    """

    loaded: list[Load] = field(default_factory=list)
    skipped: dict[Window, str] = field(default_factory=dict)
    failed: dict[Window, str] = field(default_factory=dict)
    expired: list[Window] = field(default_factory=list)
    not_deleted: str | None = None
    seconds: float = 0.0

    @property
    def n_rows(self) -> int:
        """Rows that are now in the warehouse because of this."""
        return sum(load.rows_kept for load in self.loaded)


Progress = Callable[[Outcome[Load], int, int], None]
"""Called with a window's outcome, how many windows have ended, and how many there are."""


def sync(
    ingestion: Ingestion,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> SyncSummary:
    """Load every available window of ``[start, end)`` that is not loaded, or not settled, oldest first.

    Args:
        ingestion: the account.
        start: aware UTC, by default the start date.
        end: aware UTC, excluded, by default now.
        jobs: windows fetched and parsed at a time, by default as the settings say.
        progress: called for every window that ended.

    Raises:
        UsageError: the range begins before the start date or is empty.
        SettingsError: a folder cannot be written.
        WarehouseLockedError: somebody else held the warehouse for too long.
    """
    ingestion.refuse_read_only()
    summary = SyncSummary()
    wanted: list[WindowStatus] = []
    now = ingestion.clock.now()

    def is_done(load: Load | None) -> bool:
        return load is not None and (load.is_settled or now < load.window.settled_at)

    def is_done_by_others(window: Window) -> bool:
        # What was not parsed was not loaded either: only the others cost a look into the warehouse.
        return ingestion.dataset.get(window) is not None and is_done(ingestion.warehouse.current_loads().get(window))

    for status in _choose(ingestion, read_status(ingestion), start, end):
        window = status.window
        if status.state == "expired":
            summary.skipped[window] = _EXPIRED
            continue
        if status.state != "missing" and is_done(status.load):
            summary.skipped[window] = "already loaded"
            continue
        wanted.append(status)
    _load_each(ingestion, wanted, jobs, summary, progress, is_done_by_others)
    return summary


def reset(
    ingestion: Ingestion,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    jobs: int | None = None,
    allow_shrink: bool = False,
    progress: Progress | None = None,
) -> SyncSummary:
    """Load every available window of ``[start, end)`` again, from its kept bundle where it was asked for in this way.

    Each window's rows are replaced when the new ones are there, never deleted before: a window that FullStory no longer
    serves, or serves with far fewer rows, keeps what it has and is named among the failed, unless ``allow_shrink``. The
    other arguments, and errors, as for :func:`sync`.
    """
    ingestion.refuse_read_only()
    summary = SyncSummary()
    chosen = []
    for status in _choose(ingestion, read_status(ingestion), start, end):
        if ingestion.is_expired(status.window):
            summary.skipped[status.window] = _EXPIRED
        else:
            chosen.append(status)
    _load_each(ingestion, chosen, jobs, summary, progress, allow_shrink=allow_shrink)
    return summary


def _choose(ingestion: Ingestion, status: Status, start: datetime | None, end: datetime | None) -> list[WindowStatus]:
    first = ingestion.settings.grid.first
    start = start or first
    end = end or ingestion.clock.now()
    if start < first:
        raise UsageError(
            f"The range begins on {start:%Y-%m-%d %H:%M} UTC, before FULLSTORY_START_DATE "
            f"({first:%Y-%m-%d %H:%M} UTC); move the start date back to load older windows."
        )
    if start >= end:
        raise UsageError(f"The range from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC holds no window.")
    return [entry for entry in status.windows if start <= entry.window.start < end]


def _load_each(
    ingestion: Ingestion,
    chosen: list[WindowStatus],
    jobs: int | None,
    summary: SyncSummary,
    progress: Progress | None,
    is_done_by_others: Callable[[Window], bool] = lambda _: False,
    *,
    allow_shrink: bool = False,
) -> None:
    started = time.perf_counter()
    windows = [status.window for status in chosen]
    # An interrupted sync leaves bundles that serve; one that could not be parsed does not.
    kept = ingestion.usable_bundles(windows)
    broken = {status.window for status in chosen if status.attempt and status.attempt.stage == "parse"}
    to_fetch = {window for window in windows if window not in kept or window in broken}
    with ExitStack() as stack:
        client = stack.enter_context(ingestion.client()) if to_fetch else None

        def prepare(window: Window) -> ParsedWindow | None:
            """What there is to append, if there is: another run may have come first while this one waited."""
            # Held until the window is appended, so that no other run fetches or parses it anew in between.
            ingestion.window_locks.acquire(window)
            if is_done_by_others(window):
                return None
            fetched_by_others = window not in kept and ingestion.has_usable_bundle(window)
            if client and window in to_fetch and not fetched_by_others:
                ingestion.fetch(window, client)
            return ingestion.parse(window)

        stack.callback(_let_go, ingestion, windows)
        outcomes = _ended(ingestion, windows, prepare, jobs or ingestion.settings.jobs, allow_shrink)
        for n_ended, ended in enumerate(stack.enter_context(closing(outcomes)), start=1):
            ingestion.window_locks.release(ended.window)
            if ended.result:
                summary.loaded.append(ended.result)
            elif ended.error is None:
                summary.skipped[ended.window] = "already loaded"
            elif ended.is_unavailable:
                summary.skipped[ended.window] = str(ended.error)
            else:
                summary.failed[ended.window] = sentence_of(ended.error)
            if progress:
                progress(ended, n_ended, len(windows))
            if isinstance(ended.error, _ENDS_THE_SYNC):
                break
        else:
            _delete_what_is_due(ingestion, summary)
    tried = {load.window for load in summary.loaded} | summary.skipped.keys() | summary.failed.keys()
    summary.skipped.update({window: "not tried after that failure" for window in windows if window not in tried})
    summary.seconds = time.perf_counter() - started


def _delete_what_is_due(ingestion: Ingestion, summary: SyncSummary) -> None:
    try:
        summary.expired = delete_expired_events(ingestion)
        if summary.loaded:
            delete_old_bundles(ingestion)
    except (FullStoryError, OSError) as error:
        # What was loaded is loaded, and its models are still to be built.
        summary.not_deleted = f"What was to be deleted by now is not; the next sync tries again: {sentence_of(error)}"


def _let_go(ingestion: Ingestion, windows: list[Window]) -> None:
    for window in windows:
        ingestion.window_locks.release(window)


def _ended(
    ingestion: Ingestion,
    windows: list[Window],
    prepare: Callable[[Window], ParsedWindow | None],
    jobs: int,
    allow_shrink: bool,
) -> Generator[Outcome[Load], None, None]:
    """What became of the windows: those that are prepared wait a moment for others, and are appended together."""
    waiting: dict[Window, ParsedWindow] = {}
    since = 0.0

    def append() -> Iterator[Outcome[Load]]:
        together = sorted(waiting)
        waiting.clear()
        return ingestion.append_all(together, allow_shrink=allow_shrink)

    with closing(as_they_end(windows, prepare, jobs)) as rounds:
        for prepared in rounds:
            for window, parsed, error in ((each.window, each.result, each.error) for each in prepared):
                if parsed is None:
                    if isinstance(error, _ENDS_THE_SYNC):
                        yield from append()
                    yield Outcome(window, error=error)
                    continue
                since = since if waiting else time.monotonic()
                waiting[window] = parsed
            n_rows = sum(parsed.rows_kept for parsed in waiting.values())
            if waiting and (n_rows >= TOGETHER_ROWS or time.monotonic() - since >= _TOGETHER_S):
                yield from append()
    yield from append()
