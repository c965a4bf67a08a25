"""One run a window."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from fullstory_dagster.errors import TransientError, WindowBusyError
from fullstory_dagster.store.named_locks import CatalogLocks, FileLocks, LockHeldError
from fullstory_dagster.store.postgres import CatalogServer
from fullstory_dagster.store.window_locks import WindowLocks
from fullstory_dagster.warehouse_location import LakeCatalog, read_location
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.postgres import PostgresServer
from fullstory_dagster_tests.sample_events import DAY

NEXT_DAY = Window(DAY.end, DAY.end + (DAY.end - DAY.start))
MakeLocks = Callable[..., WindowLocks]


@pytest.fixture(params=["files", "catalog"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> MakeLocks:
    """Makes locks of another holder each time; takes how long others are waited for."""
    if request.param == "files":
        return lambda timeout_s=0.0: WindowLocks(FileLocks(tmp_path), timeout_s)
    server = catalog_server(request.getfixturevalue("postgres"))
    return lambda timeout_s=0.0: WindowLocks(CatalogLocks(server, "a store"), timeout_s)


def catalog_server(postgres: PostgresServer) -> CatalogServer:
    catalog = read_location(f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}")
    assert isinstance(catalog, LakeCatalog)
    return CatalogServer(catalog)


def test_two_runs_shut_each_other_out_of_a_window_and_of_no_other(make: MakeLocks) -> None:
    one, other = make(0.05), make(0.05)
    with one.held(DAY):
        with pytest.raises(
            WindowBusyError, match=rf"process {os.getpid()}.*\) .* 2026-06-01 00:00 .* nothing was changed"
        ):
            other.acquire(DAY)
        with other.held(NEXT_DAY):
            pass
    with other.held(DAY):
        pass
    assert issubclass(WindowBusyError, TransientError)


def test_whoever_holds_a_window_may_take_it_again_in_another_thread(make: MakeLocks) -> None:
    locks = make(0.05)
    thread = threading.Thread(target=locks.acquire, args=(DAY,))
    thread.start()
    thread.join()
    with locks.held(DAY):
        pass
    with pytest.raises(WindowBusyError):
        make().acquire(DAY)
    locks.release(DAY)
    make().acquire(DAY)


def test_giving_back_what_is_not_held_is_nothing(make: MakeLocks) -> None:
    locks = make()
    locks.release(DAY)
    with locks.held(DAY):
        pass
    locks.release(DAY)
    with locks.held(DAY):
        pass


@pytest.mark.slow
def test_a_process_that_was_killed_holds_no_window(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from fullstory_dagster.store.named_locks import FileLocks\n"
        "from fullstory_dagster.store.window_locks import WindowLocks\n"
        "from fullstory_dagster_tests.sample_events import DAY\n"
        "locks = WindowLocks(FileLocks(Path(sys.argv[1])), 0); locks.acquire(DAY)\n"
        "print('held', flush=True); time.sleep(60)"
    )
    root = {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | root) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(WindowBusyError, match=f"process {process.pid}"):
            WindowLocks(FileLocks(tmp_path), 0).acquire(DAY)
        process.kill()
    WindowLocks(FileLocks(tmp_path), 0).acquire(DAY)


def test_stores_of_one_catalog_do_not_wait_for_each_other(postgres: PostgresServer) -> None:
    server = catalog_server(postgres)
    one, another = CatalogLocks(server, "one"), CatalogLocks(server, "another")
    one.acquire("a", 0)
    another.acquire("a", 0)
    with pytest.raises(LockHeldError):
        CatalogLocks(server, "one").acquire("a", 0)


def test_a_connection_that_breaks_lets_others_in_and_is_made_anew(postgres: PostgresServer) -> None:
    server = catalog_server(postgres)
    locks, other = CatalogLocks(server, "a store"), CatalogLocks(server, "a store")
    locks.acquire("a", 0)
    database = server.catalog.parameters["dbname"]
    sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"
    postgres.execute("postgres", sql, [database])
    other.acquire("a", 5)
    locks.acquire("b", 5)
    locks.release("a")
    locks.release("b")
    other.release("a")
    # What went with its connection needs no other one to be given back.
    other.acquire("c", 0)
    postgres.execute("postgres", sql, [database])
    other.release("c")
    other.release("c")
    idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
    assert postgres.execute("postgres", idle, [database]) == [(0,)]
