"""What each failure does. The only place of the project where a request, a download or an export is tried again.

``FAILURES`` is the table: what is seen, which error it becomes, which remedies it is given. ``RetryPolicy`` says how
often each remedy is given; ``Retrier`` gives it. There are four levels (request, download, location, operation), and an
error that one of them has given up on passes through the others, so that bounds do not multiply: a refused request is
sent once, whatever stands around it. Only a bundle that arrives broken has two remedies: it is downloaded again, then
exported anew.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Literal, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from fullstory_dagster.api.clock import Clock, instant_of_date
from fullstory_dagster.errors import (
    AuthenticationError,
    BundleFormatError,
    BundleIncompleteError,
    BundleTooLargeError,
    ClockAheadError,
    ConnectionFailedError,
    ExportFailedError,
    ExportTimeoutError,
    FullStoryError,
    LocationExpiredError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
    TransientError,
    WindowNotOfferedError,
    WindowUnavailableError,
)

T = TypeVar("T")

Side = Literal["api", "location"]
"""Who answered: FullStory's API, or the host behind a signed location."""


class Remedy(Enum):
    """What is tried again, the smallest first; the value names one such try in messages."""

    SEND_AGAIN = "request"
    """The same request; a download goes on where it broke when the server can prove it is the same file."""
    DOWNLOAD_AGAIN = "download"
    """The bundle from its first byte."""
    FRESH_LOCATION = "location"
    """Another signed URL for the same export."""
    NEW_OPERATION = "operation"
    """The export from the beginning."""


@dataclass(frozen=True)
class FailureRow:
    """One failure and what it does.

    Attributes:
        failure: what is seen.
        error: what it becomes; None when it is no failure and the answer is taken as it is.
        remedies: in the order they are tried; none means that it fails at once.
        side: who answered, for rows that speak of an HTTP status.
        statuses: HTTP statuses of the row; the first row that has a status decides.
    """

    failure: str
    error: type[FullStoryError] | None
    remedies: tuple[Remedy, ...] = ()
    side: Side | None = None
    statuses: frozenset[int] = frozenset()


def _codes(*codes: int | range) -> frozenset[int]:
    return frozenset(code for item in codes for code in ((item,) if isinstance(item, int) else item))


_SEND = (Remedy.SEND_AGAIN,)
_BROKEN = (Remedy.DOWNLOAD_AGAIN, Remedy.NEW_OPERATION)

FAILURES: tuple[FailureRow, ...] = (
    # HTTP statuses of the API.
    FailureRow("wrong key or plan: 401, 403", AuthenticationError, (), "api", _codes(401, 403)),
    FailureRow("request timed out on the server: 408", ServerError, _SEND, "api", _codes(408)),
    FailureRow("rate limit: 429, with or without Retry-After", RateLimitedError, _SEND, "api", _codes(429)),
    FailureRow("request refused: 404, 405, 413, other 4xx", RequestRefusedError, (), "api", _codes(range(400, 500))),
    FailureRow("server failure: 5xx", ServerError, _SEND, "api", _codes(range(500, 600))),
    FailureRow("redirect, to whichever host", RequestRefusedError, (), "api", _codes(range(300, 400))),
    # HTTP statuses of a signed location, which never sees the key.
    FailureRow(
        "location expired: 400, 401, 403, 404, 410",
        LocationExpiredError,
        (Remedy.FRESH_LOCATION,),
        "location",
        _codes(400, 401, 403, 404, 410),
    ),
    FailureRow("location host timed out: 408", ServerError, _SEND, "location", _codes(408)),
    FailureRow("location host's rate limit: 429", RateLimitedError, _SEND, "location", _codes(429)),
    FailureRow("location refused: other 4xx", RequestRefusedError, (), "location", _codes(range(400, 500))),
    FailureRow("location host's failure: 5xx", ServerError, _SEND, "location", _codes(range(500, 600))),
    FailureRow("redirect from the location", RequestRefusedError, (), "location", _codes(range(300, 400))),
    # The connection.
    FailureRow("connection refused, reset, timed out, closed early", ConnectionFailedError, _SEND),
    FailureRow("fewer bytes than Content-Length announces", ConnectionFailedError, _SEND),
    FailureRow("a drip slower than the least speed, or past the deadline", ConnectionFailedError, _SEND),
    FailureRow("an empty answer where JSON is due", ConnectionFailedError, _SEND),
    # What a good status brings.
    FailureRow("status 200 with HTML, foreign JSON, or an encoding nobody asked for", RequestRefusedError),
    FailureRow("a location that is neither https nor on this machine", RequestRefusedError),
    FailureRow("bundle empty, gzip cut short, JSON cut short", BundleIncompleteError, _BROKEN),
    FailureRow("gzip corrupt, or no JSON array, NDJSON or CSV", BundleFormatError, _BROKEN),
    FailureRow("a bundle that unpacks to more than the settings allow", BundleTooLargeError),
    FailureRow("plain JSON where gzip is due", None),
    FailureRow("gzip twice", None),
    FailureRow("this machine's clock more than 5 minutes ahead of FullStory's", ClockAheadError),
    # The export.
    FailureRow("operation FAILED", ExportFailedError, (Remedy.NEW_OPERATION,)),
    FailureRow("operation never finished", ExportTimeoutError),
    FailureRow("operation in a state nobody documented: still going", None),
    FailureRow("bundle Id as a number or as text", None),
    FailureRow("bundles leave a gap, overlap, or are not listed yet", WindowUnavailableError),
    FailureRow("bundles longer than the window, or offset against it", None),
    FailureRow("window before the first bundle", WindowNotOfferedError),
)


