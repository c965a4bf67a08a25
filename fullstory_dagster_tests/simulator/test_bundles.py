"""Legacy bundles and their rate limit, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from fullstory_dagster.simulator.bundles import Bundle, Bundles, RateLimit
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.events import Row
from fullstory_dagster.windows import Window

JUNE_1 = datetime(2026, 6, 1, tzinfo=timezone.utc)


class TwoDays:
    def span(self) -> Window:
        return Window(JUNE_1, JUNE_1 + timedelta(days=2))

    def events(self, start: datetime, end: datetime) -> Iterator[Row]:
        return iter(())


def n_listed(now: datetime, bundle_hours: int) -> int:
    return len(Bundles(SimulatorConfig(now=now, bundle_hours=bundle_hours), TwoDays()).page(0))


def test_a_bundle_is_listed_a_day_after_its_end_and_not_before() -> None:
    # The documented example: events of June 1, 12:00-18:00 can be had from June 2, 18:00.
    due = JUNE_1 + timedelta(days=1, hours=18)
    assert n_listed(due - timedelta(milliseconds=1), 6) == 2
    assert n_listed(due, 6) == 3
    assert n_listed(JUNE_1 + timedelta(days=9), 6) == 8


def test_start_takes_the_bundles_that_stop_after_it() -> None:
    bundles = Bundles(SimulatorConfig(now=JUNE_1 + timedelta(days=9), bundle_hours=12), TwoDays())
    first, second, *_ = bundles.page(0)
    assert bundles.page(first.stop - 1)[0] == first
    assert bundles.page(first.stop)[0] == second


def test_an_id_is_found_as_text_whether_it_is_listed_as_a_number_or_not() -> None:
    for ids, kind in (("number", int), ("text", str)):
        bundles = Bundles(SimulatorConfig(now=JUNE_1 + timedelta(days=9), bundle_ids=ids), TwoDays())  # type: ignore[arg-type]
        bundle = bundles.page(0)[0]
        assert type(bundle.id) is kind
        assert bundles.find(str(bundle.id)) == bundle


def test_a_limit_refuses_what_is_too_much_and_names_the_seconds_until_it_is_not() -> None:
    limit = RateLimit(calls=2, minute_s=60)
    assert [limit.wait_s("key", now) for now in (100.0, 110.0, 110.5, 159.5)] == [0, 0, 50, 1]
    assert limit.wait_s("another key", 110.5) == 0
    assert limit.wait_s("key", 160.0) == 0
    assert limit.wait_s("key", 160.0) == 10


def test_no_limit_is_no_limit() -> None:
    assert {RateLimit(calls=0, minute_s=60).wait_s("key", 1.0) for _ in range(9)} == {0}


def test_a_bundle_needs_its_three_parts() -> None:
    assert Bundle.of({"Id": "a", "Start": 1, "Stop": 2}).document() == {"Id": "a", "Start": 1, "Stop": 2}
    with pytest.raises(ValueError, match="Id, Start and Stop"):
        Bundle.of({"Id": "a", "Start": "1", "Stop": 2})
