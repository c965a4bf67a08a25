"""The rate limit of an account, kept for all hosts in the catalog of the lake."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fullstory_dagster.api import Limit, RateLimiter, SystemClock
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.catalog_ledger import CatalogLedger
from fullstory_dagster.store.postgres import CatalogServer
from fullstory_dagster.warehouse_location import LakeCatalog, read_location
from fullstory_dagster_tests.postgres import PostgresServer
from fullstory_dagster_tests.sample_events import DAY

URL = "https://api.fullstory.com"
WORKER = """
import sys, time
from fullstory_dagster.api import Limit, RateLimiter
from fullstory_dagster.store.catalog_ledger import CatalogLedger
from fullstory_dagster.store.postgres import CatalogServer
from fullstory_dagster.warehouse_location import read_location

limits = {"get": Limit(2, 0.8, margin_s=0)}
ledger = CatalogLedger(CatalogServer(read_location(sys.argv[1])))
limiter = RateLimiter(ledger, base_url="https://api.fullstory.com", api_key="k", limits=limits)
for _ in range(4):
    limiter.acquire("get")
    print(time.time(), flush=True)
"""


@pytest.fixture
def location(postgres: PostgresServer) -> str:
    return f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}"


@pytest.fixture
def ledger(location: str) -> CatalogLedger:
    catalog = read_location(location)
    assert isinstance(catalog, LakeCatalog)
    return CatalogLedger(CatalogServer(catalog))


class WrongClock(SystemClock):
    """Of a host that is an hour behind."""

    def now(self) -> datetime:
        return super().now() - timedelta(hours=1)


def test_processes_of_several_hosts_share_the_limit(location: str) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", WORKER, location], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    times = sorted(float(line) for worker in workers for line in worker.communicate(timeout=60)[0].split())
    assert len(times) == 8
    # Two at a time: the last pair is three pauses behind the first.
    assert times[-1] - times[0] >= 2.4 - 0.2


def test_a_host_whose_clock_is_wrong_waits_as_long_as_the_others(ledger: CatalogLedger) -> None:
    limits = {"get": Limit(1, 0.6, margin_s=0.0)}
    right = RateLimiter(ledger, base_url=URL, api_key="k", limits=limits)
    wrong = RateLimiter(ledger, base_url=URL, api_key="k", limits=limits, clock=WrongClock())
    right.acquire("get")
    began = time.monotonic()
    wrong.acquire("get")
    right.acquire("get")
    assert 0.9 < time.monotonic() - began < 5


def test_a_penalty_holds_all_hosts_back_and_another_account_none(ledger: CatalogLedger) -> None:
    RateLimiter(ledger, base_url=URL, api_key="k").penalize("list", 0.6)
    began = time.monotonic()
    RateLimiter(ledger, base_url=URL, api_key="another").acquire("list")
    assert time.monotonic() - began < 0.5
    RateLimiter(ledger, base_url=URL, api_key="k").acquire("list")
    assert time.monotonic() - began >= 0.5


def test_many_who_ask_first_at_the_same_moment_all_get_their_turn(postgres: PostgresServer) -> None:
    for _ in range(5):
        catalog = read_location(f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}")
        assert isinstance(catalog, LakeCatalog)
        ledger = CatalogLedger(CatalogServer(catalog))
        with ThreadPoolExecutor(8) as threads:
            turns = list(threads.map(lambda _, ledger=ledger: ledger.update("a", _one_more), range(8)))
        assert sorted(turns) == list(range(8))


def _one_more(noted: str, _: float) -> tuple[str, int]:
    return noted + "|", len(noted)


def test_an_account_with_a_lake_keeps_its_limit_there(location: str, postgres: PostgresServer, tmp_path: Path) -> None:
    with SimulatorProcess(SimulatorConfig(days=3, scale=0.01, now=DAY.settled_at)) as simulator:
        settings = Settings(
            start=DAY.start,
            data_dir=tmp_path,
            api_key=simulator.api_key,
            api_url=simulator.url,
            warehouse=read_location(location),
        )
        with open_ingestion(settings).client() as client:
            client.check_key("segment")
    assert not (tmp_path / "rate_limit").exists()
    database = location.rpartition("dbname=")[2]
    [(account, noted)] = postgres.execute(database, "SELECT account, noted FROM fullstory_rate_limit")
    assert simulator.api_key not in account + noted
    assert "slots" in noted
