"""The asset checks on events: they pass on what was loaded, and name the window when the table was touched."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from fullstory_dagster.defs.checks import (
    ALL_FIT,
    EVERY_ROW,
    EVERY_WINDOW,
    IN_WINDOW,
    NO_DOUBLE,
    NO_REJECTS,
    NOT_QUIET,
    TRAILING_WINDOWS,
    WINDOW_CHECKS,
    quiet_windows,
    report_completeness,
)
from fullstory_dagster.defs.history import report_loads
from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.defs.partitions import key_range_tags, window_partitions
from fullstory_dagster.errors import ServerError
from fullstory_dagster.forgotten import Given
from fullstory_dagster.ingest.forget import find_person, forget
from fullstory_dagster.ingest.status import read_status
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.audit import WindowAudit, audit_windows
from fullstory_dagster.store.warehouse import Load, Warehouse
from fullstory_dagster.windows import Window

from .conftest import CANARY_KEY, NOW, SCHEMA, START, AccountAt, Materialize, day, key_of

pytestmark = pytest.mark.slow

Evaluations = dict[tuple[str, int], dg.AssetCheckEvaluation]
"""By check and day of June; 0 for a check without partitions."""
Check = Callable[..., Evaluations]

PASSED, FAILED = AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED


def evaluations(result: dg.ExecuteInProcessResult) -> Evaluations:
    found = result.get_asset_check_evaluations()
    ours = [evaluation for evaluation in found if evaluation.asset_key == key_of("events")]
    by_day = {(evaluation.check_name, int((evaluation.partition or "0")[-2:])): evaluation for evaluation in ours}
    assert len(by_day) == len(ours)
    return by_day


def days_of(found: Evaluations, *, passed: bool) -> dict[str, list[int]]:
    days: dict[str, list[int]] = {}
    for (name, number), evaluation in sorted(found.items()):
        if evaluation.passed is passed:
            days.setdefault(name, []).append(number)
    return days


def failure(result: dg.ExecuteInProcessResult) -> str:
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.user_failure_data is not None
    return str(event.step_failure_data.user_failure_data.description)


def recorded(instance: dg.DagsterInstance, name: str) -> dict[str | None, AssetCheckExecutionRecordStatus]:
    """What Dagster's storage, and so the UI, holds of a check for each partition."""
    key = dg.AssetCheckKey(key_of("events"), name)
    return {
        info.partition_key: info.latest_execution_status
        for info in instance.event_log_storage.get_asset_check_partition_info([key])
        if info.is_current and info.latest_execution_status in (PASSED, FAILED)
    }


RunChecks = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run_checks(definitions: dg.Definitions, instance: dg.DagsterInstance) -> RunChecks:
    """Run the checks alone: for a day of June, over a range of days, or over everything that is loaded."""

    def run(*names: str, first: int | None = None, last: int | None = None) -> dg.ExecuteInProcessResult:
        checks = {dg.AssetCheckKey(key_of("events"), name) for name in names or WINDOW_CHECKS}
        job = definitions.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=set(), asset_check_selection=checks
        )
        keys = [f"2026-06-{number:02}" for number in (first, last) if number]
        one = {"dagster/partition": keys[0]} if keys else {}
        tags = key_range_tags(keys) if len(keys) == 2 else one
        return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)

    return run


@pytest.fixture
def check(run_checks: RunChecks) -> Check:
    return lambda *names, **days: evaluations(run_checks(*names, **days))


@pytest.fixture
def loaded(account: AccountAt) -> AccountAt:
    """The account with June 1 to 3 in its warehouse."""
    summary = sync(account.ingestion(), end=day(3).end)
    assert len(summary.loaded) == 3
    return account


def tamper(account: AccountAt, sql: str) -> None:
    with account.ingestion().warehouse.writing() as connection:
        connection.execute(sql.format(events=f"{SCHEMA}.events", loads=f"{SCHEMA}._loads"))


# --- the windows of a run


def test_healthy_loads_pass_every_check_of_every_window(loaded: AccountAt, check: Check) -> None:
    assert days_of(check(first=1, last=3), passed=True) == {name: [1, 2, 3] for name in WINDOW_CHECKS}


