"""Old runs go, and what only they knew is told again from the load log."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import dagster as dg
import pytest

from fullstory_dagster.defs import run_retention
from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.defs.sensors import build_sensors

from .conftest import INGEST, AccountAt, key_of

pytestmark = pytest.mark.slow

LATER = datetime.now(timezone.utc) + timedelta(days=31)


def test_old_runs_are_deleted_and_their_windows_stay_loaded_in_dagster(
    account: AccountAt, definitions: dg.Definitions, stored_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    job = definitions.resolve_job_def(LOAD_JOB)
    for name in INGEST:
        assert job.execute_in_process(
            instance=stored_instance, asset_selection=[key_of(name)], partition_key="2026-06-01"
        ).success
    n_files = len(list((tmp_path / "home").rglob("*")))
    kept = AccountAt(account.settings.with_changes(keep_runs_days=30), account.clock)

    def tick() -> str:
        sensor = build_sensors(kept.settings, [])[0]
        with dg.build_sensor_context(instance=stored_instance, resources={"account": kept}) as context:
            said = sensor(context)
        assert isinstance(said, dg.SkipReason)
        return str(said.skip_message)

    account.clock.at = datetime.now(timezone.utc) + timedelta(days=29)
    assert tick() == "Dagster knows of every window that the warehouse holds."
    assert stored_instance.get_runs_count() == 3
    account.clock.at = LATER
    assert tick().startswith("Reported 1 windows")
    assert stored_instance.get_runs_count() == 0
    assert len(list((tmp_path / "home").rglob("*"))) <= n_files - 3
    for name in INGEST:
        assert stored_instance.get_materialized_partitions(key_of(name)) == {"2026-06-01"}
    assert tick() == "Dagster knows of every window that the warehouse holds."


def test_runs_under_way_stay_and_many_go_in_bounded_pieces(
    definitions: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_retention, "DELETED_A_TICK", 2)
    job = definitions.resolve_job_def(LOAD_JOB)
    statuses = [dg.DagsterRunStatus.STARTED, *[dg.DagsterRunStatus.SUCCESS] * 2, dg.DagsterRunStatus.FAILURE]
    for status in statuses:
        instance.create_run_for_job(job, status=status)
    deleted = [run_retention.delete_old_runs(instance, 30, LATER) for _ in range(3)]
    assert deleted == [2, 1, 0]
    assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.STARTED]