def remedies_of(error: BaseException) -> tuple[Remedy, ...]:
    """The remedies for an error; none for whatever the table does not name."""
    return next((row.remedies for row in FAILURES if row.error is type(error)), ())


def row_of_status(status: int, side: Side) -> FailureRow | None:
    """The table's row for an HTTP status; None when the status is none of a failure."""
    return next((row for row in FAILURES if row.side == side and status in row.statuses), None)


@dataclass(frozen=True)
class RetryPolicy:
    """How often, how long and how far apart things are tried again; counts include the first try.

    Attributes:
        max_requests: of one request, a broken download's continuations included.
        max_downloads: of one bundle that arrives broken.
        max_locations: of one export.
        max_operations: of one window.
        max_total_s: no try begins later than this after the first failure of the same request.
        max_retry_after_s: a longer Retry-After fails at once instead of holding a worker.
        backoff_base_s: pause after the first failure; doubles with each further one.
        backoff_cap_s: longest pause that nobody asked for.
        jitter: gives numbers in ``[0, 1)``; a pause is between half of its length and the whole.
    """

    max_requests: int = 6
    max_downloads: int = 2
    max_locations: int = 3
    max_operations: int = 3
    max_total_s: float = 900.0
    max_retry_after_s: float = 300.0
    backoff_base_s: float = 1.0
    backoff_cap_s: float = 60.0
    jitter: Callable[[], float] = random.SystemRandom().random

    def max_tries(self, remedy: Remedy) -> int:
        """How often one thing is tried on the level of ``remedy``."""
        return {
            Remedy.SEND_AGAIN: self.max_requests,
            Remedy.DOWNLOAD_AGAIN: self.max_downloads,
            Remedy.FRESH_LOCATION: self.max_locations,
            Remedy.NEW_OPERATION: self.max_operations,
        }[remedy]

    def backoff_s(self, n_failures: int) -> float:
        """The pause after the ``n_failures``-th failure in a row, s."""
        longest = min(self.backoff_cap_s, self.backoff_base_s * 2.0 ** min(n_failures - 1, 60))
        return longest * (0.5 + 0.5 * self.jitter())


