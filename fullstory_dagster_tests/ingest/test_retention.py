"""What is deleted when its time is up, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

from fullstory_dagster.defs.checks import quiet_windows
from fullstory_dagster.errors import SettingsError, StoreRefusedError
from fullstory_dagster.ingest.gaps import find_gaps
from fullstory_dagster.ingest.retention import delete_expired_events, delete_old_bundles
from fullstory_dagster.ingest.status import read_status
from fullstory_dagster.ingest.sync import reset, sync
from fullstory_dagster.store.audit import audit_windows
from fullstory_dagster.store.bundles import BundleStore

from .conftest import N_EVENTS_A_DAY, MakeIngestion, SettableClock, day
from .test_ingestion import hours, load

pytestmark = pytest.mark.slow

KEEP = 10


def test_old_bundles_go_when_their_window_is_loaded_and_settled(
    make_ingestion: MakeIngestion, clock: SettableClock, anywhere: dict[str, Any]
) -> None:
    ingestion = make_ingestion(keep_bundles_days=3, delay_hours=0, **anywhere)
    for number in (1, 2, 4):
        load(ingestion, number)
    with ingestion.client() as client:
        ingestion.fetch(day(3), client)
    clock.at = day(1).end + timedelta(days=3)
    assert delete_old_bundles(ingestion) == 0
    clock.at = day(4).end + timedelta(days=3, seconds=1)
    with ingestion.client() as client:
        ingestion.fetch(day(2), client)
    # June 2 was fetched again and waits to be loaded; June 3 never was.
    assert delete_old_bundles(ingestion) == 2
    assert [number for number in (1, 2, 3, 4) if ingestion.bundles.get(day(number))] == [2, 3]
    assert delete_old_bundles(make_ingestion(**anywhere)) == 0


def test_what_cannot_be_deleted_costs_no_window_that_was_loaded(
    make_ingestion: MakeIngestion, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingestion = make_ingestion(keep_bundles_days=3)
    load(ingestion, 1)
    clock.at = day(2).end + timedelta(days=3, seconds=1)

    def refuse(*_: object) -> None:
        raise StoreRefusedError("The bucket answers 403 to a deletion.")

    monkeypatch.setattr(BundleStore, "delete", refuse)
    summary = sync(ingestion, start=day(2).start, end=day(3).start)
    assert [load.window for load in summary.loaded] == [day(2)]
    assert summary.not_deleted is not None
    assert summary.not_deleted.endswith("the next sync tries again: The bucket answers 403 to a deletion.")
    monkeypatch.undo()
    assert sync(ingestion, start=day(3).start, end=day(4).start).not_deleted is None
    assert [number for number in (1, 2, 3) if ingestion.bundles.get(day(number))] == [3]


def test_events_past_their_time_go_with_their_parquet_and_the_load_log_says_so(
    make_ingestion: MakeIngestion, clock: SettableClock, anywhere: dict[str, Any]
) -> None:
    ingestion = make_ingestion(keep_events_days=KEEP, **anywhere)
    assert len(sync(ingestion, end=day(5).start).loaded) == 4
    clock.at = day(2).end + timedelta(days=KEEP)
    summary = sync(ingestion, end=day(5).start)
    assert (summary.loaded, summary.failed, summary.expired) == ([], {}, [day(1), day(2)])
    assert len(hours(ingestion)) == 2 * N_EVENTS_A_DAY
    assert ingestion.dataset.windows(ingestion.settings.grid.length) == [day(3), day(4)]

    loads = ingestion.warehouse.current_loads()
    assert [(entry.rows_in, entry.rows_kept, entry.rows_expired) for entry in loads.values()] == [
        *[(N_EVENTS_A_DAY, 0, N_EVENTS_A_DAY)] * 2,
        *[(N_EVENTS_A_DAY, N_EVENTS_A_DAY, 0)] * 2,
    ]
    assert all(entry.is_whole for entry in loads.values())
    assert [audit.n_rows for audit in audit_windows(ingestion.warehouse, list(loads))] == [0, 0, 6, 6]
    assert quiet_windows(list(loads), loads) == {}
    status = read_status(ingestion)
    assert [entry.state for entry in status.windows[:4]] == ["expired", "expired", "loaded", "loaded"]
    assert "expired" not in {gap.state for gap in find_gaps(status)}
    # Only once, and not fetched again.
    again = sync(ingestion, end=day(3).start)
    assert (again.loaded, again.expired) == ([], [])
    assert set(again.skipped.values()) == {"older than FULLSTORY_KEEP_EVENTS_DAYS"}


def test_a_window_whose_time_is_up_is_neither_fetched_nor_loaded(
    make_ingestion: MakeIngestion, clock: SettableClock
) -> None:
    clock.at = day(1).end + timedelta(days=KEEP)
    ingestion = make_ingestion(keep_events_days=KEEP)
    assert [load.window for load in sync(ingestion, end=day(3).start).loaded] == [day(2)]
    assert [load.window for load in reset(ingestion, end=day(3).start).loaded] == [day(2)]
    with ingestion.client() as client, pytest.raises(SettingsError, match=r"KEEP_EVENTS_DAYS is 10, and the window"):
        ingestion.fetch(day(1), client)


def test_a_longer_time_to_keep_brings_a_window_back(make_ingestion: MakeIngestion, clock: SettableClock) -> None:
    sync(make_ingestion(), end=day(3).start)
    clock.at = day(1).end + timedelta(days=KEEP)
    assert delete_expired_events(make_ingestion(keep_events_days=KEEP)) == [day(1)]
    ingestion = make_ingestion(keep_events_days=KEEP + 1)
    assert [entry.state for entry in read_status(ingestion).windows[:2]] == ["missing", "loaded"]
    assert [load.rows_kept for load in sync(ingestion, end=day(3).start).loaded] == [N_EVENTS_A_DAY]
    assert len(hours(ingestion)) == 2 * N_EVENTS_A_DAY


def test_a_window_that_a_run_is_at_work_on_has_its_turn_later(
    make_ingestion: MakeIngestion, clock: SettableClock
) -> None:
    ingestion = make_ingestion(keep_events_days=KEEP)
    sync(ingestion, end=day(3).start)
    clock.at = day(2).end + timedelta(days=KEEP)
    other = make_ingestion(keep_events_days=KEEP)
    with other.window_locks.held(day(1), timeout_s=0):
        assert delete_expired_events(ingestion) == [day(2)]
        assert ingestion.dataset.get(day(1)), "the run that is at work on it needs its Parquet"
    assert delete_expired_events(ingestion) == [day(1)]


def test_a_warehouse_that_is_held_loses_no_summary_and_is_cleared_next_time(
    make_ingestion: MakeIngestion, clock: SettableClock
) -> None:
    sync(make_ingestion(), end=day(3).start)
    clock.at = day(2).end + timedelta(days=KEEP)
    ingestion = make_ingestion(keep_events_days=KEEP, lock_timeout_s=1)
    # Another process's connection, so that it is DuckDB's own lock as well.
    held = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", held, str(ingestion.warehouse.database.path)]
    loads = ingestion.warehouse.current_loads()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        assert delete_expired_events(ingestion) == []
        assert holder.stdin
        holder.stdin.close()
    assert ingestion.warehouse.current_loads() == loads
    assert delete_expired_events(ingestion) == [day(1), day(2)]


def test_many_windows_go_in_bounded_pieces(
    make_ingestion: MakeIngestion, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(make_ingestion(), end=day(4).start)
    clock.at = day(3).end + timedelta(days=KEEP)
    monkeypatch.setattr("fullstory_dagster.ingest.retention._TOGETHER", 2)
    ingestion = make_ingestion(keep_events_days=KEEP)
    assert delete_expired_events(ingestion) == [day(1), day(2), day(3)]
    assert hours(ingestion) == []
    assert ingestion.dataset.windows(ingestion.settings.grid.length) == []


def test_a_time_to_keep_that_is_shorter_than_the_delay_is_refused(make_ingestion: MakeIngestion) -> None:
    with pytest.raises(SettingsError, match="deleted before it is loaded"):
        make_ingestion(keep_events_days=7, delay_hours=200)
