"""The DuckDB file: one writer, who may be killed at any moment, and whoever else opens it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fullstory_dagster.errors import (
    PermanentError,
    TransientError,
    WarehouseLockedError,
)
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.sample_events import DAY, event

from .conftest import Loader, rows_of


def test_an_empty_file_that_a_killed_process_left_is_no_warehouse_and_the_next_load_makes_one(loader: Loader) -> None:
    loader.warehouse.database.path.touch()
    assert loader.warehouse.current_loads() == {}
    loader.keep([event()])
    loader.parse()
    assert loader.append().rows_kept == 1


def test_a_process_that_is_killed_while_it_makes_the_warehouse_leaves_none(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader.keep([event()])
    loader.parse()

    def killed(path: str, **_: Any) -> None:
        Path(path).write_bytes(b"half a header")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(duckdb, "connect", killed)
        with pytest.raises(KeyboardInterrupt):
            loader.append()
    assert not loader.warehouse.database.path.exists()
    assert loader.append().rows_kept == 1
    assert [
        path.name for path in loader.warehouse.database.path.parent.glob("*warehouse*") if "lock" not in path.name
    ] == ["warehouse.duckdb"]


def test_a_new_file_and_a_rewritten_one_are_in_the_format_of_duckdb_1_4(loader: Loader) -> None:
    loader.load([event()])
    database = loader.warehouse.database
    assert isinstance(database, DatabaseFile)
    for _ in range(2):
        written = loader.warehouse.query(
            "SELECT tags['storage_version'] AS format FROM duckdb_databases() WHERE NOT internal"
        )
        assert written == [{"format": "v1.4.0+"}]
        database.purge()


def test_what_is_written_is_in_row_groups_that_a_thread_has_soon_and_a_rewritten_file_keeps_them(
    loader: Loader,
) -> None:
    with loader.warehouse.writing() as connection:
        connection.execute("CREATE TABLE mine AS SELECT range AS i FROM range(100_000)")
    for _ in range(2):
        largest = loader.warehouse.query("SELECT max(count) AS n FROM pragma_storage_info('mine')")
        assert largest == [{"n": 40_960}]
        assert loader.warehouse.query("SELECT sum(i)::BIGINT AS total FROM mine") == [{"total": 4_999_950_000}]
        loader.warehouse.database.purge()


@pytest.mark.parametrize("name", ["main", "memory", "system", "temp", "my events", "it's", 'a"b', "v1.2"])
def test_the_file_may_have_any_name(tmp_path: Path, name: str) -> None:
    warehouse = Warehouse(DatabaseFile(tmp_path / f"{name}.duckdb"), "fullstory")
    assert warehouse.change(
        lambda connection: connection.execute("SELECT count(*) FROM fullstory.events").fetchall()
    ) == [(0,)]


def test_a_file_that_somebody_left_with_its_log_is_opened_without_writing_to_it(loader: Loader) -> None:
    loader.load([event()])
    killed = "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute('CREATE TABLE a (b INT)'); os._exit(1)"
    path = loader.warehouse.database.path
    subprocess.run([sys.executable, "-c", killed, path], check=False)
    log = Path(f"{path}.wal")
    before = log.read_bytes(), path.read_bytes()
    with loader.warehouse.writing() as connection:
        assert (log.read_bytes(), path.read_bytes()) == before
        assert connection.execute("SELECT count(*) FROM a").fetchall() == [(0,)]
    assert not log.exists()


def test_small_windows_share_a_row_group(loader: Loader) -> None:
    for n in range(4):
        window = Window(DAY.start + timedelta(days=n), DAY.end + timedelta(days=n))
        loader.load([event(EventStart=f"2026-06-0{n + 1}T12:00:00.000Z")], window)
    groups = loader.warehouse.query("SELECT DISTINCT row_group_id, count FROM pragma_storage_info('fullstory.events')")
    assert groups == [{"row_group_id": 0, "count": 4}]


def test_what_a_killed_process_spilled_is_removed_by_the_next_writer(loader: Loader) -> None:
    loader.load([event()])
    spilled = Path(f"{loader.warehouse.database.path}.tmp")
    spilled.mkdir()
    (spilled / "duckdb_temp_storage_S64K-0.tmp").write_bytes(b"personal")
    # Who only reads does not know whose it is.
    loader.warehouse.query("SELECT 1")
    assert spilled.exists()
    with loader.warehouse.writing():
        assert not spilled.exists()


def test_a_file_that_somebody_elses_tables_are_in_is_read_as_empty_and_kept(loader: Loader) -> None:
    with duckdb.connect(loader.warehouse.database.path) as connection:
        connection.execute("CREATE TABLE mine AS SELECT 42 AS answer")
    assert loader.warehouse.current_loads() == {}
    loader.load([event()])
    assert loader.warehouse.query("SELECT answer FROM mine") == [{"answer": 42}]


def test_a_broken_file_is_not_taken_for_a_locked_one(tmp_path: Path) -> None:
    # Its path and many of DuckDB's sentences have the word in them.
    folder = tmp_path / "lock"
    folder.mkdir()
    (folder / "warehouse.duckdb").write_bytes(b"no database" * 10_000)
    started = time.monotonic()
    with pytest.raises(PermanentError, match=r"cannot be opened: .*not a valid DuckDB database"):
        Warehouse(DatabaseFile(folder / "warehouse.duckdb", lock_timeout_s=30), "fullstory").current_loads()
    assert time.monotonic() - started < 10


@contextmanager
def other_process(script: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another Python process that does something to a file and says so in a line; it ends when its stdin does."""
    command = [sys.executable, "-c", script, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.stdin.close()
            process.wait(20)


HOLD_WITH_DUCKDB = """
import duckdb, sys
connection = duckdb.connect(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""
HOLD_WITH_OURS = """
import sys
from pathlib import Path
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.warehouse import Warehouse
with Warehouse(DatabaseFile(Path(sys.argv[1])), "fullstory").writing():
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [HOLD_WITH_DUCKDB, HOLD_WITH_OURS], ids=["a person", "one of ours"])
def test_who_holds_the_warehouse_for_too_long_is_named(loader: Loader, script: str) -> None:
    loader.load([event(PageId=1)])
    before = rows_of(loader), rows_of(loader, "_loads")
    loader.keep([event(PageId=2)])
    loader.parse()
    loader.warehouse.database.lock_timeout_s = 0.5
    with other_process(script, loader.warehouse.database.path) as holder:
        for call in (loader.append, loader.warehouse.current_loads):
            started = time.monotonic()
            with pytest.raises(
                WarehouseLockedError, match=f"held by process {holder.pid} for more than 0.5 s"
            ) as refused:
                call()
            assert 0.4 < time.monotonic() - started < 5
            assert refused.value.holder_pid == holder.pid
            assert isinstance(refused.value, TransientError)
    assert (rows_of(loader), rows_of(loader, "_loads")) == before
    assert loader.append().rows_kept == 1