class Retrier:
    """Gives remedies within a policy's bounds.

    Args:
        policy: the bounds.
        clock: tells time and sleeps between tries.
    """

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock

    def run(self, call: Callable[[], T], remedy: Remedy, *, give_up_at: Callable[[], float] | None = None) -> T:
        """Call until it works, its error has another remedy than this one, or a bound is reached.

        Args:
            call: one try.
            remedy: what trying again means on this level.
            give_up_at: monotonic instant after which no try begins; default ``max_total_s`` after the first failure.

        Raises:
            FullStoryError: the last try's error; its sentence tells how many tries there were.
        """
        n_tries = 0
        first_failure_at: float | None = None

        def counted() -> T:
            nonlocal n_tries
            n_tries += 1
            return call()

        def is_worth_it(error: BaseException) -> bool:
            return remedy in remedies_of(error) and (_asked_wait_s(error) or 0.0) <= self._policy.max_retry_after_s

        def is_over(state: RetryCallState) -> bool:
            nonlocal first_failure_at
            now = self._clock.monotonic()
            first_failure_at = now if first_failure_at is None else first_failure_at
            end = first_failure_at + self._policy.max_total_s if give_up_at is None else give_up_at()
            return n_tries >= self._policy.max_tries(remedy) or now + state.upcoming_sleep >= end

        def pause_s(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            asked_s = _asked_wait_s(error)
            return self._policy.backoff_s(state.attempt_number) if asked_s is None else asked_s

        retrying = Retrying(
            retry=retry_if_exception(is_worth_it), stop=is_over, wait=pause_s, sleep=self._clock.sleep, reraise=True
        )
        try:
            return retrying(counted)
        except FullStoryError as error:
            if n_tries > 1:
                told = str(error).removesuffix(".")
                error.args = (f"{told} ({n_tries} {remedy.value}s were tried).", *error.args[1:])
            raise


def _asked_wait_s(error: BaseException | None) -> float | None:
    return error.retry_after_s if isinstance(error, TransientError) else None


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds a Retry-After header asks to wait, in either of its forms.

    Args:
        header: whole seconds (what FullStory documents) or an HTTP date.
        now: the instant that a date is measured from, UTC.

    Returns:
        float: never negative; None for no header or one that cannot be read.

    Source: the header's two forms, RFC 9110 section 10.2.3; FullStory's rate limit page, read 2026-11.
    """
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        at = instant_of_date(header)
        if at is None:
            return None
        seconds = (at - now).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def error_of_status(
    status: int,
    *,
    side: Side,
    what: str,
    setting: str | None = None,
    quoted: str = "",
    asked_wait_s: float | None = None,
    policy: RetryPolicy,
) -> FullStoryError | None:
    """The error that an HTTP status stands for, by the table.

    Args:
        status: HTTP status.
        side: who answered.
        what: what was asked for, e.g. ``the list of bundles``.
        setting: the setting to look at when it is refused.
        quoted: the answer's own words, redacted and short.
        asked_wait_s: what its Retry-After says.
        policy: tells when a Retry-After is too long.

    Returns:
        FullStoryError: not raised; None when the status is none of a failure.
    """
    row = row_of_status(status, side)
    if row is None:
        return None
    who = "FullStory" if side == "api" else "The export's download host"
    said = f"HTTP {status}: {quoted}" if quoted else f"HTTP {status}"
    if row.error is AuthenticationError:
        return AuthenticationError(
            f"{who} did not accept the API key when asked for {what} ({said}); "
            "check FULLSTORY_API_KEY and that the account's plan includes data export.",
            setting="FULLSTORY_API_KEY",
        )
    if row.error is LocationExpiredError:
        return LocationExpiredError(f"The signed location of {what} no longer works (HTTP {status}).")
    advice = _advice_on_waiting(asked_wait_s, policy)
    if row.error is RateLimitedError:
        return RateLimitedError(
            f"{who} limits the rate of requests and did not give {what} ({said}){advice}.", retry_after_s=asked_wait_s
        )
    if row.error is ServerError:
        return ServerError(f"{who} failed when asked for {what} ({said}){advice}.", retry_after_s=asked_wait_s)
    if status == 413:
        setting = "FULLSTORY_BUNDLE_HOURS"
    elif status == 405:
        setting = "FULLSTORY_API_URL"
    where = f"; check {setting}" if setting else ""
    return RequestRefusedError(f"{who} refused to give {what} ({said}){where}.", setting=setting)


def _advice_on_waiting(asked_wait_s: float | None, policy: RetryPolicy) -> str:
    if asked_wait_s is None:
        return "; try again later"
    if asked_wait_s <= policy.max_retry_after_s:
        return f" and asks to wait {asked_wait_s:,.0f} s"
    return (
        f" and asks to wait {asked_wait_s:,.0f} s, longer than the {policy.max_retry_after_s:,.0f} s that a run waits; "
        "run it again after that"
    )
