"""A warehouse copied into one of another kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest

from fullstory_dagster.errors import PermanentError
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.opening import open_database
from fullstory_dagster.store.transfer import copy_warehouse
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster_tests.postgres import PostgresServer
from fullstory_dagster_tests.sample_events import event

from .conftest import Loader, OpenDatabase


@pytest.fixture
def copied_to(tmp_path: Path) -> Callable[[Warehouse, OpenDatabase], Warehouse]:
    def copy(source: Warehouse, database: OpenDatabase) -> Warehouse:
        target = Warehouse(database(), "fullstory")
        copy_warehouse(source, target, tmp_path / "copying")
        assert not (tmp_path / "copying").exists()
        return target

    return copy


def contents(warehouse: Warehouse) -> dict[str, list[dict[str, object]]]:
    return {
        name: warehouse.query(f'SELECT * FROM "fullstory"."{name}" ORDER BY ALL')
        for name in ("events", "_loads", "_rejected", "events_compat")
    }


def test_a_file_becomes_a_lake_and_a_file_again(
    loader: Loader,
    open_database_of: Callable[[str], OpenDatabase],
    copied_to: Callable[[Warehouse, OpenDatabase], Warehouse],
    tmp_path: Path,
) -> None:
    loader.load([event(PageId=1, evt_x_real=1.50, EventTargetText="é\u2028"), event(PageId=2), {"no": "event"}])
    loader.load([event(PageId=2)])
    before = contents(loader.warehouse)
    assert len(before["_loads"]) == 2
    lake = copied_to(loader.warehouse, open_database_of("lake"))
    assert contents(lake) == before
    file = copied_to(lake, partial(DatabaseFile, tmp_path / "again.duckdb"))
    assert contents(file) == before
    assert contents(loader.warehouse) == before
    # Models were built elsewhere: here nothing is.
    assert file.built_up_to() == {}


def test_what_has_loads_already_is_not_copied_into(
    loader: Loader, copied_to: Callable[[Warehouse, OpenDatabase], Warehouse], tmp_path: Path
) -> None:
    loader.load([event(PageId=1)])
    twice = partial(DatabaseFile, tmp_path / "twice.duckdb")
    before = contents(copied_to(loader.warehouse, twice))
    with pytest.raises(PermanentError, match=r"Nothing was copied: .*twice.duckdb has 1 loads"):
        copied_to(loader.warehouse, twice)
    assert contents(Warehouse(twice(), "fullstory")) == before


def test_where_nothing_is_nothing_is_copied(
    loader: Loader, copied_to: Callable[[Warehouse, OpenDatabase], Warehouse], tmp_path: Path
) -> None:
    with pytest.raises(PermanentError, match="there is no warehouse"):
        copied_to(loader.warehouse, partial(DatabaseFile, tmp_path / "target.duckdb"))
    assert not (tmp_path / "target.duckdb").exists()


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(SimulatorConfig(days=4, scale=0.05, export_s=0)) as running:
        yield running


@pytest.mark.slow
def test_an_account_moves_into_a_lake_and_goes_on_there(
    simulator: SimulatorProcess, postgres: PostgresServer, tmp_path: Path
) -> None:
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=4)
    lake = f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}"

    def run(*arguments: str, **settings: str) -> dict[str, object]:
        given = {
            "FULLSTORY_API_KEY": simulator.api_key,
            "FULLSTORY_API_URL": simulator.url,
            "FULLSTORY_START_DATE": f"{start:%Y-%m-%d}",
        }
        ended = subprocess.run(
            [sys.executable, "-m", "fullstory_dagster.cli", *arguments, "--json"],
            cwd=tmp_path,
            env=os.environ | given | settings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return dict(json.loads(ended.stdout))

    run("sync", "--to", f"{start + timedelta(days=2):%Y-%m-%d}")
    moved = run("transfer", lake)
    assert moved["to"] == str(read_location(lake))
    synced = run("sync", FULLSTORY_WAREHOUSE=lake)
    assert len(synced["loaded"]) == 1  # type: ignore[arg-type]
    run("sync")

    def sessions(database: OpenDatabase) -> list[dict[str, object]]:
        return Warehouse(database(), "fullstory").query("SELECT * FROM fullstory.sessions ORDER BY session_key")

    of_file = sessions(partial(DatabaseFile, tmp_path / "data" / "warehouse.duckdb"))
    files = f"{tmp_path}/data/lake/"
    of_lake = sessions(partial(open_database, read_location(lake), lake_files=files, scratch=tmp_path / "scratch"))
    assert len(of_file) > 5
    assert of_lake == of_file
