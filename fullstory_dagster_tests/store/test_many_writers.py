"""Writers on two hosts load the same windows into one lake at once, are killed, lose their locks: each window is once.

A host is a data dir of its own here; the store and the catalog are the same for all. The windows' locks, which keep two
runs from one window in the first place, are left out: what is asked is what the lake does without them.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.store.lake import Lake
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.postgres import PostgresServer
from fullstory_dagster_tests.reliability.report import record_rows
from fullstory_dagster_tests.sample_events import DAY, event

from .conftest import Loader

pytestmark = pytest.mark.slow

IS_SOAK = os.environ.get("FULLSTORY_TESTS_SOAK") == "1"
N_WRITERS = 4
N_WINDOWS = 12 if IS_SOAK else 3
N_ROUNDS = 6 if IS_SOAK else 1
N_KILLS = 24 if IS_SOAK else 2
N_LOST_LOCKS = 24 if IS_SOAK else 2

WRITE = """
import json, random, sys
from datetime import timedelta
from pathlib import Path
from fullstory_dagster.store import warehouse as module
from fullstory_dagster.store.bundles import BundleStore
from fullstory_dagster.store.dataset import EventDataset
from fullstory_dagster.store.objects import LocalStore
from fullstory_dagster.store.opening import open_database
from fullstory_dagster.warehouse_location import read_location

location, files, store, data_dir, seed, n_rounds = sys.argv[1:]

def say(**what):
    print(json.dumps(what), flush=True)

begin = module.transaction
def transaction(connection):
    class Announced:
        def __enter__(self):
            self.inner = begin(connection)
            return self.inner.__enter__()
        def __exit__(self, *raised):
            if raised[0] is None:
                say(commits=True)
            return self.inner.__exit__(*raised)
    return Announced()
module.transaction = transaction

objects = LocalStore(Path(store))
bundles, dataset = BundleStore(objects, "fullstory"), EventDataset(objects)
database = open_database(
    read_location(location), lake_files=files, scratch=Path(data_dir) / "scratch", lock_timeout_s=120, threads=1
)
warehouse = module.Warehouse(database, "fullstory")
chance = random.Random(seed)
windows = dataset.windows(timedelta(days=1))
for _ in range(int(n_rounds)):
    for window in chance.sample(windows, len(windows)):
        bundle = bundles.require(window)
        (load,) = warehouse.replace_windows([(dataset.require(window), bundle)], loaded_at=bundle.received_at)
        say(window=load.window.start.isoformat(), load_id=load.load_id, rows=load.rows_kept)
"""


class Writer:
    """A process that loads all windows in an order of its own, and says so."""

    def __init__(self, loader: Loader, host: Path, seed: int, n_rounds: int = N_ROUNDS) -> None:
        lake = loader.warehouse.database
        assert isinstance(lake, Lake)
        self.said: list[dict[str, Any]] = []
        self.commits = threading.Event()
        arguments = [f"ducklake:postgres:{lake.catalog.conninfo}", lake.files, str(loader.objects.root), str(host)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WRITE, *arguments, str(seed), str(n_rounds)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        for line in self.process.stdout or ():
            said = json.loads(line)
            if "commits" in said:
                self.commits.set()
            else:
                self.said.append(said)

    def wait(self) -> None:
        """Until it has loaded all; an error of its would be one of the test."""
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        code = self.process.wait(240)
        self._close()
        assert code == 0, errors

    def kill_at_commit(self, after_s: float) -> None:
        """SIGKILL, some moment after it is about to commit."""
        self.commits.clear()
        self.commits.wait(60)
        time.sleep(after_s)
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self._listening.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


class Readers:
    """Two of them: one begins a transaction before all loads and ends it after; one looks again and again."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.n_looks = 0
        self.slowest_s = 0.0
        self._threads = [threading.Thread(target=self._look_on), threading.Thread(target=self._hold)]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _look_on(self) -> None:
        try:
            while not self._stop.is_set():
                started = time.monotonic()
                self.failures += wrong(self._loader)
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                self.n_looks += 1
                time.sleep(0.05)
        except Exception as error:
            self.failures.append(repr(error))

    def _hold(self) -> None:
        sql = 'SELECT _window_start, count(*) AS n, max(_load_id) AS id FROM "fullstory"."events" GROUP BY 1 ORDER BY 1'
        try:
            with self._loader.warehouse.querying() as query:
                before = query(sql)
                while not self._stop.wait(0.3):
                    if query(sql) != before:
                        self.failures.append("a reader saw what was loaded after it began")
        except Exception as error:
            self.failures.append(repr(error))


