"""Few large files instead of many small ones, and nothing of the past that nobody reads."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from fullstory_dagster.store.lake import Lake
from fullstory_dagster.store.lake_maintenance import maintain
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.sample_events import DAY, event

from .conftest import Loader, rows_of

NEXT_DAY = Window(DAY.end, DAY.end + timedelta(days=1))


@pytest.fixture
def loader(lake_loader: Loader) -> Loader:
    """Six windows, two of them loaded twice."""
    for number in (0, 1, 2, 3, 4, 5, 0, 1):
        window = Window(DAY.start + timedelta(days=number), DAY.end + timedelta(days=number))
        lake_loader.load([event(PageId=number, EventStart=f"{window.start:%Y-%m-%d}T12:00:00.000Z"), {"a": 1}], window)
    return lake_loader


def lake_of(loader: Loader) -> Lake:
    database = loader.warehouse.database
    assert isinstance(database, Lake)
    return database


def files_of(loader: Loader, table: str = "events") -> list[Path]:
    return sorted(Path(lake_of(loader).files).rglob(f"{table}/*.parquet"))


def test_small_files_become_one_and_the_rows_stay(loader: Loader) -> None:
    before = {table: rows_of(loader, table) for table in ("events", "_rejected", "_loads")}
    assert len(files_of(loader)) == 8
    done = maintain(lake_of(loader), keep=timedelta(0))
    assert done is not None
    assert len(files_of(loader)) == len(files_of(loader, "_rejected")) == 1
    assert {table: rows_of(loader, table) for table in before} == before
    on_disk = list(Path(lake_of(loader).files).rglob("*.parquet"))
    assert done.after.n_files == done.after.n_kept == len(on_disk)
    assert done.after.n_bytes == sum(path.stat().st_size for path in on_disk)
    assert done.before.n_files > done.after.n_files
    assert done.before.n_kept == 2 * 8 + 1
    assert done.n_deleted == done.before.n_kept - 1
    assert (done.before.n_snapshots > 8, done.after.n_snapshots) == (True, 1)
    # A window that lies in a merged file is replaced as any other.
    assert loader.load([event(PageId=9)]).load_id == 9
    assert [row["PageId"] for row in rows_of(loader)].count(9) == 1
    assert len(rows_of(loader)) == 6


def test_a_reader_of_a_young_state_is_not_disturbed(loader: Loader) -> None:
    count = 'SELECT count(*) AS n, sum(PageId) AS pages FROM "fullstory"."events"'
    with loader.warehouse.querying() as query:
        before = query(count)
        loader.load([])
        done = maintain(lake_of(loader), keep=timedelta(hours=1))
        assert done is not None
        assert (done.n_deleted, done.after.n_files < done.before.n_files) == (0, True)
        assert query(count) == before
    assert loader.warehouse.query(count) != before


def test_what_killed_writers_left_goes_when_it_is_old(loader: Loader) -> None:
    folder = files_of(loader)[0].parent
    old, young = folder / "old.parquet", folder / "young.parquet"
    for left in (old, young):
        left.write_bytes(b"half a file")
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    done = maintain(lake_of(loader), keep=timedelta(hours=1))
    assert done is not None
    assert done.n_deleted == 1
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.parametrize("merged", ["before", "after", "both"])
def test_what_was_merged_keeps_nothing_that_was_deleted(loader: Loader, merged: str) -> None:
    theirs = event(PageId=77, UserEmail="zz@canary.example")
    loader.load([theirs, event(PageId=0)])
    loader.load([event(PageId=78, UserEmail="zz@canary.example", EventStart="2026-06-02T12:00:00.000Z")], NEXT_DAY)
    if merged != "after":
        maintain(lake_of(loader), keep=timedelta(hours=1))
    with loader.warehouse.writing() as connection:
        connection.execute('DELETE FROM "fullstory"."events" WHERE UserEmail IS NOT NULL')
    if merged != "before":
        maintain(lake_of(loader), keep=timedelta(hours=1))
    rows = rows_of(loader)
    assert [path for path in files_of(loader) if b"canary.example" in path.read_bytes()]
    loader.warehouse.database.purge()
    assert not [path for path in files_of(loader) if b"canary.example" in path.read_bytes()]
    assert rows_of(loader) == rows
    assert len(rows) == 5


def test_where_there_is_no_lake_there_is_nothing_to_do(lake_loader: Loader) -> None:
    assert maintain(lake_of(lake_loader), keep=timedelta(0)) is None
    assert not lake_of(lake_loader).exists
