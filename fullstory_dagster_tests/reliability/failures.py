"""The failures of the matrix, one by one, and what each has to come to by the client's table."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any, Literal
from urllib.parse import quote

from fullstory_dagster import errors
from fullstory_dagster.api import RetryPolicy, Timeouts
from fullstory_dagster.api.retry import Remedy, remedies_of
from fullstory_dagster.windows import Window

Api = Literal["segment", "bundle"]
Seen = Literal["once", "always"]

CANARY_KEY = "na1.Y2FuYXJ5/key+that=must.never.be.seen"
SPELLINGS = (
    CANARY_KEY,
    quote(CANARY_KEY, safe=""),
    quote(CANARY_KEY),
    base64.b64encode(CANARY_KEY.encode()).decode().rstrip("="),
)
"""All that the key must not be found as."""

DAY = Window(datetime(2026, 6, 1, tzinfo=timezone.utc), datetime(2026, 6, 2, tzinfo=timezone.utc))
NOW = datetime(2026, 6, 6, 1, tzinfo=timezone.utc)
ROUTES: Mapping[Api, tuple[str, ...]] = {
    "segment": ("export_start", "operation", "results", "location"),
    "bundle": ("list", "get"),
}
"""In the order in which a fetch asks for them, each once if nothing goes wrong."""

JSON = ("export_start", "operation", "results", "list")
API = (*JSON, "get")
FILE = ("location", "get")
LOCATION = ("location",)
OPERATION = ("operation",)

SLOW = Timeouts(answer_s=0.3, stall_s=0.2, min_bytes_per_s=10_000)
"""For drips, which need time that passes: with production's patience of a minute each would take as long."""

_ECHO = {"code": "echo", "message": f"got {', '.join(SPELLINGS)}"}
"""Servers quote what they were sent."""


@dataclass(frozen=True)
class Failure:
    """One row.

    Attributes:
        name: as it stands in the matrix.
        error: what it becomes; None when it is no failure.
        routes: where it happens, of both APIs; the outcome is the same at each.
        form: of the simulator's fault.
        faulty: the route whose answer is spoiled, where it is not the one that fails by it.
        remedies: by the client's table, unless a row knows better.
        seen: whether there is a difference between once and always.
        bundles: what the older API lists: hours from the window's start, and the id.
        counts: requests by route, where they do not follow from the remedies.
        timeouts: where production's would take too long.
        ahead: of the clock against FullStory's.
        is_waited_for: a state that passes: it is polled, not tried again.
        is_unreachable: nobody listens at FullStory's port, at first or at all.
    """

    name: str
    error: type[errors.FullStoryError] | None
    routes: tuple[str, ...]
    form: Mapping[str, Any] | None = None
    faulty: str | None = None
    remedies: tuple[Remedy, ...] | None = None
    seen: tuple[Seen, ...] = ("once", "always")
    bundles: tuple[tuple[float, float, int | str], ...] | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    timeouts: Timeouts | None = None
    ahead: timedelta | None = None
    is_waited_for: bool = False
    is_unreachable: bool = False

    def routes_of(self, api: Api) -> tuple[str, ...]:
        """Where it can happen through one API; nowhere, for some."""
        return tuple(route for route in ROUTES[api] if route in self.routes)

    def is_kept(self, seen: Seen) -> bool:
        """Whether the window arrives after all."""
        return self.error is None or (seen == "once" and (self.is_waited_for or bool(self._remedies())))

    @property
    def is_transient(self) -> bool:
        """Whether another try later can help without anybody doing anything."""
        # A window that is not available yet becomes available by itself.
        kinds = (errors.TransientError, errors.WindowUnavailableError)
        return self.error is not None and issubclass(self.error, kinds)

    def outcome(self, seen: Seen) -> str:
        """What the matrix has to say."""
        if self.error is not None and not self.is_kept(seen):
            return f"{self.error.__name__}, {'transient' if self.is_transient else 'permanent'}"
        if self.is_waited_for:
            return "kept, once it was ready"
        return "kept" if self.error is None else f"kept, after another {self._remedies()[0].value}"

    def requests(self, api: Api, route: str, seen: Seen, policy: RetryPolicy) -> dict[str, int]:
        """How often each route of the API is asked when the failure happens at one of them."""
        order = ROUTES[api]
        if self.is_waited_for:
            polls = 2 if seen == "once" else n_polls(Timeouts())
            return dict.fromkeys(order, 1) | {"operation": polls} | self._unasked(api, route, seen)
        if self.error is None:
            return dict.fromkeys(order, 1) | self.counts
        remedies = self._remedies()
        n: dict[str, int] = dict.fromkeys(order, 1)
        first = remedies[0] if remedies else None
        again = {
            None: (),
            Remedy.SEND_AGAIN: (route,),
            # Another download of an export asks for its location again: the old one may have run out.
            Remedy.DOWNLOAD_AGAIN: ("results", "location", "get"),
            Remedy.FRESH_LOCATION: ("results", "location"),
            Remedy.NEW_OPERATION: order[: order.index(route) + 1],
        }[first]
        if first is not None:
            tries = 2 if seen == "once" else policy.max_tries(first)
            n.update({name: tries for name in again if name in n})
        if seen == "always" and api == "segment" and Remedy.NEW_OPERATION in remedies[1:]:
            n = {name: asked * policy.max_operations for name, asked in n.items()}
        return n | self._unasked(api, route, seen) | {name: n for name, n in self.counts.items() if name in order}

    def _unasked(self, api: Api, route: str, seen: Seen) -> dict[str, int]:
        order = ROUTES[api]
        return {} if self.is_kept(seen) else dict.fromkeys(order[order.index(route) + 1 :], 0)

    def _remedies(self) -> tuple[Remedy, ...]:
        if self.remedies is not None:
            return self.remedies
        if self.error is None:
            return ()
        return remedies_of(self.error("x"))