def test_they_pass_after_a_person_was_erased(loaded: AccountAt, check: Check) -> None:
    ingestion = loaded.ingestion()
    (row,) = ingestion.warehouse.query(f"SELECT max(UserAppKey) AS app_key FROM {SCHEMA}.events WHERE UserAppKey > ''")
    receipt = forget(ingestion, find_person(ingestion, Given("app_key", row["app_key"])).names, build_models=lambda: 0)
    assert receipt.events
    assert days_of(check(), passed=True) == {name: [1, 2, 3] for name in sorted(WINDOW_CHECKS)}


def test_a_load_of_a_range_checks_each_of_its_windows(materialize: Materialize, instance: dg.DagsterInstance) -> None:
    for name in ("raw_bundles", "parsed_events"):
        assert materialize(name, 1, 2).success
    result = materialize("events", 1, 2)
    assert result.success
    assert days_of(evaluations(result), passed=True) == {name: [1, 2] for name in WINDOW_CHECKS}
    # Each is of the load it looked at, or the UI would show none.
    for name in WINDOW_CHECKS:
        assert recorded(instance, name) == {"2026-06-01": PASSED, "2026-06-02": PASSED}
    # Four windows are missing, and the check without partitions says so.
    assert days_of(evaluations(result), passed=False) == {EVERY_WINDOW: [0]}


