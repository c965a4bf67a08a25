"""Through Dagster into a lake: assets, models, checks and the report do there what they do in a file."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from fullstory_dagster.definitions import build_definitions
from fullstory_dagster.defs.checks import EVERY_WINDOW, WINDOW_CHECKS
from fullstory_dagster.defs.names import EXPERIENCE_REPORT, LOAD_JOB
from fullstory_dagster.defs.partitions import key_range_tags
from fullstory_dagster.settings import Settings
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster_tests.postgres import PostgresServer

from .conftest import INGEST, MARTS, MODELS, AccountAt, Materialize, key_of

pytestmark = pytest.mark.slow

DAYS = ["2026-06-01", "2026-06-02"]


def checks_of(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str, str | None], bool]:
    """Whether each check passed, by asset, name and partition."""
    return {
        (evaluation.asset_key.path[-1], evaluation.check_name, evaluation.partition): evaluation.passed
        for evaluation in result.get_asset_check_evaluations()
    }


@pytest.fixture
def lake_account(settings: Settings, tmp_path: Path, postgres: PostgresServer) -> AccountAt:
    location = read_location(f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}")
    data_dir = tmp_path / "data"
    return AccountAt(settings.with_changes(data_dir=data_dir, store=data_dir, warehouse=location))


def test_windows_are_loaded_modelled_checked_and_drawn_as_in_a_file(
    lake_account: AccountAt, account: AccountAt, instance: dg.DagsterInstance, materialize: Materialize
) -> None:
    definitions = build_definitions(lake_account.settings, account=lake_account)
    in_lake = definitions.resolve_job_def(LOAD_JOB).execute_in_process(
        instance=instance,
        asset_selection=[key_of(name) for name in (*INGEST, *MODELS)],
        tags=key_range_tags(DAYS),
        raise_on_error=False,
    )
    in_file = materialize([*INGEST, *MODELS], 1, 2)
    assert in_lake.success
    assert in_file.success

    checks = checks_of(in_lake)
    assert checks == checks_of(in_file)
    # Four more windows are available, in either.
    assert [check for check, passed in checks.items() if not passed] == [("events", EVERY_WINDOW, None)]
    assert {("events", name, day) for name in WINDOW_CHECKS for day in DAYS} <= checks.keys()
    assert {asset for asset, _, _ in checks} >= set(MARTS)

    for name in MARTS:
        rows = f"SELECT * FROM fullstory.{name} ORDER BY ALL"
        held = [each.ingestion().warehouse.query(rows) for each in (lake_account, account)]
        assert held[0] == held[1], name

    report = definitions.get_assets_def(key_of(EXPERIENCE_REPORT))
    drawn = dg.materialize([report], instance=instance, resources={"account": lake_account})
    assert drawn.success
    html = lake_account.settings.report_path.read_text()
    assert html.startswith("<!doctype html>")
    assert "<svg" in html
