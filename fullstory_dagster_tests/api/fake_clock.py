"""Time that passes when somebody sleeps, and only then."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

EPOCH = datetime(2026, 6, 3, 12, tzinfo=timezone.utc)


class FakeClock:
    """Starts at 2026-06-03 12:00 UTC.

    Attributes:
        slept: every sleep so far, s.
    """

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._s = 0.0

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._s)

    def monotonic(self) -> float:
        return self._s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        self._s += seconds