def wrong(loader: Loader) -> list[str]:
    """What no reader may ever see: a window in part, doubled, or with other rows than its latest line says."""
    with loader.warehouse.querying() as query:
        events = query(
            "SELECT _window_start AS start, count(*) AS n, count(DISTINCT _event_id) AS ids, "
            'list_sort(list_distinct(list(_load_id))) AS loads FROM "fullstory"."events" GROUP BY 1'
        )
        latest = query(
            'SELECT window_start AS start, rows_kept AS n, load_id FROM "fullstory"."_loads" '
            "QUALIFY row_number() OVER (PARTITION BY window_start ORDER BY load_id DESC) = 1"
        )
    held = {row["start"]: (row["n"], row["ids"], row["loads"]) for row in events}
    told = {row["start"]: (row["n"], row["n"], [row["load_id"]]) for row in latest}
    return [] if held == told else [f"held {held}, told {told}"]


@pytest.fixture
def loader(lake_loader: Loader) -> Loader:
    """Windows that are parsed; one of them is loaded, so that there is a lake."""
    for number in range(N_WINDOWS):
        window = Window(DAY.start + timedelta(days=number), DAY.end + timedelta(days=number))
        times = {"EventStart": f"{window.start:%Y-%m-%d}T12:00:00.000Z"}
        lake_loader.keep([event(PageId=page, **times) for page in range(40 + number)], window)
        lake_loader.parse(window)
    lake_loader.append()
    return lake_loader


def refuse_anything_but_once(loader: Loader, writers: list[Writer], n_loads: tuple[int, int]) -> None:
    assert wrong(loader) == []
    counts = loader.warehouse.query('SELECT count(*) AS n FROM "fullstory"."events" GROUP BY _window_start ORDER BY n')
    assert [row["n"] for row in counts] == [40 + number for number in range(N_WINDOWS)]
    lines = loader.warehouse.query('SELECT load_id, window_start FROM "fullstory"."_loads" ORDER BY load_id')
    assert [line["load_id"] for line in lines] == list(range(1, len(lines) + 1))
    # What a writer was told is committed is there; who was killed may have committed without a word.
    by_id = {line["load_id"]: f"{line['window_start'].isoformat()}+00:00" for line in lines}
    told = Counter((said["load_id"], said["window"]) for writer in writers for said in writer.said)
    assert set(told.values()) <= {1}
    assert all(by_id[load_id] == window for load_id, window in told)
    assert n_loads[0] <= len(lines) - 1 <= n_loads[1]


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_four_writers_on_two_hosts_load_the_same_windows_and_each_is_there_once(
    loader: Loader, postgres: PostgresServer, tmp_path: Path
) -> None:
    hosts = [tmp_path / "host-1", tmp_path / "host-2"]
    lake = loader.warehouse.database
    assert isinstance(lake, Lake)
    database = lake.catalog.parameters["dbname"]
    n_lost = 0
    with Readers(loader) as readers:
        # All begin with the same window, which is loaded for the first time.
        writers = [Writer(loader, hosts[number % 2], seed=number // 2) for number in range(N_WRITERS)]
        while any(writer.process.poll() is None for writer in writers) and n_lost < N_LOST_LOCKS:
            # As when a network breaks the connection that holds a lock: its writer goes on without knowing.
            n_lost += len(postgres.execute(database, END_A_LOCK))
            time.sleep(0.2)
        for writer in writers:
            writer.wait()
    assert readers.failures == []
    assert readers.n_looks > N_WINDOWS
    n_loads = N_WRITERS * N_WINDOWS * N_ROUNDS
    assert sum(len(writer.said) for writer in writers) == n_loads
    refuse_anything_but_once(loader, writers, (n_loads, n_loads))
    assert n_lost > 0
    record_rows(
        "many_writers",
        {"four at once": {"loads": n_loads, "locks lost": n_lost, "kills": 0, "looks": readers.n_looks}},
    )


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_a_writer_that_is_killed_at_its_commit_costs_nothing(loader: Loader, tmp_path: Path) -> None:
    chance = random.Random(7)
    hosts = [tmp_path / "host-1", tmp_path / "host-2"]
    n_loads = 0
    with Readers(loader) as readers:
        others = [Writer(loader, host, seed=number) for number, host in enumerate(hosts)]
        killed = []
        for number in range(N_KILLS):
            doomed = Writer(loader, hosts[number % 2], seed=100 + number, n_rounds=100)
            doomed.kill_at_commit(chance.uniform(0, 0.08))
            killed.append(doomed)
        for writer in others:
            writer.wait()
    assert readers.failures == []
    n_loads = len(others) * N_WINDOWS * N_ROUNDS + sum(len(writer.said) for writer in killed)
    # Each of them may have committed one more before it could say so.
    refuse_anything_but_once(loader, [*others, *killed], (n_loads, n_loads + N_KILLS))
    # What is left of their files is nobody's, and goes.
    loader.warehouse.database.purge()
    assert wrong(loader) == []
    record_rows(
        "many_writers",
        {"killed at their commit": {"loads": n_loads, "locks lost": 0, "kills": N_KILLS, "looks": readers.n_looks}},
    )


END_A_LOCK = """
    SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_database ON pg_database.oid = database
    WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""
