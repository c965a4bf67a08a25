"""The dbt models as assets: real builds by dbt in the real warehouse."""

from __future__ import annotations

import os
import subprocess
import sys

import dagster as dg
import pytest

from fullstory_dagster.defs.dbt.project import DbtProject
from fullstory_dagster.ingest.sync import sync

from .conftest import MARTS, MODELS, SCHEMA, AccountAt, Materialize, day, key_of

pytestmark = pytest.mark.slow


@pytest.fixture
def loaded(account: AccountAt) -> AccountAt:
    """The account with June 1 and 2 in its warehouse."""
    assert len(sync(account.ingestion(), end=day(2).end).loaded) == 2
    return account


def built(account: AccountAt) -> dict[str, int]:
    return account.ingestion().warehouse.built_up_to()


def failures(result: dg.ExecuteInProcessResult) -> list[str]:
    said = []
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data.user_failure_data
            assert data is not None
            said.append(str(data.description))
    return said


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def test_one_run_builds_every_model_for_a_range_and_reports_its_tests(
    loaded: AccountAt, materialize: Materialize, instance: dg.DagsterInstance, definitions: dg.Definitions
) -> None:
    result = materialize(MODELS, 1, 2)
    assert result.success
    for name in MODELS:
        assert instance.get_materialized_partitions(key_of(name)) == {"2026-06-01", "2026-06-02"}
    assert built(loaded) == dict.fromkeys(MARTS, 2)
    keys = {key for key in definitions.resolve_asset_graph().asset_check_keys if key.asset_key != key_of("events")}
    assert checks(result) == dict.fromkeys((key.name for key in keys), True)
    assert len(keys) > 10


def test_a_build_leaves_no_lock_behind_and_publishes_the_read_snapshot(
    loaded: AccountAt, materialize: Materialize
) -> None:
    assert materialize(MODELS, 1).success
    ingestion = loaded.ingestion()
    script = "import duckdb, sys; print(duckdb.connect(sys.argv[1]).execute(sys.argv[2]).fetchall())"
    opened = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            ingestion.warehouse.database.path,
            f"SELECT count(*) > 0 FROM {SCHEMA}.sessions",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert opened.stdout == "[(True,)]\n", opened.stderr
    assert ingestion.snapshot.path.exists()


