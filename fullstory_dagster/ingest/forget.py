"""Erase a person from everything that is kept, and keep them out of what is loaded later.

The order makes every step one that can be cut short: the person is put on the list first, so that from then on nothing
brings them in; then every bundle, Parquet file and row that the list names goes. Whoever runs it again goes on where it
ended: what is gone already is not found again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path

from fullstory_dagster.errors import (
    BundleDamagedError,
    BundleFormatError,
    BundleIncompleteError,
    BundleTooLargeError,
    WindowBusyError,
)
from fullstory_dagster.forgotten import Carrier, Erasure, Given, Matcher, NameCollector, Names
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.stripping import strip_bundle
from fullstory_dagster.parse.erasure import is_reject_erased, read_carrier
from fullstory_dagster.parse.framing import frame_rows
from fullstory_dagster.store.bundles import StoredBundle
from fullstory_dagster.store.erasure import carriers, count_events, erase_rows, other_tables_with
from fullstory_dagster.store.objects import LocalStore, publish_text, read_json
from fullstory_dagster.store.report_file import ReportFile
from fullstory_dagster.store.tables import TABLES
from fullstory_dagster.windows import Window

_RECEIPT_VERSION = 1
_READINGS = 3
_PASSES_BY = (WindowBusyError, BundleDamagedError, BundleFormatError, BundleIncompleteError, BundleTooLargeError)
"""What keeps one window from being done, and none of the others."""


@dataclass(frozen=True)
class Found:
    """What is there of a person, before anything is erased.

    Attributes:
        names: by which they are known.
        n_events: events in the warehouse.
        n_windows: windows these lie in.
        n_bundles: windows whose kept bundle has rows of theirs.
        is_listed: they were erased before, or that was begun.
    """

    names: Names
    n_events: int
    n_windows: int
    n_bundles: int
    is_listed: bool

    @property
    def is_nothing(self) -> bool:
        """Whether nobody was found."""
        return self.names.is_nobody

    def sentence(self) -> str:
        """What was found, in numbers."""
        if self.is_nothing:
            return (
                "Nothing of this person is left but their name on the list of erased people."
                if self.is_listed
                else "Nobody was found by that; is it spelt right?"
            )
        keys = f" under {len(self.names.app_keys)} app keys" if len(self.names.app_keys) > 1 else ""
        devices, events = _counted(len(self.names.devices), "device"), _counted(self.n_events, "event")
        windows, bundles = _counted(self.n_windows, "window"), _counted(self.n_bundles, "kept bundle")
        return f"Found {devices}{keys}: {events} in {windows} of the warehouse, and rows in {bundles}."


@dataclass
class Receipt:
    """What an erasure did, without a word of whom it was about. Times are RFC 3339, UTC.

    Attributes:
        id: of the erasure; the list of erased people has it too.
        by: kind of the identifier that was given.
        always: events from then on are left out as well.
        erased_before: events from here on are kept; None with ``always``.
        begun_at: when it was first begun.
        finished_at: None while it is not done.
        devices: UserIds known as the person's.
        events: rows deleted from the warehouse.
        rejects: rejected rows deleted from the warehouse.
        windows: windows of the warehouse that had any of these.
        bundles: windows whose kept bundle was rewritten.
        bundle_rows: rows taken out of them.
        parquet_files: windows whose Parquet files were rewritten.
        parquet_rows: events taken out of them.
        parquet_rejects: rejected rows taken out of them.
        models: dbt models rebuilt.
        bytes_rewritten: size of all files that took the place of others, the warehouse's and the snapshot's included.
        not_done: windows that could not be done, with the sentence.
        other_tables: rows that still name the person in tables that are not this project's, by table.
    """

    id: str
    by: str
    always: bool
    erased_before: str | None
    begun_at: str
    finished_at: str | None = None
    devices: int = 0
    events: int = 0
    rejects: int = 0
    windows: int = 0
    bundles: int = 0
    bundle_rows: int = 0
    parquet_files: int = 0
    parquet_rows: int = 0
    parquet_rejects: int = 0
    models: int = 0
    bytes_rewritten: int = 0
    not_done: dict[str, str] = field(default_factory=dict)
    other_tables: dict[str, int] = field(default_factory=dict)
    path: Path | None = None

    @property
    def n_erased(self) -> int:
        """Rows of all kinds and places."""
        return self.events + self.rejects + self.bundle_rows + self.parquet_rows + self.parquet_rejects

    def as_object(self) -> dict[str, object]:
        """As it is written."""
        written = {name: value for name, value in asdict(self).items() if name != "path"}
        return {"version": _RECEIPT_VERSION} | written


BuildModels = Callable[[], int]
"""Builds what dbt owes; how many models that were. Raises FullStoryError if a model does not hold it after."""

OnStep = Callable[[str], None]
"""Called after each step with what was done."""


def find_person(ingestion: Ingestion, given: Given, on_window: Callable[[Window], None] | None = None) -> Found:
    """Look for a person in the warehouse, in Parquet, and in the kept bundles, which hold what privacy settings hide.

    Whose rows are meant is told in :mod:`fullstory_dagster.forgotten`.

    Args:
        ingestion: the account.
        given: who is meant.
        on_window: called for every window whose bundle was read.

    Raises:
        WarehouseLockedError: somebody else held the warehouse for too long.
    """
    privacy_hash_key = ingestion.settings.hash_key or ""
    collector = NameCollector(given, privacy_hash_key)
    bundles_with: set[Window] = set()

    def look_at_tables() -> None:
        for carrier in _table_carriers(ingestion):
            collector.look_at(carrier)

    # Bundles cost the most, and as a rule the tables tell all names.
    _until_settled(collector, look_at_tables)

    def look_everywhere() -> None:
        look_at_tables()
        bundles_with.clear()
        for window in ingestion.bundles.windows(ingestion.settings.grid.length):
            for carrier in _bundle_carriers(ingestion, window):
                if collector.look_at(carrier):
                    bundles_with.add(window)
            if on_window:
                on_window(window)

    _until_settled(collector, look_everywhere)
    names = collector.names()
    forgotten = ingestion.forgotten.read()
    is_listed = forgotten.of(given) is not None
    draft = forgotten.with_person(names, ingestion.clock.now(), always=False, privacy_hash_key=privacy_hash_key)
    n_events, n_windows = count_events(ingestion.warehouse, Matcher(draft, privacy_hash_key))
    return Found(names, n_events, n_windows, len(bundles_with), is_listed)


def forget(
    ingestion: Ingestion,
    names: Names,
    *,
    always: bool = False,
    build_models: BuildModels,
    on_step: OnStep | None = None,
) -> Receipt:
    """Erase a person for good, and write the receipt.

    What was cut short, by whatever, is finished by the next call for the same person. Nobody found is put on the list
    all the same: what is loaded later does not bring them.

    Args:
        ingestion: the account.
        names: who it is, from :func:`find_person`.
        always: erase also what they do from now on, whenever it is loaded.
        build_models: builds what dbt owes.
        on_step: told of every step.

    Raises:
        ErasureBusyError: somebody else is being erased for too long.
        WarehouseLockedError: somebody else held the warehouse for too long.
        FullStoryError: a step failed; those before it are done.
    """
    done = on_step or (lambda _: None)
    with ingestion.forgotten.erasing():
        erasure, is_again = _register(ingestion, names, always)
        receipt = _open_receipt(ingestion, erasure, names)
        n_before = receipt.n_erased
        done("registered")
        matcher = _erase_everywhere(ingestion, receipt, done)
        if receipt.n_erased > n_before or is_again:
            receipt.models += build_models()
            done("models")
            receipt.bytes_rewritten += ingestion.warehouse.database.purge()
            done("warehouse file")
            receipt.bytes_rewritten += _renew_snapshot(ingestion)
            ReportFile(ingestion.settings.report_path).delete()
            done("snapshot")
        ingestion.bundles.sweep()
        receipt.other_tables = other_tables_with(ingestion.warehouse, names, _tables_not_to_search(ingestion))
        if not receipt.not_done:
            receipt.finished_at = _text(ingestion.clock.now())
            with ingestion.forgotten.held() as forgotten:
                ingestion.forgotten.write(forgotten.with_learnt(matcher.learnt).with_finished(erasure.id))
        _write_receipt(ingestion, receipt)
        done("receipt")
        return receipt


def _until_settled(collector: NameCollector, look: Callable[[], None]) -> None:
    while True:
        collector.begin()
        look()
        if collector.is_settled:
            return


def _table_carriers(ingestion: Ingestion) -> Iterator[Carrier]:
    yield from carriers(ingestion.warehouse)
    for window in ingestion.dataset.windows(ingestion.settings.grid.length):
        yield from ingestion.dataset.carriers(window)


def _bundle_carriers(ingestion: Ingestion, window: Window) -> Iterator[Carrier]:
    """What the rows of a kept bundle say of whose they are; of one that cannot be read the erasure itself tells."""
    for _ in range(_READINGS):
        bundle = ingestion.bundles.get(window)
        try:
            for file in bundle.files if bundle else ():
                for text in frame_rows(ingestion.bundles.read(file)):
                    yield read_carrier(text)[0]
            return
        except FileNotFoundError:
            continue  # it was fetched again meanwhile
        except _PASSES_BY:
            return


def _register(ingestion: Ingestion, names: Names, always: bool) -> tuple[Erasure, bool]:
    """Put the person on the list; their entry, and whether they were on it, by an erasure that was cut short or not."""
    with ingestion.forgotten.held() as forgotten:
        before = forgotten.of(names.given)
        listed = forgotten.with_person(
            names, ingestion.clock.now(), always=always, privacy_hash_key=ingestion.settings.hash_key or ""
        )
        ingestion.forgotten.write(listed)
    erasure = listed.of(names.given)
    assert erasure is not None  # noqa: S101 (just put there)
    return erasure, before is not None


def _erase_everywhere(ingestion: Ingestion, receipt: Receipt, done: OnStep) -> Matcher:
    matcher = ingestion.matcher()
    while True:
        n_learnt = len(matcher.learnt)
        bundles: dict[Window, StoredBundle] = {}
        windows = _windows(ingestion)
        receipt.not_done = {}
        left = [*windows]
        while left:
            window, n_erased = left.pop(0), receipt.n_erased
            try:
                with ingestion.window_lock(window):
                    bundle = _erase_window(ingestion, window, matcher, receipt)
            except _PASSES_BY as error:
                # Somebody may be busy with it: it gets a second chance when all others are done.
                if isinstance(error, WindowBusyError) and str(window) not in receipt.not_done:
                    left.append(window)
                receipt.not_done[str(window)] = str(error)
                continue
            receipt.not_done.pop(str(window), None)
            if bundle:
                bundles[window] = bundle
            if receipt.n_erased > n_erased:
                _write_receipt(ingestion, receipt)
            done(f"window {window}")
        erased = erase_rows(
            ingestion.warehouse,
            matcher,
            is_reject_theirs=lambda text, sha256, start: is_reject_erased(
                matcher, text, sha256, start.replace(tzinfo=timezone.utc)
            ),
            bundles=bundles,
            erased_at=ingestion.clock.now(),
        )
        receipt.events += erased.events
        receipt.rejects += erased.rejects
        receipt.windows += len(erased.windows)
        _write_receipt(ingestion, receipt)
        done("warehouse rows")
        if len(matcher.learnt) == n_learnt:
            return matcher
        with ingestion.forgotten.held() as forgotten:
            ingestion.forgotten.write(forgotten.with_learnt(matcher.learnt))


def _erase_window(ingestion: Ingestion, window: Window, matcher: Matcher, receipt: Receipt) -> StoredBundle | None:
    """Erase from a window's bundle and Parquet, with the window locked; its bundle, if anything changed."""
    ingestion.bundles.delete_unnamed(window)
    ingestion.dataset.delete_unnamed(window)
    bundle = ingestion.bundles.get(window)
    stripped = strip_bundle(ingestion.bundles, bundle, matcher) if bundle else None
    n_rows = _n_forgotten(stripped) - _n_forgotten(bundle)
    # The Parquet file first: it names the bundle it was made from, which is the stripped one then. Cut short in
    # between, the next call strips the bundle again, to the same bytes.
    erased = ingestion.dataset.erase(
        window,
        matcher,
        is_reject_theirs=lambda text, sha256: is_reject_erased(matcher, text, sha256, window.start),
        bundle_sha256=(bundle.sha256, stripped.sha256) if bundle and stripped and n_rows else None,
        n_bundle_rows=n_rows,
    )
    if stripped and n_rows:
        ingestion.bundles.publish(stripped)
        receipt.bundles += 1
        receipt.bundle_rows += n_rows
        receipt.bytes_rewritten += stripped.bytes
    receipt.parquet_files += erased.bytes_written > 0
    receipt.parquet_rows += erased.events
    receipt.parquet_rejects += erased.rejects
    receipt.bytes_rewritten += erased.bytes_written
    return stripped


