"""Windows of another length that begin at the same instant: a six-hour bundle once took the place of a day's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fullstory_dagster.errors import WarehouseMismatchError
from fullstory_dagster.ingest.ingestion import Ingestion, open_ingestion
from fullstory_dagster.ingest.sync import reset, sync
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

pytestmark = pytest.mark.slow

START = datetime(2026, 6, 1, tzinfo=timezone.utc)
END = datetime(2026, 6, 2, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    config = SimulatorConfig(now=datetime(2026, 6, 4, tzinfo=timezone.utc), days=3, scale=0.1, export_s=0)
    with SimulatorProcess(config) as running:
        yield running


@pytest.fixture
def daily(simulator: SimulatorProcess, tmp_path: Path) -> Ingestion:
    """One day, loaded as one window."""
    settings = Settings(start=START, data_dir=tmp_path, api_key=simulator.api_key, api_url=simulator.url)
    ingestion = open_ingestion(settings)
    sync(ingestion, end=END)
    return ingestion


def test_a_sync_with_another_window_length_stops_before_anything_is_fetched(daily: Ingestion) -> None:
    kept = daily.bundles.require(*daily.warehouse.current_loads())
    shorter = open_ingestion(daily.settings.with_changes(bundle_hours=6))

    with pytest.raises(WarehouseMismatchError, match="FULLSTORY_BUNDLE_HOURS says 6"):
        sync(shorter, end=END)

    assert daily.bundles.require(*daily.warehouse.current_loads()) == kept


def test_a_shorter_window_never_takes_the_place_of_a_kept_bundle(daily: Ingestion) -> None:
    (day,) = daily.warehouse.current_loads()
    shorter = open_ingestion(daily.settings.with_changes(bundle_hours=6))
    morning = next(shorter.settings.grid.between(START, END))

    with shorter.client() as client, pytest.raises(WarehouseMismatchError, match="would be lost"):
        shorter.fetch(morning, client)

    assert shorter.bundles.get(morning) is None
    assert shorter.dataset.get(morning) is None
    before = daily.warehouse.current_loads()[day].rows_kept
    assert [load.rows_kept for load in reset(daily, end=END).loaded] == [before]
