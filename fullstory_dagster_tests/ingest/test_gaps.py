"""What is said of windows that are not simply loaded: each state end to end, through real loads and failures."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fullstory_dagster.errors import AuthenticationError, ServerError, WindowUnavailableError
from fullstory_dagster.ingest.gaps import LATE_AFTER, Gap, find_gaps
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.status import MAX_RETRIES, RETRY_EVERY, read_status
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import NOW, START, MakeIngestion, SettableClock, day

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)


def gaps(ingestion: Ingestion) -> list[Gap]:
    return find_gaps(read_status(ingestion))


def test_nothing_is_said_when_everything_is_loaded(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion()
    sync(ingestion)
    assert gaps(ingestion) == []


def test_missing_windows_are_on_their_way_first_and_late_after(
    make_ingestion: MakeIngestion, clock: SettableClock
) -> None:
    ingestion = make_ingestion()
    sync(ingestion, start=day(2).start, end=day(4).start)
    old, new = gaps(ingestion)
    # June 4 has been available for an hour.
    assert ([old.windows, new.windows], old.is_expected, new.is_expected) == ([[day(1)], [day(4)]], False, True)
    assert (old.late_by, new.late_by) == (NOW - day(1).settled_at, HOUR)
    assert str(old).startswith(f"{day(1)}: missing. Available since 2026-06-03 00:00 UTC and not loaded: late.")
    assert str(new) == f"{day(4)}: missing. Available since 2026-06-06 00:00 UTC; the sensor or the next sync loads it."
    clock.at = day(4).settled_at + LATE_AFTER
    [both] = gaps(ingestion)
    assert (both.windows, both.is_expected) == ([day(1), day(4)], False)
    assert "since 2026-06-03 00:00 UTC (the newest since 2026-06-06 00:00) and not loaded: late." in both.says


def test_an_empty_window_is_loaded_and_suspicious(make_ingestion: MakeIngestion) -> None:
    # FullStory's retention makes old windows come back empty: green is not complete.
    ingestion = make_ingestion(start=START - timedelta(days=3))
    sync(ingestion)
    [gap] = gaps(ingestion)
    assert gap.state == "empty"
    assert gap.windows == [day(-2), day(-1), day(0)]
    assert (gap.is_expected, gap.late_by) == (False, None)
    assert str(gap).startswith("2026-05-29 00:00 to 2026-06-01 00:00 UTC: empty. Loaded, but FullStory sent no row.")
    assert "retention" in gap.says
    assert "FULLSTORY_START_DATE" in gap.says


def test_an_unsettled_window_is_on_its_way_until_it_has_been_settled_for_a_while(
    make_ingestion: MakeIngestion, clock: SettableClock
) -> None:
    ingestion = make_ingestion(delay_hours=0)
    clock.at = day(1).end
    sync(ingestion)
    [gap] = gaps(ingestion)
    assert (gap.state, gap.is_expected, gap.late_by) == ("unsettled", True, None)
    assert gap.says.endswith("it is fetched again once settled, from 2026-06-03 00:00 UTC on.")
    clock.at = day(1).settled_at + LATE_AFTER
    unsettled = next(gap for gap in gaps(ingestion) if gap.state == "unsettled")
    assert (unsettled.is_expected, unsettled.late_by) == (False, LATE_AFTER)
    assert "not fetched again since it settled, since 2026-06-03 00:00 UTC: late." in unsettled.says
    sync(ingestion, end=day(2).start)
    assert "unsettled" not in {gap.state for gap in gaps(ingestion)}


def test_windows_without_their_bundles_are_partial_or_not_offered(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, clock: SettableClock
) -> None:
    ingestion = make_ingestion(export_api="bundle")
    clock.at = day(4).settled_at + LATE_AFTER
    start, stop = int(day(2).start.timestamp()), int(day(3).end.timestamp())
    simulator.set_bundles([{"Id": 7, "Start": start, "Stop": start + 86400}])
    sync(ingestion)
    partial, not_offered = gaps(ingestion)
    assert (partial.state, partial.windows) == ("partial", [day(3), day(4)])
    assert "It is asked for again every hour. Due since 2026-06-05 00:00 UTC (the newest since " in partial.says
    assert (not_offered.state, not_offered.windows, not_offered.late_by) == ("not offered", [day(1)], None)
    assert "move FULLSTORY_START_DATE past it" in not_offered.says
    # Once FullStory lists the bundle, the window is like any other.
    listed = [{"Id": 7, "Start": start, "Stop": start + 86400}, {"Id": 8, "Start": stop - 86400, "Stop": stop}]
    simulator.set_bundles(listed)
    sync(ingestion)
    assert [gap.windows for gap in gaps(ingestion)] == [[day(4)], [day(1)]]


def test_a_failure_says_what_is_kept_and_who_has_to_act(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion()
    sync(ingestion, end=day(3).start)
    refused = AuthenticationError("FullStory did not accept the API key.")
    for window in (day(1), day(2)):
        ingestion.attempts.record_failure(window, "fetch", refused, NOW)
    ingestion.attempts.record_failure(day(3), "fetch", ServerError(f"FullStory failed on {day(3)}."), NOW - HOUR)
    ingestion.attempts.record_failure(day(4), "fetch", ServerError(f"FullStory failed on {day(4)}."), NOW)
    loaded, new = gaps(ingestion)
    assert (loaded.windows, new.windows) == ([day(1), day(2)], [day(3), day(4)])
    assert loaded.says == (
        "FullStory did not accept the API key. (1 try, the last at 2026-06-06 01:00 UTC) The rows loaded before are "
        "kept; it is not tried again by itself: mend that, then run 'fullstory-dagster sync' or materialize it."
    )
    assert new.says == (
        f"FullStory failed on {day(4)}. (1 try, the last at 2026-06-06 01:00 UTC) Nothing of it is in the warehouse; "
        "it is tried again every hour, 48 times at most."
    )
    # Its rows are there: the failure is what is wrong, not that it is late.
    assert (loaded.late_by, new.late_by) == (None, NOW - day(3).settled_at)


def test_a_failure_that_was_tried_often_enough_waits_for_a_person(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion()
    for _ in range(MAX_RETRIES + 1):
        ingestion.attempts.record_failure(day(1), "fetch", ServerError("FullStory failed."), NOW)
    failed = gaps(ingestion)[0]
    assert "(49 tries, " in failed.says
    assert "it is not tried again by itself" in failed.says


def test_a_permanent_failure_is_over_once_a_person_had_the_window_fetched_again(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, clock: SettableClock
) -> None:
    ingestion = make_ingestion()
    sync(ingestion, start=day(2).start)
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    with ingestion.client() as client:
        with pytest.raises(Exception, match="404"):
            ingestion.fetch(day(1), client)
        clock.at = NOW + 10 * RETRY_EVERY
        entry = read_status(ingestion).windows[0]
        assert (entry.state, entry.is_wanted(clock.at)) == ("failed", False)
        ingestion.fetch(day(1), client)
    # Nothing follows a bundle that the command line or a stopped daemon left: the sensor has to take it further.
    entry = read_status(ingestion).windows[0]
    assert (entry.state, entry.is_wanted(clock.at)) == ("missing", True)


def test_a_loaded_window_whose_new_bundle_is_late_goes_on_being_asked_for(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion(delay_hours=0)
    clock = ingestion.clock
    assert isinstance(clock, SettableClock)
    clock.at = day(1).end
    sync(ingestion)
    waiting = WindowUnavailableError("FullStory's bundles do not cover it yet.")
    for _ in range(MAX_RETRIES + 5):
        ingestion.attempts.record_failure(day(1), "fetch", waiting, day(1).settled_at)
    entry = read_status(ingestion).windows[0]
    assert (entry.state, entry.is_wanted(day(1).settled_at + RETRY_EVERY)) == ("unsettled", True)