def test_a_load_of_one_window_checks_that_window_only(
    loaded: AccountAt, materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    tamper(loaded, "DELETE FROM {events} WHERE _window_start = '2026-06-03'")
    result = materialize("events", 2)
    assert result.success
    assert days_of(evaluations(result), passed=True) == {name: [2] for name in WINDOW_CHECKS}
    assert recorded(instance, EVERY_ROW) == {"2026-06-02": PASSED}


def test_windows_that_are_done_are_checked_when_another_of_their_run_failed(
    materialize: Materialize, account: AccountAt, instance: dg.DagsterInstance
) -> None:
    for name in ("raw_bundles", "parsed_events"):
        assert materialize(name, 1, 3).success
    account.ingestion().dataset.delete(day(2))
    result = materialize("events", 1, 3)
    assert not result.success
    assert days_of(evaluations(result), passed=True) == {name: [1, 3] for name in WINDOW_CHECKS}
    assert recorded(instance, NO_DOUBLE) == {"2026-06-01": PASSED, "2026-06-03": PASSED}


def test_a_long_range_is_checked_in_one_run(
    account: AccountAt, check: Check, instance: dg.DagsterInstance, materialize: Materialize
) -> None:
    # A month of windows, most of them without rows: what a backfill asks for in one run.
    account.clock.at = NOW + timedelta(days=30)
    sync(account.ingestion(), end=START + timedelta(days=30))
    found = check(first=1, last=30)
    assert len(found) == 30 * len(WINDOW_CHECKS)
    assert all(recorded(instance, name).keys() == {f"2026-06-{n:02}" for n in range(1, 31)} for name in WINDOW_CHECKS)


def test_checks_can_be_run_alone_for_a_window_a_range_or_everything(
    loaded: AccountAt, check: Check, instance: dg.DagsterInstance
) -> None:
    report_loads(instance, loaded.ingestion())
    assert days_of(check(NO_DOUBLE, first=2), passed=True) == {NO_DOUBLE: [2]}
    assert days_of(check(NO_DOUBLE, first=1, last=2), passed=True) == {NO_DOUBLE: [1, 2]}
    assert days_of(check(NO_DOUBLE, EVERY_ROW), passed=True) == {NO_DOUBLE: [1, 2, 3], EVERY_ROW: [1, 2, 3]}
    assert recorded(instance, NO_DOUBLE) == {f"2026-06-0{number}": PASSED for number in (1, 2, 3)}


def test_windows_that_are_not_loaded_are_not_checked(account: AccountAt, check: Check) -> None:
    assert check() == {}
    sync(account.ingestion(), end=day(1).end)
    assert days_of(check(EVERY_ROW, first=1, last=3), passed=True) == {EVERY_ROW: [1]}


def test_a_check_looks_at_the_windows_of_its_run_only(loaded: AccountAt, check: Check) -> None:
    tamper(loaded, "DELETE FROM {events} WHERE _window_start = '2026-06-03'")
    assert days_of(check(first=1, last=2), passed=False) == {}
    assert days_of(check(EVERY_ROW, first=2, last=3), passed=False) == {EVERY_ROW: [3]}


# --- what each of them finds


def test_a_row_that_is_gone_is_missed(loaded: AccountAt, check: Check) -> None:
    tamper(
        loaded,
        "DELETE FROM {events} WHERE _event_id = "
        "(SELECT min(_event_id) FROM {events} WHERE _window_start = '2026-06-02')",
    )
    found = check()
    n_rows = loaded.ingestion().warehouse.current_loads()[day(2)].rows_kept
    assert days_of(found, passed=False) == {EVERY_ROW: [2]}
    gone = found[EVERY_ROW, 2]
    assert gone.description == f"{n_rows} rows were kept, {n_rows - 1} are in the table."
    assert (gone.severity, gone.blocking) == (dg.AssetCheckSeverity.ERROR, True)
    assert found[EVERY_ROW, 1].metadata["rows kept"].value == found[EVERY_ROW, 1].metadata["rows in"].value


def test_counts_that_do_not_add_up_are_found(loaded: AccountAt, check: Check) -> None:
    tamper(loaded, "UPDATE {loads} SET rows_in = rows_in + 1 WHERE window_start = '2026-06-01'")
    found = check()
    assert days_of(found, passed=False) == {EVERY_ROW: [1]}
    assert "do not add up to that" in str(found[EVERY_ROW, 1].description)


def test_a_row_that_stands_twice_is_found(loaded: AccountAt, check: Check) -> None:
    tamper(loaded, "INSERT INTO {events} FROM {events} WHERE _window_start = '2026-06-03' LIMIT 1")
    found = check()
    assert days_of(found, passed=False) == {EVERY_ROW: [3], NO_DOUBLE: [3]}
    assert found[NO_DOUBLE, 3].description == "2 rows share an id."


def test_a_row_outside_its_window_is_found(loaded: AccountAt, check: Check) -> None:
    tamper(
        loaded,
        "UPDATE {events} SET EventStart = EventStart - INTERVAL 2 DAY WHERE _event_id = "
        "(SELECT min(_event_id) FROM {events} WHERE _window_start = '2026-06-03')",
    )
    found = check()
    assert days_of(found, passed=False) == {IN_WINDOW: [3]}
    assert found[IN_WINDOW, 3].description == "1 rows lie outside."
    assert not found[IN_WINDOW, 3].blocking


def test_a_quiet_window_is_a_warning_that_compares(loaded: AccountAt, check: Check) -> None:
    tamper(loaded, "UPDATE {loads} SET rows_kept = 3 WHERE window_start = '2026-06-03'")
    found = check(NOT_QUIET)
    assert days_of(found, passed=False) == {NOT_QUIET: [3]}
    assert found[NOT_QUIET, 3].severity == dg.AssetCheckSeverity.WARN
    assert str(found[NOT_QUIET, 3].description).startswith("3 rows; the 2 windows before it have ")


def test_rejected_rows_and_misfit_values_are_warnings_with_counts_and_without_what_was_in_them(
    tmp_path_factory: pytest.TempPathFactory, account: AccountAt, check: Check
) -> None:
    good: dict[str, Any] = {"UserId": 1, "SessionId": 1, "EventStart": "2026-06-01T10:00:00Z", "EventType": "click"}
    rows: list[Any] = [
        good,
        good | {"SessionId": 2, "PageDuration": "canary-value", "PageIp": "203.0.113.9"},
        good | {"UserId": "canary-user"},
        good | {"SessionId": None, "UserEmail": "canary@people.test"},
        good | {"SessionId": None},
    ]
    served = tmp_path_factory.mktemp("served") / "events.json"
    served.write_text(json.dumps(rows))
    with SimulatorProcess(SimulatorConfig(data=served, now=NOW, export_s=0, api_key=CANARY_KEY)) as simulator:
        odd = AccountAt(account.settings.with_changes(api_url=simulator.url), account.clock)
        sync(odd.ingestion(), end=day(1).end)
    found = check()
    assert days_of(found, passed=False) == {NO_REJECTS: [1], ALL_FIT: [1]}
    rejects, misfits = found[NO_REJECTS, 1], found[ALL_FIT, 1]
    assert str(rejects.description).startswith("3 of 5 rows were rejected: 2 × ")
    assert misfits.description == "1 values did not fit their columns, in 5 rows."
    assert rejects.severity == misfits.severity == dg.AssetCheckSeverity.WARN
    assert (rejects.metadata["rows rejected"].value, misfits.metadata["misfit values"].value) == (3, 1)
    assert "canary" not in repr(found)


def test_a_window_that_is_checked_again_after_it_was_mended_is_green(
    loaded: AccountAt, check: Check, instance: dg.DagsterInstance, materialize: Materialize
) -> None:
    report_loads(instance, loaded.ingestion())
    tamper(loaded, "DELETE FROM {events} WHERE _window_start = '2026-06-02'")
    check(EVERY_ROW)
    assert recorded(instance, EVERY_ROW) == {"2026-06-01": PASSED, "2026-06-02": FAILED, "2026-06-03": PASSED}
    assert materialize("events", 2).success
    assert set(recorded(instance, EVERY_ROW).values()) == {PASSED}


def test_a_blocking_check_names_its_windows_and_stops_what_is_built_on_them(
    loaded: AccountAt, run_checks: RunChecks, materialize: Materialize, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(loaded, "INSERT INTO {events} FROM {events} WHERE _window_start = '2026-06-03' LIMIT 1")
    alone = run_checks(NO_DOUBLE, IN_WINDOW, first=2, last=3)
    assert not alone.success
    said = failure(alone)
    assert said.startswith("What was loaded is kept, and nothing was built on it in this run.")
    assert said.endswith(f": {NO_DOUBLE}: {day(3)}: 2 rows share an id.")
    # Every evaluation is there all the same.
    assert days_of(evaluations(alone), passed=True) == {NO_DOUBLE: [2], IN_WINDOW: [2, 3]}

    # In a run that builds on the window, the models are left out: somebody writes a row between load and check.
    def after_that(warehouse: Warehouse, windows: Sequence[Window]) -> list[WindowAudit]:
        return [replace(audit, n_doubled=2) for audit in audit_windows(warehouse, windows)]

    monkeypatch.setattr("fullstory_dagster.defs.checks.audit_windows", after_that)
    result = materialize(("events", "sessions"), 3)
    assert not result.success
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {key_of("events")}


# --- all windows together


def reported(instance: dg.DagsterInstance) -> list[dg.AssetCheckEvaluation]:
    """Evaluations of the check of all windows, the latest first."""
    key = dg.AssetCheckKey(key_of("events"), EVERY_WINDOW)
    records = instance.event_log_storage.get_asset_check_execution_history(key, limit=50)
    events = [record.event.dagster_event for record in records if record.event and record.status in (PASSED, FAILED)]
    return [event.asset_check_evaluation_data for event in events if event]


def report(account: AccountAt, instance: dg.DagsterInstance) -> None:
    report_completeness(instance, SCHEMA, read_status(account.ingestion()))


def test_every_window_that_is_not_there_is_named_with_why_and_what_to_do(account: AccountAt, check: Check) -> None:
    ingestion = account.ingestion()
    sync(ingestion, start=day(2).start, end=day(4).start)
    ingestion.attempts.record_failure(day(5), "fetch", ServerError("FullStory failed."), NOW)
    evaluation = check(EVERY_WINDOW)[EVERY_WINDOW, 0]
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert str(evaluation.description).startswith(f"4 of 6 windows: {day(5)}: failed. FullStory failed. (1 try, ")
    failed, missing = str(evaluation.metadata["problems"].value).splitlines()
    assert failed.startswith(f"- **failed**: {day(5)}. FullStory failed. (1 try, the last at 2026-06-08 12:00 UTC) ")
    assert missing.startswith(f"- **missing**: {day(1)}, {day(4)}, {day(6)}. Available since 2026-06-03 00:00 UTC ")
    assert "late" in missing
    counts = {name: value.value for name, value in evaluation.metadata.items() if name.startswith("windows")}
    assert counts == {"windows": 6, "windows loaded": 2, "windows missing": 3, "windows failed": 1}


def test_the_check_of_all_windows_passes_when_all_are_loaded_or_on_their_way(account: AccountAt, check: Check) -> None:
    sync(account.ingestion())
    evaluation = check(EVERY_WINDOW)[EVERY_WINDOW, 0]
    assert (evaluation.passed, evaluation.description) == (True, None)
    account.clock.at = day(7).settled_at + timedelta(minutes=5)
    evaluation = check(EVERY_WINDOW)[EVERY_WINDOW, 0]
    assert evaluation.passed
    assert str(evaluation.metadata["on their way"].value).startswith(f"- **missing**: {day(7)}. Available since ")
    account.clock.at += timedelta(hours=3)
    assert not check(EVERY_WINDOW)[EVERY_WINDOW, 0].passed


def test_it_is_evaluated_without_a_run_whenever_it_says_something_new(
    account: AccountAt, instance: dg.DagsterInstance
) -> None:
    report(account, instance)
    report(account, instance)
    account.clock.at += timedelta(minutes=30)
    report(account, instance)
    assert [evaluation.passed for evaluation in reported(instance)] == [False]
    sync(account.ingestion())
    report(account, instance)
    report(account, instance)
    assert [evaluation.passed for evaluation in reported(instance)] == [True, False]


def test_a_green_window_that_fails_when_it_is_fetched_again_is_not_all_one_sees(
    account: AccountAt, instance: dg.DagsterInstance, materialize: Materialize, simulator: SimulatorProcess
) -> None:
    sync(account.ingestion())
    report_loads(instance, account.ingestion())
    report(account, instance)
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    assert not materialize("raw_bundles", 2).success
    assert "2026-06-02" in instance.get_materialized_partitions(key_of("raw_bundles"))
    report(account, instance)
    latest = reported(instance)[0]
    assert not latest.passed
    assert "HTTP 404" in str(latest.description)
    assert "The rows loaded before are kept; it is not tried again by itself" in str(latest.description)


def test_it_is_left_to_a_run_that_is_about_to_evaluate_it(
    account: AccountAt, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> None:
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={dg.AssetCheckKey(key_of("events"), EVERY_WINDOW)}
    )
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    report(account, instance)
    assert reported(instance) == []
    instance.report_run_failed(run)
    report(account, instance)
    assert not reported(instance)[0].passed


def test_the_windows_of_the_job_are_the_partitions_of_its_checks(
    definitions: dg.Definitions, account: AccountAt
) -> None:
    graph = definitions.resolve_asset_graph()
    ours = {key.name: graph.get(key) for key in graph.asset_check_keys if key.asset_key == key_of("events")}
    partitions = window_partitions(account.settings.grid)
    assert {name: check.partitions_def for name, check in ours.items()} == {
        **dict.fromkeys(WINDOW_CHECKS, partitions),
        EVERY_WINDOW: None,
    }
    assert {name for name, check in ours.items() if check.blocking} == {EVERY_ROW, NO_DOUBLE}
    job = definitions.resolve_job_def(LOAD_JOB)
    assert {key.name for key in job.asset_layer.asset_graph.asset_check_keys} >= ours.keys()


# --- quiet


@pytest.fixture
def loads(loaded: AccountAt) -> Callable[..., dict[Window, Load]]:
    [first, *_] = loaded.ingestion().warehouse.current_loads().values()

    def make(*rows: int) -> dict[Window, Load]:
        windows = [Window(START + timedelta(days=n), START + timedelta(days=n + 1)) for n in range(len(rows))]
        return {window: replace(first, window=window, rows_kept=n) for window, n in zip(windows, rows, strict=True)}

    return make


def test_quiet_is_measured_against_the_windows_before(loads: Callable[..., dict[Window, Load]]) -> None:
    cases = {
        (5,): [],
        (0,): [],
        (100, 10): [],
        (100, 9): [2],
        (0, 0): [],
        (9, 100): [],
        (1000, *[10] * TRAILING_WINDOWS, 9): [2, 3, 4, 5, 6, 7, 8],
    }
    for rows, quiet in cases.items():
        made = loads(*rows)
        assert [window.start.day for window in quiet_windows(list(made), made)] == quiet, rows
