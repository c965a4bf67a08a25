"""One window through fetch, parse and append."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import duckdb
import pytest

from fullstory_dagster.errors import (
    BundleChangedError,
    BundleIncompleteError,
    BundleMissingError,
    PermanentError,
    SettingsError,
    WindowNotOfferedError,
    WindowUnavailableError,
)
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.warehouse import Load

from .conftest import HOURS_OF_EVENTS, N_EVENTS_A_DAY, NOW, MakeIngestion, SettableClock, day

pytestmark = pytest.mark.slow

EVENTS = 'SELECT * FROM "fullstory"."events" ORDER BY EventStart'


def load(ingestion: Ingestion, number: int = 1) -> Load:
    with ingestion.client() as client:
        ingestion.fetch(day(number), client)
    ingestion.parse(day(number))
    return ingestion.append(day(number))


def hours(ingestion: Ingestion) -> list[int]:
    return [row["PageId"] for row in ingestion.warehouse.query(EVENTS)]


@pytest.mark.parametrize("api", ["segment", "bundle"])
def test_each_stage_needs_only_the_one_before(api: str, make_ingestion: MakeIngestion, clock: SettableClock) -> None:
    ingestion = make_ingestion(export_api=api)
    with ingestion.client() as client:
        bundle = ingestion.fetch(day(1), client)
    assert (bundle.api, len(bundle.files), bundle.requested_at, bundle.is_settled) == (api, 1, NOW, True)
    assert ingestion.bundles.get(day(1)) == bundle
    # Parsing asks nobody: the account could be closed by now.
    offline = make_ingestion(export_api=api, api_key=None, api_url=None)
    parsed = offline.parse(day(1))
    assert (parsed.rows_in, parsed.rows_kept, parsed.bundle_sha256) == (N_EVENTS_A_DAY, N_EVENTS_A_DAY, bundle.sha256)
    assert not offline.warehouse.database.path.exists()
    clock.at = NOW + timedelta(minutes=5)
    loaded = offline.append(day(1), dagster_run_id="r1")
    assert (loaded.rows_kept, loaded.api, loaded.export_id) == (N_EVENTS_A_DAY, api, bundle.export_id)
    assert (loaded.dagster_run_id, loaded.settings) == ("r1", offline.settings.shaping)
    assert loaded.loaded_at == (NOW + timedelta(minutes=5)).replace(tzinfo=None)
    assert hours(offline) == list(HOURS_OF_EVENTS)


def test_both_apis_give_the_same_rows(make_ingestion: MakeIngestion) -> None:
    columns = "* EXCLUDE (_export_id, _load_id)"
    by_api = []
    for api in ("segment", "bundle"):
        ingestion = make_ingestion(export_api=api)
        load(ingestion)
        by_api.append(ingestion.warehouse.query(f'SELECT {columns} FROM "fullstory"."events" ORDER BY EventStart'))
    assert by_api[0] == by_api[1]


def test_a_window_that_is_not_over_is_not_asked_for_and_is_no_failure(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    ingestion = make_ingestion()
    with ingestion.client() as client:
        with pytest.raises(WindowUnavailableError, match=r"can be fetched from 2026-06-07 00:00 UTC on \(24 h after"):
            ingestion.fetch(day(5), client)
    assert simulator.requests() == []
    assert ingestion.attempts.all() == {}


def test_stages_say_what_they_miss(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion()
    with pytest.raises(BundleMissingError, match="No bundle is kept"):
        ingestion.parse(day(1))
    with pytest.raises(BundleMissingError, match="has not been parsed"):
        ingestion.append(day(1))
    assert ingestion.attempts.all()[day(1)].count == 2


def test_rows_of_one_export_are_never_loaded_under_the_name_of_another(
    make_ingestion: MakeIngestion, clock: SettableClock, simulator: SimulatorProcess
) -> None:
    ingestion = make_ingestion(delay_hours=0, export_api="bundle")
    load(ingestion)
    first = int(day(1).start.timestamp())
    # The window comes in two bundles now; without a parse of those, append would call the old rows theirs.
    simulator.set_bundles([{"Id": n, "Start": first + n * 43200, "Stop": first + (n + 1) * 43200} for n in range(2)])
    with ingestion.client() as client:
        ingestion.fetch(day(1), client)
    with pytest.raises(BundleChangedError, match="was fetched again after it was parsed"):
        ingestion.append(day(1))
    ingestion.parse(day(1))
    assert ingestion.append(day(1)).export_id == "0,1"
    assert ingestion.attempts.all() == {}


def test_without_a_key_there_is_no_client(make_ingestion: MakeIngestion) -> None:
    with pytest.raises(SettingsError, match="FULLSTORY_API_KEY is not set"):
        make_ingestion(api_key=None).client()


@pytest.mark.parametrize(
    ("route", "form", "kind"),
    [("export_start", {"status": 403}, PermanentError), ("location", {"cut_json": True}, BundleIncompleteError)],
    ids=["refused", "cut"],
)
def test_a_fetch_that_fails_keeps_nothing_and_is_noted_with_its_sentence(
    make_ingestion: MakeIngestion,
    simulator: SimulatorProcess,
    route: str,
    form: dict[str, object],
    kind: type[Exception],
) -> None:
    ingestion = make_ingestion()
    simulator.set_faults([{"route": route, "times": -1, **form}])
    with ingestion.client() as client, pytest.raises(kind) as failed:
        ingestion.fetch(day(1), client)
    assert ingestion.bundles.get(day(1)) is None
    attempt = ingestion.attempts.all()[day(1)]
    assert (attempt.stage, attempt.error, attempt.last_at) == ("fetch", str(failed.value), NOW)
    assert list((ingestion.settings.store_dir / ".scratch").iterdir()) == []


@pytest.mark.parametrize(("n_bundles", "length_h"), [(4, 6), (2, 12), (24, 1)])
def test_a_window_is_made_of_the_shorter_bundles_that_tile_it(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess, n_bundles: int, length_h: int
) -> None:
    ingestion = make_ingestion(export_api="bundle")
    first = int(day(1).start.timestamp())
    bundles = [
        {"Id": f"b{n}", "Start": first + n * length_h * 3600, "Stop": first + (n + 1) * length_h * 3600}
        for n in range(2 * n_bundles)
    ]
    simulator.set_bundles(bundles)
    loaded = load(ingestion)
    assert loaded.export_id == ",".join(f"b{n}" for n in range(n_bundles))
    assert (loaded.rows_in, loaded.rows_kept, loaded.rows_outside) == (N_EVENTS_A_DAY, N_EVENTS_A_DAY, 0)
    ids = ingestion.warehouse.query('SELECT PageId, _export_id FROM "fullstory"."events"')
    assert {row["PageId"]: row["_export_id"] for row in ids} == {
        hour: f"b{hour // length_h}" for hour in HOURS_OF_EVENTS
    }


def test_longer_and_offset_bundles_are_cut_by_the_time_of_the_event(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    ingestion = make_ingestion(export_api="bundle", bundle_hours=12)
    first = int(day(1).start.timestamp())
    # Days that begin at six in the morning.
    simulator.set_bundles(
        [{"Id": n, "Start": first + (n * 24 - 18) * 3600, "Stop": first + (n * 24 + 6) * 3600} for n in range(3)]
    )
    windows = list(ingestion.settings.grid.between(day(1).start, day(1).end))
    loads = []
    with ingestion.client() as client:
        for window in windows:
            ingestion.fetch(window, client)
            ingestion.parse(window)
            loads.append(ingestion.append(window))
    assert [load.export_id for load in loads] == ["0,1", "1"]
    # Bundle 0 ends with 0 and 5 h of June 1; bundle 1 goes on until 6 h of June 2.
    assert [(load.rows_in, load.rows_kept, load.rows_outside) for load in loads] == [(8, 4, 4), (6, 2, 4)]
    assert hours(ingestion) == list(HOURS_OF_EVENTS)


def test_a_window_before_the_first_bundle_is_not_offered(
    make_ingestion: MakeIngestion, simulator: SimulatorProcess
) -> None:
    ingestion = make_ingestion(export_api="bundle")
    start = int(day(2).start.timestamp())
    simulator.set_bundles([{"Id": 1, "Start": start, "Stop": start + 86400}])
    with ingestion.client() as client:
        with pytest.raises(WindowNotOfferedError, match="the first one starts 2026-06-02"):
            ingestion.fetch(day(1), client)
        with pytest.raises(WindowUnavailableError, match="nothing from 2026-06-03 00:00 UTC on is listed"):
            ingestion.fetch(day(3), client)
        reasons = ingestion.note_uncovered([day(1), day(2), day(3)], client)
    assert set(reasons) == {day(1), day(3)}
    kinds = {window: (attempt.kind, attempt.is_transient) for window, attempt in ingestion.attempts.all().items()}
    assert kinds == {day(1): ("WindowNotOfferedError", False), day(3): ("WindowUnavailableError", True)}


def test_privacy_settings_hold_in_every_file_but_the_raw_bundle(make_ingestion: MakeIngestion) -> None:
    ingestion = make_ingestion(
        exclude_columns=("evt_secret_str",),
        hash_columns=("UserEmail", "PageUserAgent"),
        hash_key="canary-pepper",
        truncate_ip=True,
    )
    loaded = load(ingestion)
    assert loaded.rows_kept == N_EVENTS_A_DAY
    row = ingestion.warehouse.query(EVENTS)[0]
    assert len(row["UserEmail"]) == len(row["PageUserAgent"]) == 64
    assert (row["PageIp"], row["CustomVars"]) == ("203.0.113.0", '{"evt_hour_int":0}')
    ingestion.snapshot.publish()
    # Parquet and the warehouse are compressed: what they hold is searched as well as their bytes.
    exported = ingestion.settings.data_dir / "all.csv"
    with duckdb.connect(ingestion.warehouse.database.path, read_only=True) as connection:
        connection.execute(f'COPY (SELECT * FROM "fullstory"."events") TO \'{exported}\'')
        connection.execute(f'COPY (SELECT * FROM "fullstory"."_loads") TO \'{exported}.loads\'')
        connection.execute(
            f"COPY (SELECT * FROM read_parquet('{ingestion.settings.store_dir}/*/*/*.parquet', union_by_name = true)) "
            f"TO '{exported}.parquet.csv'"
        )
    n_searched = 0
    for path in ingestion.settings.data_dir.rglob("*"):
        if path.is_file() and "bundles" not in path.parts:
            content = path.read_bytes()
            n_searched += 1
            assert not [word for word in (b"canary", b"113.77") if word in content], path
    assert n_searched > 6


def test_the_key_is_in_no_file(make_ingestion: MakeIngestion, simulator: SimulatorProcess) -> None:
    ingestion = make_ingestion()
    load(ingestion)
    simulator.set_faults([{"route": "export_start", "status": 401, "times": -1}])
    with ingestion.client() as client, pytest.raises(PermanentError):
        ingestion.fetch(day(2), client)
    for path in ingestion.settings.data_dir.rglob("*"):
        assert not path.is_file() or simulator.api_key.encode() not in path.read_bytes(), path


def test_a_snapshot_is_published_when_it_is_due(make_ingestion: MakeIngestion) -> None:
    assert make_ingestion().publish_snapshot_if_due() is None
    ingestion = make_ingestion()
    load(ingestion)
    assert ingestion.publish_snapshot_if_due() is not None
    assert ingestion.publish_snapshot_if_due() is None
    assert Path(ingestion.settings.data_dir / "read" / "warehouse.duckdb").exists()
