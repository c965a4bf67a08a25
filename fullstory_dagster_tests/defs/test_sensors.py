"""What the sensor and the schedule ask for, and why; the store and the clock decide, not Dagster's log."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from fullstory_dagster.api import FullStoryClient
from fullstory_dagster.defs.checks import WINDOW_CHECKS
from fullstory_dagster.defs.dbt.project import DbtProject
from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.defs.partitions import key_range_tags
from fullstory_dagster.defs.requests import RUNS_UNDER_WAY, WINDOWS_A_RUN
from fullstory_dagster.defs.sensors import build_sensors
from fullstory_dagster.errors import ServerError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.s3_server import Bucket

from .conftest import INGEST, MODELS, NOW, START, AccountAt, Materialize, StillClock, day, key_of

pytestmark = pytest.mark.slow

Tick = Callable[..., dg.SensorResult | dg.SkipReason]
HOUR = timedelta(hours=1)


@pytest.fixture
def tick(account: AccountAt, instance: dg.DagsterInstance) -> Tick:
    """One evaluation of the sensor."""

    def evaluate(of: AccountAt = account) -> Any:
        return evaluated("new_windows", of, instance)

    return evaluate


@pytest.fixture
def tell(account: AccountAt, instance: dg.DagsterInstance) -> Callable[[], str]:
    """One evaluation of the sensor that tells Dagster what is there: what it says."""
    return lambda: reason(evaluated("loads_elsewhere", account, instance))


def evaluated(name: str, of: AccountAt, instance: dg.DagsterInstance) -> Any:
    sensors = {sensor.name: sensor for sensor in build_sensors(of.settings, [key_of(name) for name in MODELS])}
    with dg.build_sensor_context(instance=instance, resources={"account": of}) as context:
        return sensors[name](context)


def asked(result: dg.SensorResult | dg.SkipReason) -> list[tuple[str, str, str]]:
    """Stage, first and last partition of each run that was asked for."""
    assert isinstance(result, dg.SensorResult), result
    runs = []
    for run in result.run_requests or ():
        [asset] = run.asset_selection or ()
        first = run.partition_key or run.tags["dagster/asset_partition_range_start"]
        last = run.partition_key or run.tags["dagster/asset_partition_range_end"]
        runs.append((asset.path[-1], first, last))
    return runs


def reason(result: dg.SensorResult | dg.SkipReason) -> str:
    assert isinstance(result, dg.SkipReason), result
    return str(result.skip_message)


def put_under_way(instance: dg.DagsterInstance, definitions: dg.Definitions, run: dg.RunRequest) -> None:
    """A run as the daemon started it."""
    instance.create_run_for_job(
        definitions.resolve_job_def(run.job_name or ""),
        tags={**run.tags, "dagster/partition": run.partition_key} if run.partition_key else run.tags,
        asset_selection=frozenset(run.asset_selection or ()),
        status=dg.DagsterRunStatus.STARTED,
    )


def test_a_fresh_account_asks_for_its_windows_in_one_range(tick: Tick) -> None:
    assert asked(tick()) == [("raw_bundles", "2026-06-01", "2026-06-06")]


def test_what_is_asked_for_can_be_run(tick: Tick, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    result = tick()
    assert isinstance(result, dg.SensorResult)
    [run] = result.run_requests or ()
    executed = definitions.resolve_job_def(run.job_name or "").execute_in_process(
        instance=instance, asset_selection=list(run.asset_selection or ()), tags=run.tags
    )
    assert executed.success
    assert len(instance.get_materialized_partitions(key_of("raw_bundles"))) == 6


def test_a_long_history_is_asked_for_oldest_first_and_in_bounded_ranges(tick: Tick, account: AccountAt) -> None:
    account.clock.at = START + timedelta(days=400)
    runs = asked(tick())
    assert len(runs) == RUNS_UNDER_WAY
    assert runs[0] == ("raw_bundles", "2026-06-01", "2026-06-30")
    assert runs[1] == ("raw_bundles", "2026-07-01", "2026-07-30")
    assert WINDOWS_A_RUN == 30


def test_windows_of_six_hours_are_asked_for_by_their_keys(tick: Tick, account: AccountAt) -> None:
    short = AccountAt(account.settings.with_changes(bundle_hours=6), account.clock)
    account.clock.at = START + timedelta(days=2, hours=7)
    assert asked(tick(short)) == [("raw_bundles", "2026-06-01-00:00", "2026-06-02-00:00")]


def test_nothing_is_asked_for_before_the_first_window_is_available(tick: Tick, account: AccountAt) -> None:
    account.clock.at = START + timedelta(hours=47)
    assert reason(tick()) == "Nothing to ask for: of 0 windows 0 are loaded."


def test_a_gap_is_healed_and_its_neighbours_are_left_alone(
    tick: Tick, account: AccountAt, instance: dg.DagsterInstance
) -> None:
    ingestion = account.ingestion()
    sync(ingestion, end=day(2).end)
    sync(ingestion, start=day(4).start, end=day(5).end)
    assert asked(tick()) == [
        ("raw_bundles", "2026-06-03", "2026-06-03"),
        ("raw_bundles", "2026-06-06", "2026-06-06"),
    ]


def test_what_the_command_line_loaded_is_told_to_dagster_and_not_asked_for(
    tick: Tick, tell: Callable[[], str], account: AccountAt, instance: dg.DagsterInstance
) -> None:
    sync(account.ingestion())
    assert reason(tick()) == "Nothing to ask for: of 6 windows 6 are loaded."
    assert tell() == (
        "Reported 6 windows that the warehouse holds and Dagster did not know of: 2026-06-01 00:00 to "
        "2026-06-07 00:00 UTC."
    )
    for name in INGEST:
        assert len(instance.get_materialized_partitions(key_of(name))) == 6
    for check in WINDOW_CHECKS:
        key = dg.AssetCheckKey(key_of("events"), check)
        told = instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
        assert [record.status for record in told] == [AssetCheckExecutionRecordStatus.SUCCEEDED] * 6, check
    # They are not built, and Dagster is not told that they were.
    assert instance.get_materialized_partitions(key_of("sessions")) == set()
    assert tell() == "Dagster knows of every window that the warehouse holds."


def test_what_dbt_s_tests_said_on_the_command_line_is_told_to_dagster_once(
    tell: Callable[[], str], account: AccountAt, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    ingestion = account.ingestion()
    sync(ingestion, end=day(2).end)
    DbtProject(account.settings).build(ingestion.warehouse)
    models = {key_of(name) for name in MODELS}
    keys = [key for key in definitions.resolve_asset_graph().asset_check_keys if key.asset_key in models]
    assert len(keys) > 20
    for _ in range(2):
        tell()
        for key in keys:
            told = instance.event_log_storage.get_asset_check_execution_history(key, limit=20)
            assert [record.status for record in told] == [AssetCheckExecutionRecordStatus.SUCCEEDED], key


def test_a_test_that_fails_on_the_command_line_is_a_failed_check(
    tell: Callable[[], str], account: AccountAt, instance: dg.DagsterInstance
) -> None:
    ingestion = account.ingestion()
    sync(ingestion, end=day(1).end)
    project = DbtProject(account.settings)
    project.build(ingestion.warehouse)
    tell()
    with ingestion.warehouse.writing() as connection:
        connection.execute("UPDATE fullstory.sessions SET duration_s = -1")
    tests = project.build(ingestion.warehouse, tests_alone=True).tests
    [failed, *_] = [result for result in tests if not result.is_passed]
    assert failed.asset == "sessions"
    assert failed.n_failures > 0
    tell()
    key = dg.AssetCheckKey(key_of(failed.asset), failed.test)
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert latest.status == AssetCheckExecutionRecordStatus.FAILED


def test_windows_under_way_are_not_asked_for_again(
    tick: Tick, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = tick()
    assert isinstance(result, dg.SensorResult)
    for run in result.run_requests or ():
        put_under_way(instance, definitions, run)
    assert reason(tick()) == "Nothing to ask for: of 6 windows 0 are loaded; 6 are under way."


def test_windows_that_somebody_materializes_by_hand_are_not_asked_for_as_well(
    tick: Tick, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    # What a backfill or the Materialize button starts runs in Dagster's implicit job.
    for tags in (key_range_tags(["2026-06-01", "2026-06-02"]), {"dagster/partition": "2026-06-04"}):
        instance.create_run_for_job(
            definitions.resolve_implicit_global_asset_job_def(),
            tags=tags,
            asset_selection=frozenset([key_of("raw_bundles")]),
            status=dg.DagsterRunStatus.STARTED,
        )
    assert asked(tick()) == [
        ("raw_bundles", "2026-06-03", "2026-06-03"),
        ("raw_bundles", "2026-06-05", "2026-06-06"),
    ]


def test_a_run_that_ended_keeps_no_window(
    tick: Tick, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    instance.create_run_for_job(
        definitions.resolve_implicit_global_asset_job_def(),
        tags=key_range_tags(["2026-06-01", "2026-06-06"]),
        asset_selection=frozenset([key_of("raw_bundles")]),
        status=dg.DagsterRunStatus.FAILURE,
    )
    assert asked(tick()) == [("raw_bundles", "2026-06-01", "2026-06-06")]


def test_a_passing_failure_is_tried_again_after_an_hour(tick: Tick, account: AccountAt) -> None:
    attempts = account.ingestion().attempts
    attempts.record_failure(day(2), "fetch", ServerError("FullStory answered 503."), NOW)
    others = [("raw_bundles", "2026-06-01", "2026-06-01"), ("raw_bundles", "2026-06-03", "2026-06-06")]
    account.clock.at = NOW + HOUR - timedelta(seconds=1)
    assert asked(tick()) == others
    account.clock.at = NOW + HOUR
    assert asked(tick()) == [("raw_bundles", "2026-06-01", "2026-06-06")]


def test_a_passing_failure_is_not_tried_for_ever(tick: Tick, account: AccountAt) -> None:
    attempts = account.ingestion().attempts
    for _ in range(49):
        attempts.record_failure(day(1), "fetch", ServerError("FullStory answered 503."), NOW)
    account.clock.at = NOW + 2 * HOUR
    assert asked(tick()) == [("raw_bundles", "2026-06-02", "2026-06-06")]


def test_a_failure_that_needs_a_person_is_never_tried_again_and_stays_in_the_reason(
    tick: Tick, account: AccountAt, materialize: Materialize, simulator: SimulatorProcess
) -> None:
    sync(account.ingestion(), start=day(2).start)
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    assert not materialize("raw_bundles", 1).success
    reason(tick())
    account.clock.at = NOW + timedelta(hours=11)
    said = reason(tick())
    assert said.startswith("Nothing to ask for: of 6 windows 5 are loaded; 1 failed, e.g. 2026-06-01 00:00 to ")
    assert "404" in said


def test_a_bundle_that_came_after_a_failure_is_not_fetched_again(
    tick: Tick, account: AccountAt, materialize: Materialize
) -> None:
    ingestion = account.ingestion()
    sync(ingestion, start=day(2).start)
    ingestion.attempts.record_failure(day(1), "fetch", ServerError("FullStory answered 503."), NOW - 2 * HOUR)
    assert materialize("raw_bundles", 1).success
    assert "1 are under way" in reason(tick())


def test_a_bundle_that_nothing_followed_is_taken_further_after_an_hour(
    tick: Tick, account: AccountAt, materialize: Materialize
) -> None:
    ingestion = account.ingestion()
    for name in ("raw_bundles", "parsed_events"):
        assert materialize(name, 1).success
    assert materialize("raw_bundles", 2).success
    sync(ingestion, start=day(3).start)
    reason(tick())
    assert reason(tick()) == "Nothing to ask for: of 6 windows 4 are loaded; 2 are under way."
    account.clock.at = NOW + HOUR
    assert asked(tick()) == [
        ("events", "2026-06-01", "2026-06-01"),
        ("parsed_events", "2026-06-02", "2026-06-02"),
    ]


def test_the_stage_that_failed_is_the_one_that_is_asked_for(
    tick: Tick, account: AccountAt, materialize: Materialize
) -> None:
    sync(account.ingestion(), start=day(2).start)
    for name in ("raw_bundles", "parsed_events"):
        assert materialize(name, 1).success
    impatient = AccountAt(account.settings.with_changes(lock_timeout_s=0), account.clock)
    with account.ingestion().warehouse.database.locked(), pytest.raises(Exception, match="was held by process"):
        impatient.ingestion().append(day(1))
    reason(tick())
    account.clock.at = NOW + HOUR
    assert asked(tick()) == [("events", "2026-06-01", "2026-06-01")]


def test_an_unsettled_window_is_fetched_again_once_it_has_settled(tick: Tick, account: AccountAt) -> None:
    prompt = AccountAt(account.settings.with_changes(delay_hours=0), account.clock)
    account.clock.at = START + timedelta(days=1, hours=1)
    sync(prompt.ingestion())
    reason(tick(prompt))
    assert reason(tick(prompt)) == "Nothing to ask for: of 1 windows 1 are loaded."
    account.clock.at = day(1).settled_at
    assert asked(tick(prompt)) == [("raw_bundles", "2026-06-01", "2026-06-02")]


def test_windows_that_the_older_api_s_bundles_do_not_cover_are_noted_and_said(
    account: AccountAt, tick: Tick, simulator: SimulatorProcess
) -> None:
    older = AccountAt(account.settings.with_changes(export_api="bundle", downloads_per_minute=0), account.clock)
    starts = [int(day(number).start.timestamp()) for number in (2, 3)]
    simulator.set_bundles([{"Id": n, "Start": start, "Stop": start + 86400} for n, start in enumerate(starts)])
    assert asked(tick(older)) == [("raw_bundles", "2026-06-02", "2026-06-03")]
    attempts = older.ingestion().attempts.all()
    assert attempts.keys() == {day(number) for number in (1, 4, 5, 6)}
    sync(older.ingestion(), start=day(2).start, end=day(3).end)
    reason(tick(older))
    account.clock.at = NOW + HOUR
    said = reason(tick(older))
    assert "Nothing to ask for: of 6 windows 2 are loaded; " in said
    assert "3 are not available yet, e.g. " in said
    assert attempts[day(4)].error.rstrip(".") in said


def test_a_locked_warehouse_is_a_sentence_and_not_an_error(tick: Tick, account: AccountAt) -> None:
    sync(account.ingestion(), end=day(1).end)
    impatient = AccountAt(account.settings.with_changes(lock_timeout_s=0), account.clock)
    with account.ingestion().warehouse.database.locked():
        assert "was held by process" in reason(tick(impatient))


def test_a_tick_gives_up_on_a_locked_warehouse_before_dagster_gives_up_on_the_tick(
    account: AccountAt, tick: Tick
) -> None:
    sync(account.ingestion(), end=day(1).end)
    patient = AccountAt(account.settings.with_changes(lock_timeout_s=600), account.clock)
    said: list[str] = []
    with account.ingestion().warehouse.database.locked():
        thread = threading.Thread(target=lambda: said.append(reason(tick(patient))), daemon=True)
        thread.start()
        # Dagster ends a tick after 60 s, with an error that names neither the warehouse nor who holds it.
        thread.join(30)
        assert not thread.is_alive()
    assert "was held by process" in said[0]


def test_a_tick_gives_up_on_a_bucket_before_dagster_gives_up_on_the_tick(
    account: AccountAt, tick: Tick, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = AccountAt(account.settings.with_changes(store=bucket.url), account.clock)
    assert tick(there).run_requests
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()
    assert "was not listed: it does not answer" in reason(tick(there))
    assert time.monotonic() - started < 40
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    assert "pip install" in reason(tick(there))


def test_a_wrong_key_is_a_sentence_in_the_older_api_s_tick(
    account: AccountAt, tick: Tick, simulator: SimulatorProcess
) -> None:
    wrong = AccountAt(account.settings.with_changes(export_api="bundle", api_key="wrong"), account.clock)
    assert "FULLSTORY_API_KEY" in reason(tick(wrong))


@dataclass
class CountingClock(StillClock):
    """A still clock that counts how long it was made to wait, and does not."""

    waited_s: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.waited_s += seconds


def test_a_tick_does_not_wait_for_a_network_that_is_down(account: AccountAt, tick: Tick) -> None:
    # With the policy of a run it slept for more than half a minute, and Dagster ends a tick after 60 s.
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    clock = CountingClock()
    down = AccountAt(account.settings.with_changes(export_api="bundle", api_url=f"http://127.0.0.1:{port}"), clock)
    said = reason(tick(down))
    assert said.startswith(
        "Nothing to ask for: of 6 windows 0 are loaded; what is to be fetched could not be chosen: No answer from "
    )
    assert clock.waited_s == 0
    # Nothing was found out about any window, so none failed.
    assert down.ingestion().attempts.all() == {}


def test_a_tick_does_not_wait_for_a_rate_limit_and_keeps_to_it(
    account: AccountAt, tick: Tick, simulator: SimulatorProcess
) -> None:
    clock = CountingClock()
    older = AccountAt(account.settings.with_changes(export_api="bundle"), clock)
    simulator.set_faults([{"route": "list", "status": 429, "retry_after": 120, "times": 1}])
    assert "asks to wait 120 s" in reason(tick(older))
    assert "asks to wait 120 s, longer than the 5 s there are" in reason(tick(older))
    assert len(simulator.requests()) == 1
    clock.at += timedelta(seconds=121)
    assert asked(tick(older)) == [("raw_bundles", "2026-06-01", "2026-06-06")]
    assert clock.waited_s == 0


def test_what_is_here_goes_on_while_fullstory_cannot_be_asked(
    account: AccountAt, tick: Tick, materialize: Materialize, simulator: SimulatorProcess
) -> None:
    assert materialize("raw_bundles", 1).success
    account.clock.at = NOW + HOUR
    older = AccountAt(account.settings.with_changes(export_api="bundle"), account.clock)
    simulator.set_faults([{"route": "list", "status": 503, "times": -1}])
    assert asked(tick(older)) == [("parsed_events", "2026-06-01", "2026-06-01")]
    assert len([request for request in simulator.requests() if "list" in request["path"]]) == 1


def test_a_tick_does_not_wait_for_a_list_that_does_not_end(
    account: AccountAt, tick: Tick, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each answer is quick enough, or a name is looked up for minutes: only the whole has a bound.
    def endless(self: Ingestion, windows: Sequence[Window], client: FullStoryClient) -> dict[Window, str]:
        released.wait(30)
        return {}

    released = threading.Event()
    monkeypatch.setattr(Ingestion, "note_uncovered", endless)
    monkeypatch.setattr("fullstory_dagster.defs.requests.LIST_PATIENCE_S", 0.2)
    older = AccountAt(account.settings.with_changes(export_api="bundle"), account.clock)
    try:
        assert "FullStory's list of bundles did not come within 0.2 s; the next tick asks again" in reason(tick(older))
    finally:
        released.set()


def test_no_more_than_a_few_runs_of_the_sensor_s_wait_at_a_time(
    account: AccountAt, tick: Tick, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    account.clock.at = START + timedelta(days=400)
    result = tick()
    assert isinstance(result, dg.SensorResult)
    for run in result.run_requests or ():
        put_under_way(instance, definitions, run)
    said = reason(tick())
    assert said == (
        "Nothing to ask for: of 399 windows 0 are loaded; 120 are under way; 279 more wait until fewer than 4 runs are "
        "under way."
    )
    # A backfill that a person started is none of them.
    for run in instance.get_runs()[:2]:
        instance.report_run_failed(run)
    assert len(asked(tick())) == 2


def test_a_window_from_before_the_start_date_is_not_asked_for(tick: Tick, account: AccountAt) -> None:
    # It stays in sight because it is loaded, and is no partition any more.
    prompt = AccountAt(account.settings.with_changes(delay_hours=0), account.clock)
    account.clock.at = day(1).end
    sync(prompt.ingestion())
    account.clock.at = day(4).end
    later = AccountAt(account.settings.with_changes(start=day(2).start), account.clock)
    assert asked(tick(later)) == [("raw_bundles", "2026-06-02", "2026-06-03")]


def test_the_sensor_runs_by_default_unless_a_schedule_is_set(settings: Settings) -> None:
    running, stopped = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED
    statuses = [sensor.default_status for sensor in build_sensors(settings, [])]
    assert statuses == [running, running, running]
    statuses = [sensor.default_status for sensor in build_sensors(settings.with_changes(schedule="0 3 * * *"), [])]
    assert statuses == [running, stopped, running]


def test_the_job_s_name_is_the_one_the_sensor_asks_for(definitions: dg.Definitions) -> None:
    assert definitions.resolve_job_def(LOAD_JOB).name == LOAD_JOB


def test_history_is_told_once_in_bounded_pieces(
    tell: Callable[[], str], account: AccountAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(account.ingestion())
    monkeypatch.setattr("fullstory_dagster.defs.history.REPORTED_A_TICK", 4)
    assert tell().startswith("Reported 4 windows")
    assert tell().startswith("Reported 2 windows")
    assert tell() == "Dagster knows of every window that the warehouse holds."
