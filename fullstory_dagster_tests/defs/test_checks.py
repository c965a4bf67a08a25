"""The asset checks on events: they pass on what was loaded, and name the window when the table was touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest

from fullstory_dagster.defs.checks import (
    EVERY_ROW,
    IN_WINDOW,
    NO_DOUBLE,
    NOT_QUIET,
    TRAILING_WINDOWS,
    quiet_windows,
)
from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.defs.partitions import key_range_tags
from fullstory_dagster.forgotten import Given
from fullstory_dagster.ingest.forget import find_person, forget
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window

from .conftest import SCHEMA, START, AccountAt, Materialize, day, key_of

pytestmark = pytest.mark.slow

ALL = {EVERY_ROW, NO_DOUBLE, IN_WINDOW, NOT_QUIET}

Check = Callable[..., dict[str, dg.AssetCheckEvaluation]]


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def problems(evaluation: dg.AssetCheckEvaluation) -> str:
    return str(evaluation.metadata["problems"].value) if "problems" in evaluation.metadata else ""


@pytest.fixture
def check(definitions: dg.Definitions, instance: dg.DagsterInstance) -> Check:
    """Run the checks alone: over a range of days of June, or over everything that is loaded."""

    def run(*names: str, first: int | None = None, last: int | None = None) -> dict[str, dg.AssetCheckEvaluation]:
        checks = [dg.AssetCheckKey(key_of("events"), name) for name in names or sorted(ALL)]
        job = definitions.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection=set(), asset_check_selection=set(checks)
        )
        tags = key_range_tags([f"2026-06-{number:02}" for number in (first, last)]) if first else {}
        return evaluations(job.execute_in_process(instance=instance, tags=tags, raise_on_error=False))

    return run


@pytest.fixture
def loaded(account: AccountAt) -> AccountAt:
    """The account with June 1 to 3 in its warehouse."""
    summary = sync(account.ingestion(), end=day(3).end)
    assert len(summary.loaded) == 3
    return account


def tamper(account: AccountAt, sql: str) -> None:
    with account.ingestion().warehouse.writing() as connection:
        connection.execute(sql.format(events=f"{SCHEMA}.events"))


def test_healthy_loads_pass_every_check(loaded: AccountAt, check: Check) -> None:
    results = check()
    assert results.keys() == ALL
    assert all(result.passed for result in results.values())
    assert {result.metadata["windows checked"].value for result in results.values()} == {3}


def test_they_pass_after_a_person_was_erased(loaded: AccountAt, check: Check) -> None:
    ingestion = loaded.ingestion()
    (row,) = ingestion.warehouse.query(f"SELECT max(UserAppKey) AS app_key FROM {SCHEMA}.events WHERE UserAppKey > ''")
    receipt = forget(ingestion, find_person(ingestion, Given("app_key", row["app_key"])).names, build_models=lambda: 0)
    assert receipt.events
    results = check()
    assert {name: problems(result) for name, result in results.items()} == dict.fromkeys(ALL, "")
    assert all(result.passed for result in results.values())


def test_checks_run_with_the_load_of_their_window(
    materialize: Materialize, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> None:
    for name in ("raw_bundles", "parsed_events"):
        assert materialize(name, 1, 2).success
    result = materialize("events", 1, 2)
    results = evaluations(result)
    assert results.keys() == ALL
    assert {evaluation.metadata["windows checked"].value for evaluation in results.values()} == {2}


def test_a_run_of_one_partition_checks_that_window_only(
    loaded: AccountAt, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    tamper(loaded, "DELETE FROM {events} WHERE _window_start = '2026-06-03'")
    result = definitions.resolve_job_def(LOAD_JOB).execute_in_process(
        instance=instance, asset_selection=[key_of("events")], partition_key="2026-06-02"
    )
    assert {e.metadata["windows checked"].value for e in evaluations(result).values()} == {1}
    assert all(evaluation.passed for evaluation in evaluations(result).values())


def test_a_row_that_is_gone_is_missed(loaded: AccountAt, check: Check) -> None:
    tamper(
        loaded,
        "DELETE FROM {events} WHERE _event_id = "
        "(SELECT min(_event_id) FROM {events} WHERE _window_start = '2026-06-02')",
    )
    results = check()
    n_rows = loaded.ingestion().warehouse.current_loads()[day(2)].rows_kept
    assert {name for name, result in results.items() if not result.passed} == {EVERY_ROW}
    assert problems(results[EVERY_ROW]) == f"- **{day(2)}**: {n_rows} came in, {n_rows - 1} are in the table"
    assert results[EVERY_ROW].severity == dg.AssetCheckSeverity.ERROR
    assert results[EVERY_ROW].blocking


def test_a_row_that_stands_twice_is_found(loaded: AccountAt, check: Check) -> None:
    tamper(loaded, "INSERT INTO {events} FROM {events} WHERE _window_start = '2026-06-03' LIMIT 1")
    results = check()
    assert {name for name, result in results.items() if not result.passed} == {EVERY_ROW, NO_DOUBLE}
    assert problems(results[NO_DOUBLE]) == f"- **{day(3)}**: 2 rows share an id"


def test_a_row_outside_its_window_is_found(loaded: AccountAt, check: Check) -> None:
    tamper(
        loaded,
        "UPDATE {events} SET EventStart = EventStart - INTERVAL 2 DAY WHERE _event_id = "
        "(SELECT min(_event_id) FROM {events} WHERE _window_start = '2026-06-03')",
    )
    results = check()
    assert {name for name, result in results.items() if not result.passed} == {IN_WINDOW}
    assert problems(results[IN_WINDOW]) == f"- **{day(3)}**: 1 rows lie outside"


def test_a_check_looks_at_the_windows_of_its_run_only(loaded: AccountAt, check: Check) -> None:
    tamper(loaded, "DELETE FROM {events} WHERE _window_start = '2026-06-03'")
    assert check(first=1, last=2)[EVERY_ROW].passed
    assert not check(first=2, last=3)[EVERY_ROW].passed


def test_a_check_can_be_run_alone(loaded: AccountAt, check: Check) -> None:
    assert check(NO_DOUBLE).keys() == {NO_DOUBLE}


def test_an_empty_warehouse_passes_and_says_that_nothing_was_checked(account: AccountAt, check: Check) -> None:
    results = check()
    assert all(result.passed for result in results.values())
    assert {result.metadata["windows checked"].value for result in results.values()} == {0}


def test_a_quiet_window_is_a_warning_that_compares(loaded: AccountAt, check: Check) -> None:
    with loaded.ingestion().warehouse.writing() as connection:
        connection.execute(f"UPDATE {SCHEMA}._loads SET rows_kept = 3 WHERE window_start = '2026-06-03'")
    results = check(NOT_QUIET)
    assert not results[NOT_QUIET].passed
    assert results[NOT_QUIET].severity == dg.AssetCheckSeverity.WARN
    assert problems(results[NOT_QUIET]).startswith(f"- **{day(3)}**: 3 rows, the 2 windows before it have ")


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
