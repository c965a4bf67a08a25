"""Windows that are appended in one transaction: exact, and whichever fails costs no other its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.errors import BundleMissingError, PermanentError, WarehouseLockedError, WindowShrankError
from fullstory_dagster.ingest import ingestion as module
from fullstory_dagster.ingest import sync as sync_module
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import N_EVENTS_A_DAY, MakeIngestion, day

pytestmark = pytest.mark.slow

DAYS = [day(number) for number in range(1, 5)]
ROWS = 'SELECT _window_start AS w, _load_id AS load_id, count(*) AS n FROM "fullstory"."events" GROUP BY ALL ORDER BY w'


@pytest.fixture
def ingestion(make_ingestion: MakeIngestion) -> Ingestion:
    """Four windows, fetched and parsed."""
    made = make_ingestion(lock_timeout_s=0.2)
    with made.client() as client:
        for window in DAYS:
            made.fetch(window, client)
            made.parse(window)
    return made


def rows(ingestion: Ingestion) -> list[tuple[int, int, int]]:
    """Day, load and number of rows of every window."""
    return [(row["w"].day, row["load_id"], row["n"]) for row in ingestion.warehouse.query(ROWS)]


def test_each_window_has_its_rows_and_its_line(ingestion: Ingestion) -> None:
    outcomes = list(ingestion.append_all(DAYS, dagster_run_id="r1"))
    assert [outcome.window for outcome in outcomes] == DAYS
    loads = [outcome.result for outcome in outcomes if outcome.result]
    assert [(load.load_id, load.rows_kept, load.dagster_run_id, load.is_whole) for load in loads] == [
        (n, N_EVENTS_A_DAY, "r1", True) for n in range(1, 5)
    ]
    assert ingestion.warehouse.current_loads() == {load.window: load for load in loads}
    assert rows(ingestion) == [(n, n, N_EVENTS_A_DAY) for n in range(1, 5)]
    # And again: each replaces its own.
    assert len(list(ingestion.append_all(DAYS[1:3]))) == 2
    assert rows(ingestion) == [
        (n, load_id, N_EVENTS_A_DAY) for n, load_id in zip(range(1, 5), (1, 5, 6, 4), strict=True)
    ]


def test_a_window_that_cannot_be_loaded_fails_alone(ingestion: Ingestion) -> None:
    location = Path(ingestion.dataset.require(day(2)).events_location)
    # The footer is read for what the window is; what is torn are its rows.
    content = bytearray(location.read_bytes())
    content[4:200] = b"\0" * 196
    location.write_bytes(content)
    ingestion.bundles.delete(day(3))
    outcomes = {outcome.window: outcome for outcome in ingestion.append_all(DAYS)}
    assert isinstance(outcomes[day(2)].error, PermanentError)
    assert "The window 2026-06-02" in str(outcomes[day(2)].error)
    assert isinstance(outcomes[day(3)].error, BundleMissingError)
    assert [n for n, _, _ in rows(ingestion)] == [1, 4]
    assert {window: attempt.stage for window, attempt in ingestion.attempts.all().items()} == {
        day(2): "append",
        day(3): "append",
    }


def test_a_window_with_too_few_rows_keeps_those_it_had_and_the_others_are_replaced(
    ingestion: Ingestion, make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    list(ingestion.append_all(DAYS))
    other = make_ingestion(fields=("UserId", "SessionId", "EventStart", "EventType"))
    simulator.set_faults([{"route": "location", "cut_json": 0, "times": 1}])
    with other.client() as client:
        other.fetch(day(1), client)
        other.parse(day(1))
    outcomes = list(other.append_all(DAYS[:2]))
    assert isinstance(outcomes[0].error, WindowShrankError)
    assert rows(ingestion)[:2] == [(1, 1, N_EVENTS_A_DAY), (2, 5, N_EVENTS_A_DAY)]
    assert list(ingestion.attempts.all()) == [day(1)]


def test_a_warehouse_that_is_taken_is_waited_for_once_and_not_for_every_window(ingestion: Ingestion) -> None:
    elsewhere = open_ingestion(ingestion.settings, ingestion.clock)
    with elsewhere.warehouse.database.locked():
        outcomes = list(ingestion.append_all(DAYS))
    assert [type(outcome.error) for outcome in outcomes] == [WarehouseLockedError] * 4
    assert len({str(outcome.error) for outcome in outcomes}) == 1
    assert set(ingestion.attempts.all()) == set(DAYS)


def test_large_windows_are_not_kept_waiting_for_one_another(
    ingestion: Ingestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOGETHER_ROWS", 2 * N_EVENTS_A_DAY)
    together: list[int] = []
    replace = ingestion.warehouse.replace_windows

    def counted(windows: Any, **options: Any) -> Any:
        together.append(len(windows))
        return replace(windows, **options)

    monkeypatch.setattr(ingestion.warehouse, "replace_windows", counted)
    assert len(list(ingestion.append_all(DAYS[:3]))) == 3
    assert together == [2, 1]


def test_what_was_prepared_is_appended_before_a_sync_ends_early(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "_TOGETHER_S", 60)
    simulator.set_faults([{"route": "export_start", "status": 401, "skip": 2, "times": -1}])
    summary = sync(make_ingestion(), jobs=1)
    assert [load.window for load in summary.loaded] == DAYS[:2]
    assert list(summary.failed) == [day(3)]
    assert list(summary.skipped) == [day(4)]
