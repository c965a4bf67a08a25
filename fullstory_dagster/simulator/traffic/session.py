"""Writing a session down: its clock, its page instances, and rows whose totals agree with each other."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from fullstory_dagster.simulator.events import Row
from fullstory_dagster.simulator.traffic.calendar import HOUR_MS
from fullstory_dagster.simulator.traffic.people import Visit
from fullstory_dagster.simulator.traffic.seeded import id_for, rng_for

LONGEST_SESSION_MS = 4 * HOUR_MS
"""No session lasts longer, so that it is known how far back the sessions begin that reach into a window."""

_FAREWELL_MS = LONGEST_SESSION_MS - HOUR_MS
_ATTENTION_MS = 7_000
"""Pauses up to this long count as active time on a page; of longer ones only a part does."""

_DERIVED = {"load", "seen", "thrash", "abandon", "first_input_delay", "cumulative_layout_shift"}
"""Kinds that FullStory works out itself. Which ones it counts as derived is a guess."""


@dataclass(frozen=True)
class Entry:
    """One event before it becomes a row: what changes from event to event."""

    at_ms: int
    kind: str
    fields: dict[str, Any]
    place: dict[str, Any]
    n_infos: int
    n_warnings: int
    n_errors: int


@dataclass
class _PageInstance:
    """One showing of a page, still open.

    Attributes:
        place: what the navigation inside the page changes: URL, name, ``page_*`` variables.
    """

    page_id: int
    start_ms: int
    referrer: str | None
    place: dict[str, Any]
    entries: list[Entry] = field(default_factory=list)
    active_ms: int = 0
    n_infos: int = 0
    n_warnings: int = 0
    n_errors: int = 0


class SessionRecorder:
    """A session being lived: time only goes forward, and events happen at the present.

    Attributes:
        rng: the session's own random numbers.
        now_ms: the present, Unix milliseconds, UTC.
    """

    def __init__(self, seed: int, visit: Visit) -> None:
        self.rng: random.Random = rng_for(seed, "session", visit.session_id)
        self.visit = visit
        self.now_ms = visit.start_ms
        # Some read every line, some never do.
        self._pace = self.rng.lognormvariate(0.4, 0.45)
        self._page: _PageInstance | None = None
        self._n_pages = 0
        self._rows: list[tuple[int, Row]] = []
        self._session_fields: Row = {
            "IndvId": 0,
            "UserId": visit.device.user_id,
            "SessionId": visit.session_id,
            "UserCreated": instant_text(visit.device.created_ms),
            "SessionStart": instant_text(visit.start_ms),
            **visit.person.on(visit.device),
        }

    @property
    def is_tired(self) -> bool:
        """Whether it is time to leave, so that the session ends well before the longest one allowed."""
        return self.now_ms - self.visit.start_ms > _FAREWELL_MS

    @property
    def url(self) -> str:
        """Where the visitor is; empty before the first page and in the app."""
        url: str = self._page.place.get("PageUrl", "") if self._page else ""
        return url

    @property
    def _open_page(self) -> _PageInstance:
        assert self._page is not None, "an event needs a page"  # noqa: S101
        return self._page

    def wait(self, milliseconds: float) -> None:
        """Let time pass."""
        duration = int(milliseconds)
        self.now_ms += duration
        if self._page is not None:
            attention = min(duration, _ATTENTION_MS)
            self._page.active_ms += attention + int((duration - attention) * self.rng.uniform(0.05, 0.4))

    def think(self, median_s: float, spread: float = 0.6) -> None:
        """Let a person's pause pass: most are near the median, a few are much longer."""
        self.wait(1000 * min(median_s * self._pace * self.rng.lognormvariate(0, spread), 1500))

    def open_page(self, place: dict[str, Any], referrer: str | None) -> None:
        """Begin a page instance, which ends the one before it."""
        self.close_page()
        self._n_pages += 1
        page_id = id_for(self.visit.session_id, "page", self._n_pages)
        self._page = _PageInstance(page_id, self.now_ms, referrer, place)

    def move_to(self, place: dict[str, Any]) -> None:
        """Change the URL within the page instance, as single-page applications do."""
        self._open_page.place = place

    def emit(self, kind: str, **fields: Any) -> None:
        """Something happens now."""
        page = self._open_page
        page.entries.append(Entry(self.now_ms, kind, fields, page.place, page.n_infos, page.n_warnings, page.n_errors))

    def log(self, *, infos: int = 0, warnings: int = 0, errors: int = 0) -> None:
        """Let the page write to its console; the counts are seen from the next event on."""
        page = self._open_page
        page.n_infos += infos
        page.n_warnings += warnings
        page.n_errors += errors

    def close_page(self) -> None:
        """End the page instance and make its rows: now its totals are known."""
        page, self._page = self._page, None
        if page is None:
            return
        duration = self.now_ms - page.start_ms
        totals: Row = {
            "PageStart": instant_text(page.start_ms),
            "PageDuration": duration,
            "PageActiveDuration": min(page.active_ms, duration),
            "PageNumEvents": len(page.entries),
            "PageNumDerivedEvents": sum(entry.kind in _DERIVED for entry in page.entries),
        }
        if page.referrer is not None:
            totals["PageRefererUrl"] = page.referrer
        for entry in page.entries:
            row = {
                **self._session_fields,
                "PageId": page.page_id,
                "EventStart": instant_text(entry.at_ms),
                "EventType": entry.kind,
                **entry.fields,
                "EventPageOffset": entry.at_ms - page.start_ms,
                "EventSessionOffset": entry.at_ms - self.visit.start_ms,
                **totals,
                **self.visit.device.fields,
                "PageNumInfos": entry.n_infos,
                "PageNumWarnings": entry.n_warnings,
                "PageNumErrors": entry.n_errors,
                **entry.place,
                **self.visit.person.variables,
            }
            self._rows.append((entry.at_ms, row))

    def finish(self) -> list[tuple[int, Row]]:
        """End the session. Returns its rows in order, each with its instant in Unix milliseconds."""
        self.close_page()
        assert self.now_ms - self.visit.start_ms < LONGEST_SESSION_MS  # noqa: S101
        return self._rows


@lru_cache(maxsize=4096)
def _second_text(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")


def instant_text(unix_ms: int) -> str:
    """RFC 3339 in UTC to the millisecond, as FullStory writes it."""
    seconds, milliseconds = divmod(unix_ms, 1000)
    return f"{_second_text(seconds)}.{milliseconds:03d}Z"
