"""API 2, the legacy data export: which bundles there are, and how often one may be downloaded.

Source: data export list and get references, read 2026-11.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.events import EventSource
from fullstory_dagster.simulator.export_files import FileKey
from fullstory_dagster.windows import WindowGrid

PAGE_LENGTH = 20
"""Bundles a list answer holds at most."""

AVAILABLE_AFTER_H = 24
"""Hours from a bundle's Stop until it is listed."""


@dataclass(frozen=True)
class Bundle:
    """One line of the list; Start and Stop in Unix seconds, ``[start, stop)`` of EventStart."""

    id: int | str
    start: int
    stop: int

    @classmethod
    def of(cls, document: object) -> Bundle:
        """Read a bundle as the list writes it.

        Raises:
            ValueError: a part is missing or of another type.
        """
        match document:
            case {"Id": int() | str() as bundle_id, "Start": int() as start, "Stop": int() as stop}:
                return cls(bundle_id, start, stop)
        raise ValueError(f"a bundle is an object with Id, Start and Stop, got {document!r}")

    def document(self) -> dict[str, Any]:
        """The bundle as the list writes it."""
        return {"Id": self.id, "Start": self.start, "Stop": self.stop}

    @property
    def key(self) -> FileKey:
        """What the bundle's file holds."""
        return FileKey(
            datetime.fromtimestamp(self.start, timezone.utc), datetime.fromtimestamp(self.stop, timezone.utc)
        )


class Bundles:
    """The bundles of one account.

    Attributes:
        override: listed in place of the account's own bundles, in this order, complete or not.
    """

    def __init__(self, config: SimulatorConfig, source: EventSource) -> None:
        self._config = config
        self._source = source
        self.override: list[Bundle] | None = None

    def _all(self) -> list[Bundle]:
        if self.override is not None:
            return self.override
        span = self._source.span()
        if span is None:
            return []
        grid = WindowGrid(first=span.start, hours=self._config.bundle_hours, delay_hours=AVAILABLE_AFTER_H)
        windows = (w for w in grid.between(span.start, span.end) if grid.is_available(w, self._config.at()))
        return [self._bundle(int(w.start.timestamp()), int(w.end.timestamp())) for w in windows]

    def _bundle(self, start: int, stop: int) -> Bundle:
        # An id says which bundle it is, so that the simulator has nothing to remember. Real ids are opaque.
        number = start * 100 + (stop - start) // 3600
        return Bundle(str(number) if self._config.bundle_ids == "text" else number, start, stop)

    def page(self, start: int) -> list[Bundle]:
        """The first bundles that stop after ``start``, Unix seconds; oldest first."""
        return [bundle for bundle in self._all() if bundle.stop > start][:PAGE_LENGTH]

    def find(self, bundle_id: str) -> Bundle | None:
        """A listed bundle by its id as text."""
        return next((bundle for bundle in self._all() if str(bundle.id) == bundle_id), None)


class RateLimit:
    """So many calls in any minute for each key; a refused call does not count."""

    def __init__(self, calls: int, minute_s: float) -> None:
        self._calls = calls
        self._minute_s = minute_s
        self._times: dict[str, deque[float]] = {}

    def wait_s(self, key: str, now: float) -> int:
        """Count a call at ``now`` (any clock, s). Returns 0, or the whole seconds to wait when it is one too many."""
        if self._calls <= 0:
            return 0
        times = self._times.setdefault(key, deque())
        while times and times[0] <= now - self._minute_s:
            times.popleft()
        if len(times) < self._calls:
            times.append(now)
            return 0
        return max(1, math.ceil(times[0] + self._minute_s - now))
