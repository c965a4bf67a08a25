"""What keeps the warehouse from holding every window for good, in the words of ``status`` and of the asset check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from fullstory_dagster.ingest.status import MAX_RETRIES, State, Status, WindowStatus
from fullstory_dagster.windows import Window, name_ranges

LATE_AFTER = timedelta(hours=3)
"""What has been due for less is on its way: the sensor looks every minute, and tries again what failed every hour."""

_NAMED = 20
_ORDER: tuple[State, ...] = ("failed", "missing", "partial", "unsettled", "empty", "not offered")


@dataclass(frozen=True)
class Gap:
    """Windows that are not in the warehouse for good, for one reason.

    Attributes:
        state: of all of them.
        windows: oldest first.
        says: why, since when, and what to do.
        late_by: how long the latest of them has been due; None if none is.
        is_expected: nothing is wrong: they are on their way.
    """

    state: State
    windows: list[Window]
    says: str
    late_by: timedelta | None = None
    is_expected: bool = False

    def __str__(self) -> str:
        """Windows as ranges, their state, and the sentence."""
        return f"{name_ranges(self.windows, _NAMED)}: {self.state}. {self.says}"


def find_gaps(status: Status) -> list[Gap]:
    """Every window since the start date that is not simply loaded, grouped by what is to be said of it."""
    gaps = []
    for state in _ORDER:
        grouped: dict[tuple[str, bool], list[WindowStatus]] = {}
        for entry in status.windows:
            if entry.state == state:
                late_by = entry.late_by(status.read_at)
                is_expected = state in _PASS_BY_THEMSELVES and (late_by is None or late_by < LATE_AFTER)
                grouped.setdefault((_reason(entry), is_expected), []).append(entry)
        for (_, is_expected), entries in grouped.items():
            windows = [entry.window for entry in entries]
            late = [late_by for entry in entries if (late_by := entry.late_by(status.read_at))]
            gaps.append(
                Gap(state, windows, _SENTENCES[state](entries, is_expected), max(late, default=None), is_expected)
            )
    return gaps


_PASS_BY_THEMSELVES = ("missing", "partial", "unsettled")


def _reason(entry: WindowStatus) -> str:
    """Tells failures apart that need another sentence; the window's own name makes no difference."""
    if entry.state != "failed" or entry.attempt is None:
        return ""
    error = entry.attempt.error.replace(str(entry.window), "")
    return f"{error} {entry.is_tried_again} {entry.load is not None}"


def _failed(entries: Sequence[WindowStatus], _is_expected: bool) -> str:
    entry = entries[-1]
    attempt = entry.attempt
    assert attempt is not None  # noqa: S101 (what makes a window failed)
    tries = "1 try" if attempt.count == 1 else f"{attempt.count} tries"
    kept = "The rows loaded before are kept" if entry.load else "Nothing of it is in the warehouse"
    if entry.is_tried_again:
        then = f"it is tried again every hour, {MAX_RETRIES} times at most"
    else:
        then = "it is not tried again by itself: mend that, then run 'fullstory-dagster sync' or materialize it"
    tried = f"{tries}, the last at {attempt.last_at:%Y-%m-%d %H:%M} UTC"
    return f"{attempt.error} ({tried}) {kept}; {then}."


def _missing(entries: Sequence[WindowStatus], is_expected: bool) -> str:
    if is_expected:
        return f"Available {_since(entries)}; the sensor or the next sync loads it."
    return (
        f"Available {_since(entries)} and not loaded: late. Is 'fullstory-dagster dev' running, and the sensor "
        "new_windows on? Its last tick gives its reason; or run 'fullstory-dagster sync'."
    )


def _partial(entries: Sequence[WindowStatus], is_expected: bool) -> str:
    attempt = entries[0].attempt
    said = attempt.error.rstrip(".") if attempt else "FullStory's bundles do not cover it"
    late = "" if is_expected else f" Due {_since(entries)}: late; if that lasts, ask FullStory's support."
    return f"{said}. It is asked for again every hour.{late}"


def _unsettled(entries: Sequence[WindowStatus], is_expected: bool) -> str:
    said = "Loaded from an export that was asked for while events still changed"
    if is_expected:
        return f"{said}; it is fetched again once settled, from {entries[0].due_at:%Y-%m-%d %H:%M} UTC on."
    return (
        f"{said}, and not fetched again since it settled, {_since(entries)}: late. Is the sensor new_windows on? "
        "Or run 'fullstory-dagster sync'."
    )


def _empty(_entries: Sequence[WindowStatus], _is_expected: bool) -> str:
    return (
        "Loaded, but FullStory sent no row. That is right only if nobody came: it also sends nothing for windows past "
        "the account's retention, and for a segment nobody is in. Compare with FullStory itself; to be rid of windows "
        "that are gone, move FULLSTORY_START_DATE past them."
    )


def _not_offered(_entries: Sequence[WindowStatus], _is_expected: bool) -> str:
    return "Older than FullStory's first bundle, so it cannot be had; move FULLSTORY_START_DATE past it."


def _since(entries: Sequence[WindowStatus]) -> str:
    due = [entry.due_at for entry in entries if entry.due_at]
    first, last = min(due), max(due)
    return f"since {first:%Y-%m-%d %H:%M} UTC" + ("" if first == last else f" (the newest since {last:%Y-%m-%d %H:%M})")


_SENTENCES: dict[State, Callable[[Sequence[WindowStatus], bool], str]] = {
    "failed": _failed,
    "missing": _missing,
    "partial": _partial,
    "unsettled": _unsettled,
    "empty": _empty,
    "not offered": _not_offered,
}
