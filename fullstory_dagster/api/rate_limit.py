"""The account's rate limit, shared by all its processes through one small note of who may send when.

FullStory counts requests by account, so processes that each keep their own count burn each other's. Here a request
reserves the next free slot under a lock and sleeps until then outside the lock: a process that dies while it waits
leaves one slot unused and holds nobody up. After a 429 the note says until when all of them wait.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timezone
from pathlib import Path
from typing import Literal, Protocol, TypeVar

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


class Ledger(Protocol):
    """A note that the processes of an account share: of one machine in a file, of several in a database."""

    def update(self, account: str, change: Callable[[str, float], tuple[str, T]]) -> T:
        """Change the note of an account, with everybody else shut out.

        Args:
            account: a name of hexadecimal digits.
            change: takes what is noted, empty at first, and the time, Unix seconds, by the clock that all who share the
                ledger go by; gives what is to be noted, and a result.

        Returns:
            The result.

        Raises:
            RateLimitedError: somebody shut everybody else out for too long.
        """
        ...


class FileLedger:
    """A file an account, for the processes of one machine.

    Args:
        directory: where they meet, e.g. ``<data dir>/rate_limit``; made when it is missing.
        clock: of the machine.
    """

    def __init__(self, directory: Path, clock: Clock | None = None) -> None:
        self._directory = directory
        self._clock = clock if clock is not None else SystemClock()

    def update(self, account: str, change: Callable[[str, float], tuple[str, T]]) -> T:
        """See :class:`Ledger`.

        Raises:
            SettingsError: the directory cannot be written.
            DiskFullError: the disk is full.
        """
        path, lock = self._directory / f"{account}.json", self._directory / f"{account}.lock"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with FileLock(lock, timeout=_LOCK_WAIT_S):
                noted, result = change(_text_of(path), _unix_s(self._clock))
                draft = path.with_suffix(".draft")  # written under the lock only
                draft.write_text(noted, encoding="utf-8")
                os.replace(draft, path)
                return result
        except Timeout:
            raise RateLimitedError(
                f"Another process has held {lock.name} in {self._directory} for {_LOCK_WAIT_S:.0f} s, so FullStory's "
                "rate limit cannot be kept; end that process if it hangs."
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


def _text_of(path: Path) -> str:
    # A file that cannot be read (a full disk, a power cut) costs one 429 at most: start afresh.
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _unix_s(clock: Clock) -> float:
    return clock.now().astimezone(timezone.utc).timestamp()


class RateLimiter:
    """Lets requests of one account through at the pace FullStory allows; safe between threads and processes.

    Args:
        ledger: where the processes of the account meet.
        base_url: FullStory's address; with the key it tells accounts apart.
        api_key: only its hash is kept and written.
        limits: the numbers known beforehand, by kind of request.
        max_wait_s: nobody waits longer than this for a turn. A time in the note further ahead than that can only come
            from a clock that was set back, and is passed over.
        clock: sleeps.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        base_url: str,
        api_key: str,
        limits: Mapping[Kind, Limit] = DEFAULT_LIMITS,
        max_wait_s: float = 3600.0,
        clock: Clock | None = None,
    ) -> None:
        self._account = hashlib.sha256("\0".join(("rate limit", base_url, api_key)).encode()).hexdigest()[:32]
        self._ledger = ledger
        self._limits = dict(limits)
        self._max_wait_s = max_wait_s
        self._clock = clock if clock is not None else SystemClock()

    def acquire(self, kind: Kind) -> None:
        """Return when a request of this kind may be sent; the slot then belongs to the caller.

        Raises:
            RateLimitedError: the next free slot is more than ``max_wait_s`` away.
            FullStoryError: the ledger could not be kept.
        """
        while True:
            wait_s = self._update(kind, lambda state, now: self._reserve(kind, state, now) - now)
            if wait_s <= 0:
                return
            self._clock.sleep(wait_s)
            # A 429 may have come in for somebody else meanwhile; then this slot is void.
            if self._update(kind, lambda state, now: state.closed_until <= now):
                return

    def penalize(self, kind: Kind, wait_s: float) -> None:
        """Make every process wait ``wait_s`` from now before its next request of this kind (after a 429)."""

        def close(state: _KindState, now: float) -> None:
            state.closed_until = max(state.closed_until, now + min(wait_s, self._max_wait_s))

        self._update(kind, close)

    def _reserve(self, kind: Kind, state: _KindState, now: float) -> float:
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

    def _update(self, kind: Kind, change: Callable[[_KindState, float], T]) -> T:
        def of_kind(noted: str, now: float) -> tuple[str, T]:
            states = self._read(noted, now)
            result = change(states.setdefault(kind, _KindState()), now)
            rows = {kind: {"slots": state.slots, "closed_until": state.closed_until} for kind, state in states.items()}
            return json.dumps(rows), result

        return self._ledger.update(self._account, of_kind)

    def _read(self, noted: str, now: float) -> dict[str, _KindState]:
        try:
            states = {
                str(kind): _KindState([float(slot) for slot in row["slots"]], float(row["closed_until"]))
                for kind, row in json.loads(noted).items()
            }
        except (ValueError, TypeError, KeyError, AttributeError):
            return {}
        horizon = now + self._max_wait_s
        for state in states.values():
            state.slots = [slot for slot in state.slots if slot <= horizon]
            state.closed_until = state.closed_until if state.closed_until <= horizon else 0.0
        return states
