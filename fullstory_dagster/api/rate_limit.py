"""The account's rate limit, shared by every process of this machine through one small file an account.

FullStory counts requests by account, so processes that each keep their own count burn each other's. Here a request
reserves the next free slot under a file lock and sleeps until then outside the lock: a process that dies while it waits
leaves one slot unused and holds nobody up. After a 429 the file says until when all of them wait.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock, Timeout

from fullstory_dagster.api.clock import Clock, SystemClock
from fullstory_dagster.disk import is_disk_full
from fullstory_dagster.errors import DiskFullError, RateLimitedError, SettingsError

T = TypeVar("T")

Kind = Literal["export_start", "operation", "results", "list", "get"]
"""What is asked of FullStory; ``get`` is a legacy download."""

_LOCK_WAIT_S = 60.0


@dataclass(frozen=True)
class Limit:
    """At most ``n_requests`` in any ``per_s`` seconds.

    Attributes:
        n_requests: how many.
        per_s: in how many seconds.
        margin_s: added to ``per_s``, because requests do not take the same time to arrive.
    """

    n_requests: int
    per_s: float
    margin_s: float = 1.0


LEGACY_DOWNLOADS = Limit(2, 60.0)
"""Source: data export reference, rate limit of get, read 2026-11."""

DEFAULT_LIMITS: Mapping[Kind, Limit] = {"get": LEGACY_DOWNLOADS}
"""The other calls have no number in FullStory's documents; a 429 is all we know of their limits."""


@dataclass
class _KindState:
    """Unix seconds: the last reserved slots, ascending, and the instant before which nobody sends."""

    slots: list[float] = field(default_factory=list)
    closed_until: float = 0.0


class RateLimiter:
    """Lets requests of one account through at the pace FullStory allows; safe between threads and processes.

    Args:
        directory: where the processes meet, e.g. ``<data dir>/rate_limit``; made when it is missing.
        base_url: FullStory's address; with the key it tells accounts apart.
        api_key: only its hash is kept and written.
        limits: the numbers known beforehand, by kind of request.
        max_wait_s: nobody waits longer than this for a turn. A time in the file further ahead than that can only come
            from a clock that was set back, and is passed over.
        clock: wall time, because several processes compare it.
    """

    def __init__(
        self,
        directory: Path,
        *,
        base_url: str,
        api_key: str,
        limits: Mapping[Kind, Limit] = DEFAULT_LIMITS,
        max_wait_s: float = 3600.0,
        clock: Clock | None = None,
    ) -> None:
        account = hashlib.sha256("\0".join(("rate limit", base_url, api_key)).encode()).hexdigest()[:32]
        self._directory = directory
        self._path = directory / f"{account}.json"
        self._lock_path = directory / f"{account}.lock"
        self._limits = dict(limits)
        self._max_wait_s = max_wait_s
        self._clock = clock if clock is not None else SystemClock()

    def acquire(self, kind: Kind) -> None:
        """Return when a request of this kind may be sent; the slot then belongs to the caller.

        Raises:
            RateLimitedError: the next free slot is more than ``max_wait_s`` away.
            SettingsError: the directory cannot be written.
            DiskFullError: the disk is full.
        """
        while True:
            slot = self._update(kind, lambda state: self._reserve(kind, state))
            wait_s = slot - self._wall_s()
            if wait_s <= 0:
                return
            self._clock.sleep(wait_s)
            # A 429 may have come in for somebody else meanwhile; then this slot is void.
            if self._update(kind, lambda state: state.closed_until) <= self._wall_s():
                return

    def penalize(self, kind: Kind, wait_s: float) -> None:
        """Make every process wait ``wait_s`` from now before its next request of this kind (after a 429)."""
        until = self._wall_s() + min(wait_s, self._max_wait_s)

        def close(state: _KindState) -> None:
            state.closed_until = max(state.closed_until, until)

        self._update(kind, close)

    def _reserve(self, kind: Kind, state: _KindState) -> float:
        now = self._wall_s()
        slot = max(now, state.closed_until)
        limit = self._limits.get(kind)
        if limit is None:
            return slot
        if len(state.slots) >= limit.n_requests:
            slot = max(slot, state.slots[-limit.n_requests] + limit.per_s + limit.margin_s)
        if slot - now > self._max_wait_s:
            raise RateLimitedError(
                f"So many downloads wait for FullStory's rate limit that this one's turn would come in "
                f"{slot - now:,.0f} s; run fewer at once.",
                retry_after_s=slot - now,
            )
        state.slots = [*state.slots, slot][-limit.n_requests :]
        return slot

    def _update(self, kind: Kind, change: Callable[[_KindState], T]) -> T:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with FileLock(self._lock_path, timeout=_LOCK_WAIT_S):
                states = self._read()
                result = change(states.setdefault(kind, _KindState()))
                self._write(states)
                return result
        except Timeout:
            raise RateLimitedError(
                f"Another process has held {self._lock_path.name} in {self._directory} for {_LOCK_WAIT_S:.0f} s, so "
                "FullStory's rate limit cannot be kept; end that process if it hangs."
            ) from None
        except OSError as error:
            if is_disk_full(error):
                raise DiskFullError(
                    f"FullStory was not asked: its rate limit is kept in {self._directory}, whose disk is full. Make "
                    "room and try again."
                ) from error
            raise SettingsError(
                "FULLSTORY_DATA_DIR", f"has to be writable, but {self._directory} is not: {error.strerror}."
            ) from error

    def _read(self) -> dict[str, _KindState]:
        # A file that cannot be read (a full disk, a power cut) costs one 429 at most: start afresh.
        try:
            raw = json.loads(self._path.read_bytes())
            states = {
                str(kind): _KindState([float(slot) for slot in row["slots"]], float(row["closed_until"]))
                for kind, row in raw.items()
            }
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return {}
        horizon = self._wall_s() + self._max_wait_s
        for state in states.values():
            state.slots = [slot for slot in state.slots if slot <= horizon]
            state.closed_until = state.closed_until if state.closed_until <= horizon else 0.0
        return states

    def _write(self, states: Mapping[str, _KindState]) -> None:
        rows = {kind: {"slots": state.slots, "closed_until": state.closed_until} for kind, state in states.items()}
        draft = self._path.with_suffix(".draft")  # written under the lock only
        draft.write_text(json.dumps(rows), encoding="utf-8")
        os.replace(draft, self._path)

    def _wall_s(self) -> float:
        now: datetime = self._clock.now()
        return now.astimezone(timezone.utc).timestamp()
