"""What is true of every window."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fullstory_dagster.errors import BundleFormatError, ServerError, WindowNotOfferedError, WindowUnavailableError
from fullstory_dagster.ingest.status import MAX_RETRIES, RETRY_EVERY, Status, WindowStatus, read_status
from fullstory_dagster.ingest.sync import sync

from .conftest import NOW, START, MakeIngestion, SettableClock, day

pytestmark = pytest.mark.slow


def states(status: Status) -> dict[int, str]:
    return {entry.window.start.day: entry.state for entry in status.windows}


def test_before_anything_was_done_every_available_window_is_missing(make_ingestion: MakeIngestion) -> None:
    status = read_status(make_ingestion())
    assert states(status) == dict.fromkeys([1, 2, 3, 4], "missing")
    assert status.count()["missing"] == 4
    assert (status.loads, status.n_pending_loads, status.snapshot_made_at, status.is_build_due) == (
        [],
        None,
        None,
        False,
    )


def test_a_window_without_rows_is_empty_and_not_loaded(make_ingestion: MakeIngestion) -> None:
    # FullStory's retention makes old windows come back empty: green is not complete.
    ingestion = make_ingestion(start=START - timedelta(days=1))
    sync(ingestion, end=day(2).start)
    assert states(read_status(ingestion)) == {31: "empty", 1: "loaded", 2: "missing", 3: "missing", 4: "missing"}


def test_dbt_owes_the_loads_that_some_model_does_not_hold(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion()
    sync(ingestion, end=day(3).start)
    assert read_status(ingestion).is_build_due
    with ingestion.warehouse.writing() as connection:
        connection.execute("INSERT INTO fullstory._builds VALUES ('sessions', 2, now()), ('page_durations', 1, now())")
    assert read_status(ingestion).n_pending_loads == 1
    with ingestion.warehouse.writing() as connection:
        connection.execute("INSERT INTO fullstory._builds VALUES ('page_durations', 2, now())")
    status = read_status(ingestion)
    assert (status.n_pending_loads, status.is_build_due) == (0, False)


def test_windows_loaded_under_other_settings_are_named(make_ingestion: MakeIngestion) -> None:
    sync(make_ingestion(), end=day(2).start)
    changed = make_ingestion(export_api="bundle", exclude_columns=("UserEmail",))
    sync(changed, end=day(3).start)
    other = read_status(changed).other_settings
    assert other == {"export_api": [day(1)], "segment_id": [day(1)], "exclude_columns": [day(1)]}
    assert read_status(make_ingestion()).other_settings["export_api"] == [day(2)]


def test_loaded_windows_stay_in_sight_when_the_start_date_moves(make_ingestion: MakeIngestion) -> None:
    sync(make_ingestion(), end=day(2).start)
    assert states(read_status(make_ingestion(start=day(3).start))) == {1: "loaded", 3: "missing", 4: "missing"}


@pytest.mark.parametrize(
    ("error", "state", "is_retried"),
    [
        (ServerError("x"), "failed", True),
        (BundleFormatError("x"), "failed", False),
        (WindowUnavailableError("x"), "partial", True),
        (WindowNotOfferedError("x"), "not offered", False),
    ],
)
def test_only_what_passes_by_itself_is_asked_for_again_and_not_at_once(
    make_ingestion: MakeIngestion, error: Exception, state: str, is_retried: bool
) -> None:
    ingestion = make_ingestion()
    ingestion.attempts.record_failure(day(1), "fetch", error, NOW)
    entry = read_status(ingestion).windows[0]
    assert entry.state == state
    assert not entry.is_wanted(NOW + RETRY_EVERY - timedelta(seconds=1))
    assert entry.is_wanted(NOW + RETRY_EVERY) is is_retried


def test_failures_are_retried_a_bounded_number_of_times_and_waiting_is_not_a_failure(
    make_ingestion: MakeIngestion,
) -> None:
    ingestion = make_ingestion()
    for _ in range(MAX_RETRIES + 1):
        ingestion.attempts.record_failure(day(1), "fetch", ServerError("x"), NOW)
        ingestion.attempts.record_failure(day(2), "fetch", WindowUnavailableError("x"), NOW)
    failed, partial, missing, _ = read_status(ingestion).windows
    assert [entry.is_wanted(NOW + RETRY_EVERY) for entry in (failed, partial, missing)] == [False, True, True]


def test_an_unsettled_window_is_wanted_when_it_has_settled(make_ingestion: MakeIngestion, clock: SettableClock) -> None:
    ingestion = make_ingestion(delay_hours=0)
    clock.at = day(1).end
    sync(ingestion)
    (entry,) = read_status(ingestion).windows
    assert isinstance(entry, WindowStatus)
    assert entry.state == "unsettled"
    assert not entry.is_wanted(day(1).settled_at - timedelta(seconds=1))
    assert entry.is_wanted(day(1).settled_at)
