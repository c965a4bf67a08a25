"""Whose a kept bundle is, and when it may be loaded again.

A six-hour bundle once took the place of a day's, and one with four fields the place of one with all: each time a reset
then loaded, without a word, less than there had been.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fullstory_dagster.errors import WarehouseMismatchError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
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


def test_another_schema_never_takes_the_place_of_a_kept_bundle(daily: Ingestion) -> None:
    (day,) = daily.warehouse.current_loads()
    few = ("UserId", "SessionId", "EventStart", "EventType")
    other = open_ingestion(daily.settings.with_changes(schema="vips", fields=few))

    summary = sync(other, end=END)

    assert "for schema 'fullstory' is kept in its place" in summary.failed[day]
    assert reset(daily, end=END).n_rows == daily.warehouse.current_loads()[day].rows_in
    filled = daily.warehouse.query("SELECT count(PageUrl) AS n FROM fullstory.events")
    assert filled[0]["n"] > 0


def test_a_reset_after_a_change_of_fields_asks_fullstory_again(daily: Ingestion, simulator: SimulatorProcess) -> None:
    few = ("UserId", "SessionId", "EventStart", "EventType")
    simulator.clear()

    assert reset(daily, end=END).failed == {}
    assert simulator.requests() == []

    narrow = open_ingestion(daily.settings.with_changes(fields=few))
    assert reset(narrow, end=END).failed == {}
    assert narrow.warehouse.query("SELECT count(PageUrl) AS n FROM fullstory.events") == [{"n": 0}]
    (load,) = narrow.warehouse.current_loads().values()
    assert load.settings["fields"] == list(few)


def test_a_sync_uses_the_bundle_that_an_interrupted_one_left_behind(
    daily: Ingestion, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    (day,) = daily.warehouse.current_loads()
    daily.warehouse.database.path.unlink()
    simulator.clear()

    summary = sync(daily, end=END)

    assert [load.window for load in summary.loaded] == [day]
    assert simulator.requests() == []


def test_a_file_that_a_killed_fetch_left_beside_the_bundle_is_gone_after_the_next_load(daily: Ingestion) -> None:
    (day,) = daily.warehouse.current_loads()
    (file,) = daily.bundles.require(day).files
    kept = daily.settings.store_dir / file.key
    left = kept.with_name(f"{'0' * 32}.json.gz")
    left.write_bytes(kept.read_bytes())

    assert reset(daily, end=END).failed == {}

    assert sorted(path.name for path in kept.parent.iterdir()) == sorted(["bundle.json", kept.name])


def test_a_key_that_is_refused_is_tried_once_and_not_for_every_window(
    simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.clear()
    settings = Settings(start=START, data_dir=tmp_path, api_key="wrong", api_url=simulator.url, jobs=1)

    summary = sync(open_ingestion(settings.with_changes(bundle_hours=1)), end=END)

    assert len(summary.failed) == 1
    assert set(summary.skipped.values()) == {"not tried after that failure"}
    assert len(summary.failed) + len(summary.skipped) == 24
    assert len(simulator.requests()) <= 4
