"""Time as an argument, so that tests decide how fast it passes."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Protocol

MAX_AHEAD = timedelta(minutes=5)
"""A clock that is further ahead of FullStory's is wrong; less is what machines without a time server have."""


class Clock(Protocol):
    """What the client needs to know about time."""

    def now(self) -> datetime:
        """The present instant, aware, UTC; comparable between processes of this machine."""

    def monotonic(self) -> float:
        """Seconds since some instant; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Return after ``seconds``."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The present instant, UTC."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """Seconds since the machine started, or thereabouts."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for ``seconds``."""
        time.sleep(seconds)


def instant_of_date(header: str | None) -> datetime | None:
    """The instant in an HTTP date, UTC; None for no header or one that cannot be read.

    Source: the header's form, RFC 9110 section 5.6.7.
    """
    if header is None:
        return None
    try:
        at = parsedate_to_datetime(header)
        # Without a zone, or with "-0000", it is UTC.
        return at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
