"""The copy that people read."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from fullstory_dagster.store.snapshot import ReadSnapshot
from fullstory_dagster_tests.sample_events import event

from .conftest import Loader

COUNT = 'SELECT count(*) FROM "fullstory"."events"'


@pytest.fixture
def snapshot(loader: Loader, tmp_path: Path) -> ReadSnapshot:
    return ReadSnapshot(tmp_path / "read", loader.warehouse, timedelta(minutes=60))


def test_readers_of_the_old_copy_go_on_while_a_new_one_takes_its_place(loader: Loader, snapshot: ReadSnapshot) -> None:
    loader.load([event()])
    snapshot.publish()
    with duckdb.connect(snapshot.path, read_only=True) as reader:
        assert reader.execute(COUNT).fetchone() == (1,)
        # The warehouse itself is free for the next load meanwhile.
        loader.load([event(), event()])
        snapshot.publish()
        assert reader.execute(COUNT).fetchone() == (1,)
    with duckdb.connect(snapshot.path, read_only=True) as reader:
        assert reader.execute(COUNT).fetchone() == (2,)


def test_the_copy_is_called_like_the_warehouse_so_that_its_views_work(loader: Loader, snapshot: ReadSnapshot) -> None:
    loader.load([event(PageAgent="x")])
    snapshot.publish()
    assert snapshot.path.name == loader.warehouse.path.name
    with duckdb.connect(snapshot.path, read_only=True) as reader:
        assert reader.execute('SELECT PageAgent FROM "fullstory"."events_compat"').fetchall() == [("x",)]


def test_nothing_but_the_copy_is_left(loader: Loader, snapshot: ReadSnapshot) -> None:
    loader.load([event()])
    assert snapshot.publish() > 0
    assert [path.name for path in snapshot.path.parent.iterdir()] == ["warehouse.duckdb"]


def test_a_failure_leaves_the_old_copy_and_no_lock(
    loader: Loader, snapshot: ReadSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    loader.load([event()])
    snapshot.publish()
    with monkeypatch.context() as patched:
        patched.setattr("shutil.copyfile", fail)
        with pytest.raises(OSError, match="No space"):
            snapshot.publish()
    assert [path.name for path in snapshot.path.parent.iterdir()] == ["warehouse.duckdb"]
    loader.load([event()] * 2)


def test_a_copy_is_due_when_it_is_missing_or_old_and_something_changed(loader: Loader, snapshot: ReadSnapshot) -> None:
    now = datetime.now(timezone.utc)
    assert not snapshot.is_due(now)  # there is no warehouse yet
    assert snapshot.made_at() is None
    loader.load([event()])
    assert snapshot.is_due(now)
    snapshot.publish()
    made_at = snapshot.made_at()
    assert made_at is not None
    assert not snapshot.is_due(made_at + timedelta(minutes=60))
    loader.load([event(), event(PageId=2)])
    assert not snapshot.is_due(made_at + timedelta(minutes=59))
    assert snapshot.is_due(made_at + timedelta(minutes=60))


def test_no_copy_is_ever_due_when_none_is_wanted(loader: Loader, tmp_path: Path) -> None:
    loader.load([event()])
    assert not ReadSnapshot(tmp_path / "read", loader.warehouse, timedelta(0)).is_due(datetime.now(timezone.utc))
