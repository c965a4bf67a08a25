"""Traffic as an event source: sessions are made in the order in which they begin and merged into one stream."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime, timedelta

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.events import Row
from fullstory_dagster.simulator.traffic.app_visit import live_app_visit
from fullstory_dagster.simulator.traffic.calendar import day_of
from fullstory_dagster.simulator.traffic.people import Visit, visits
from fullstory_dagster.simulator.traffic.session import LONGEST_SESSION_MS, SessionRecorder
from fullstory_dagster.simulator.traffic.web_visit import WebVisit
from fullstory_dagster.windows import Window


class ShopTraffic:
    """Events of the shop from ``config.first_day()`` to the simulator's present.

    What happens on a day depends on the seed and the date alone. Only sessions that are under way are in memory.
    """

    def __init__(self, config: SimulatorConfig) -> None:
        self._config = config

    def span(self) -> Window:
        """From the first day to the midnight after the present."""
        first, now = self._config.first_day(), self._config.at()
        return Window(first, first + ((now - first) // timedelta(days=1) + 1) * timedelta(days=1))

    def events(self, start: datetime, end: datetime) -> Iterator[Row]:
        """Rows with EventStart in ``[start, end)``, in that order; equal instants by session."""
        start_ms = _milliseconds(max(start, self._config.first_day()))
        end_ms = _milliseconds(min(end, self._config.at()))
        # (instant, session, place in the session, row): the row itself is never compared.
        under_way: list[tuple[int, int, int, Row]] = []
        for visit in self._visits(start_ms - LONGEST_SESSION_MS, end_ms):
            while under_way and under_way[0][0] < visit.start_ms:
                yield heapq.heappop(under_way)[3]
            for index, (at_ms, row) in enumerate(session_rows(self._config.seed, visit)):
                if start_ms <= at_ms < end_ms:
                    heapq.heappush(under_way, (at_ms, visit.session_id, index, row))
        while under_way:
            yield heapq.heappop(under_way)[3]

    def _visits(self, start_ms: int, end_ms: int) -> Iterator[Visit]:
        day = day_of(start_ms)
        while day <= day_of(end_ms):
            for visit in visits(self._config.seed, day, self._config.scale):
                if start_ms <= visit.start_ms < end_ms:
                    yield visit
            day += timedelta(days=1)


def session_rows(seed: int, visit: Visit) -> list[tuple[int, Row]]:
    """The whole session, each row with its instant in Unix milliseconds."""
    recorder = SessionRecorder(seed, visit)
    if visit.device.kind == "app":
        live_app_visit(recorder)
    else:
        WebVisit(recorder).live()
    return recorder.finish()


def _milliseconds(instant: datetime) -> int:
    """Unix milliseconds, rounded up: an event has none below, so ``<`` and ``>=`` stay right."""
    return -((datetime.fromtimestamp(0, instant.tzinfo) - instant) // timedelta(milliseconds=1))
