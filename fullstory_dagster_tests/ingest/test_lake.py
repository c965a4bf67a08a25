"""What is done with windows and people, done in a lake: as in a file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.forgotten import Given
from fullstory_dagster.ingest.forget import find_person, forget
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.ingest.status import read_status
from fullstory_dagster.ingest.sync import reset, sync
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.warehouse_location import LakeCatalog, read_location
from fullstory_dagster_tests.erased_person import EMAIL, N_THEIR_EVENTS, TRACES, served_rows, traces_in
from fullstory_dagster_tests.postgres import PostgresServer

from .conftest import NOW, START, SettableClock, day

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("served") / "events.json"
    data.write_text(json.dumps(served_rows()))
    with SimulatorProcess(SimulatorConfig(data=data, now=NOW, export_s=0)) as running:
        yield running


@pytest.fixture
def account(
    simulator: SimulatorProcess, clock: SettableClock, tmp_path: Path, postgres: PostgresServer
) -> Callable[..., Ingestion]:
    """The account, with its warehouse in a lake unless another one is asked for."""
    lake = read_location(f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}")

    def make(folder: str = "data", **changes: Any) -> Ingestion:
        settings: dict[str, Any] = {
            "start": START,
            "data_dir": tmp_path / folder,
            "warehouse": lake,
            "api_key": simulator.api_key,
            "api_url": simulator.url,
            "downloads_per_minute": 0,
            "lock_timeout_s": 20,
            "duckdb_threads": 1,
        }
        return open_ingestion(Settings(**(settings | changes)), clock)

    return make


def contents(ingestion: Ingestion) -> dict[str, list[str]]:
    """Rows of the loader's tables, without what another run gives them."""
    left_out = {
        "events": "_export_id, _loaded_at, _load_id",
        "_rejected": "export_id, load_id",
        "_loads": "export_id, bundle_sha256, requested_at, received_at, loaded_at, fetch_s, parse_s, append_s",
    }
    return {
        name: sorted(map(repr, ingestion.warehouse.query(f"SELECT * EXCLUDE ({columns}) FROM fullstory.{name}")))
        for name, columns in left_out.items()
    }


def test_a_lake_holds_what_a_file_holds_after_the_same_commands(
    account: Callable[..., Ingestion], clock: SettableClock, tmp_path: Path
) -> None:
    of_a_file = account("other", warehouse=tmp_path / "other" / "warehouse.duckdb", keep_events_days=10)
    of_a_lake = account(keep_events_days=10)
    held = []
    for ingestion in (of_a_lake, of_a_file):
        clock.at = NOW
        assert len(sync(ingestion, jobs=2, end=day(5).start).loaded) == 4
        assert len(reset(ingestion, start=day(2).start, end=day(3).end).loaded) == 2
        assert sync(ingestion, end=day(5).start).loaded == []
        clock.at = day(1).end + timedelta(days=10)
        assert sync(ingestion, end=day(5).start).expired == [day(1)]
        status = read_status(ingestion)
        assert [entry.state for entry in status.windows[:4]] == ["expired", "loaded", "loaded", "loaded"]
        held.append(contents(ingestion))
    assert held[0] == held[1]
    # Nobody needs a copy to read from, nor is there a file to be copied.
    assert of_a_lake.snapshot is None
    assert of_a_lake.publish_snapshot_if_due() is None


def test_a_person_is_gone_from_every_byte_of_a_lake_and_nobody_else_is(
    account: Callable[..., Ingestion], postgres: PostgresServer
) -> None:
    ingestion = account()
    data_dir = ingestion.settings.data_dir
    assert len(sync(ingestion, jobs=1).loaded) == 4
    events = ingestion.warehouse.query("SELECT * FROM fullstory.events")
    assert [name for name in traces_in(data_dir) if name.startswith("lake/")]

    found = find_person(ingestion, Given("email", EMAIL))
    receipt = forget(ingestion, found.names, build_models=lambda: 0)

    assert traces_in(data_dir) == {}
    assert (receipt.events, receipt.windows, receipt.not_done) == (N_THEIR_EVENTS, 4, {})
    assert receipt.finished_at
    left = ingestion.warehouse.query("SELECT * FROM fullstory.events")
    assert len(left) == len(events) - N_THEIR_EVENTS
    assert set(map(repr, left)) <= set(map(repr, events))
    lake = ingestion.settings.warehouse
    assert isinstance(lake, LakeCatalog)
    database = lake.parameters["dbname"]
    for (name,) in postgres.execute(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        text = str(postgres.execute(database, f'SELECT * FROM "{name}"')).lower()
        assert not [trace for trace in TRACES if trace in text], name
    # FullStory serves them still.
    shutil.rmtree(data_dir / "bundles")
    assert reset(ingestion, jobs=1).failed == {}
    assert traces_in(data_dir) == {}
