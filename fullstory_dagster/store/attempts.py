"""Failed attempts, one small file a window: what the sensor, the checks and ``status`` know about failures."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime

from fullstory_dagster.errors import FullStoryError, TransientError, WindowUnavailableError, sentence_of
from fullstory_dagster.store.objects import ObjectStore, publish_text, read_json
from fullstory_dagster.windows import Window


@dataclass(frozen=True)
class FailedAttempt:
    """The latest failure of a window that has not been loaded since.

    Attributes:
        window: the window.
        stage: fetch, parse or append.
        error: the sentence.
        kind: name of the error's class.
        is_transient: whether another try can help without anybody doing anything.
        count: failures in a row, of whatever stage.
        last_at: when the latest one was, aware UTC.
    """

    window: Window
    stage: str
    error: str
    kind: str
    is_transient: bool
    count: int
    last_at: datetime


def may_pass(error: BaseException) -> bool:
    """Whether another try can help without anybody doing anything."""
    # What is not available yet becomes available by itself; a full disk is emptied by somebody.
    return isinstance(error, TransientError | WindowUnavailableError | OSError)


class AttemptLog:
    """Failed attempts of one schema, beside the bundles: whoever loads, on whatever host, sees them.

    Args:
        objects: the store.
        schema: of the account.
        at_hand: takes what the store does not: that it takes nothing has to be known as well, or the sensor would ask
            for the window again each minute.
    """

    def __init__(self, objects: ObjectStore, schema: str, at_hand: ObjectStore | None = None) -> None:
        self._objects = objects
        self._places = (objects, at_hand) if at_hand else (objects,)
        self._prefix = f"attempts/{schema}/"

    def record_failure(self, window: Window, stage: str, error: Exception, now: datetime) -> FailedAttempt:
        """Note a failure; counts on from the one before."""
        before = self.get(window)
        attempt = FailedAttempt(
            window=window,
            stage=stage,
            error=sentence_of(error),
            kind=type(error).__name__,
            is_transient=may_pass(error),
            count=before.count + 1 if before else 1,
            last_at=now,
        )
        entry = asdict(attempt) | {
            "window": [window.start.isoformat(), window.end.isoformat()],
            "last_at": now.isoformat(),
        }
        text = json.dumps(entry, indent=1)
        try:
            publish_text(self._objects, self._key(window), text)
        except FullStoryError:
            if len(self._places) == 1:
                raise
            publish_text(self._places[1], self._key(window), text)
        return attempt

    def clear(self, window: Window) -> None:
        """Forget the window's failures: it was loaded."""
        for place in self._places:
            place.delete(self._key(window))
            # A process that was killed while it noted a failure leaves a scratch file that no success would look at.
            place.sweep()

    def get(self, window: Window) -> FailedAttempt | None:
        """The window's latest failure, if it failed last."""
        return self._get(self._key(window))

    def all(self) -> dict[Window, FailedAttempt]:
        """Every window whose last attempt failed."""
        attempts = {}
        for key in {key for place in self._places for key in place.keys(self._prefix)}:
            # Between the listing and the reading another process may have loaded the window.
            if key.endswith("Z.json") and (attempt := self._get(key)):
                attempts[attempt.window] = attempt
        return attempts

    def _get(self, key: str) -> FailedAttempt | None:
        found = (read_json(place, key) for place in self._places)
        attempts = [_read(entry) for entry in found if entry is not None]
        return max(attempts, key=lambda attempt: attempt.last_at, default=None)

    def _key(self, window: Window) -> str:
        return f"{self._prefix}{window.slug}.json"


def _read(entry: dict[str, object]) -> FailedAttempt:
    start, end = entry.pop("window")  # type: ignore[misc]
    last_at = datetime.fromisoformat(str(entry.pop("last_at")))
    window = Window(datetime.fromisoformat(start), datetime.fromisoformat(end))  # type: ignore[has-type]
    return FailedAttempt(window=window, last_at=last_at, **entry)  # type: ignore[arg-type]
