"""The lake's care in Dagster: there for a lake only, in the night, with what it came to."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import dagster as dg
import pytest

from fullstory_dagster.defs.lake_maintenance import build_lake_maintenance
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster_tests.postgres import PostgresServer

from .conftest import key_of

START = datetime(2026, 6, 1, tzinfo=timezone.utc)


def test_a_warehouse_in_a_file_has_none(tmp_path: Path) -> None:
    assert build_lake_maintenance(Settings(start=START, data_dir=tmp_path)) is None


@pytest.mark.slow
def test_a_run_tells_what_it_came_to(tmp_path: Path, postgres: PostgresServer) -> None:
    location = read_location(f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}")
    settings = Settings(start=START, data_dir=tmp_path, warehouse=location, schedule_timezone="Europe/Berlin")
    built = build_lake_maintenance(settings)
    assert built is not None
    asset, schedule = built
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("45 4 * * *", "Europe/Berlin")

    def metadata() -> dict[str, object]:
        result = dg.materialize([asset], resources={"account": FullStoryAccount(settings)})
        (done,) = result.asset_materializations_for_node(asset.node_def.name)
        assert done.asset_key == key_of("lake_maintenance")
        return {name: value.value for name, value in done.metadata.items()}

    assert metadata() == {"not done": "There is no lake yet; the first load makes it."}
    warehouse = open_ingestion(settings).warehouse
    for number in range(3):
        with warehouse.writing() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS main.mine (noted_at TIMESTAMP, n INTEGER)")
            connection.execute("INSERT INTO main.mine VALUES (?, ?)", [START.replace(tzinfo=None), number])
    told = metadata()
    assert (told["files before"], told["files after"], told["files deleted"]) == (4, 2, 0)
    assert int(str(told["bytes after"])) > 0
