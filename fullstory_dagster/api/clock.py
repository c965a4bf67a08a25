"""Time as an argument, so that tests decide how fast it passes."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Protocol

from fullstory_dagster.errors import RateLimitedError

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


class BoundedClock:
    """Another clock, for a caller whose time is short: it ends a wait that would go on for too long before it begins.

    Args:
        clock: tells the time.
        patience_s: all waits have to end this long after now.
    """

    def __init__(self, clock: Clock, patience_s: float) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._until = clock.monotonic() + patience_s

    def now(self) -> datetime:
        """The present instant, UTC."""
        return self._clock.now()

    def monotonic(self) -> float:
        """Seconds as the other clock counts them."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block this thread for ``seconds``.

        Raises:
            RateLimitedError: that would be too long. Whoever may try only once waits for nothing but a rate limit.
        """
        if self._clock.monotonic() + seconds > self._until:
            raise RateLimitedError(
                f"FullStory's rate limit asks to wait {seconds:,.0f} s, longer than the {self._patience_s:g} s there "
                "are to ask it anything; it was not asked, and will be the next time.",
                retry_after_s=seconds,
            )
        self._clock.sleep(seconds)
