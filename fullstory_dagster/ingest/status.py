"""What is true of every window since the start date, read from the store and the clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from fullstory_dagster.errors import WarehouseMismatchError, WindowNotOfferedError, WindowUnavailableError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.store.attempts import FailedAttempt
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window

State = Literal["loaded", "empty", "unsettled", "missing", "partial", "not offered", "expired", "failed"]

STATES: dict[State, str] = {
    "loaded": "in the warehouse, with all its rows",
    "empty": "loaded, but FullStory sent no rows for it; its retention may have passed",
    "unsettled": "loaded from an export asked for before the window was settled; it is fetched again",
    "missing": "available and not loaded yet",
    "partial": "FullStory's bundles do not cover it yet",
    "not offered": "older than FullStory's first bundle",
    "expired": "ended more than FULLSTORY_KEEP_EVENTS_DAYS ago; its events are deleted, or were never loaded",
    "failed": "the last attempt failed",
}

_UNAVAILABLE: dict[str, State] = {
    WindowUnavailableError.__name__: "partial",
    WindowNotOfferedError.__name__: "not offered",
}

RETRY_EVERY = timedelta(hours=1)
MAX_RETRIES = 48
"""A window that failed for something passing is tried hourly for two days; then a person has to look."""


@dataclass(frozen=True)
class WindowStatus:
    """One window.

    Attributes:
        window: which.
        state: see ``STATES``.
        available_at: from when on the clock allowed it to be fetched, aware UTC.
        load: its current load, if it was ever loaded.
        attempt: its last attempt, if that failed.
    """

    window: Window
    state: State
    available_at: datetime
    load: Load | None = None
    attempt: FailedAttempt | None = None

    def is_wanted(self, now: datetime) -> bool:
        """Whether the sensor should ask for it: never loaded or not settled, and no failure that needs a person."""
        if self.state in ("loaded", "empty", "expired"):
            return False
        if self.attempt:
            return self.is_tried_again and now - self.attempt.last_at >= RETRY_EVERY
        if self.state == "unsettled":
            return now >= self.window.settled_at
        return self.state == "missing"

    @property
    def is_tried_again(self) -> bool:
        """Whether the sensor asks for it again after its failure; otherwise a person has to."""
        if self.attempt is None:
            return False
        # Bundles that do not cover the window yet may take days: asking for the list again costs nothing.
        is_bounded = self.attempt.kind == WindowUnavailableError.__name__ or self.attempt.count <= MAX_RETRIES
        return self.attempt.is_transient and is_bounded

    @property
    def due_at(self) -> datetime | None:
        """Since when it could have been in the warehouse for good, aware UTC; None if it is, or can never be."""
        if self.state in ("loaded", "empty", "not offered", "expired") or (self.load and self.load.is_settled):
            return None
        return max(self.available_at, self.window.settled_at) if self.state == "unsettled" else self.available_at

    def late_by(self, now: datetime) -> timedelta | None:
        """How long it has been due; None if it is not."""
        return now - self.due_at if self.due_at and self.due_at <= now else None


@dataclass(frozen=True)
class Status:
    """Every window since the start date that the clock makes available, oldest first, and what dbt still owes.

    Attributes:
        windows: one entry each.
        n_pending_loads: loads that some dbt model does not hold yet; None before the first build.
        snapshot_made_at: age of the read snapshot, aware UTC.
        other_settings: windows loaded under settings that shaped their rows otherwise, by the setting's name.
        read_at: the moment this was true, aware UTC.
    """

    windows: list[WindowStatus]
    n_pending_loads: int | None
    snapshot_made_at: datetime | None
    other_settings: dict[str, list[Window]]
    read_at: datetime

    def count(self) -> dict[State, int]:
        """How many windows are in each state."""
        counted = Counter(status.state for status in self.windows)
        return {state: counted[state] for state in STATES}

    @property
    def is_build_due(self) -> bool:
        """Whether dbt owes anything."""
        return bool(self.loads) and self.n_pending_loads != 0

    @property
    def loads(self) -> list[Load]:
        """Current loads, oldest window first."""
        return [status.load for status in self.windows if status.load]


def read_status(ingestion: Ingestion) -> Status:
    """Look at the load log, the attempt log and the clock.

    Raises:
        WarehouseLockedError: somebody else held the warehouse for too long.
        WarehouseMismatchError: the warehouse holds windows of another length than the settings say.
    """
    now = ingestion.clock.now()
    loads = ingestion.warehouse.current_loads()
    _refuse_other_length(ingestion, loads)
    attempts = ingestion.attempts.all()
    # A window that was once loaded stays in sight, whatever the start date says now.
    windows = sorted({*ingestion.settings.grid.available(now), *loads})
    built = ingestion.warehouse.built_up_to()
    held = min(built.values(), default=None)
    return Status(
        windows=[_window_status(ingestion, window, loads.get(window), attempts.get(window)) for window in windows],
        n_pending_loads=None if held is None else sum(load.load_id > held for load in loads.values()),
        snapshot_made_at=ingestion.snapshot.made_at() if ingestion.snapshot else None,
        other_settings=_other_settings(ingestion, loads),
        read_at=now,
    )


def _refuse_other_length(ingestion: Ingestion, loads: dict[Window, Load]) -> None:
    length = ingestion.settings.grid.length
    other = next((window for window in loads if window.end - window.start != length), None)
    if other:
        raise WarehouseMismatchError(
            f"FULLSTORY_BUNDLE_HOURS says {ingestion.settings.bundle_hours}, but the warehouse holds windows of "
            f"another length, such as {other}; nothing was done. Set it back, or load into another FULLSTORY_SCHEMA "
            "with another FULLSTORY_STORE_URL.",
            setting="FULLSTORY_BUNDLE_HOURS",
        )


def _window_status(
    ingestion: Ingestion, window: Window, load: Load | None, attempt: FailedAttempt | None
) -> WindowStatus:
    if attempt and not attempt.is_transient and attempt.kind not in _UNAVAILABLE:
        bundle = ingestion.bundles.get(window)
        if bundle and bundle.received_at > attempt.last_at:
            # A person had it fetched again since: what is to be said of the new bundle is not known yet.
            attempt = None
    state = "expired" if ingestion.is_expired(window) and _is_gone(load) else _state(load, attempt)
    return WindowStatus(window, state, ingestion.settings.grid.available_at(window), load, attempt)


def _is_gone(load: Load | None) -> bool:
    return load is None or load.rows_expired > 0


def _state(load: Load | None, attempt: FailedAttempt | None) -> State:
    if attempt and attempt.kind not in _UNAVAILABLE:
        return "failed"
    # What expired under a shorter time to keep is to be had again.
    if load is None or _is_gone(load):
        return _UNAVAILABLE[attempt.kind] if attempt else "missing"
    # That FullStory does not have the window (any more) says nothing against the rows that are there.
    if not load.is_settled:
        return "unsettled"
    return "loaded" if load.rows_in else "empty"


def _other_settings(ingestion: Ingestion, loads: dict[Window, Load]) -> dict[str, list[Window]]:
    other: dict[str, list[Window]] = {}
    for window, load in loads.items():
        for name, value in ingestion.settings.shaping.items():
            if load.settings.get(name) != value:
                other.setdefault(name, []).append(window)
    return other
