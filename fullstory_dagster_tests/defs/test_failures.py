"""Whatever goes wrong in a run, its failure is one sentence that a person on call can act on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fullstory_dagster import errors
from fullstory_dagster.definitions import build_definitions
from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.errors import (
    FullStoryError,
    SettingsError,
    TransientError,
    WindowNotOfferedError,
    WindowShrankError,
    WindowUnavailableError,
    sentence_of,
)
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.dataset import ParsedWindow
from fullstory_dagster.windows import Window

from .conftest import INGEST, MODELS, SCHEMA, AccountAt, Materialize, day, key_of
from .test_assets import failure, n_rows

pytestmark = pytest.mark.slow

CANARY = "canary@person.test"


class UnforeseenError(Exception):
    """A bug of ours."""


def classes_of_errors(parent: type[FullStoryError] = FullStoryError) -> Iterator[type[FullStoryError]]:
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from classes_of_errors(child)


def error_of(kind: type[FullStoryError]) -> FullStoryError:
    sentence = f"What happened, as a {kind.__name__}; try again."
    if issubclass(kind, SettingsError):
        return kind("FULLSTORY_API_KEY", sentence)
    if issubclass(kind, WindowShrankError):
        return kind(sentence, rows_before=2, rows_now=1)
    return kind(sentence)


class FailingIngestion(Ingestion):
    """An ingestion whose parsing of June 2 ends with an error that the test chooses."""

    error: Exception

    def parse(self, window: Window) -> ParsedWindow:
        if window == day(2):
            raise self.error
        return super().parse(window)


class FailingAccount(AccountAt):
    """The account of a :class:`FailingIngestion`."""

    def ingestion(self, patience_s: int | None = None) -> Ingestion:
        whole = super().ingestion(patience_s)
        failing = FailingIngestion(**{name: getattr(whole, name) for name in whole.__dataclass_fields__})
        return replace(failing)


@pytest.fixture
def failing_definitions(settings: Settings, account: AccountAt) -> dg.Definitions:
    return build_definitions(settings, account=FailingAccount(account.settings, account.clock))


def run_parse(definitions: dg.Definitions, instance: dg.DagsterInstance, **options: Any) -> dg.ExecuteInProcessResult:
    return definitions.resolve_job_def(LOAD_JOB).execute_in_process(
        instance=instance, asset_selection=[key_of("parsed_events")], raise_on_error=False, **options
    )


def stored_text(result: dg.ExecuteInProcessResult) -> str:
    """Everything Dagster keeps of a run, causes of errors included."""
    return "\n".join(str(event) for event in result.all_events)


def test_every_error_of_ours_ends_a_run_with_its_sentence_what_is_kept_and_what_to_do(
    failing_definitions: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = list(classes_of_errors())
    assert len(kinds) > 25
    for kind in kinds:
        error = error_of(kind)
        try:
            raise error from ValueError(CANARY)
        except FullStoryError:
            monkeypatch.setattr(FailingIngestion, "error", error, raising=False)
        result = run_parse(failing_definitions, instance, partition_key="2026-06-02")
        assert not result.success
        said = failure(result)
        assert said.startswith(f"The window {day(2)} was not parsed: {error}"), kind
        if kind in (WindowUnavailableError, WindowNotOfferedError):
            # Nothing is wrong with it: the error itself says when it can be had.
            assert said.endswith("try again.")
        elif issubclass(kind, TransientError):
            assert said.endswith("is unchanged; the sensor asks for it again within an hour."), kind
        else:
            assert "What was loaded of it before is unchanged; it is not tried again by itself: mend that, " in said, (
                kind
            )
        stored = stored_text(result)
        assert CANARY not in stored
        # The sentence is all there is: no cause with a traceback of its own.
        [step] = [event for event in result.all_events if event.is_step_failure]
        assert step.step_failure_data.error is not None
        assert step.step_failure_data.error.cause is None
        assert step.step_failure_data.error.context is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UnforeseenError(f"Cannot read 'O'Neill {CANARY}'\nInput: {CANARY}"), "UnforeseenError: Cannot read '…'."),
        (KeyError(CANARY), "KeyError: '…'."),
        (RuntimeError(), "RuntimeError."),
    ],
)
def test_an_unforeseen_error_names_its_window_on_one_line_and_quotes_no_value(
    failing_definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    account: AccountAt,
    error: Exception,
    said: str,
) -> None:
    monkeypatch.setattr(FailingIngestion, "error", error, raising=False)
    result = run_parse(failing_definitions, instance, partition_key="2026-06-02")
    assert failure(result) == (
        f"The window {day(2)} was not parsed: an error nobody expected, which may be a mistake in this project: {said} "
        "What was loaded of it before is unchanged; it is not tried again by itself: mend that, then materialize "
        "parsed_events for it again."
    )
    # Where it came from follows, without what it said.
    assert "test_failures.py" in stored_text(result)
    assert CANARY not in stored_text(result)


def test_an_error_of_the_machine_is_told_whole_and_tried_again(
    failing_definitions: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FailingIngestion, "error", OSError(5, "Input/output error", "/data/x"), raising=False)
    result = run_parse(failing_definitions, instance, partition_key="2026-06-02")
    assert failure(result) == (
        f"The window {day(2)} was not parsed: OSError: [Errno 5] Input/output error: '/data/x'. What was loaded of it "
        "before is unchanged; the sensor asks for it again within an hour."
    )


def test_a_range_names_every_window_that_failed(
    materialize: Materialize, account: AccountAt, simulator: SimulatorProcess
) -> None:
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 3}])
    result = materialize("raw_bundles", 1, 5)
    attempts = account.ingestion().attempts.all()
    assert len(attempts) == 3
    first, *others = failure(result).splitlines()
    assert first.startswith("3 of 5 windows failed, 2 are done and kept. FullStory refused to give an export of ")
    assert len(others) == 2
    for window, line in zip(sorted(attempts), [first, *others], strict=True):
        assert attempts[window].error in line
        assert str(window) in line


def test_what_duckdb_says_is_one_line_in_the_run_and_in_the_attempt_log(
    materialize: Materialize, account: AccountAt
) -> None:
    for name in INGEST:
        assert materialize(name, 1).success
    assert all(materialize(name, 2).success for name in INGEST[:2])
    before = n_rows(account)
    with account.ingestion().warehouse.writing() as connection:
        connection.execute(f"ALTER TABLE {SCHEMA}.events ALTER COLUMN UserEmail TYPE TIMESTAMP USING NULL")
    result = materialize("events", 2)
    sentence = failure(result)
    assert sentence.startswith(f"The window {day(2)} was not loaded: DuckDB could not work on the warehouse ")
    assert "ConversionException: " in sentence
    assert "What the warehouse held of it before is unchanged" in sentence
    assert "\n" not in sentence
    [attempt] = account.ingestion().attempts.all().values()
    assert attempt.error in sentence
    emails = account.ingestion().dataset.require(day(2)).events_location
    told = {email for email in pl.read_parquet(emails)["UserEmail"].drop_nulls().to_list() if "@" in email}
    assert told
    assert "@" not in sentence
    assert [email for email in told if email in stored_text(result)] == []
    assert n_rows(account) == before


def test_a_store_that_cannot_be_written_names_the_windows_of_the_run(
    materialize: Materialize, account: AccountAt
) -> None:
    account.settings.store_dir.mkdir(exist_ok=True)
    bundles = account.settings.store_dir / "bundles"
    bundles.write_text("a file where a folder has to be")
    try:
        sentence = failure(materialize("raw_bundles", 1, 2))
    finally:
        bundles.unlink()
    assert sentence.startswith("2 of 2 windows failed, 0 are done and kept. ")
    assert sentence.count("the sensor asks for it again within an hour.") == 2


def test_a_locked_warehouse_names_its_holder_and_the_window(materialize: Materialize, account: AccountAt) -> None:
    for name in INGEST[:2]:
        assert materialize(name, 1).success
    with account.ingestion().warehouse.database.locked():
        sentence = failure(materialize("events", 1))
    assert sentence.startswith(f"The window {day(1)} was not loaded: The warehouse ")
    assert f"was held by process {os.getpid()} for more than 5 s" in sentence
    assert sentence.endswith("the sensor asks for it again within an hour.")


def test_a_broken_warehouse_and_windows_of_another_length_say_what_to_do(
    materialize: Materialize, account: AccountAt, instance: dg.DagsterInstance
) -> None:
    for name in INGEST[:2]:
        assert materialize(name, 1, 2).success
    warehouse = account.settings.warehouse
    warehouse.write_bytes(b"no database at all" * 1000)
    sentence = failure(materialize("events", 1, 2))
    assert sentence.count("cannot be opened") == 2
    assert "put a backup in its place" in sentence
    # And when nothing of a window was begun: the checks alone.
    job = account_job(account).get_subset(
        asset_selection=set(), asset_check_selection={dg.AssetCheckKey(key_of("events"), "every_window_is_loaded")}
    )
    assert "cannot be opened" in failure(job.execute_in_process(instance=instance, raise_on_error=False))
    warehouse.unlink()
    assert materialize("events", 1).success
    with account.ingestion().warehouse.writing() as connection:
        connection.execute(f"UPDATE {SCHEMA}._loads SET window_end = window_end - INTERVAL 12 HOUR")
    assert "FULLSTORY_BUNDLE_HOURS" in failure(materialize("events", 2))


def account_job(account: AccountAt) -> dg.JobDefinition:
    return build_definitions(account.settings, account=account).resolve_implicit_global_asset_job_def()


def test_models_that_cannot_be_built_end_in_a_sentence_too(
    materialize: Materialize, account: AccountAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in INGEST:
        assert materialize(name, 1).success

    def fail(*_: object, **__: object) -> None:
        raise UnforeseenError(f"no '{CANARY}'")

    monkeypatch.setattr("fullstory_dagster.defs.dbt.project.DbtProject.build", fail)
    result = materialize(MODELS, 1)
    assert failure(result) == (
        "Building the dbt models failed with an error nobody expected, which may be a mistake in this project: "
        "UnforeseenError: no '…'. The traceback follows."
    )
    assert CANARY not in stored_text(result)


def test_what_cannot_be_shown_of_a_window_does_not_fail_it(
    materialize: Materialize, account: AccountAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UnforeseenError("no preview")

    assert materialize("raw_bundles", 1).success
    monkeypatch.setattr("fullstory_dagster.defs.assets.parsed_metadata", fail)
    assert materialize("parsed_events", 1).success


def test_a_sentence_is_cut_before_it_becomes_a_page() -> None:
    assert len(sentence_of(ValueError("x" * 5000))) < 600
