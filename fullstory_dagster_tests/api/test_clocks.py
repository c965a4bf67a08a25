"""This machine's clock against FullStory's, which the simulator's answers carry."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest

from fullstory_dagster.api import RetryPolicy
from fullstory_dagster.api.clock import SystemClock, instant_of_date
from fullstory_dagster.errors import ClockAheadError
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import DAY, MakeClient
from .fetching import count, fetch


class ShiftedClock(SystemClock):
    """The machine's clock, set wrong."""

    def __init__(self, ahead: timedelta) -> None:
        self._ahead = ahead

    def now(self) -> datetime:
        return super().now() + self._ahead


def test_a_clock_a_day_ahead_is_a_failure_that_says_so(make_client: MakeClient, simulator: SimulatorProcess) -> None:
    client = make_client(clock=ShiftedClock(timedelta(hours=26)))
    with pytest.raises(ClockAheadError, match=r"clock \(.*UTC\) is ahead of FullStory's \(.*set the clock") as caught:
        fetch(client)
    assert "\n" not in str(caught.value)
    assert count(simulator, "export_start") == 1
    with pytest.raises(ClockAheadError):
        client.bundles_of_window(DAY)


def test_a_clock_two_minutes_ahead_yields_to_fullstorys(make_client: MakeClient) -> None:
    client = make_client(clock=ShiftedClock(timedelta(minutes=2)))
    # Servers renew their Date once a second, and it has no fractions.
    before = datetime.now(timezone.utc) - timedelta(seconds=5)
    fetched, _ = fetch(client)
    (bundle,) = client.bundles_of_window(DAY)
    downloaded = client.download_bundle(bundle, into=io.BytesIO())
    for requested_at in (fetched.requested_at, downloaded.requested_at):
        assert before <= requested_at <= datetime.now(timezone.utc)


def test_a_clock_behind_is_believed(make_client: MakeClient) -> None:
    client = make_client(clock=ShiftedClock(timedelta(days=-30)))
    before = datetime.now(timezone.utc) - timedelta(days=30)
    fetched, _ = fetch(client)
    assert before <= fetched.requested_at <= fetched.received_at <= datetime.now(timezone.utc) - timedelta(days=30)


def test_a_retry_after_that_is_a_date_is_measured_by_the_clock_that_wrote_it(
    make_client: MakeClient, simulator: SimulatorProcess
) -> None:
    # An hour of difference would make it an hour's wait, which is given up at once.
    client = make_client(clock=ShiftedClock(timedelta(hours=-1)), retry=RetryPolicy(backoff_base_s=0.001))
    soon = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=1), usegmt=True)
    simulator.set_faults([{"route": "export_start", "status": 429, "retry_after": soon}])
    fetch(client)
    assert count(simulator, "export_start") == 2


@pytest.mark.parametrize(
    "header", ["Tue, 24 Nov 2026 19:00:00 GMT", "Tue, 24 Nov 2026 19:00:00 -0000", "Tue, 24 Nov 2026 20:00:00 +0100"]
)
def test_a_date_is_read_in_utc(header: str) -> None:
    assert instant_of_date(header) == datetime(2026, 11, 24, 19, tzinfo=timezone.utc)


@pytest.mark.parametrize("header", [None, "", "yesterday", "Tue, 99 Nov 2026 19:00:00 GMT", "1764010000"])
def test_what_is_no_date_is_passed_over(header: str | None) -> None:
    assert instant_of_date(header) is None
