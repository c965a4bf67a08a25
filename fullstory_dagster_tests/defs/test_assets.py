"""The three loading assets, run as Dagster runs them, against the simulator and a real DuckDB file."""

from __future__ import annotations

import base64
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import AssetPartitionStatus

from fullstory_dagster.definitions import build_definitions
from fullstory_dagster.defs.assets import build_assets
from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.defs.partitions import window_partitions
from fullstory_dagster.defs.sensors import build_sensors
from fullstory_dagster.simulator.locations import SIGNATURE_PARAMETER
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store import object_store_access
from fullstory_dagster_tests.s3_server import ACCESS_KEY, SECRET_KEY, AnsweringServer, Bucket

from .conftest import CANARY_KEY, INGEST, NOW, SCHEMA, AccountAt, Materialize, StillClock, day, key_of

pytestmark = pytest.mark.slow


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The sentence a failed run ends with."""
    [event] = [event for event in result.all_events if event.is_step_failure]
    error = event.step_failure_data.error
    assert error is not None
    data = event.step_failure_data.user_failure_data
    return str(data.description if data else error.message)


def materialized(result: dg.ExecuteInProcessResult) -> set[str | None]:
    return {event.partition for event in result.all_events if event.is_step_materialization}


def metadata(instance: dg.DagsterInstance, name: str, partition: str) -> dict[str, object]:
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key_of(name), asset_partitions=[partition]), limit=1
    ).records
    [record] = records
    assert record.asset_materialization is not None
    return {name: value.value for name, value in record.asset_materialization.metadata.items()}


def n_rows(account: AccountAt) -> dict[str, int]:
    rows = account.ingestion().warehouse.query(
        f"SELECT strftime(_window_start, '%d') AS day, count(*) AS n FROM {SCHEMA}.events GROUP BY ALL ORDER BY ALL"
    )
    return {str(row["day"]): int(row["n"]) for row in rows}


def test_one_window_goes_through_all_stages(
    materialize: Materialize, account: AccountAt, instance: dg.DagsterInstance
) -> None:
    for name in INGEST:
        result = materialize(name, 2)
        assert result.success
        assert materialized(result) == {"2026-06-02"}
    load = account.ingestion().warehouse.current_loads()[day(2)]
    assert n_rows(account) == {"02": load.rows_kept}
    assert load.rows_kept > 100
    assert load.dagster_run_id == result.run_id
    bundle = metadata(instance, "raw_bundles", "2026-06-02")
    assert (bundle["API"], bundle["files"], bundle["settled"]) == ("segment", 1, True)
    parsed, loaded = (metadata(instance, name, "2026-06-02") for name in ("parsed_events", "events"))
    assert parsed["dagster/partition_row_count"] == loaded["dagster/partition_row_count"] == load.rows_kept
    assert str(loaded["first event (UTC)"]).startswith("2026-06-02 ")
    assert loaded["first event (UTC)"] == parsed["first event (UTC)"]
    assert loaded["export id"] == bundle["export id"]


def test_one_run_loads_a_range_and_says_of_each_window_what_was_in_it(
    materialize: Materialize, account: AccountAt, instance: dg.DagsterInstance
) -> None:
    for name in INGEST:
        result = materialize(name, 1, 3)
        assert result.success
        assert materialized(result) == {"2026-06-01", "2026-06-02", "2026-06-03"}
    told = {
        f"{n:02}": metadata(instance, "events", f"2026-06-{n:02}")["dagster/partition_row_count"] for n in (1, 2, 3)
    }
    assert told == n_rows(account)
    assert len(set(told.values())) == 3


def test_a_window_that_fails_in_a_range_stops_no_other(
    materialize: Materialize, account: AccountAt, simulator: SimulatorProcess, instance: dg.DagsterInstance
) -> None:
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    fetched = materialize("raw_bundles", 1, 4)
    assert not fetched.success
    [bad] = account.ingestion().attempts.all().values()
    bad_key = f"{bad.window.start:%Y-%m-%d}"
    good = {f"2026-06-{number:02}" for number in (1, 2, 3, 4)} - {bad_key}
    assert failure(fetched) == (
        f"1 of 4 windows failed, 3 are done and kept. {bad.error} What was fetched and loaded of it before is "
        "unchanged; it is not tried again by itself: mend that, then materialize raw_bundles for it again."
    )
    assert "404" in bad.error
    assert instance.get_materialized_partitions(key_of("raw_bundles")) == good
    assert {metadata(instance, "raw_bundles", key)["export id"] for key in good} == {
        account.ingestion().bundles.require(day(int(key[-2:]))).export_id for key in good
    }
    for key in good:
        assert materialize("parsed_events", int(key[-2:])).success
        assert materialize("events", int(key[-2:])).success
    assert n_rows(account).keys() == {key[-2:] for key in good}


def test_the_failed_window_is_the_only_one_that_dagster_counts_as_failed(
    materialize: Materialize, account: AccountAt, simulator: SimulatorProcess, instance: dg.DagsterInstance
) -> None:
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    materialize("raw_bundles", 1, 3)
    [bad] = account.ingestion().attempts.all()
    statuses = instance.get_status_by_partition(
        key_of("raw_bundles"),
        [f"2026-06-{number:02}" for number in (1, 2, 3)],
        window_partitions(account.settings.grid),
    )
    assert statuses is not None
    failed = AssetPartitionStatus.FAILED
    assert [key for key, status in statuses.items() if status == failed] == [f"{bad.start:%Y-%m-%d}"]


def test_a_window_that_is_not_available_yet_fails_with_the_time_it_will_be(
    materialize: Materialize, account: AccountAt, simulator: SimulatorProcess
) -> None:
    result = materialize("raw_bundles", 7)
    assert not result.success
    assert failure(result) == (
        "The window 2026-06-07 00:00 to 2026-06-08 00:00 UTC can be fetched from 2026-06-09 00:00 UTC on "
        "(24 h after its end); nothing was asked of FullStory."
    )
    assert simulator.requests() == []
    assert account.ingestion().attempts.all() == {}


def test_a_stage_without_the_stage_before_it_says_what_to_materialize(materialize: Materialize) -> None:
    assert failure(materialize("parsed_events", 1)) == (
        "No bundle is kept for the window 2026-06-01 00:00 to 2026-06-02 00:00 UTC; "
        "materialize raw_bundles for it, or sync it, first. What was loaded of it before is unchanged; it is not tried "
        "again by itself: mend that, then materialize parsed_events for it again."
    )
    assert "materialize parsed_events for it" in failure(materialize("events", 1))


def test_a_window_materialized_again_replaces_its_rows(materialize: Materialize, account: AccountAt) -> None:
    for name in INGEST:
        assert materialize(name, 1).success
    before = n_rows(account)
    for name in INGEST:
        assert materialize(name, 1).success
    assert n_rows(account) == before
    assert account.ingestion().warehouse.current_loads()[day(1)].load_id == 2


def test_the_warehouse_is_free_after_a_load_that_failed(
    materialize: Materialize, account: AccountAt, simulator: SimulatorProcess
) -> None:
    for name in INGEST:
        assert materialize(name, 1).success
    assert not materialize("events", 2).success
    with account.ingestion(patience_s=0).warehouse.writing() as connection:
        assert connection.execute(f"SELECT count(*) > 0 FROM {SCHEMA}.events").fetchone() == (True,)


FAILURES: dict[str, dict[str, Any]] = {
    "401": {"route": "export_start", "status": 401, "body": f"no such key: {CANARY_KEY}"},
    "403": {"route": "operation", "status": 403, "body": {"message": f"Basic {CANARY_KEY}"}},
    "429": {"route": "results", "status": 429, "retry_after": 9999},
    "500": {"route": "export_start", "status": 500, "body": f"trace of {quote(CANARY_KEY, safe='')}"},
    "redirect": {"route": "location", "redirect": f"https://elsewhere.test/?key={CANARY_KEY}"},
    "HTML": {"route": "results", "html": True},
    "corrupt gzip": {"route": "location", "corrupt_gzip": True},
    "cut JSON": {"route": "location", "cut_json": True},
    "FAILED": {"route": "operation", "operation_state": "FAILED", "error_details": f"of {CANARY_KEY}"},
    "expired": {"route": "results", "expired_location": True},
    "another host": {"route": "results", "location": f"http://elsewhere.test/file?key={CANARY_KEY}"},
    "reset": {"route": "location", "reset_after_bytes": 100},
}
"""A fault each, with the key in what FullStory says wherever it says anything."""


@dataclass
class HastyClock(StillClock):
    """A clock on which waiting takes no time, and time goes on by what was waited."""

    waited_s: float = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.waited_s

    def sleep(self, seconds: float) -> None:
        self.waited_s += seconds
        self.at += timedelta(seconds=seconds)


def test_dagster_stores_nothing_personal_and_no_secret(
    account: AccountAt, simulator: SimulatorProcess, stored_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    hasty = AccountAt(account.settings, HastyClock())
    job = build_definitions(hasty.settings, account=hasty).resolve_job_def(LOAD_JOB)
    [_, sensor, _] = build_sensors(hasty.settings, [])

    def run(name: str, partition: str) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            instance=stored_instance, asset_selection=[key_of(name)], partition_key=partition, raise_on_error=False
        )

    assert all(run(name, "2026-06-02").success for name in INGEST)
    personal = personal_texts(account)
    signatures: set[str] = set()
    said: dict[str, str] = {}
    for failed, fault in FAILURES.items():
        simulator.set_faults([fault | {"times": -1}])
        result = run("raw_bundles", "2026-06-03")
        assert not result.success, failed
        said[failed] = failure(result)
        with dg.build_sensor_context(instance=stored_instance, resources={"account": hasty}) as context:
            said[f"tick after {failed}"] = str(sensor(context))
        signatures |= {request["query"][SIGNATURE_PARAMETER] for request in simulator.requests() if is_signed(request)}
    # And nobody there at all.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gone = AccountAt(
            account.settings.with_changes(api_url=f"http://127.0.0.1:{closed.getsockname()[1]}"), hasty.clock
        )
    job = build_definitions(gone.settings, account=gone).resolve_job_def(LOAD_JOB)
    said["refused"] = failure(run("raw_bundles", "2026-06-03"))
    assert "No answer from 127.0.0.1" in said["refused"]
    assert len(signatures) > 5
    assert all(key in said[failed] for failed, key in {"401": "FULLSTORY_API_KEY", "429": "9,999 s"}.items())

    packed = base64.b64encode(CANARY_KEY.encode()).decode()
    secrets = {CANARY_KEY, quote(CANARY_KEY, safe=""), quote(CANARY_KEY), packed, packed.rstrip("="), *signatures}
    home, data = (
        {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "home", account.settings.data_dir)
    )
    assert any(b"2026-06-02" in content for content in home.values())
    assert any(path.match("attempts/*/20260603T0000Z.json") for path in data)
    runs = stored_instance.get_runs()
    assert len(runs) == len(INGEST) + len(FAILURES) + 1
    for each in runs:
        said[f"run {each.run_id}"] = repr((each.run_config, each.tags, stored_instance.all_logs(each.run_id)))
    checks = stored_instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(key_of("events"), "every_window_is_loaded"), limit=100
    )
    assert len(checks) > 1
    said["checks"] = repr(checks)
    everything = home | data | {Path(name): sentence.encode() for name, sentence in said.items()}
    assert [
        (path, secret) for path, content in everything.items() for secret in secrets if secret.encode() in content
    ] == []
    # The rows are in the data dir by intention, and nowhere else.
    outside = [*home.values(), *(sentence.encode() for sentence in said.values())]
    assert [text for text in personal for content in outside if text.encode() in content] == []


def is_signed(request: dict[str, Any]) -> bool:
    return SIGNATURE_PARAMETER in request["query"]


def personal_texts(account: AccountAt) -> set[str]:
    """Values of June 2 that say who somebody is or what they looked at."""
    rows = account.ingestion().warehouse.query(
        f"SELECT DISTINCT UserDisplayName, UserEmail, UserAppKey, PageUrl, EventTargetText, "
        f"UserId::VARCHAR AS user_id FROM {SCHEMA}.events"
    )
    values = {str(value) for row in rows for value in row.values() if value is not None}
    # Short texts such as "OK" or "Pay" stand in Dagster's own messages as well.
    texts = {value for value in values if len(value) >= 8}
    assert any("@" in text for text in texts)
    assert any(text.startswith("http") for text in texts)
    return texts


def test_old_bundles_are_deleted_when_a_later_window_is_appended(
    account: AccountAt, instance: dg.DagsterInstance
) -> None:
    account.clock.at = NOW + timedelta(days=30)
    keeping = AccountAt(account.settings.with_changes(keep_bundles_days=35), account.clock)
    assets = build_assets(keeping.settings)
    for number in (1, 6):
        for asset in assets:
            dg.materialize(
                assets,
                selection=[asset],
                partition_key=f"2026-06-{number:02}",
                resources={"account": keeping},
                instance=instance,
            )
    kept = [number for number in (1, 6) if keeping.ingestion().bundles.get(day(number))]
    assert kept == [6]


def test_the_preview_is_short_and_shows_no_personal_column(
    materialize: Materialize, instance: dg.DagsterInstance
) -> None:
    for name in INGEST:
        assert materialize(name, 1).success
    text = str(metadata(instance, "events", "2026-06-01")["preview"])
    assert text.splitlines()[0] == "| time (UTC) | type | name or subtype | browser | device |"
    assert len(text) < 1000


def test_a_window_that_shrank_keeps_its_rows_unless_the_run_allows_it(
    materialize: Materialize, account: AccountAt, simulator: SimulatorProcess
) -> None:
    for name in INGEST:
        assert materialize(name, 2).success
    before = n_rows(account)
    simulator.set_faults([{"route": "location", "cut_json": 0, "times": 1}])
    assert all(materialize(name, 2).success for name in ("raw_bundles", "parsed_events"))
    refused = materialize("events", 2)
    assert f"came back with 0 rows, less than 50 % of the {before['02']:,} it had" in failure(refused)
    assert n_rows(account) == before
    config = {"ops": {f"{SCHEMA}__events": {"config": {"allow_shrink": True}}}}
    assert materialize("events", 2, config=config).success
    assert n_rows(account) == {}


def test_dagster_stores_where_the_bucket_is_and_no_credentials(
    account: AccountAt,
    stored_instance: dg.DagsterInstance,
    bucket: Bucket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    there = AccountAt(account.settings.with_changes(store=bucket.url), account.clock)
    job = build_definitions(there.settings, account=there).resolve_job_def(LOAD_JOB)

    def run(name: str, partition: str) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            instance=stored_instance, asset_selection=[key_of(name)], partition_key=partition, raise_on_error=False
        )

    assert all(run(name, "2026-06-02").success for name in INGEST)
    assert n_rows(there).keys() == {"02"}
    assert metadata(stored_instance, "parsed_events", "2026-06-02")["preview"] != "No rows."
    [parsed_events] = [asset for asset in build_assets(there.settings) if asset.key == key_of("parsed_events")]
    assert parsed_events.metadata_by_key[parsed_events.key]["dagster/uri"] == f"{bucket.url}/events"

    monkeypatch.setattr(object_store_access, "_MAX_RETRIES", 0)
    said = []
    for status in (403, 503):
        with AnsweringServer(lambda *_, status=status: (status, "SignatureDoesNotMatch")) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            for name in INGEST:
                result = run(name, "2026-06-03")
                assert not result.success
                said.append(failure(result))
                assert f"it answers {status} SignatureDoesNotMatch" in said[-1]

    for each in stored_instance.get_runs():
        said.append(repr((each.run_config, each.tags, stored_instance.all_logs(each.run_id))))
    said.extend(capfd.readouterr())
    files = [path for folder in (tmp_path / "home", there.settings.data_dir) for path in folder.rglob("*")]
    contents = [path.read_bytes() for path in files if path.is_file()] + [text.encode() for text in said]
    assert any(bucket.url.encode() in content for content in contents)
    assert not any(secret.encode() in content for content in contents for secret in (ACCESS_KEY, SECRET_KEY))
