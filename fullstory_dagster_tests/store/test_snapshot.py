"""The copy that people read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from fullstory_dagster.disk import MARGIN_BYTES
from fullstory_dagster.errors import DiskFullError
from fullstory_dagster.store.snapshot import ReadSnapshot
from fullstory_dagster_tests.sample_events import event

from .conftest import Loader

COUNT = 'SELECT count(*) FROM "fullstory"."events"'


@pytest.fixture
def snapshot(loader: Loader, tmp_path: Path) -> ReadSnapshot:
    return ReadSnapshot(tmp_path / "read", loader.warehouse, loader.warehouse.database, timedelta(minutes=60))


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
    assert snapshot.path.name == loader.warehouse.database.path.name
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
        patched.setattr("shutil.copyfileobj", fail)
        with pytest.raises(DiskFullError, match=r"read snapshot was not renewed.* Make room"):
            snapshot.publish()
    assert [path.name for path in snapshot.path.parent.iterdir()] == ["warehouse.duckdb"]
    loader.load([event()] * 2)


def test_a_copy_that_the_disk_has_no_room_for_is_not_begun(
    loader: Loader, snapshot: ReadSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.load([event()])
    room = shutil.disk_usage(snapshot.path.parent.parent)._replace(free=MARGIN_BYTES + 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: room)
    with pytest.raises(DiskFullError, match="The read snapshot needs about"):
        snapshot.publish()
    assert not snapshot.path.exists()


def test_a_copy_that_a_killed_process_left_is_swept_by_the_next(loader: Loader, snapshot: ReadSnapshot) -> None:
    loader.load([event()])
    snapshot.path.parent.mkdir()
    (snapshot.path.parent / ".warehouse.duckdb.12345").write_bytes(b"half a copy, with people in it")
    snapshot.publish()
    assert [path.name for path in snapshot.path.parent.iterdir()] == ["warehouse.duckdb"]


COPY_AND_WAIT = """
import sys
from datetime import timedelta
from pathlib import Path
from fullstory_dagster.store.snapshot import ReadSnapshot
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.warehouse import Warehouse
put_in_place = Path.replace
def wait_first(*arguments):
    sys.stdout.write("copied\\n"); sys.stdout.flush()
    sys.stdin.readline()
    return put_in_place(*arguments)
Path.replace = wait_first
folder = Path(sys.argv[1])
file = DatabaseFile(folder / "warehouse.duckdb")
ReadSnapshot(folder / "read", Warehouse(file, "fullstory"), file, timedelta(minutes=60)).publish()
"""


@pytest.mark.slow
def test_nobody_else_can_open_the_warehouse_before_the_copying_connection_is_closed(
    loader: Loader, tmp_path: Path
) -> None:
    loader.load([event()])
    copying = subprocess.Popen(
        [sys.executable, "-c", COPY_AND_WAIT, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert copying.stdin is not None
    assert copying.stdout is not None
    try:
        assert copying.stdout.readline() == b"copied\n"
        with pytest.raises(duckdb.IOException, match="Could not set lock"):
            duckdb.connect(str(loader.warehouse.database.path))
    finally:
        copying.communicate(b"\n")
    assert copying.returncode == 0
    duckdb.connect(str(loader.warehouse.database.path)).close()


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
    snapshot = ReadSnapshot(tmp_path / "read", loader.warehouse, loader.warehouse.database, timedelta(0))
    assert not snapshot.is_due(datetime.now(timezone.utc))