def n_polls(timeouts: Timeouts) -> int:
    """Questions after an operation that never ends: soon at first, then ``poll_s`` apart, until ``export_s``."""
    n, at, pause_s = 1, 0.0, 0.5
    while at + pause_s <= timeouts.export_s:
        at, pause_s, n = at + pause_s, min(pause_s * 2, timeouts.poll_s), n + 1
    return n


def _status(status: int, routes: tuple[str, ...] = API, **options: Any) -> dict[str, Any]:
    return {"status": status, "body": _ECHO, **options}


_TOO_LONG = RetryPolicy().max_retry_after_s + 60

FAILURES: tuple[Failure, ...] = (
    # Statuses of FullStory's API.
    Failure("401", errors.AuthenticationError, API, _status(401)),
    Failure("403", errors.AuthenticationError, API, _status(403)),
    Failure("404", errors.RequestRefusedError, API, _status(404)),
    Failure("405", errors.RequestRefusedError, API, _status(405)),
    Failure("408", errors.ServerError, API, _status(408)),
    Failure("413", errors.RequestRefusedError, API, _status(413)),
    Failure("429, asks to wait 7 seconds", errors.RateLimitedError, API, _status(429, retry_after=7)),
    Failure(
        "429, asks to wait until a date",
        errors.RateLimitedError,
        API,
        # FullStory's own clock measures it, which is the real one here.
        _status(429, retry_after=format_datetime(datetime.now(timezone.utc) + timedelta(seconds=150), usegmt=True)),
    ),
    Failure("429, does not say how long", errors.RateLimitedError, API, _status(429)),
    Failure(
        "429, asks for longer than a run waits",
        errors.RateLimitedError,
        API,
        _status(429, retry_after=int(_TOO_LONG)),
        remedies=(),
    ),
    Failure("500", errors.ServerError, API, _status(500)),
    Failure("502", errors.ServerError, API, _status(502)),
    Failure("503", errors.ServerError, API, _status(503)),
    Failure("504", errors.ServerError, API, _status(504)),
    # Statuses of a signed location, which never sees the key.
    *(
        Failure(f"location answers {status}", errors.LocationExpiredError, LOCATION, _status(status))
        for status in (401, 403, 404)
    ),
    Failure("location answers 405", errors.RequestRefusedError, LOCATION, _status(405)),
    Failure("location answers 429, asks to wait", errors.RateLimitedError, LOCATION, _status(429, retry_after=7)),
    Failure("location answers 503", errors.ServerError, LOCATION, _status(503)),
    Failure("location expired", errors.LocationExpiredError, LOCATION, {"expired_location": True}, faulty="results"),
    Failure(
        "location is not https",
        errors.RequestRefusedError,
        LOCATION,
        {"location": f"http://storage.example.com/file?X-Simulator-Signature={quote(CANARY_KEY)}"},
        faulty="results",
        counts={"location": 0},
    ),
    # The connection.
    Failure("connection refused", errors.ConnectionFailedError, ("export_start", "list"), is_unreachable=True),
    Failure("reset in the middle of a file", errors.ConnectionFailedError, FILE, {"reset_after_bytes": 1000}),
    Failure("reset before an answer's first byte", errors.ConnectionFailedError, API, {"reset_after_bytes": 0}),
    Failure("file ends before its announced length", errors.ConnectionFailedError, FILE, {"short_body_bytes": 1000}),
    Failure("answer ends before its announced length", errors.ConnectionFailedError, JSON, {"short_body_bytes": 5}),
    Failure(
        "drip of a file, under the least speed",
        errors.ConnectionFailedError,
        FILE,
        {"drip_bytes_per_s": 1000},
        timeouts=SLOW,
    ),
    Failure("drip of a file, over the least speed", None, FILE, {"drip_bytes_per_s": 100_000}, timeouts=SLOW),
    Failure(
        "drip of an answer, past its deadline",
        errors.ConnectionFailedError,
        ("export_start", "list"),
        {"drip_bytes_per_s": 20},
        timeouts=SLOW,
    ),
    Failure("redirect to another host", errors.RequestRefusedError, (*API, "location"), {"redirect": "{elsewhere}"}),
    # What a good status brings.
    Failure("HTML with status 200", errors.RequestRefusedError, (*API, "location"), {"html": True}),
    Failure("empty answer where JSON is due", errors.ConnectionFailedError, JSON, {"empty_body": True}),
    Failure("empty file", errors.BundleIncompleteError, FILE, {"empty_body": True}),
    Failure("plain JSON without gzip", None, FILE, {"plain_json": True}),
    Failure("gzip twice", None, FILE, {"gzip_twice": True}),
    Failure("truncated gzip", errors.BundleIncompleteError, FILE, {"truncate_gzip_bytes": 9000}),
    Failure("corrupt gzip", errors.BundleFormatError, FILE, {"corrupt_gzip": True}),
    Failure("valid gzip, JSON cut", errors.BundleIncompleteError, FILE, {"cut_json": True}),
    Failure("gzip that unpacks a thousandfold", errors.BundleTooLargeError, FILE, {"bomb_mib": 256}),
    Failure(
        "clock 26 h ahead of FullStory's",
        errors.ClockAheadError,
        ("export_start", "list"),
        ahead=timedelta(hours=26),
        seen=("always",),
    ),
    # The export.
    Failure(
        "operation FAILED",
        errors.ExportFailedError,
        OPERATION,
        {"operation_state": "FAILED", "error_details": _ECHO["message"]},
    ),
    *(
        Failure(name, errors.ExportTimeoutError, OPERATION, {"operation_state": state}, is_waited_for=True)
        for name, state in (("operation never finished", "RUNNING"), ("operation state unknown", "SIMMERING"))
    ),
    # The list of bundles.
    Failure("Id as a number", None, ("get",), seen=("always",), bundles=((0, 24, 2**53 + 1), (24, 48, 7))),
    Failure("Id as a string", None, ("get",), seen=("always",), bundles=((0, 24, str(2**53 + 1)), (24, 48, "7"))),
    Failure("bundle longer than the window", None, ("get",), seen=("always",), bundles=((-24, 48, 1),),
            counts={"list": 2}),
    Failure(
        "bundles offset against the window",
        None,
        ("get",),
        seen=("always",),
        bundles=((-12, 12, 1), (12, 36, 2), (36, 60, 3)),
        counts={"get": 2},
    ),
    Failure(
        "bundles that overlap",
        errors.WindowUnavailableError,
        ("list",),
        seen=("always",),
        bundles=((0, 14, 1), (12, 24, 2), (24, 48, 3)),
    ),
    Failure(
        "bundles that leave a gap",
        errors.WindowUnavailableError,
        ("list",),
        seen=("always",),
        bundles=((0, 10, 1), (12, 24, 2), (24, 48, 3)),
    ),
    Failure(
        "window before the first bundle",
        errors.WindowNotOfferedError,
        ("list",),
        seen=("always",),
        bundles=((12, 24, 1), (24, 48, 2)),
        counts={"list": 2},
    ),
    Failure(
        "no bundle listed yet",
        errors.WindowUnavailableError,
        ("list",),
        seen=("always",),
        bundles=(),
        counts={"list": 2},
    ),
)  # fmt: skip
