"""A lake whose files are in a bucket."""

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

from fullstory_dagster.errors import SettingsError, StoreRefusedError, StoreUnreachableError
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.lake import Lake
from fullstory_dagster.store.objects import LocalStore
from fullstory_dagster.store.opening import open_database
from fullstory_dagster.store.remote_objects import RemoteStore
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster_tests.postgres import PostgresServer
from fullstory_dagster_tests.s3_server import SECRET_KEY, Bucket
from fullstory_dagster_tests.sample_events import event

from .conftest import Loader, OpenDatabase, rows_of

MakeDatabase = Callable[[str], OpenDatabase]


@pytest.fixture
def lake_at(postgres: PostgresServer, tmp_path: Path) -> MakeDatabase:
    """Takes the place of the files, gives what opens a lake of the test's own there."""
    location = read_location(f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}")
    return lambda files: partial(open_database, location, lake_files=files, scratch=tmp_path / "scratch")


@pytest.fixture
def loader(bucket: Bucket, lake_at: MakeDatabase, tmp_path: Path) -> Loader:
    return Loader(tmp_path, lake_at(f"{bucket.url}/lake/"))


def files_in(bucket: Bucket, tmp_path: Path) -> list[str]:
    return list(RemoteStore(bucket.url, LocalStore(tmp_path / "listing")).keys("lake/"))


def test_rows_are_loaded_replaced_and_read_as_from_a_folder(loader: Loader, bucket: Bucket, tmp_path: Path) -> None:
    loader.load([event(PageId=1), event(PageId=2), {"a": 1}])
    loader.load([event(PageId=3)])
    assert [row["PageId"] for row in loader.events()] == [3]
    assert rows_of(loader, "_rejected") == []
    assert [row["rows_kept"] for row in rows_of(loader, "_loads", "rows_kept")] == [1, 2]
    assert any(key.endswith(".parquet") for key in files_in(bucket, tmp_path))
    assert not (tmp_path / "lake").exists()


def test_what_is_purged_leaves_the_bucket(loader: Loader, bucket: Bucket, tmp_path: Path) -> None:
    loader.load([event(PageId=1)])
    first = set(files_in(bucket, tmp_path))
    loader.load([event(PageId=2)])
    assert first < set(files_in(bucket, tmp_path))
    lake = loader.warehouse.database
    assert isinstance(lake, Lake)
    lake.purge()
    assert not {key for key in first if "/events/" in key} & set(files_in(bucket, tmp_path))
    assert [row["PageId"] for row in loader.events()] == [2]


def test_a_bucket_that_does_not_answer_is_waited_for_until_it_does(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.load([event()])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreUnreachableError, match=r"with the lake's files, s3://.* does not answer") as told:
        loader.events()
    assert SECRET_KEY not in str(told.value)


def test_a_bucket_that_is_not_there_is_said_to_be_refused(
    bucket: Bucket, lake_at: MakeDatabase, tmp_path: Path
) -> None:
    loader = Loader(tmp_path, lake_at("s3://no-such-bucket/lake/"))
    with pytest.raises(StoreRefusedError, match=r"s3://no-such-bucket/lake/, answers 404"):
        loader.load([event()])


def test_without_credentials_it_is_said_what_to_set(
    bucket: Bucket, lake_at: MakeDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SettingsError, match="no credentials for it were found"):
        Loader(tmp_path, lake_at(f"{bucket.url}/lake/")).load([event()])


@pytest.mark.parametrize("url", ["gs://bucket/x", "az://container/x"])
def test_a_lake_in_a_cloud_that_speaks_no_s3_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="they can lie in a folder or in s3://"):
        Settings(
            start=datetime(2026, 6, 1, tzinfo=timezone.utc),
            data_dir=tmp_path,
            store=url,
            warehouse=read_location("ducklake:postgres:dbname=lake"),
        )


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(SimulatorConfig(days=3, scale=0.05, export_s=0)) as running:
        yield running


@pytest.mark.slow
def test_a_sync_with_models_needs_no_disk_but_for_scratch(
    simulator: SimulatorProcess, bucket: Bucket, postgres: PostgresServer, tmp_path: Path
) -> None:
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    settings = {
        "FULLSTORY_API_KEY": simulator.api_key,
        "FULLSTORY_API_URL": simulator.url,
        "FULLSTORY_START_DATE": f"{today - timedelta(days=3):%Y-%m-%d}",
        "FULLSTORY_STORE_URL": bucket.url,
        "FULLSTORY_WAREHOUSE": f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}",
    }
    command = [sys.executable, "-m", "fullstory_dagster.cli"]

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert SECRET_KEY not in ended.stdout + ended.stderr
        return ended.stdout

    synced = json.loads(run("sync", "--json"))
    assert len(synced["loaded"]) == 2
    assert synced["dbt"]["failures"] == []
    assert synced["dbt"]["models"] > 15
    assert json.loads(run("status", "--json"))["pending_loads"] == 0
    left = [path for path in tmp_path.rglob("*") if path.suffix in (".parquet", ".duckdb", ".gz")]
    assert left == []
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if SECRET_KEY.encode() in path.read_bytes()] == []
