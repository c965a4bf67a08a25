"""Work on many windows side by side: each comes to an end of its own, whatever becomes of the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

from fullstory_dagster.errors import WindowNotOfferedError, WindowUnavailableError
from fullstory_dagster.windows import Window

T = TypeVar("T")

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
    with closing(as_they_end(windows, work, jobs)) as ended:
        for outcomes in ended:
            yield from outcomes


def as_they_end(
    windows: Sequence[Window], work: Callable[[Window], T], jobs: int
) -> Generator[list[Outcome[T]], None, None]:
    """As :func:`each_window`, and give twice a second what has ended since; nothing, if nothing has."""
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
            ended = [_outcome(running.pop(future), future) for future in sorted(done, key=running.__getitem__)]
            hand_out()
            yield ended
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
