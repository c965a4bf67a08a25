"""An account whose bundles and Parquet are in a bucket, and whose warehouse is here."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from fullstory_dagster.errors import DiskFullError, StoreRefusedError, StoreUnreachableError
from fullstory_dagster.ingest.retention import delete_expired_events, delete_old_bundles
from fullstory_dagster.ingest.sync import reset, sync
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store import object_store_access
from fullstory_dagster.store.remote_objects import RemoteStore
from fullstory_dagster_tests.s3_server import AnsweringServer, Bucket, refusing_to_write

from .conftest import N_EVENTS_A_DAY, MakeIngestion, SettableClock, day
from .test_ingestion import hours, load
from .test_sync import DAYS, states

pytestmark = pytest.mark.slow


def test_bundles_and_parquet_are_in_the_bucket_and_nothing_of_them_here(
    make_ingestion: MakeIngestion, bucket: Bucket, tmp_path: Path
) -> None:
    ingestion = make_ingestion(store=bucket.url)
    assert len(sync(ingestion).loaded) == 4
    keys = bucket.keys()
    folders = {key.removeprefix("some/prefix/").split("/")[0] for key in keys}
    assert folders == {"bundles", "events", "parses"}
    assert len(keys) == 4 * 5
    assert bucket.n_unfinished_uploads() == 0
    here = {path.relative_to(tmp_path / "data").parts[0] for path in (tmp_path / "data").rglob("*") if path.is_file()}
    assert here <= {"warehouse.duckdb", "warehouse.duckdb.lock", "warehouse.duckdb.lock.holder", "locks", "rate_limit"}


def test_windows_are_loaded_again_from_the_bucket_without_asking_fullstory(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, bucket: Bucket
) -> None:
    ingestion = make_ingestion(store=bucket.url)
    sync(ingestion)
    before = hours(ingestion)
    # Another machine would find them as well.
    Path(str(ingestion.settings.warehouse)).unlink()
    simulator.clear()
    assert len(sync(ingestion).loaded) == 4
    assert len(reset(make_ingestion(store=bucket.url, truncate_ip=True)).loaded) == 4
    assert simulator.requests() == []
    assert sorted(hours(ingestion)) == sorted(before)


def test_a_bundle_that_is_gone_is_fetched_again_by_the_next_sync(make_ingestion: MakeIngestion, bucket: Bucket) -> None:
    ingestion = make_ingestion(store=bucket.url)
    load(ingestion)
    (file,) = ingestion.bundles.require(day(1)).files
    ingestion.bundles._objects.delete(file.key)
    assert list(reset(ingestion, end=day(1).end).failed) == [day(1)]
    assert [entry.rows_kept for entry in reset(ingestion, end=day(1).end).loaded] == [N_EVENTS_A_DAY]


REFUSED = {403: StoreRefusedError, 503: StoreUnreachableError}


@pytest.mark.parametrize("status", REFUSED)
def test_a_store_that_takes_nothing_ends_the_sync_with_the_first_window(
    make_ingestion: MakeIngestion, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    load(make_ingestion(store=bucket.url))
    monkeypatch.setattr(object_store_access, "_MAX_RETRIES", 0)
    # Somebody may read and not write.
    with refusing_to_write(status, "Code") as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        ingestion = make_ingestion(store=bucket.url)
        summary = sync(ingestion, jobs=1)
    ((window, sentence),) = summary.failed.items()
    assert (window, f"was not written: it answers {status} Code" in sentence) == (day(2), True)
    assert summary.skipped == {DAYS[0]: "already loaded"} | dict.fromkeys(DAYS[2:], "not tried after that failure")
    assert states(ingestion)[:2] == ["loaded", "failed"]
    assert len(hours(ingestion)) == N_EVENTS_A_DAY
    assert ingestion.attempts.all()[day(2)].is_transient is (status == 503)

    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
    assert len(sync(make_ingestion(store=bucket.url)).loaded) == 3


@pytest.mark.parametrize("status", REFUSED)
def test_a_store_that_cannot_be_read_lets_nothing_begin(
    make_ingestion: MakeIngestion,
    simulator: SimulatorProcess,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    monkeypatch.setattr(object_store_access, "_MAX_RETRIES", 0)
    with AnsweringServer(lambda *_: (status, "Code")) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        # Nor would it be known who was erased.
        with pytest.raises(REFUSED[status], match=rf"was not listed: it answers {status} Code"):
            sync(make_ingestion(store=bucket.url))
        with pytest.raises(REFUSED[status]), make_ingestion(store=bucket.url).client() as client:
            make_ingestion(store=bucket.url).fetch(day(1), client)
    assert simulator.requests() == []


def test_a_store_that_is_gone_before_the_append_leaves_an_outcome_for_each_window(
    make_ingestion: MakeIngestion, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(make_ingestion(store=bucket.url))
    monkeypatch.setattr(object_store_access, "_MAX_RETRIES", 0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    ingestion = make_ingestion(store=bucket.url)
    outcomes = list(ingestion.append_all(DAYS[:2]))
    assert [(outcome.window, type(outcome.error)) for outcome in outcomes] == [
        (window, StoreUnreachableError) for window in DAYS[:2]
    ]
    assert len(hours(ingestion)) == 4 * N_EVENTS_A_DAY


def test_what_is_not_in_the_bucket_is_not_asked_for_window_by_window(
    make_ingestion: MakeIngestion, clock: SettableClock, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingestion = make_ingestion(store=bucket.url, keep_bundles_days=10, keep_events_days=100)
    sync(ingestion)
    opened: list[str] = []
    open_object = RemoteStore.open

    def noting(store: RemoteStore, key: str) -> BinaryIO:
        opened.append(key)
        return open_object(store, key)

    monkeypatch.setattr(RemoteStore, "open", noting)
    assert ingestion.usable_bundles([day(number) for number in range(1, 30)]) == set(DAYS)
    assert len(opened) == 4
    opened.clear()
    assert delete_expired_events(ingestion) == []
    assert opened == []
    clock.at = day(9, n_days=7).end
    assert delete_old_bundles(ingestion) == 4
    opened.clear()
    assert delete_old_bundles(ingestion) == 0
    assert opened == []


def test_a_disk_without_room_for_a_copy_is_told_before_it_is_made(
    make_ingestion: MakeIngestion, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingestion = make_ingestion(store=bucket.url)
    load(ingestion)
    monkeypatch.setattr("fullstory_dagster.disk.MARGIN_BYTES", 1 << 60)
    with (
        pytest.raises(DiskFullError, match=rf"Downloading {bucket.url}/events/.*events.parquet needs about"),
        ingestion.dataset.at_hand(ingestion.dataset.require(day(1))),
    ):
        pass
