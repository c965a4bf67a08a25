"""What a failing disk does to kept files: nothing wrong is loaded, and the next sync mends it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fullstory_dagster.errors import BundleDamagedError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.status import read_status
from fullstory_dagster.ingest.sync import reset, sync
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import N_EVENTS_A_DAY, MakeIngestion, day

slow = pytest.mark.slow

ONE_DAY = {"start": day(1).start, "end": day(2).start}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 0xFF
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def kept(ingestion: Ingestion, pattern: str) -> Path:
    (path,) = ingestion.settings.store_dir.glob(pattern)
    return path


def rows(ingestion: Ingestion) -> list[dict[str, object]]:
    return ingestion.warehouse.query(
        "SELECT * EXCLUDE (_load_id, _loaded_at, _export_id) FROM fullstory.events ORDER BY ALL"
    )


@slow
@pytest.mark.parametrize("damage", [flip, cut, empty])
def test_a_damaged_bundle_is_not_loaded_and_is_fetched_again(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, damage: Callable[[Path], None]
) -> None:
    ingestion = make_ingestion()
    sync(ingestion, **ONE_DAY)
    before = rows(ingestion)
    damage(kept(ingestion, "bundles/window_start=20260601*/*.json.gz"))
    n_requests = len(simulator.requests())
    failed = reset(ingestion, **ONE_DAY)
    assert "is not what was received; the disk has damaged it" in failed.failed[day(1)]
    assert rows(ingestion) == before
    assert len(simulator.requests()) == n_requests
    healed = reset(ingestion, **ONE_DAY)
    assert [load.rows_kept for load in healed.loaded] == [N_EVENTS_A_DAY]
    assert rows(ingestion) == before
    assert read_status(ingestion).windows[0].state == "loaded"


@slow
def test_a_bundle_that_is_not_packed_is_compared_as_well(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    # Gzip has a checksum of its own; a bundle that a proxy has unpacked has none.
    ingestion = make_ingestion()
    simulator.set_faults([{"route": "location", "plain_json": True, "times": -1}])
    sync(ingestion, **ONE_DAY)
    path = kept(ingestion, "bundles/window_start=20260601*/*.json.gz")
    path.write_bytes(path.read_bytes().replace(b"click", b"clock", 1))
    with pytest.raises(BundleDamagedError):
        ingestion.parse(day(1))


@slow
@pytest.mark.parametrize("damage", [cut, empty])
@pytest.mark.parametrize(
    "pattern",
    ["bundles/window_start=20260601*/bundle.json", "parses/window_start=20260601*/*.json", "events/*/*.parquet"],
)
def test_a_note_or_a_parquet_file_that_cannot_be_read_is_made_again(
    make_ingestion: MakeIngestion, damage: Callable[[Path], None], pattern: str
) -> None:
    ingestion = make_ingestion()
    sync(ingestion, **ONE_DAY)
    before = rows(ingestion)
    damage(kept(ingestion, pattern))
    assert len(reset(ingestion, **ONE_DAY).loaded) == 1
    assert rows(ingestion) == before


@slow
@pytest.mark.parametrize("damage", [cut, empty])
def test_a_damaged_attempt_is_no_attempt(make_ingestion: MakeIngestion, damage: Callable[[Path], None]) -> None:
    ingestion = make_ingestion()
    ingestion.attempts.record_failure(day(1), "fetch", ValueError("x"), ingestion.clock.now())
    (path,) = (ingestion.settings.data_dir / "attempts").rglob("*Z.json")
    damage(path)
    assert read_status(ingestion).windows[0].state == "missing"
    assert len(sync(ingestion, **ONE_DAY).loaded) == 1