def test_one_model_can_be_built_alone(
    loaded: AccountAt, materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    assert materialize(MODELS, 1).success
    sync(loaded.ingestion(), start=day(3).start, end=day(3).end)
    result = materialize("sessions", 3)
    assert result.success
    assert {event.asset_key for event in result.all_events if event.is_step_materialization} == {key_of("sessions")}
    assert built(loaded) == {**dict.fromkeys(MARTS, 2), "sessions": 3}
    assert instance.get_materialized_partitions(key_of("page_durations")) == {"2026-06-01"}
    result = materialize("page_durations", 3)
    assert result.success
    assert built(loaded) == {**dict.fromkeys(MARTS, 2), "sessions": 3, "page_durations": 3}


def test_windows_that_are_not_loaded_are_named(loaded: AccountAt, materialize: Materialize) -> None:
    result = materialize(MODELS, 1, 4)
    assert failures(result) == [
        "2 of the windows are not in the warehouse, 2026-06-03 00:00 to 2026-06-04 00:00 UTC is the first; models were "
        "not built. Materialize events for them first."
    ]
    assert built(loaded) == {}


def test_a_failed_dbt_test_is_a_failed_check_and_says_which(
    loaded: AccountAt, materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    assert materialize(MODELS, 1, 2).success
    with loaded.ingestion().warehouse.writing() as connection:
        connection.execute(f"INSERT INTO {SCHEMA}.sessions FROM {SCHEMA}.sessions LIMIT 1")
    result = materialize(MODELS, 1, 2)
    failed = [name for name, passed in checks(result).items() if not passed]
    assert failed
    assert all("sessions" in name for name in failed)
    [sentence] = failures(result)
    assert sentence.startswith(f"dbt: {len(failed)} failed, ")
    assert "unique" in sentence


def test_a_model_that_fails_is_not_materialized_and_the_warehouse_is_free(
    loaded: AccountAt, materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    assert materialize(MODELS, 1, 2).success
    with loaded.ingestion().warehouse.writing() as connection:
        connection.execute(f"ALTER TABLE {SCHEMA}.sessions RENAME COLUMN n_events TO n_others")
    sync(loaded.ingestion(), start=day(3).start, end=day(3).end)
    [sentence] = failures(materialize(MODELS, 3))
    assert sentence.startswith("dbt: 1 failed, what they were to replace is unchanged. The first: model sessions: ")
    for name in MARTS:
        assert instance.get_materialized_partitions(key_of(name)) == {"2026-06-01", "2026-06-02"}
    assert built(loaded) == dict.fromkeys(MARTS, 2)
    with loaded.ingestion(patience_s=0).warehouse.writing() as connection:
        marks = connection.execute(f"SELECT count(*) FROM {SCHEMA}._builds WHERE load_id > 0").fetchone()
    assert marks == (len(MARTS),)


def test_a_warehouse_without_its_events_fails_the_run_with_its_sentence(
    loaded: AccountAt, materialize: Materialize
) -> None:
    with loaded.ingestion().warehouse.writing() as connection:
        connection.execute(f"ALTER TABLE {SCHEMA}.events RENAME TO not_events")
    [sentence] = failures(materialize(MODELS, 1))
    assert sentence.startswith("The load log in schema 'fullstory' speaks of loads, but the table events beside it is ")


def test_a_full_refresh_builds_anew_what_an_incremental_run_would_leave(
    loaded: AccountAt, materialize: Materialize
) -> None:
    assert materialize(MODELS, 1, 2).success
    counts = f"SELECT {', '.join(f'(SELECT count(*) FROM {SCHEMA}.{name}) AS {name}' for name in MARTS)}"
    [before] = loaded.ingestion().warehouse.query(counts)
    with loaded.ingestion().warehouse.writing() as connection:
        for name in MARTS:
            connection.execute(f"DELETE FROM {SCHEMA}.{name}")
    assert materialize(MODELS, 1, 2).success
    assert loaded.ingestion().warehouse.query(counts) == [dict.fromkeys(MARTS, 0)]
    result = materialize(MODELS, 1, 2, config={"ops": {f"{SCHEMA}_models": {"config": {"full_refresh": True}}}})
    assert result.success
    assert loaded.ingestion().warehouse.query(counts) == [before]


def test_one_dbt_test_can_be_run_alone_as_a_check(
    loaded: AccountAt, materialize: Materialize, definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    assert materialize(MODELS, 1, 2).success
    [key] = [
        key
        for key in definitions.resolve_asset_graph().asset_check_keys
        if key.asset_key == key_of("sessions") and key.name.startswith("unique_")
    ]
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={key}
    )
    result = job.execute_in_process(instance=instance)
    assert checks(result) == {key.name: True}
    assert not any(event.is_step_materialization for event in result.all_events)


def test_a_dbt_test_alone_looks_at_windows_that_the_last_build_had_nothing_to_do_with(
    loaded: AccountAt, materialize: Materialize
) -> None:
    project, warehouse = DbtProject(loaded.settings), loaded.ingestion().warehouse
    assert materialize(MODELS, 1).success
    assert materialize("events", 2).success
    with warehouse.writing() as connection:
        connection.execute(
            f"UPDATE {SCHEMA}.page_durations SET active_pct = 101 WHERE first_window_start < '2026-06-02'"
        )
    assert project.build(warehouse).failures == []
    [failure] = project.build(warehouse, select=["page_durations"], tests_alone=True).failures
    assert "page_durations_are_in_range" in failure


def test_a_locked_warehouse_fails_a_run_with_the_sentence(loaded: AccountAt, materialize: Materialize) -> None:
    with loaded.ingestion().warehouse.database.locked():
        [sentence] = failures(materialize("sessions", 1))
    assert f"was held by process {os.getpid()} for more than 5 s" in sentence


def test_a_build_that_cannot_have_the_warehouse_says_who_holds_it(loaded: AccountAt, materialize: Materialize) -> None:
    project = DbtProject(loaded.settings)
    with loaded.ingestion().warehouse.database.locked():
        with pytest.raises(Exception, match=f"was held by process {os.getpid()} for more than 0 s"):
            project.build(loaded.ingestion(patience_s=0).warehouse)


def test_a_build_leaves_the_row_groups_of_the_loads_as_they_are(loaded: AccountAt) -> None:
    warehouse = loaded.ingestion().warehouse
    with warehouse.writing() as connection:
        connection.execute("CREATE TABLE loaded AS SELECT range AS i FROM range(100_000)")
    groups = "SELECT row_group_id, count FROM pragma_storage_info('loaded') WHERE segment_type = 'BIGINT' ORDER BY 1"
    before = warehouse.query(groups)
    DbtProject(loaded.settings).build(warehouse, select=["sessions"])
    assert warehouse.query(groups) == before


def test_dbt_s_settings_do_not_stay_in_the_environment(loaded: AccountAt) -> None:
    before = dict(os.environ)
    DbtProject(loaded.settings).manifest()
    DbtProject(loaded.settings).build(loaded.ingestion().warehouse)
    assert dict(os.environ) == before