def _windows(ingestion: Ingestion) -> list[Window]:
    length = ingestion.settings.grid.length
    return sorted({*ingestion.bundles.windows(length), *ingestion.dataset.windows(length)})


def _n_forgotten(bundle: StoredBundle | None) -> int:
    return sum(file.rows_forgotten for file in bundle.files) if bundle else 0


def _renew_snapshot(ingestion: Ingestion) -> int:
    """Put a fresh copy in the place of the read snapshot, however young that is; its size, 0 if there is none."""
    snapshot = ingestion.snapshot
    if snapshot is None:
        return 0
    with ingestion.warehouse.database.locked():
        snapshot.delete_unfinished()
    if snapshot.made_at() is None:
        return 0
    snapshot.publish()
    return snapshot.path.stat().st_size


def _tables_not_to_search(ingestion: Ingestion) -> set[str]:
    """Our own tables, and those of models that hold every load: a model that left the project keeps what it had."""
    newest = max((load.load_id for load in ingestion.warehouse.current_loads().values()), default=0)
    built = {model for model, load_id in ingestion.warehouse.built_up_to().items() if load_id >= newest}
    return {*TABLES, *built}


def _open_receipt(ingestion: Ingestion, erasure: Erasure, names: Names) -> Receipt:
    """The receipt of an erasure that was cut short, to be added to, or a new one."""
    now = ingestion.clock.now()
    store = _receipts(ingestion)
    key = next((key for key in store.keys("receipts/") if key.endswith(f"-{erasure.id}.json")), None)
    before = (read_json(store, key) if key else None) or {}
    known = {name: before[name] for name in (attribute.name for attribute in fields(Receipt)) if name in before}
    receipt = Receipt(
        **(
            {"begun_at": _text(now)}
            | known
            | {
                "id": erasure.id,
                "by": erasure.kind,
                "always": erasure.always,
                "erased_before": None if erasure.always else _text(erasure.at),
                "finished_at": None,
                "devices": max(len(names.devices), known.get("devices", 0)),
            }
        )
    )
    receipt.path = Path(store.location(key or f"receipts/forget-{now:%Y%m%dT%H%M%SZ}-{erasure.id}.json"))
    _write_receipt(ingestion, receipt)
    return receipt


def _write_receipt(ingestion: Ingestion, receipt: Receipt) -> None:
    assert receipt.path is not None  # noqa: S101 (set when it is opened)
    key = f"receipts/{receipt.path.name}"
    publish_text(_receipts(ingestion), key, json.dumps(receipt.as_object(), indent=2))


def _receipts(ingestion: Ingestion) -> LocalStore:
    return LocalStore(ingestion.settings.data_dir)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _text(instant: datetime) -> str:
    return instant.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
