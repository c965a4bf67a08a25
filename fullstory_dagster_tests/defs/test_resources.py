"""What users' own assets get of the warehouse."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster_duckdb import DuckDBResource

from fullstory_dagster.defs.resources import warehouse_resource
from fullstory_dagster.settings import Settings
from fullstory_dagster.warehouse_location import WarehouseLocation, read_location
from fullstory_dagster_tests.postgres import PostgresServer


@dg.asset
def mine(warehouse: DuckDBResource) -> int:
    """Writes, and reads what it wrote."""
    with warehouse.get_connection() as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS main.mine (answer INTEGER)")
        connection.execute("INSERT INTO main.mine VALUES (42)")
        (answer,) = connection.execute("SELECT answer FROM main.mine").fetchone()
    return int(answer)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "lake"])
def test_an_asset_of_a_user_reads_and_writes_in_the_warehouse(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    location: WarehouseLocation = tmp_path / "warehouse.duckdb"
    if kind == "lake":
        server: PostgresServer = request.getfixturevalue("postgres")
        text = f"{server.conninfo(server.new_database())} password=sesame"
        location = read_location(f"ducklake:postgres:{text}")
    settings = Settings(start=datetime(2026, 6, 1, tzinfo=timezone.utc), data_dir=tmp_path, warehouse=location)
    resource: Any = warehouse_resource(settings)
    with dg.instance_for_test() as instance:
        result = dg.materialize([mine], resources={"warehouse": resource}, instance=instance)
        assert result.output_for_node("mine") == 42
        told = [str(event) for event in instance.all_logs(result.run_id)] + [str(resource), repr(resource)]
    assert not [text for text in told if "sesame" in text]
