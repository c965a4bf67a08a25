"""Many windows at once: fetch and parse side by side, append one at a time, and lose none because another failed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from fullstory_dagster.errors import (
    AuthenticationError,
    ClockAheadError,
    UsageError,
    WarehouseLockedError,
    WarehouseMismatchError,
    WindowNotOfferedError,
    WindowUnavailableError,
    sentence_of,
)
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.status import Status, WindowStatus, read_status
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window

T = TypeVar("T")

_ENDS_THE_SYNC = (AuthenticationError, ClockAheadError, WarehouseLockedError, WarehouseMismatchError)
"""What would fail every other window as well, after a wait of its own."""

_LOOK_UP_S = 0.5

_AHEAD = 2
"""Windows handed to the workers beyond those under way: enough to keep them busy, little enough to stop soon."""


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What one window's work came to.

    Attributes:
        window: which.
        result: what came of it, None if it failed.
        error: why it failed, None if it did not.
    """

    window: Window
    result: T | None = None
    error: Exception | None = None

    @property
    def is_unavailable(self) -> bool:
        """Whether FullStory simply does not have the window (yet): nothing is wrong with it."""
        return isinstance(self.error, WindowUnavailableError | WindowNotOfferedError)


def each_window(windows: Sequence[Window], work: Callable[[Window], T], jobs: int) -> Generator[Outcome[T], None, None]:
    """Do a piece of work for every window, at most ``jobs`` at a time, and give each outcome as it comes.

    An error ends its own window's work only. When the caller stops iterating, no further window is begun.
    """
    left = iter(windows)
    pool = ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="window")
    running: dict[Future[T], Window] = {}

    def hand_out() -> None:
        while len(running) < jobs + _AHEAD and (window := next(left, None)):
            running[pool.submit(work, window)] = window

    try:
        hand_out()
        while running:
            # Not for ever at a stretch: the kernel may give Ctrl-C to a worker, and Python acts on it in this thread.
            done, _ = wait(running, timeout=_LOOK_UP_S, return_when=FIRST_COMPLETED)
            for future in sorted(done, key=lambda finished: running[finished]):
                yield _outcome(running.pop(future), future)
            hand_out()
    finally:
        # An export may be pending for an hour: whoever interrupts does not wait for it.
        is_interrupted = sys.exc_info()[0] is KeyboardInterrupt
        pool.shutdown(wait=not is_interrupted, cancel_futures=True)


def _outcome(window: Window, future: Future[T]) -> Outcome[T]:
    error = future.exception()
    if error is None:
        return Outcome(window, result=future.result())
    if not isinstance(error, Exception):
        raise error
    return Outcome(window, error=error)


@dataclass
class SyncSummary:
    """What a sync or a reset did.

    Attributes:
        loaded: one load a window.
        skipped: windows left as they are, with the reason.
        failed: windows that failed, with the sentence; what the warehouse held of them is still there.
        seconds: wall time, dbt not included.
    """

    loaded: list[Load] = field(default_factory=list)
    skipped: dict[Window, str] = field(default_factory=dict)
    failed: dict[Window, str] = field(default_factory=dict)
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
    wanted: list[Window] = []
    to_fetch: set[Window] = set()
    now = ingestion.clock.now()

    def is_done(load: Load | None) -> bool:
        return load is not None and (load.is_settled or now < load.window.settled_at)

    def is_done_by_others(window: Window) -> bool:
        # What was not parsed was not loaded either: only the others cost a look into the warehouse.
        return ingestion.dataset.get(window) is not None and is_done(ingestion.warehouse.current_loads().get(window))

    for status in _choose(ingestion, read_status(ingestion), start, end):
        window = status.window
        if is_done(status.load):
            summary.skipped[window] = "already loaded"
            continue
        wanted.append(window)
        if _has_to_be_fetched(ingestion, status):
            to_fetch.add(window)
    _load_each(ingestion, wanted, to_fetch, jobs, summary, progress, is_done_by_others)
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
    chosen = _choose(ingestion, read_status(ingestion), start, end)
    windows = [status.window for status in chosen]
    to_fetch = {status.window for status in chosen if _has_to_be_fetched(ingestion, status)}
    summary = SyncSummary()
    _load_each(ingestion, windows, to_fetch, jobs, summary, progress, allow_shrink=allow_shrink)
    return summary


def _has_to_be_fetched(ingestion: Ingestion, status: WindowStatus) -> bool:
    """Whether no bundle that serves is kept, such as one an interrupted sync left, or it could not be parsed."""
    is_broken = status.attempt is not None and status.attempt.stage == "parse"
    return is_broken or not ingestion.has_usable_bundle(status.window)


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
    windows: list[Window],
    to_fetch: set[Window],
    jobs: int | None,
    summary: SyncSummary,
    progress: Progress | None,
    is_done_by_others: Callable[[Window], bool] = lambda _: False,
    *,
    allow_shrink: bool = False,
) -> None:
    started = time.perf_counter()
    not_kept = {window for window in to_fetch if not ingestion.has_usable_bundle(window)}
    with ExitStack() as stack:
        client = stack.enter_context(ingestion.client()) if to_fetch else None

        def prepare(window: Window) -> bool:
            """Whether there is something to append: another run may have come first while this one waited."""
            # Held until the window is appended, so that no other run fetches or parses it anew in between.
            ingestion.window_locks.acquire(window)
            if is_done_by_others(window):
                return False
            fetched_by_others = window in not_kept and ingestion.has_usable_bundle(window)
            if client and window in to_fetch and not fetched_by_others:
                ingestion.fetch(window, client)
            ingestion.parse(window)
            return True

        stack.callback(_let_go, ingestion, windows)
        outcomes = stack.enter_context(closing(each_window(windows, prepare, jobs or ingestion.settings.jobs)))
        for n_ended, prepared in enumerate(outcomes, start=1):
            ended = _appended(ingestion, prepared, allow_shrink)
            ingestion.window_locks.release(prepared.window)
            if ended.result:
                summary.loaded.append(ended.result)
            elif ended.error is None:
                summary.skipped[ended.window] = "already loaded"
            elif ended.is_unavailable:
                summary.skipped[ended.window] = str(ended.error)
            elif ended.error:
                summary.failed[ended.window] = sentence_of(ended.error)
            if progress:
                progress(ended, n_ended, len(windows))
            if isinstance(ended.error, _ENDS_THE_SYNC):
                break
    tried = {load.window for load in summary.loaded} | summary.skipped.keys() | summary.failed.keys()
    summary.skipped.update({window: "not tried after that failure" for window in windows if window not in tried})
    if summary.loaded:
        ingestion.delete_old_bundles()
    summary.seconds = time.perf_counter() - started


def _let_go(ingestion: Ingestion, windows: list[Window]) -> None:
    for window in windows:
        ingestion.window_locks.release(window)


def _appended(ingestion: Ingestion, prepared: Outcome[bool], allow_shrink: bool) -> Outcome[Load]:
    if prepared.error or not prepared.result:
        return Outcome(prepared.window, error=prepared.error)
    try:
        return Outcome(prepared.window, result=ingestion.append(prepared.window, allow_shrink=allow_shrink))
    except Exception as error:
        return Outcome(prepared.window, error=error)
