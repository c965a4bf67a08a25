"""Bundle windows: pure time arithmetic in UTC. Nothing here reads a clock; callers pass ``now``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

WINDOW_HOURS = (1, 2, 3, 4, 6, 8, 12, 24)
"""Window lengths that tile a day, so that every window is aligned to midnight UTC."""

SETTLED_AFTER = timedelta(hours=24)
"""Events keep changing for this long after they happen (FullStory's help centre on data availability, read 2026-11)."""


@dataclass(frozen=True, order=True)
class Window:
    """A half-open UTC range ``[start, end)`` of event time.

    Raises:
        ValueError: a bound is naive or not UTC, or the range is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if bound.utcoffset() != timedelta(0):
                raise ValueError(f"window bounds are UTC, got {bound!r}")
        if self.start >= self.end:
            raise ValueError(f"a window needs a start before its end, got {self}")

    def __str__(self) -> str:
        """``2026-06-01 12:00 to 18:00 UTC``: how messages name a window."""
        same_day = self.start.date() == self.end.date()
        return f"{self.start:%Y-%m-%d %H:%M} to {self.end:{'%H:%M' if same_day else '%Y-%m-%d %H:%M'}} UTC"

    @property
    def slug(self) -> str:
        """``20260601T1200Z``: the start as it stands in paths."""
        return f"{self.start:%Y%m%dT%H%MZ}"

    @property
    def settled_at(self) -> datetime:
        """From here on an export of the window gives the same values every time."""
        return self.end + SETTLED_AFTER


@dataclass(frozen=True)
class WindowGrid:
    """All windows of one account: where they begin, how long they are, how late they come.

    Attributes:
        first: start of the first window, UTC; has to lie on the grid.
        hours: window length, one of ``WINDOW_HOURS``.
        delay_hours: hours after a window's end at which it may be fetched.
    """

    first: datetime
    hours: int
    delay_hours: int

    @property
    def length(self) -> timedelta:
        """The length of one window."""
        return timedelta(hours=self.hours)

    @property
    def delay(self) -> timedelta:
        """How long after its end a window may be fetched."""
        return timedelta(hours=self.delay_hours)

    @property
    def key_format(self) -> str:
        """Format of partition keys: days alone for daily windows."""
        return "%Y-%m-%d" if self.hours == 24 else "%Y-%m-%d-%H:%M"

    @property
    def end_offset(self) -> int:
        """Dagster's ``end_offset``: how many ended windows are still inside the delay, negative, rounded down."""
        return -(self.delay_hours // self.hours)

    def align(self, instant: datetime) -> datetime:
        """Start of the window that contains the instant."""
        midnight = instant.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + (instant - midnight) // self.length * self.length

    def key(self, window: Window) -> str:
        """Dagster's partition key of a window."""
        return window.start.strftime(self.key_format)

    def window_of_key(self, key: str) -> Window:
        """The window of a partition key.

        Raises:
            ValueError: the key has another format or is not on the grid.
        """
        start = datetime.strptime(key, self.key_format).replace(tzinfo=timezone.utc)
        window = Window(start, start + self.length)
        # strptime also takes 2026-6-1.
        if start != self.align(start) or self.key(window) != key:
            raise ValueError(f"{key!r} is not the start of a {self.hours} h window")
        return window

    def available_at(self, window: Window) -> datetime:
        """When the clock allows a window to be fetched."""
        return window.end + self.delay

    def is_available(self, window: Window, now: datetime) -> bool:
        """Whether the clock allows a window to be fetched at ``now``."""
        return self.available_at(window) <= now

    def between(self, start: datetime, end: datetime) -> Iterator[Window]:
        """Windows that begin in ``[start, end)`` on the grid, oldest first, none before ``first``."""
        at = self.align(start)
        if at < start:
            at += self.length
        at = max(at, self.first)
        while at < end:
            yield Window(at, at + self.length)
            at += self.length

    def available(self, now: datetime) -> list[Window]:
        """Every window the clock allows at ``now``, oldest first."""
        return [w for w in self.between(self.first, now) if self.is_available(w, now)]


def name_ranges(windows: Iterable[Window], at_most: int) -> str:
    """Windows as ranges of neighbours: what a person wants to read of three hundred days."""
    ranges: list[Window] = []
    for window in sorted(windows):
        if ranges and ranges[-1].end == window.start:
            ranges[-1] = Window(ranges[-1].start, window.end)
        else:
            ranges.append(window)
    left = len(ranges) - at_most
    more = f" and {left} more range{'s' if left > 1 else ''}" if left > 0 else ""
    return ", ".join(map(str, ranges[:at_most])) + more


def split_ranges(windows: list[Window], longest: int) -> list[list[Window]]:
    """Group windows into runs of direct neighbours of at most ``longest`` windows, order kept."""
    ranges: list[list[Window]] = []
    for window in sorted(windows):
        if ranges and len(ranges[-1]) < longest and ranges[-1][-1].end == window.start:
            ranges[-1].append(window)
        else:
            ranges.append([window])
    return ranges
