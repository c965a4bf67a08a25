"""A person is gone from every byte, whatever was between, and does not come back; nobody else loses a row."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.errors import ErasureBusyError, PermanentError
from fullstory_dagster.forgotten import Given
from fullstory_dagster.ingest.forget import Receipt, find_person, forget
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.ingest.sync import reset, sync
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store import erasure, file
from fullstory_dagster.store.objects import LocalStore
from fullstory_dagster.store.remote_objects import RemoteStore
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster_tests.counts import count
from fullstory_dagster_tests.erased_person import (
    APP_KEY,
    DEVICES,
    EMAIL,
    INDV_ID,
    N_THEIR_EVENTS,
    N_THEIR_REJECTS,
    SHARED_DEVICE,
    served_rows,
    tables_in,
    traces_in,
)
from fullstory_dagster_tests.s3_server import Bucket

from .conftest import NOW, START, SettableClock, day

pytestmark = pytest.mark.slow

EVENTS = "fullstory.events"
THEIRS = Given("email", EMAIL.upper())


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("served") / "events.json"
    data.write_text(json.dumps(served_rows()))
    with SimulatorProcess(SimulatorConfig(data=data, now=NOW, export_s=0)) as running:
        yield running


@pytest.fixture
def account(simulator: SimulatorProcess, clock: SettableClock, tmp_path: Path) -> Callable[..., Ingestion]:
    def make(folder: str = "data", **changes: Any) -> Ingestion:
        settings: dict[str, Any] = {
            "start": START,
            "data_dir": tmp_path / folder,
            "api_key": simulator.api_key,
            "api_url": simulator.url,
            "downloads_per_minute": 0,
            "lock_timeout_s": 20,
            "duckdb_threads": 1,
        }
        return open_ingestion(Settings(**(settings | changes)), clock)

    return make


@pytest.fixture
def loaded(account: Callable[..., Ingestion]) -> Ingestion:
    """June 1 to 4 in the warehouse, and a snapshot of it."""
    return load(account())


def load(ingestion: Ingestion) -> Ingestion:
    summary = sync(ingestion, jobs=1)
    assert not summary.failed
    assert len(summary.loaded) == 4
    ingestion.snapshot.publish()
    return ingestion


def erase(ingestion: Ingestion, given: Given = THEIRS, **options: Any) -> Receipt:
    found = find_person(ingestion, given)
    return forget(ingestion, found.names, **({"build_models": lambda: 0} | options))


def events(ingestion: Ingestion) -> list[tuple[Any, ...]]:
    return tables_in(ingestion.warehouse.database.path)[EVENTS]


def said(rows: list[tuple[Any, ...]]) -> list[str]:
    """Rows without what another load, or another export, gives them: the last three columns."""
    return sorted(repr(row[:-3]) for row in rows)


def counts(ingestion: Ingestion) -> list[tuple[int, int, int, int]]:
    """Rows in, kept, rejected and forgotten of every window; they add up."""
    loads = ingestion.warehouse.current_loads().values()
    assert all(load.is_whole for load in loads)
    return [(load.rows_in, load.rows_kept, load.rows_rejected, load.rows_forgotten) for load in loads]


LEFT = [(11, 5, 0, 6), (10, 5, 1, 4), (6, 4, 0, 2), (10, 6, 0, 4)]

PRIVACY = {
    "in the clear": {},
    "e-mail hashed": {"hash_columns": ("UserEmail", "UserAppKey"), "hash_key": "sesame"},
    "names excluded": {"exclude_columns": ("UserEmail", "UserAppKey", "UserDisplayName", "IndvId")},
}


@pytest.mark.slow
@pytest.mark.parametrize("export_api", ["segment", "bundle"])
@pytest.mark.parametrize("privacy", PRIVACY)
def test_a_person_is_gone_from_every_byte_and_nobody_else_is(
    account: Callable[..., Ingestion], export_api: str, privacy: str
) -> None:
    ingestion = load(account(export_api=export_api, **PRIVACY[privacy]))
    data_dir = ingestion.settings.data_dir
    before = events(ingestion)
    assert len(traces_in(data_dir)) >= 10
    rejects_before = ingestion.warehouse.query("SELECT count(*) AS n FROM fullstory._rejected")[0]["n"]

    found = find_person(ingestion, THEIRS)
    receipt = forget(ingestion, found.names, build_models=lambda: 0)

    assert traces_in(data_dir) == {}
    assert (found.n_events >= N_THEIR_EVENTS, found.n_windows, found.n_bundles) == (True, 4, 4)
    after = events(ingestion)
    assert set(after) <= set(before)
    assert len(before) - len(after) == N_THEIR_EVENTS == receipt.events == receipt.parquet_rows
    assert receipt.rejects == receipt.parquet_rejects == N_THEIR_REJECTS == rejects_before - 1
    assert receipt.bundle_rows == N_THEIR_EVENTS + N_THEIR_REJECTS
    assert (receipt.devices, receipt.windows, receipt.bundles, receipt.parquet_files) == (3, 4, 4, 4)
    assert counts(ingestion) == LEFT
    assert tables_in(ingestion.snapshot.path) == tables_in(ingestion.warehouse.database.path)
    # What stays of the device that two people used is the other's.
    shared = ingestion.warehouse.query(f"SELECT count(*) AS n FROM {EVENTS} WHERE UserId = {SHARED_DEVICE}")
    assert shared == [{"n": 2}]

    # From the kept bundles, then from FullStory, which still serves all.
    for _ in range(2):
        assert reset(ingestion, jobs=1).failed == {}
        assert traces_in(data_dir) == {}
        assert counts(ingestion) == LEFT
        assert said(events(ingestion)) == said(after)
        shutil.rmtree(data_dir / "bundles")


def test_a_person_is_gone_from_every_object_of_a_bucket(
    account: Callable[..., Ingestion], bucket: Bucket, tmp_path: Path
) -> None:
    ingestion = load(account(store=bucket.url))
    before = events(ingestion)
    assert len(traces_in(bucket.download(tmp_path / "before"))) >= 10

    receipt = erase(ingestion)

    assert traces_in(bucket.download(tmp_path / "after")) == {}
    assert traces_in(ingestion.settings.data_dir) == {}
    assert len(before) - len(events(ingestion)) == N_THEIR_EVENTS == receipt.events == receipt.parquet_rows
    assert receipt.bundle_rows == N_THEIR_EVENTS + N_THEIR_REJECTS
    assert counts(ingestion) == LEFT
    # From the kept bundles, then from FullStory, which still serves all.
    for _ in range(2):
        assert reset(ingestion, jobs=1).failed == {}
        assert counts(ingestion) == LEFT
        for number in (1, 2, 3, 4):
            ingestion.bundles.delete(day(number))
    assert traces_in(ingestion.settings.data_dir) == {}


@pytest.mark.parametrize(
    "given", [Given("app_key", APP_KEY), Given("indv_id", str(INDV_ID)), THEIRS], ids=lambda given: given.kind
)
def test_any_of_the_three_names_finds_all_of_them(loaded: Ingestion, given: Given) -> None:
    receipt = erase(loaded, given)
    assert traces_in(loaded.settings.data_dir) == {}
    assert receipt.events == N_THEIR_EVENTS
    assert receipt.by == given.kind


def test_the_receipt_counts_and_names_nobody(loaded: Ingestion) -> None:
    receipt = erase(loaded)
    assert receipt.path is not None
    written = json.loads(receipt.path.read_text())
    assert receipt.path.parent == loaded.settings.data_dir / "receipts"
    assert written == receipt.as_object()
    assert written["erased_before"] == "2026-06-06T01:00:00.000Z"
    assert written["finished_at"]
    assert written["bytes_rewritten"] > loaded.warehouse.database.path.stat().st_size
    assert [entry.is_finished for entry in loaded.forgotten.read().erasures] == [True]


@pytest.mark.parametrize("always", [False, True])
def test_events_from_the_erasure_on_are_kept_unless_always(
    loaded: Ingestion, clock: SettableClock, always: bool
) -> None:
    clock.at = datetime(2026, 6, 3, 9, 0, 1, tzinfo=timezone.utc)
    receipt = erase(loaded, always=always)
    kept = loaded.warehouse.query(
        f"SELECT EventStart FROM {EVENTS} WHERE UserId IN {DEVICES} OR (UserId = {SHARED_DEVICE} AND _load_id > 0 "
        "AND UserAppKey IS DISTINCT FROM 'other-key-88') ORDER BY ALL"
    )
    assert len(kept) == (0 if always else 5)
    assert all(row["EventStart"] >= datetime(2026, 6, 3, 9, 0, 1) for row in kept)  # noqa: DTZ001
    assert receipt.always == always
    assert (receipt.erased_before is None) == always

    clock.at = NOW
    shutil.rmtree(loaded.settings.data_dir / "bundles")
    assert reset(loaded).failed == {}
    assert len(loaded.warehouse.query(f"SELECT 1 FROM {EVENTS} WHERE UserId IN {DEVICES}")) == (0 if always else 2)
    assert counts(loaded)[0] == LEFT[0]


def test_a_window_loaded_for_the_first_time_later_does_not_bring_them(account: Callable[..., Ingestion]) -> None:
    ingestion = account()
    sync(ingestion, end=day(2).start)
    erase(ingestion)
    summary = sync(ingestion)
    assert not summary.failed
    assert traces_in(ingestion.settings.data_dir) == {}
    assert counts(ingestion) == LEFT


def test_a_device_that_a_later_window_tells_of_is_learnt_with_what_it_did_before(
    account: Callable[..., Ingestion],
) -> None:
    # June 3 knows the second device by the app key in its last row; June 4 knows it by the IndvId.
    ingestion = account()
    sync(ingestion, end=day(2).start)
    erase(ingestion, Given("app_key", APP_KEY))
    before = sum(len(entry.devices) for entry in ingestion.forgotten.read().erasures)
    sync(ingestion)
    (entry,) = ingestion.forgotten.read().erasures
    assert (before, len(entry.devices)) == (1, 3)
    assert counts(ingestion) == LEFT
    assert traces_in(ingestion.settings.data_dir) == {}


def test_somebody_who_is_nowhere_yet_is_kept_out_by_what_was_given(
    account: Callable[..., Ingestion],
) -> None:
    ingestion = account()
    found = find_person(ingestion, THEIRS)
    assert found.is_nothing
    assert not found.is_listed
    assert "spelt right" in found.sentence()
    receipt = forget(ingestion, found.names, build_models=lambda: pytest.fail("there is nothing to build"))
    assert (receipt.n_erased, receipt.bytes_rewritten) == (0, 0)
    assert not ingestion.warehouse.database.path.exists()

    sync(ingestion, jobs=1)
    assert traces_in(ingestion.settings.data_dir, (EMAIL.lower(),)) == {}
    # The e-mail taught the app key on June 1 and 2; windows and sessions that were loaded before that are found now.
    assert find_person(ingestion, THEIRS).is_listed
    assert erase(ingestion).finished_at
    assert traces_in(ingestion.settings.data_dir) == {}


def test_forgetting_again_finds_nothing_and_changes_nothing(loaded: Ingestion) -> None:
    erase(loaded)
    tables, bundles = tables_in(loaded.warehouse.database.path), [loaded.bundles.require(day(n)) for n in (1, 2, 3, 4)]
    found = find_person(loaded, THEIRS)
    assert (found.is_nothing, found.is_listed) == (True, True)
    receipt = forget(loaded, found.names, build_models=lambda: 0)
    assert receipt.n_erased == 0
    assert tables_in(loaded.warehouse.database.path) == tables
    assert [loaded.bundles.require(day(n)) for n in (1, 2, 3, 4)] == bundles
    assert len(loaded.forgotten.read().erasures) == 1
    assert len(list((loaded.settings.data_dir / "receipts").iterdir())) == 2


def test_a_bundle_without_them_is_not_touched(loaded: Ingestion) -> None:
    before = loaded.bundles.require(day(1))
    erase(loaded, Given("app_key", "nobody-s"))
    assert loaded.bundles.require(day(1)) == before


def test_tables_of_others_that_name_them_are_told_of_and_left(loaded: Ingestion) -> None:
    with loaded.warehouse.writing() as connection:
        connection.execute("CREATE SCHEMA mine")
        connection.execute(f"CREATE TABLE mine.copied AS SELECT UserId, 1 AS x FROM {EVENTS}")
        connection.execute(f"CREATE TABLE mine.mails AS SELECT 'Dear {EMAIL}, hello' AS body, NULL AS nothing")
        connection.execute("CREATE TABLE mine.clean AS SELECT 5::BIGINT AS UserId, 'x' AS body")
        connection.execute(f"CREATE VIEW mine.seen AS SELECT * FROM {EVENTS}")
    receipt = erase(loaded)
    n_devices = len([row for row in served_rows() if isinstance(row, dict) and row.get("UserId") in DEVICES]) - 1
    n_shared = 5
    assert receipt.other_tables == {"mine.copied": n_devices + n_shared, "mine.mails": 1}
    assert loaded.warehouse.query("SELECT count(*) AS n FROM mine.seen") == [{"n": len(events(loaded))}]

    with loaded.warehouse.writing() as connection:
        connection.execute("DROP TABLE mine.copied; DROP TABLE mine.mails")
    erase(loaded)
    assert traces_in(loaded.settings.data_dir) == {}


def test_what_killed_processes_left_behind_goes_too(loaded: Ingestion) -> None:
    data_dir = loaded.settings.data_dir
    day_one = data_dir / "bundles" / f"window_start={day(1).slug}"
    leftovers = [
        data_dir / ".scratch" / "tmpabcdef",
        day_one / "0123.json.gz",
        data_dir / "bundles" / f"window_start={day(9).slug}" / "0123.json.gz",
        data_dir / "parses" / f"window_start={day(2).slug}" / "old-rejects.parquet",
        data_dir / "parses" / f"window_start={day(9).slug}" / "old-rejects.parquet",
        data_dir / "events" / f"window_start={day(8).slug}" / "events.parquet",
        data_dir / "read" / ".warehouse.duckdb.12345",
        data_dir / "warehouse.duckdb.tmp" / "spilled",
        data_dir / ".warehouse.duckdb.rewritten",
    ]
    for path in leftovers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(EMAIL.encode())
    with loaded.bundles.receive() as in_use:
        erase(loaded)
        assert in_use.exists()
    assert [path for path in leftovers if path.exists()] == []
    assert traces_in(data_dir) == {}
    assert counts(loaded) == LEFT


def test_a_bundle_that_cannot_be_read_is_told_of_and_the_rest_is_done(loaded: Ingestion) -> None:
    bundle = loaded.bundles.require(day(2))
    key = Path(loaded.settings.store_dir, *bundle.files[0].key.split("/"))
    whole = key.read_bytes()
    key.write_bytes(whole[:100])
    receipt = erase(loaded)
    assert receipt.finished_at is None
    assert list(receipt.not_done) == [str(day(2))]
    assert traces_in(loaded.settings.data_dir, (EMAIL.lower(), APP_KEY)).keys() <= {
        f"events/window_start={day(2).slug}/events.parquet",
        f"events/window_start={day(2).slug}/events.parquet as rows",
        *(
            f"parses/window_start={day(2).slug}/{path.name}{what}"
            for path in (loaded.settings.store_dir / "parses" / f"window_start={day(2).slug}").glob("*.parquet")
            for what in ("", " as rows")
        ),
    }

    key.write_bytes(whole)
    again = erase(loaded)
    assert again.id == receipt.id
    assert again.finished_at
    assert again.bundle_rows == N_THEIR_EVENTS + N_THEIR_REJECTS
    assert traces_in(loaded.settings.data_dir) == {}
    assert len(list((loaded.settings.data_dir / "receipts").iterdir())) == 1


def test_models_that_cannot_be_rebuilt_leave_it_unfinished(loaded: Ingestion) -> None:
    def fail() -> int:
        raise PermanentError("dbt did not want to")

    with pytest.raises(PermanentError, match="did not want"):
        erase(loaded, build_models=fail)
    assert [entry.is_finished for entry in loaded.forgotten.read().erasures] == [False]
    assert erase(loaded).finished_at
    assert traces_in(loaded.settings.data_dir) == {}


def test_a_list_that_cannot_be_read_stops_loads_instead_of_bringing_people_back(loaded: Ingestion) -> None:
    erase(loaded)
    (loaded.settings.data_dir / "forgotten.json").write_text("{")
    shutil.rmtree(loaded.settings.data_dir / "bundles")
    summary = reset(loaded)
    assert len(summary.failed) == 4
    assert all("list of erased people" in reason for reason in summary.failed.values())
    assert counts(loaded) == LEFT


def test_one_erasure_at_a_time(account: Callable[..., Ingestion]) -> None:
    hasty = account(lock_timeout_s=0)
    found = find_person(hasty, THEIRS)
    with account().forgotten.erasing(), pytest.raises(ErasureBusyError, match=r"Another run .* has been erasing"):
        forget(hasty, found.names, build_models=lambda: 0)


# --- cut short


class Killed(BaseException):
    """As good as SIGKILL: nothing in the package catches it."""


@pytest.fixture
def template(account: Callable[..., Ingestion], tmp_path: Path) -> Path:
    """A data dir as ``loaded`` has it, to be copied."""
    load(account("template"))
    return tmp_path / "template"


def count_durable_steps(monkeypatch: pytest.MonkeyPatch, die_at: int | None, store: type = LocalStore) -> list[str]:
    """Note every durable step from here on, and die before the one of that number."""
    steps: list[str] = []

    def before(step: str) -> None:
        if len(steps) == die_at:
            raise Killed
        steps.append(step)

    def wrap(owner: Any, name: str, label: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def stepped(*arguments: Any, **options: Any) -> Any:
            before(label(*arguments))
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, stepped)

    wrap(store, "publish", lambda store, key, source: f"publish {key}")
    wrap(store, "delete", lambda store, key: f"delete {key}")
    wrap(erasure, "_mark", lambda *_: "look at the warehouse")
    wrap(erasure, "_log", lambda *_: "log")
    wrap(file, "_copy", lambda *_: "copy the warehouse")
    wrap(file, "sync_folder", lambda folder: "the warehouse is replaced")
    wrap(file, "_remove", lambda path: f"remove {path.name}")
    return steps


@pytest.mark.slow
@pytest.mark.soak
def test_cut_short_before_any_durable_step_the_next_one_completes_it(
    account: Callable[..., Ingestion], template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fresh() -> Ingestion:
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        shutil.copytree(template, tmp_path / "data")
        return account()

    with monkeypatch.context() as patched:
        steps = count_durable_steps(patched, die_at=None)
        undisturbed = fresh()
        erase(undisturbed)
    expected = said(events(undisturbed))
    assert len(steps) > 40

    for die_at in range(0, len(steps), count(5, full=1)):
        ingestion = fresh()
        with monkeypatch.context() as patched:
            count_durable_steps(patched, die_at)
            with pytest.raises(Killed):
                erase(ingestion)
        receipt = erase(ingestion)
        step = f"killed before step {die_at}, {steps[die_at]}"
        assert traces_in(ingestion.settings.data_dir) == {}, step
        assert said(events(ingestion)) == expected, step
        assert counts(ingestion) == LEFT, step
        assert receipt.finished_at, step
        assert [entry.is_finished for entry in ingestion.forgotten.read().erasures] == [True], step
        # Every window can still be parsed and loaded from what is kept.
        assert [load.rows_forgotten for load in (ingestion.append(day(n)) for n in (1, 2, 3, 4))] == [6, 4, 2, 4], step


def test_cut_short_in_a_bucket_the_next_one_completes_it(
    account: Callable[..., Ingestion], bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for die_at in (8, 17):
        ingestion = load(account(f"data-{die_at}", store=f"{bucket.url}/{die_at}"))
        with monkeypatch.context() as patched:
            steps = count_durable_steps(patched, die_at, RemoteStore)
            with pytest.raises(Killed):
                erase(ingestion)
        assert len(steps) == die_at
        assert erase(ingestion).finished_at
        assert traces_in(ingestion.settings.data_dir) == {}
        assert counts(ingestion) == LEFT
    assert traces_in(bucket.download(tmp_path / "bucket")) == {}


# --- at the same time


def test_a_person_who_is_erased_while_their_window_is_fetched_is_not_in_it(
    account: Callable[..., Ingestion], monkeypatch: pytest.MonkeyPatch
) -> None:
    ingestion = account()
    sync(ingestion, end=day(3).start)
    names = find_person(ingestion, THEIRS).names
    publish_file = type(ingestion.bundles).publish_file
    is_first = True

    def publish_file_late(*arguments: Any, **options: Any) -> Any:
        nonlocal is_first
        kept = publish_file(*arguments, **options)
        if is_first:
            # The bundle was downloaded and looked through, and is not the window's yet.
            is_first = False
            with ingestion.forgotten.held() as forgotten:
                ingestion.forgotten.write(forgotten.with_person(names, NOW, always=False))
        return kept

    monkeypatch.setattr(type(ingestion.bundles), "publish_file", publish_file_late)
    with ingestion.client() as client:
        bundle = ingestion.fetch(day(3), client)
    assert sum(file.rows_forgotten for file in bundle.files) == 2
    assert traces_in(ingestion.settings.data_dir / "bundles" / f"window_start={day(3).slug}") == {}


@pytest.mark.slow
def test_an_erasure_and_a_sync_at_once_are_exact(
    account: Callable[..., Ingestion], simulator: SimulatorProcess
) -> None:
    for _ in range(3):
        ingestion = account()
        sync(ingestion, end=day(2).start)
        failed: dict[Any, str] = {}

        # Locks are an object's: somebody else is another one.
        def load_the_rest(somebody_else: Ingestion = account(), failed: dict[Any, str] = failed) -> None:  # noqa: B008
            failed.update(sync(somebody_else, jobs=2).failed)

        syncing = threading.Thread(target=load_the_rest)
        syncing.start()
        erase(ingestion)
        syncing.join()
        assert failed == {}
        sync(ingestion)
        erase(ingestion)
        assert traces_in(ingestion.settings.data_dir) == {}
        assert counts(ingestion) == LEFT
        shutil.rmtree(ingestion.settings.data_dir)


def test_the_copy_of_the_warehouse_keeps_what_users_made_in_it(loaded: Ingestion) -> None:
    warehouse: Warehouse = loaded.warehouse
    with warehouse.writing() as connection:
        connection.execute(
            "CREATE SCHEMA mine; CREATE TYPE mine.mood AS ENUM ('a'); CREATE SEQUENCE mine.s;"
            "CREATE MACRO mine.m(x) AS x + 1;"
            "CREATE TABLE mine.t (i INTEGER PRIMARY KEY, m mine.mood, d INTEGER DEFAULT 7 CHECK (d > 0));"
            "INSERT INTO mine.t VALUES (1, 'a', 2); COMMENT ON TABLE mine.t IS 'mine';"
            'CREATE VIEW mine.v AS SELECT count(*) AS n FROM "warehouse"."fullstory"."events"'
        )
    before = tables_in(warehouse.database.path)
    warehouse.database.purge()
    assert tables_in(warehouse.database.path) == before
    with warehouse.writing() as connection:
        assert connection.execute("SELECT mine.m(1), nextval('mine.s'), n FROM mine.v").fetchone() == (2, 1, 33)
        assert connection.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 't'").fetchone() == ("mine",)
        connection.execute("INSERT INTO mine.t (i, m) VALUES (2, 'a')")