@pytest.mark.slow
@pytest.mark.parametrize("script", [HOLD_WITH_DUCKDB, HOLD_WITH_OURS], ids=["a person", "one of ours"])
def test_a_second_process_waits_and_then_loads(loader: Loader, script: str) -> None:
    loader.load([])
    loader.keep([event()])
    loader.parse()
    with other_process(script, loader.warehouse.database.path) as holder:
        assert holder.stdin is not None
        threading.Timer(0.6, holder.stdin.close).start()
        started = time.monotonic()
        assert loader.append().rows_kept == 1
        assert time.monotonic() - started > 0.4


@pytest.mark.slow
def test_a_process_that_was_killed_holds_nothing(loader: Loader) -> None:
    loader.load([])
    with other_process(HOLD_WITH_OURS, loader.warehouse.database.path) as holder:
        os.kill(holder.pid, 9)
        holder.wait(10)
        loader.warehouse.database.lock_timeout_s = 2
        assert loader.load([event()]).rows_kept == 1


def test_no_session_time_zone_moves_a_time(loader: Loader) -> None:
    loader.load([event()])
    with duckdb.connect(loader.warehouse.database.path, read_only=True) as connection:
        connection.execute("LOAD icu; SET TimeZone = 'Asia/Tokyo'")
        (at,) = connection.execute('SELECT EventStart::VARCHAR FROM "fullstory"."events"').fetchone() or ()
        assert at == "2026-06-01 12:00:00"
