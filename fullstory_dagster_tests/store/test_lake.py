"""A lake: readers and writers who do not shut each other out, and writers who lose their lock, or PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fullstory_dagster.errors import PermanentError, WarehouseLockedError, WarehouseUnreachableError
from fullstory_dagster.store.fence import FENCE
from fullstory_dagster.store.lake import Lake
from fullstory_dagster.store.opening import open_database
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.warehouse_location import read_location
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.postgres import PostgresServer
from fullstory_dagster_tests.sample_events import DAY, event

from .conftest import Loader, OpenDatabase, rows_of

NEXT_DAY = Window(DAY.end, DAY.end + timedelta(days=1))
TOMORROW = {"EventStart": "2026-06-02T12:00:00.000Z"}


@pytest.fixture
def loader(lake_loader: Loader) -> Loader:
    """Every test here is one of a lake."""
    return lake_loader


def lake_of(loader: Loader) -> Lake:
    database = loader.warehouse.database
    assert isinstance(database, Lake)
    return database


def parquet_files(loader: Loader) -> list[Path]:
    return sorted(Path(lake_of(loader).files).rglob("*.parquet"))


def ready(loader: Loader, *pages: int, window: Window = DAY) -> None:
    """Rows that wait to be appended."""
    times = TOMORROW if window == NEXT_DAY else {}
    loader.keep([event(PageId=page, **times) for page in pages], window)
    loader.parse(window)


def end_lock_connections(server: PostgresServer, loader: Loader) -> None:
    """What a network does that breaks a connection which says nothing for long."""
    database = lake_of(loader).catalog.parameters["dbname"]
    ended = server.execute(
        database,
        "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = database "
        "WHERE locktype = 'advisory' AND datname = current_database()",
    )
    assert ended == [(True,)]


def test_rows_lie_in_parquet_and_the_log_in_the_catalog(loader: Loader) -> None:
    loader.load([event(PageId=1), {"a": 1}])
    loader.load([event(PageId=2, **TOMORROW)], NEXT_DAY)
    tables = [path.parent.name for path in parquet_files(loader)]
    assert {name: tables.count(name) for name in ("events", "_rejected", "_loads", "_builds")} == {
        "events": 2,
        "_rejected": 1,
        "_loads": 0,
        "_builds": 0,
    }


def test_a_password_reaches_postgresql_and_nothing_that_is_shown(
    loader: Loader, postgres: PostgresServer, tmp_path: Path
) -> None:
    named = lake_of(loader).catalog.parameters | {"user": "guarded", "password": postgres.password}
    text = " ".join(f"{name}='{value.translate({39: chr(92) + chr(39)})}'" for name, value in named.items())
    opening = partial(open_database, lake_files=f"{tmp_path}/lake/", scratch=tmp_path / "scratch", lock_timeout_s=0)
    database = opening(read_location(f"ducklake:postgres:{text}"))
    loader.warehouse = Warehouse(database, "fullstory")
    loader.load([event()])
    shown = [str(database), repr(database), repr(loader.warehouse.current_loads())]
    with loader.warehouse.writing() as connection:
        shown += map(str, connection.execute("FROM duckdb_databases()").fetchall())
        shown += map(str, connection.execute("FROM duckdb_secrets()").fetchall())
        shown += map(str, connection.execute("FROM duckdb_settings()").fetchall())
    for wrong in (text.replace("sesame", "sosame"), text.replace("guarded", "nobody")):
        with pytest.raises(PermanentError, match=r"does not let us in: .*(nobody|guarded)") as refused:
            Warehouse(opening(read_location(f"ducklake:postgres:{wrong}")), "fullstory").current_loads()
        assert refused.value.setting == "FULLSTORY_WAREHOUSE"
        shown.append(str(refused.value))
    assert not [text for text in shown if "sesame" in text or "sosame" in text]


def test_a_catalog_that_does_not_answer_is_told_and_can_be_tried_again(tmp_path: Path) -> None:
    location = read_location("ducklake:postgres:host=127.0.0.1 port=1 dbname=lake password=sesame")
    database = open_database(location, lake_files=f"{tmp_path}/", scratch=tmp_path, lock_timeout_s=0)
    with pytest.raises(
        WarehouseUnreachableError, match=r"host=127\.0\.0\.1 port=1 dbname=lake, does not answer"
    ) as told:
        Warehouse(database, "fullstory").database.locked().__enter__()
    assert "sesame" not in str(told.value)


def test_a_missing_extension_is_told_with_the_command_that_installs_it(
    loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fullstory_dagster.store.extensions.find_spec", lambda _: None)
    with pytest.raises(
        PermanentError, match=rf"DuckDB {duckdb.__version__} needs .* ducklake,.*pip install .*\.\[lake\]"
    ):
        loader.load([event()])


def test_motherduck_without_its_extension_is_told_with_the_command_that_installs_it(tmp_path: Path) -> None:
    database = open_database(read_location("md:fullstory_lake"), lake_files="", scratch=tmp_path)
    with pytest.raises(PermanentError, match=r"motherduck.*pip install duckdb-extension-motherduck==1\."):
        Warehouse(database, "fullstory").current_loads()


def test_files_that_are_not_where_the_settings_say_are_not_made_a_second_time(loader: Loader, tmp_path: Path) -> None:
    loader.load([event()])
    lake_of(loader).files = f"{tmp_path}/elsewhere/"
    with pytest.raises(PermanentError, match=r"are in .*/lake/, and FULLSTORY_STORE_URL says .*/elsewhere/"):
        loader.load([event()])
    assert not (tmp_path / "elsewhere").exists()
    assert len(rows_of(loader)) == 1  # who only reads is told the place by the catalog


def test_a_new_lake_takes_no_folder_that_another_one_has(
    loader: Loader, open_database_of: Callable[[str], OpenDatabase]
) -> None:
    loader.load([event()])
    loader.warehouse = Warehouse(open_database_of("lake")(), "fullstory")
    with pytest.raises(PermanentError, match=r"was not made: .* has \d files, of another lake"):
        loader.load([event()])
    assert loader.warehouse.current_loads() == {}


HOLD_WITH_OURS = """
import sys
from pathlib import Path
from fullstory_dagster.store.opening import open_database
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.warehouse_location import read_location
database = open_database(read_location(sys.argv[1]), lake_files=sys.argv[2], scratch=Path(sys.argv[3]))
with Warehouse(database, "fullstory").writing():
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_writer(loader: Loader) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lake; it ends when its stdin does."""
    lake = lake_of(loader)
    location = f"ducklake:postgres:{lake.catalog.conninfo}"
    command = [sys.executable, "-c", HOLD_WITH_OURS, location, lake.files, f"{loader.objects.root}/scratch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.stdin.close()
            process.wait(20)


@pytest.mark.slow
def test_who_holds_the_lake_for_too_long_is_named_and_shuts_no_reader_out(loader: Loader) -> None:
    loader.load([event(PageId=1)])
    ready(loader, 2)
    loader.warehouse.database.lock_timeout_s = 0.3
    with other_writer(loader) as holder:
        with pytest.raises(WarehouseLockedError, match=rf"held by process {holder.pid} on \S+ \(Postgre") as refused:
            loader.append()
        assert refused.value.holder_pid == holder.pid
        assert [row["PageId"] for row in rows_of(loader)] == [1]
        threading.Timer(0.5, os.kill, (holder.pid, 9)).start()
        loader.warehouse.database.lock_timeout_s = 20
        # Whoever is killed lets go.
        assert loader.append().rows_kept == 1
    assert [row["PageId"] for row in rows_of(loader)] == [2]


def test_a_person_who_holds_the_lock_is_named_too(loader: Loader, postgres: PostgresServer) -> None:
    import psycopg

    loader.load([event()])
    loader.warehouse.database.lock_timeout_s = 0
    conninfo = postgres.conninfo(lake_of(loader).catalog.parameters["dbname"])
    with psycopg.connect(conninfo, application_name="psql", autocommit=True) as person:
        person.execute("SELECT pg_advisory_lock(%s)", [0x66756C6C])
        with pytest.raises(WarehouseLockedError, match=r"held by psql from 127\.0\.0\.1 \(PostgreSQL's process \d+\)"):
            loader.append()


def test_a_writer_who_lost_the_lock_and_was_overtaken_begins_anew(loader: Loader, postgres: PostgresServer) -> None:
    # Both load a window that was never loaded: nothing but the fence would tell them apart.
    ready(loader, 1, 2)
    begun: list[int] = []
    insert = loader.warehouse._insert_events

    def insert_and_be_overtaken(*arguments: Any) -> int:
        begun.append(len(begun))
        n_inserted = insert(*arguments)
        if len(begun) == 1:
            end_lock_connections(postgres, loader)
            other = Loader(loader.objects.root.parent, lambda **_: loader.warehouse.database)
            assert other.append().load_id == 1
        return n_inserted

    loader.warehouse._insert_events = insert_and_be_overtaken  # type: ignore[method-assign]
    assert loader.append().load_id == 2
    assert len(begun) == 2
    assert [row["PageId"] for row in rows_of(loader)] == [1, 2]
    assert [row["load_id"] for row in rows_of(loader, "_loads")] == [1, 2]


def test_who_is_overtaken_each_time_is_told_in_the_end_and_has_changed_nothing(
    loader: Loader, postgres: PostgresServer
) -> None:
    loader.load([event(PageId=1)])
    others = Warehouse(lake_of(loader), "fullstory")
    tried: list[int] = []

    def overtaken(connection: duckdb.DuckDBPyConnection) -> None:
        tried.append(1)
        connection.execute('DELETE FROM "fullstory"."events"')
        end_lock_connections(postgres, loader)
        others.change(lambda _: None)

    with pytest.raises(WarehouseLockedError, match=r"The rows were kept: other writers .* were first each time"):
        loader.warehouse.change(overtaken, "The rows were kept")
    assert len(tried) == 5
    assert len(rows_of(loader)) == 1


def test_a_fence_that_somebody_deleted_is_told_before_anything_is_written(loader: Loader) -> None:
    loader.load([event()])
    with loader.warehouse.writing() as connection:
        connection.execute(f"DELETE FROM main.{FENCE}")
    with pytest.raises(PermanentError, match=r"must have one row and has not\. Set it right: DELETE FROM"):
        loader.append()
    assert [row["load_id"] for row in rows_of(loader, "_loads")] == [1]


@pytest.mark.slow
def test_postgresql_that_restarts_during_a_load_costs_that_load_and_nothing_else(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        location = read_location(f"ducklake:postgres:{server.conninfo(server.new_database())}")
        loader = Loader(
            tmp_path, partial(open_database, location, lake_files=f"{tmp_path}/lake/", scratch=tmp_path / "scratch")
        )
        loader.load([event(PageId=1)])
        before = rows_of(loader), rows_of(loader, "_loads")
        ready(loader, 2, 3)
        insert = loader.warehouse._insert_rejects

        def restart(*arguments: Any) -> None:
            insert(*arguments)
            server.stop()
            server.start()

        loader.warehouse._insert_rejects = restart  # type: ignore[method-assign]
        with pytest.raises(
            WarehouseUnreachableError, match=r"was not loaded: PostgreSQL.*does not answer or went away"
        ):
            loader.append()
        loader.warehouse._insert_rejects = insert  # type: ignore[method-assign]
        assert (rows_of(loader), rows_of(loader, "_loads")) == before
        # One who begins while it is down waits for it.
        server.stop()
        threading.Timer(1, server.start).start()
        assert loader.append().rows_kept == 2
        assert [row["PageId"] for row in rows_of(loader)] == [2, 3]
    finally:
        server.close()


def test_all_queries_of_a_reader_see_one_moment_whatever_is_loaded_meanwhile(loader: Loader) -> None:
    loader.load([event(PageId=1)])
    with loader.warehouse.querying() as query:
        count = 'SELECT count(*) AS n FROM "fullstory"."events"'
        assert query(count) == [{"n": 1}]
        ready(loader, 1, 2, 3)
        loader.append()
        assert query(count) == [{"n": 1}]
        assert query('SELECT max(load_id) AS n FROM "fullstory"."_loads"') == [{"n": 1}]
    assert loader.warehouse.query(count) == [{"n": 3}]


def test_what_was_deleted_is_in_no_file_and_in_no_row_of_the_catalog(loader: Loader, postgres: PostgresServer) -> None:
    # Theirs are the least and the greatest of the column, the greatest in a file of their own.
    loader.load([event(UserEmail="aa@canary.example"), event(PageId=1, UserEmail="mm@else.example")])
    loader.load([event(UserEmail="zz@canary.example", **TOMORROW)], NEXT_DAY)
    orphan = Path(lake_of(loader).files) / "fullstory" / "events" / "left-by-a-killed-process.parquet"
    orphan.write_bytes(b"zz@canary.example")
    with loader.warehouse.writing() as connection:
        connection.execute('DELETE FROM "fullstory"."events" WHERE UserEmail LIKE \'%canary.example\'')
    assert [path for path in parquet_files(loader) if b"canary.example" in path.read_bytes()]
    assert loader.warehouse.database.purge() > 0
    assert not [path for path in parquet_files(loader) if b"canary.example" in path.read_bytes()]
    assert not orphan.exists()
    database = lake_of(loader).catalog.parameters["dbname"]
    names = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    for (name,) in postgres.execute(database, names):
        assert "canary.example" not in str(postgres.execute(database, f'SELECT * FROM "{name}"')), name
    # The bounds that are left are right for what comes after them, and no narrower than they must be.
    loader.load([event(UserEmail="bb@else.example", **TOMORROW)], NEXT_DAY)
    for email in ("mm@else.example", "bb@else.example"):
        found = loader.warehouse.query(
            'SELECT count(*) AS n FROM "fullstory"."events" WHERE UserEmail = $e', {"e": email}
        )
        assert found == [{"n": 1}]


def test_what_a_killed_process_spilled_is_removed_by_the_next_writer(loader: Loader, tmp_path: Path) -> None:
    loader.load([event()])
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    mine, dead = tmp_path / "scratch" / f"{os.getpid()}-7", tmp_path / "scratch" / f"{process.pid}-1"
    for folder in (mine, dead):
        folder.mkdir(parents=True)
        (folder / "duckdb_temp_storage_S64K-0.tmp").write_bytes(b"personal")
    with loader.warehouse.writing():
        assert mine.exists()
        assert not dead.exists()


@pytest.mark.slow
def test_a_query_that_takes_long_runs_through_a_load_and_sees_nothing_of_it(loader: Loader) -> None:
    loader.load([event(PageId=page) for page in range(50)])
    counts: list[Any] = []
    stop = threading.Event()

    def read_on() -> None:
        while not stop.is_set():
            with loader.warehouse.querying() as query:
                n = 'SELECT count(*) AS n FROM "fullstory"."events"'
                counts.append([row["n"] for _ in range(3) for row in query(n)])

    reader = threading.Thread(target=read_on)
    reader.start()
    try:
        for n in (20, 50):
            loader.load([event(PageId=page) for page in range(n)])
            time.sleep(0.3)
    finally:
        stop.set()
        reader.join(30)
    assert counts
    assert all(seen in ([50] * 3, [20] * 3) for seen in counts), counts


@pytest.mark.parametrize("read_only", [True, False])
def test_a_query_that_needs_more_than_memory_goes_on_in_the_scratch_folder(
    loader: Loader, postgres: PostgresServer, tmp_path: Path, read_only: bool
) -> None:
    ready(loader, 1)
    loader.append()
    scratch = tmp_path / "not" / "there" / "yet"
    lake = Lake(lake_of(loader).catalog, lake_of(loader).files, scratch=scratch, memory_limit="30MB", threads=1)
    connection = lake.connect(read_only=read_only)
    try:
        sorted_ = (
            "SELECT md5(i::VARCHAR) AS text, row_number() OVER (ORDER BY md5(i::VARCHAR)) AS n FROM range(400000) t(i)"
        )
        (n_rows,) = connection.execute(f"SELECT count(text || n) FROM ({sorted_})").fetchone() or (0,)
    finally:
        connection.close()
    assert n_rows == 400_000
    assert list(scratch.glob("*")) == []
