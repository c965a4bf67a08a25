"""One warehouse path and one dbt target for all tests of this folder, so that dbt parses the project once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fullstory_dagster.store.opening import open_database
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster_tests.postgres import PostgresServer

from .warehouse import TestWarehouse


@pytest.fixture(scope="session")
def dbt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dbt")


@pytest.fixture
def warehouse(dbt_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestWarehouse]:
    """A fresh warehouse. The path stays the same: another one is another profile, and dbt would parse again."""
    path = dbt_folder / "warehouse.duckdb"
    for name in ("FULLSTORY_ORG_ID", "FULLSTORY_APP_URL", "FULLSTORY_SCHEMA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FULLSTORY_WAREHOUSE", str(path))
    monkeypatch.setenv("DBT_TARGET_PATH", str(dbt_folder / "target"))
    monkeypatch.setenv("DBT_LOG_PATH", str(dbt_folder / "logs"))
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    yield TestWarehouse(path)
    path.unlink()


@pytest.fixture
def lake(postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TestWarehouse:
    """A fresh warehouse in a lake."""
    for name in ("FULLSTORY_ORG_ID", "FULLSTORY_APP_URL", "FULLSTORY_SCHEMA"):
        monkeypatch.delenv(name, raising=False)
    location = f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}"
    monkeypatch.setenv("FULLSTORY_WAREHOUSE", location)
    monkeypatch.setenv("FULLSTORY_SCRATCH_DIR", str(tmp_path / "not" / "there" / "scratch"))
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "target"))
    monkeypatch.setenv("DBT_LOG_PATH", str(tmp_path / "logs"))
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    scratch = tmp_path / "scratch"
    return TestWarehouse(
        tmp_path, open_database(read_location(location), lake_files=f"{tmp_path}/lake/", scratch=scratch)
    )
