"""Traffic as an event source: days made when they are asked for, a few of them remembered."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import datetime, timedelta

from fullstory_dagster.simulator.config import SimulatorConfig, format_instant
from fullstory_dagster.simulator.events import Row
from fullstory_dagster.windows import Window


class ShopTraffic:
    """Events of the shop from ``config.first_day()`` to the simulator's present."""

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config

    def span(self) -> Window:
        """From the first day to the midnight after the present."""
        first, now = self._config.first_day(), self._config.at()
        return Window(first, first + ((now - first) // timedelta(days=1) + 1) * timedelta(days=1))

    def events(self, start: datetime, end: datetime) -> Iterator[Row]:
        """Rows with EventStart in ``[start, end)``, in that order."""
        start, end = max(start, self._config.first_day()), min(end, self._config.at())
        hour = start.replace(minute=0, second=0, microsecond=0)
        while hour < end:
            digest = hashlib.sha256(f"{self._config.seed} {hour.isoformat()}".encode()).digest()
            rng = random.Random(digest)  # noqa: S311 - made-up traffic
            ids = {"UserId": rng.getrandbits(63), "SessionId": rng.getrandbits(63), "PageId": rng.getrandbits(63)}
            for second in range(0, 600, 30):
                at = hour + timedelta(seconds=second)
                if start <= at < end:
                    kind = rng.choice(("click", "navigate", "load"))
                    yield {"IndvId": ids["UserId"], **ids, "EventStart": format_instant(at), "EventType": kind}
            hour += timedelta(hours=1)
