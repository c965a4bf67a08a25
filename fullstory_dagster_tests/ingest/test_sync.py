"""Many windows: each comes to its own end, and a second sync mends what failed."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fullstory_dagster.api import RetryPolicy
from fullstory_dagster.errors import SettingsError, UsageError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.status import STATES, read_status
from fullstory_dagster.ingest.sync import reset, sync
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.windows import Window

from .conftest import N_EVENTS_A_DAY, START, MakeIngestion, SettableClock, day

slow = pytest.mark.slow

DAYS = [day(number) for number in range(1, 5)]
NOWHERE = "http://127.0.0.1:9"


def states(ingestion: Ingestion) -> list[str]:
    return [entry.state for entry in read_status(ingestion).windows]


def n_rows(ingestion: Ingestion) -> int:
    rows = ingestion.warehouse.query(
        'SELECT count(*) AS n, count(DISTINCT _event_id) AS n_ids FROM "fullstory"."events"'
    )
    assert rows[0]["n"] == rows[0]["n_ids"]
    return int(rows[0]["n"])


def exports_started(simulator: SimulatorProcess) -> int:
    return sum(request["path"] == "/segments/v1/exports" for request in simulator.requests())


@slow
@pytest.mark.parametrize("api", ["segment", "bundle"])
def test_every_available_window_is_loaded_once(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, api: str, anywhere: dict[str, Any]
) -> None:
    ingestion = make_ingestion(export_api=api, **anywhere)
    seen: list[tuple[Window, int, int]] = []
    summary = sync(ingestion, progress=lambda outcome, n, of: seen.append((outcome.window, n, of)))
    assert {load.window for load in summary.loaded} == set(DAYS)
    assert (summary.n_rows, summary.failed, summary.skipped) == (4 * N_EVENTS_A_DAY, {}, {})
    assert [(n, of) for _, n, of in seen] == [(n, 4) for n in range(1, 5)]
    assert states(ingestion) == ["loaded"] * 4
    assert n_rows(ingestion) == 4 * N_EVENTS_A_DAY
    n_requests = len(simulator.requests())
    again = sync(ingestion)
    assert again.loaded == []
    assert again.skipped == dict.fromkeys(DAYS, "already loaded")
    assert len(simulator.requests()) == n_requests


@slow
def test_one_at_a_time_goes_from_the_oldest_on(make_ingestion: MakeIngestion) -> None:
    summary = sync(make_ingestion(), jobs=1)
    assert [(load.load_id, load.window) for load in summary.loaded] == list(enumerate(DAYS, start=1))


@slow
def test_a_range_takes_the_windows_that_begin_in_it(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion()
    summary = sync(ingestion, start=day(2).start + timedelta(hours=1), end=day(4).start)
    assert [load.window for load in summary.loaded] == [day(3)]
    assert states(ingestion) == ["missing", "missing", "loaded", "missing"]


@slow
def test_a_clock_that_is_ahead_ends_the_sync_with_the_first_window(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, clock: SettableClock
) -> None:
    clock.at = datetime.now(timezone.utc) + timedelta(hours=26)
    summary = sync(make_ingestion(), end=day(5).start, jobs=1)
    ((window, sentence),) = summary.failed.items()
    assert (window, "set the clock" in sentence) == (day(1), True)
    assert set(summary.skipped) == {day(2), day(3), day(4)}
    # The one that had begun meanwhile is not taken back.
    assert len(simulator.requests()) <= 2


@slow
@pytest.mark.parametrize("status", [400, 500])
def test_a_window_that_fails_stops_no_other_and_the_next_sync_heals_it(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, status: int
) -> None:
    ingestion = make_ingestion()
    # What may pass is first tried again by the client.
    times = 1 if status == 400 else RetryPolicy().max_requests
    simulator.set_faults([{"route": "export_start", "status": status, "skip": 1, "times": times}])
    summary = sync(ingestion, jobs=1)
    assert [load.window for load in summary.loaded] == [day(1), day(3), day(4)]
    ((window, sentence),) = summary.failed.items()
    assert (window, str(status) in sentence) == (day(2), True)
    assert states(ingestion) == ["loaded", "failed", "loaded", "loaded"]
    attempt = read_status(ingestion).windows[1].attempt
    assert attempt is not None
    assert (attempt.stage, attempt.error, attempt.count, attempt.is_transient) == ("fetch", sentence, 1, status == 500)
    healed = sync(ingestion)
    assert [load.window for load in healed.loaded] == [day(2)]
    assert states(ingestion) == ["loaded"] * 4
    assert ingestion.attempts.all() == {}


@slow
def test_a_bundle_that_cannot_be_read_fails_alone_and_loads_nothing_of_itself(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    ingestion = make_ingestion()
    simulator.set_faults([{"route": "location", "html": True, "times": 1}])
    summary = sync(ingestion, jobs=1)
    assert list(summary.failed) == [day(1)]
    assert "HTML" in summary.failed[day(1)]
    assert n_rows(ingestion) == 3 * N_EVENTS_A_DAY


@slow
def test_what_fullstory_does_not_have_is_skipped_with_the_reason(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    ingestion = make_ingestion(export_api="bundle")
    first = int(START.timestamp())
    simulator.set_bundles([{"Id": n, "Start": first + n * 86400, "Stop": first + (n + 1) * 86400} for n in (1, 3)])
    summary = sync(ingestion)
    assert {load.window for load in summary.loaded} == {day(2), day(4)}
    assert summary.failed == {}
    assert "no bundle for the beginning" in summary.skipped[day(1)]
    assert "do not cover" in summary.skipped[day(3)]
    assert states(ingestion) == ["not offered", "loaded", "partial", "loaded"]
    simulator.clear()
    assert {load.window for load in sync(ingestion).loaded} == {day(1), day(3)}
    assert states(ingestion) == ["loaded"] * 4


@slow
def test_a_window_loaded_too_early_is_loaded_again_once_it_has_settled(
    make_ingestion: MakeIngestion, clock: SettableClock, simulator: SimulatorProcess
) -> None:
    ingestion = make_ingestion(delay_hours=0)
    clock.at = day(1).end + timedelta(hours=1)
    assert len(sync(ingestion).loaded) == 1
    assert states(ingestion) == ["unsettled"]
    clock.at = day(1).settled_at - timedelta(seconds=1)
    assert sync(ingestion).skipped == {day(1): "already loaded"}
    clock.at = day(1).settled_at
    # It fails at first: its rows stay, and it is not taken for loaded for that.
    simulator.set_faults([{"route": "export_start", "status": 400}])
    assert list(sync(ingestion, end=day(2).start).failed) == [day(1)]
    assert states(ingestion)[0] == "failed"
    assert n_rows(ingestion) == N_EVENTS_A_DAY
    assert [load.window for load in sync(ingestion, end=day(2).start).loaded] == [day(1)]
    assert states(ingestion)[0] == "loaded"
    assert n_rows(ingestion) == N_EVENTS_A_DAY


@slow
def test_a_range_before_the_start_date_or_without_length_is_wrong_use(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion()
    for call in (sync, reset):
        with pytest.raises(UsageError, match="before FULLSTORY_START_DATE"):
            call(ingestion, start=START - timedelta(days=1))
        with pytest.raises(UsageError, match="holds no window"):
            call(ingestion, start=day(2).start, end=day(2).start)
    assert not ingestion.warehouse.database.path.exists()


@slow
def test_a_sync_without_a_key_says_so(make_ingestion: MakeIngestion) -> None:
    with pytest.raises(SettingsError, match="FULLSTORY_API_KEY is not set"):
        sync(make_ingestion(api_key=None))


@slow
def test_a_reset_loads_kept_bundles_without_asking_anybody(make_ingestion: MakeIngestion) -> None:
    sync(make_ingestion())
    offline = make_ingestion(api_key=None, api_url=None)
    summary = reset(offline, start=day(2).start)
    assert {load.window for load in summary.loaded} == set(DAYS[1:])
    assert min(load.load_id for load in summary.loaded) == 5
    assert n_rows(offline) == 4 * N_EVENTS_A_DAY


@slow
def test_a_reset_fetches_only_what_is_not_kept(make_ingestion: MakeIngestion, simulator: SimulatorProcess) -> None:
    ingestion = make_ingestion()
    sync(ingestion)
    ingestion.bundles.delete(day(2))
    n_before = exports_started(simulator)
    assert len(reset(ingestion).loaded) == 4
    assert exports_started(simulator) == n_before + 1


@slow
def test_a_window_that_fullstory_no_longer_serves_keeps_its_rows_and_is_named(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    ingestion = make_ingestion(export_api="bundle")
    sync(ingestion)
    for number in (1, 2):
        ingestion.bundles.delete(day(number))
    start = int(day(2).start.timestamp())
    simulator.set_bundles([{"Id": 7, "Start": start, "Stop": start + 86400}])
    simulator.set_faults([{"route": "get", "status": 404, "times": -1}])
    summary = reset(ingestion)
    assert {load.window for load in summary.loaded} == {day(3), day(4)}
    assert list(summary.skipped) == [day(1)]
    assert list(summary.failed) == [day(2)]
    assert n_rows(ingestion) == 4 * N_EVENTS_A_DAY
    # What is in the warehouse is loaded, whatever FullStory still offers.
    assert states(ingestion) == ["loaded", "failed", "loaded", "loaded"]
    assert not read_status(ingestion).windows[0].is_wanted(ingestion.clock.now() + timedelta(days=1))


@slow
def test_a_window_that_comes_back_empty_keeps_its_rows_unless_that_is_allowed(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    sync(make_ingestion())
    # Another segment asks FullStory anew, and this time it has next to nothing.
    ingestion = make_ingestion(fields=("UserId", "SessionId", "EventStart", "EventType"))
    simulator.set_faults([{"route": "location", "cut_json": 0, "times": -1}])
    summary = reset(ingestion, end=day(2).start)
    assert summary.loaded == []
    assert "came back with 0 rows, less than 50 % of the 6 it had" in summary.failed[day(1)]
    assert "kept" in summary.failed[day(1)]
    assert n_rows(ingestion) == 4 * N_EVENTS_A_DAY
    assert states(ingestion)[0] == "failed"
    # A person looks at it: nothing by itself tries again.
    assert not read_status(ingestion).windows[0].is_wanted(ingestion.clock.now() + timedelta(days=1))
    assert len(reset(ingestion, end=day(2).start, allow_shrink=True).loaded) == 1
    assert n_rows(ingestion) == 3 * N_EVENTS_A_DAY
    assert states(ingestion)[0] == "empty"


@slow
def test_the_limit_of_shrinking_is_a_setting(make_ingestion: MakeIngestion, simulator: SimulatorProcess) -> None:
    sync(make_ingestion())
    ingestion = make_ingestion(min_rows_pct=0, fields=("UserId", "SessionId", "EventStart", "EventType"))
    simulator.set_faults([{"route": "location", "cut_json": 0, "times": -1}])
    assert len(reset(ingestion, end=day(2).start).loaded) == 1


@slow
def test_windows_loaded_before_fields_were_known_are_named(
    make_ingestion: MakeIngestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(make_ingestion(), end=day(3).start)
    monkeypatch.setattr("fullstory_dagster.settings.FIELD_LIST_ID", "another list")
    assert read_status(make_ingestion()).other_settings == {"field_list": [day(1), day(2)]}


def test_every_state_is_explained() -> None:
    assert set(STATES) == {"loaded", "empty", "unsettled", "missing", "partial", "not offered", "expired", "failed"}
