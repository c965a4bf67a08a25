"""One window on its way from FullStory to the warehouse: fetch, parse, append. The cli and the assets start here."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from threading import Semaphore
from typing import Any

import polars as pl

from fullstory_dagster.api import (
    BoundedClock,
    FetchedBundle,
    FileLedger,
    FullStoryClient,
    Ledger,
    Limit,
    ListedBundle,
    RateLimiter,
    RetryPolicy,
    Timeouts,
    base_url_of_key,
    cover_window,
)
from fullstory_dagster.api.clock import Clock
from fullstory_dagster.api.rate_limit import DEFAULT_LIMITS
from fullstory_dagster.compression import gunzip
from fullstory_dagster.disk import disk_error, is_writable, refuse_small_disk
from fullstory_dagster.errors import (
    BundleChangedError,
    FullStoryError,
    SettingsError,
    WarehouseLockedError,
    WarehouseUnreachableError,
    WindowNotOfferedError,
    WindowUnavailableError,
)
from fullstory_dagster.fields import FIELD_LIST_ID
from fullstory_dagster.forgotten import Matcher
from fullstory_dagster.ingest.side_by_side import Outcome
from fullstory_dagster.ingest.stripping import strip_bundle, strip_file
from fullstory_dagster.parse.bundle import BATCH_SCHEMA, REJECT_SCHEMA, BundleParser
from fullstory_dagster.parse.privacy import PrivacyPolicy
from fullstory_dagster.parse.twins import TwinNumbering
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.attempts import AttemptLog
from fullstory_dagster.store.bundles import BundleFile, BundleStore, StoredBundle
from fullstory_dagster.store.catalog_ledger import CatalogLedger
from fullstory_dagster.store.dataset import EventDataset, ParsedWindow
from fullstory_dagster.store.forgotten import ForgottenList
from fullstory_dagster.store.lake import Lake
from fullstory_dagster.store.snapshot import ReadSnapshot
from fullstory_dagster.store.warehouse import Load, Warehouse
from fullstory_dagster.store.window_locks import WindowLocks
from fullstory_dagster.windows import Window

_PARSING = Semaphore(max(1, (os.cpu_count() or 1) // 4))
"""One bundle keeps four cores busy: more of them at once take more memory, and more time altogether."""

TOGETHER_ROWS = 500_000
"""Windows are appended together until they have so many rows, which is several of DuckDB's row groups: it writes
whole ones at once, and an unfinished one again with every transaction."""
_TOGETHER_WINDOWS = 100
"""And never more windows than that: each holds its lock and its files, which are open, meanwhile."""

DATASET_SCHEMA = pl.Schema(
    dict(BATCH_SCHEMA)
    | {"_window_start": pl.Datetime("us"), "_window_end": pl.Datetime("us"), "_export_id": pl.String()}
)
"""Columns of a window's Parquet file; times are UTC without zone."""

_READ_BYTES = 1 << 20
_REJECTS_FILE_SCHEMA = pl.Schema(dict(REJECT_SCHEMA) | {"export_id": pl.String()})


@dataclass(frozen=True)
class Ingestion:
    """Everything one account needs to be loaded.

    Attributes:
        settings: what to load and where to.
        bundles: raw bundles by window.
        dataset: typed Parquet by window.
        warehouse: the DuckDB file.
        snapshot: the copy for readers.
        attempts: what failed last.
        window_locks: keep two runs from working on the same window.
        forgotten: who was erased.
        clock: the time; tests pass their own.
    """

    settings: Settings
    bundles: BundleStore
    dataset: EventDataset
    warehouse: Warehouse
    snapshot: ReadSnapshot | None
    attempts: AttemptLog
    window_locks: WindowLocks
    forgotten: ForgottenList
    clock: Clock

    def client(self, patience_s: float | None = None) -> FullStoryClient:
        """A client for the account; close it after.

        Args:
            patience_s: for a caller who cannot wait and asks again soon, such as a sensor's tick: every request is sent
                once, may take this long, and is not sent at all if the rate limit would make it wait longer.

        Raises:
            SettingsError: there is no API key.
        """
        settings = self.settings
        clock = self.clock if patience_s is None else BoundedClock(self.clock, patience_s)
        key = settings.require_api_key()
        limits = dict(DEFAULT_LIMITS)
        if settings.downloads_per_minute:
            limits["get"] = Limit(settings.downloads_per_minute, 60.0)
        else:
            del limits["get"]
        base_url = settings.api_url or base_url_of_key(key)
        database = self.warehouse.database
        ledger: Ledger = FileLedger(settings.data_dir / "rate_limit", clock)
        if isinstance(database, Lake):
            ledger = CatalogLedger(database.server)
        limiter = RateLimiter(ledger, base_url=base_url, api_key=key, limits=limits, clock=clock)
        timeouts, retry = None, None
        if patience_s is not None:
            timeouts = Timeouts(connect_s=patience_s, read_s=patience_s, answer_s=patience_s)
            retry = RetryPolicy(max_requests=1)
        return FullStoryClient(
            api_key=key,
            base_url=base_url,
            limiter=limiter,
            timeouts=timeouts,
            retry=retry,
            clock=clock,
            max_unpacked_bytes=settings.max_bundle_bytes,
            max_unpacked_ratio=settings.max_bundle_ratio,
        )

    def fetch(self, window: Window, client: FullStoryClient) -> StoredBundle:
        """Fetch the window's bundle and keep it, byte for byte but for the rows of people who were erased.

        Never opens the database.

        Raises:
            WindowUnavailableError: FullStory cannot have the whole window yet; nothing is wrong.
            WindowNotOfferedError: the window is older than the account's first bundle.
            WarehouseMismatchError: the bundle of another schema or window length is kept in its place.
            WindowBusyError: another run works on the window, as in the stages after.
            FullStoryError: it failed; noted in the attempt log.
        """
        self.refuse_unavailable(window)
        with self.window_lock(window), self._attempt(window, "fetch"):
            self.bundles.refuse_other_owner(window)
            started = time.perf_counter()
            matcher = self.matcher()
            if self.settings.export_api == "segment":
                fetched = [self._fetch_segment_export(window, client, matcher)]
            else:
                covering = client.bundles_of_window(window)
                fetched = [self._download_bundle(window, client, listed, matcher) for listed in covering]
            bundle = StoredBundle(
                window=window,
                api=self.settings.export_api,
                files=tuple(file for file, _ in fetched),
                requested_at=min(answer.requested_at for _, answer in fetched),
                received_at=max(answer.received_at for _, answer in fetched),
                fetch_s=time.perf_counter() - started,
                shaping=self.settings.export_shaping,
            )
            return self._publish(bundle, matcher)

    def parse(self, window: Window) -> ParsedWindow:
        """Turn the window's kept bundle into Parquet and rejects. Needs neither network nor database.

        Raises:
            BundleMissingError: no bundle is kept.
            BundleFormatError: the bundle cannot be read; noted in the attempt log.
        """
        with self.window_lock(window), self._attempt(window, "parse"), _PARSING:
            started = time.perf_counter()
            bundle = self.bundles.require(window)
            # A fetch that was killed right after it had named its own file left the one before it.
            self.bundles.delete_unnamed(window)
            # The Parquet file, and a second one while twins are told apart, are about as large as the bundle each.
            refuse_small_disk(self.settings.store_dir, 2 * bundle.bytes, f"Parsing the window {window}")
            parser = BundleParser(window, self._privacy())

            def batches() -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
                for file in bundle.files:
                    for batch in parser.parse(self.bundles.read(file)):
                        export_id = pl.lit(file.export_id, dtype=pl.String)
                        yield _with_window(batch.rows, window, file), batch.rejects.with_columns(export_id=export_id)

            n_forgotten = sum(file.rows_forgotten for file in bundle.files)

            def summary() -> dict[str, Any]:
                return asdict(parser.counts) | {
                    "rows_in": parser.counts.rows_in + n_forgotten,
                    "rows_forgotten": parser.counts.rows_forgotten + n_forgotten,
                    "parse_s": time.perf_counter() - started,
                    "bundle_sha256": bundle.sha256,
                    "shaping": bundle.shaping | self.settings.parse_shaping,
                }

            return self.dataset.publish(
                window,
                schema=DATASET_SCHEMA,
                rejects_schema=_REJECTS_FILE_SCHEMA,
                batches=batches(),
                twins=TwinNumbering(),
                summary=summary,
            )

    def append(self, window: Window, *, dagster_run_id: str | None = None, allow_shrink: bool = False) -> Load:
        """Replace the window's rows in the warehouse by those of its Parquet file, in one transaction.

        Args:
            window: which.
            dagster_run_id: the run that does it, if one does.
            allow_shrink: take the window even if FullStory now sends far fewer rows for it than before.

        Raises:
            WindowShrankError: it does, and that is not allowed; the rows there are stay.
            BundleMissingError: the window has not been parsed.
            BundleChangedError: not since its bundle was fetched again.
            WarehouseLockedError: somebody else holds the warehouse; noted in the attempt log, as the next ones.
            WarehouseMismatchError: the warehouse holds windows of another length.
        """
        (outcome,) = self.append_all([window], dagster_run_id=dagster_run_id, allow_shrink=allow_shrink)
        if outcome.result is None:
            raise outcome.error or AssertionError("neither a load nor an error")
        return outcome.result

    def append_all(
        self, windows: Sequence[Window], *, dagster_run_id: str | None = None, allow_shrink: bool = False
    ) -> Iterator[Outcome[Load]]:
        """Append several windows, small ones in one transaction; whichever fails costs no other its rows.

        The arguments, and the errors in the outcomes, as for :meth:`append`.
        """
        min_rows_pct = 0 if allow_shrink else self.settings.min_rows_pct
        together: list[Window] = []
        n_rows = 0
        for window in windows:
            # What cannot be read is told of when it is the window's turn.
            with suppress(FullStoryError, OSError):
                parsed = self.dataset.get(window)
                n_rows += parsed.rows_kept if parsed else 0
            together.append(window)
            if n_rows >= TOGETHER_ROWS or len(together) >= _TOGETHER_WINDOWS:
                yield from self._append_together(together, dagster_run_id, min_rows_pct)
                together, n_rows = [], 0
        yield from self._append_together(together, dagster_run_id, min_rows_pct)

    def _append_together(
        self, windows: Sequence[Window], dagster_run_id: str | None, min_rows_pct: int
    ) -> list[Outcome[Load]]:
        failed: list[Outcome[Load]] = []
        ready: dict[Window, tuple[ParsedWindow, StoredBundle]] = {}
        with ExitStack() as held:
            for window in windows:
                try:
                    held.enter_context(self.window_lock(window))
                    parsed_before = self.dataset.get(window)
                    if parsed_before and parsed_before.shaping.get("field_list") != FIELD_LIST_ID:
                        self.parse(window)  # this project was upgraded in between, and its fields have columns now
                    with self._attempt(window, "append"):
                        parsed, bundle = self._appendable(window)
                        # Before the warehouse is opened, which others wait for.
                        ready[window] = held.enter_context(self.dataset.at_hand(parsed)), bundle
                except Exception as error:
                    failed.append(Outcome(window, error=error))
            return [*failed, *self._replaced(ready, dagster_run_id, min_rows_pct)]

    def _appendable(self, window: Window) -> tuple[ParsedWindow, StoredBundle]:
        parsed, bundle = self.dataset.require(window), self.bundles.require(window)
        if parsed.bundle_sha256 != bundle.sha256:
            # The load log would call the rows of one export by the name, and the time, of another.
            raise BundleChangedError(
                f"The bundle of the window {window} was fetched again after it was parsed; the rows in the "
                "warehouse were kept. Materialize parsed_events for it, or sync it."
            )
        if folder := self.warehouse.database.folder:
            # Unpacked from Parquet, in the write-ahead log, and in the file.
            refuse_small_disk(folder, 4 * self.dataset.size(window), f"Loading the window {window}")
        return parsed, bundle

    def _replaced(
        self, ready: dict[Window, tuple[ParsedWindow, StoredBundle]], dagster_run_id: str | None, min_rows_pct: int
    ) -> list[Outcome[Load]]:
        if not ready:
            return []
        results: Sequence[Load | Exception]
        try:
            results = self.warehouse.replace_windows(
                list(ready.values()),
                loaded_at=self.clock.now(),
                dagster_run_id=dagster_run_id,
                min_rows_pct=min_rows_pct,
            )
        except Exception as error:
            if len(ready) > 1 and not isinstance(error, WarehouseLockedError | WarehouseUnreachableError):
                # Nobody knows which of them is to blame: each is tried alone.
                alone = ({window: parts} for window, parts in ready.items())
                return [outcome for one in alone for outcome in self._replaced(one, dagster_run_id, min_rows_pct)]
            results = [error] * len(ready)
        outcomes: list[Outcome[Load]] = []
        for window, result in zip(ready, results, strict=True):
            if isinstance(result, Exception):
                outcomes.append(Outcome(window, error=self._noted(window, "append", result)))
            else:
                self.attempts.clear(window)
                outcomes.append(Outcome(window, result=result))
        return outcomes

    def has_usable_bundle(self, window: Window) -> bool:
        """Whether what is kept of the window is what FullStory would be asked for now."""
        bundle = self.bundles.get(window)
        return (
            bundle is not None
            and bundle.shaping == self.settings.export_shaping
            and (bundle.is_settled or self.clock.now() < window.settled_at)
        )

    def usable_bundles(self, windows: Sequence[Window]) -> set[Window]:
        """Those of some windows for which :meth:`has_usable_bundle`; what is not kept is not asked for one by one."""
        kept = self.bundles.slugs() if windows else set()
        return {window for window in windows if window.slug in kept and self.has_usable_bundle(window)}

    def refuse_unavailable(self, window: Window) -> None:
        """Raise WindowUnavailableError while the clock does not allow the window to be fetched, or no longer.

        Raises:
            SettingsError: it would be deleted again at once.
        """
        now = self.clock.now()
        if self.is_expired(window):
            raise SettingsError(
                "FULLSTORY_KEEP_EVENTS_DAYS",
                f"is {self.settings.keep_events_days}, and the window {window} ended longer ago: it would be deleted "
                "again at once, so nothing was asked of FullStory.",
            )
        grid = self.settings.grid
        if not grid.is_available(window, now):
            raise WindowUnavailableError(
                f"The window {window} can be fetched from {grid.available_at(window):%Y-%m-%d %H:%M} UTC on "
                f"({grid.delay_hours} h after its end); nothing was asked of FullStory."
            )

    def refuse_read_only(self) -> None:
        """Stop before anything is begun if what is loaded could not be kept.

        Raises:
            SettingsError: names the setting whose folder is not writable.
        """
        folders = {
            "FULLSTORY_DATA_DIR": self.settings.data_dir,
            "FULLSTORY_STORE_URL": self.settings.store_dir,
            "FULLSTORY_WAREHOUSE": self.warehouse.database.folder,
        }
        for setting, folder in folders.items():
            if folder and not is_writable(folder):
                raise SettingsError(
                    setting,
                    f"has to be writable, but {folder.absolute()} is not; nothing was done. Make it writable, or name "
                    "another folder.",
                )

    def note_uncovered(self, windows: Sequence[Window], client: FullStoryClient) -> dict[Window, str]:
        """Ask the older API once which of some windows its bundles do not cover, and note those as attempts.

        Returns:
            dict: the reason for every window that cannot be fetched now.
        """
        uncovered = {}
        listed = client.list_bundles(min(windows).start, max(windows).end)
        oldest = client.oldest_bundle()
        known = [oldest, *listed] if oldest else []
        for window in windows:
            try:
                cover_window(window, known, older_exist=oldest is None)
            except (WindowUnavailableError, WindowNotOfferedError) as error:
                self.attempts.record_failure(window, "fetch", error, self.clock.now())
                uncovered[window] = str(error)
        return uncovered

    def publish_snapshot_if_due(self) -> float | None:
        """Renew the read snapshot if it is due; seconds it took, None if it was not."""
        return self.snapshot.publish() if self.snapshot and self.snapshot.is_due(self.clock.now()) else None

    def is_expired(self, window: Window) -> bool:
        """Whether the window ended longer ago than events are kept."""
        days = self.settings.keep_events_days
        return days is not None and window.end + timedelta(days=days) <= self.clock.now()

    def window_lock(self, window: Window) -> AbstractContextManager[None]:
        """Keep every other run from the window meanwhile; may be taken again while it is held.

        Raises:
            WindowBusyError: another run has been working on it for too long to wait for it.
        """
        return self.window_locks.held(window)

    def matcher(self) -> Matcher:
        """Who was erased up to now."""
        return Matcher(self.forgotten.read(), self.settings.hash_key or "")

    def _publish(self, bundle: StoredBundle, matcher: Matcher) -> StoredBundle:
        """Make what was fetched the window's bundle, without anybody who was erased while it was fetched."""
        with self.forgotten.held() as forgotten:
            now = Matcher(forgotten.with_learnt(matcher.learnt), matcher.privacy_hash_key)
            if now.forgotten.revision != matcher.forgotten.revision:
                bundle = strip_bundle(self.bundles, bundle, now)
            listed = now.forgotten.with_learnt(now.learnt)
            if listed.revision != forgotten.revision:
                self.forgotten.write(listed)
            self.bundles.publish(bundle)
            return bundle

    def _fetch_segment_export(
        self, window: Window, client: FullStoryClient, matcher: Matcher
    ) -> tuple[BundleFile, FetchedBundle]:
        with self.bundles.receive() as scratch:
            with scratch.open("w+b") as file:
                fetched = client.fetch_segment_export(
                    window, segment_id=self.settings.segment_id, fields=self.settings.fields, into=file
                )
            return self._keep(window, scratch, fetched, matcher), fetched

    def _download_bundle(
        self, window: Window, client: FullStoryClient, listed: ListedBundle, matcher: Matcher
    ) -> tuple[BundleFile, FetchedBundle]:
        with self.bundles.receive() as scratch:
            with scratch.open("w+b") as file:
                fetched = client.download_bundle(listed, into=file)
            return self._keep(window, scratch, fetched, matcher), fetched

    def _keep(self, window: Window, scratch: Path, fetched: FetchedBundle, matcher: Matcher) -> BundleFile:
        def unpacked() -> Iterator[bytes]:
            with scratch.open("rb") as packed:
                # Its bounds were held when it was downloaded.
                yield from gunzip(iter(lambda: packed.read(_READ_BYTES), b""))

        # Before anything is kept: the rows of a person who was erased do not lie here raw, not for a moment.
        file = BundleFile(key="", export_id=fetched.export_id, bytes=fetched.bytes, sha256=fetched.sha256)
        if stripped := strip_file(self.bundles, window, file, unpacked, matcher):
            return stripped
        return self.bundles.publish_file(
            window, scratch, export_id=fetched.export_id, size=fetched.bytes, sha256=fetched.sha256
        )

    def _privacy(self) -> PrivacyPolicy:
        settings = self.settings
        return PrivacyPolicy(
            exclude=frozenset(settings.exclude_columns),
            hash=frozenset(settings.hash_columns),
            hash_key=settings.hash_key or "",
            truncate_ip=settings.truncate_ip,
        )

    @contextmanager
    def _attempt(self, window: Window, stage: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            told = self._noted(window, stage, error)
            if told is error:
                raise
            raise told from error

    def _noted(self, window: Window, stage: str, error: Exception) -> Exception:
        """Note that an attempt failed; the error as it is told."""
        told = _told(error, window, stage)
        # Where nothing can be written, that is what has to be said, and not that it could not be noted.
        with suppress(OSError, FullStoryError):
            self.attempts.record_failure(window, stage, told, self.clock.now())
        return told


_DONE = {"fetch": "fetched", "parse": "parsed", "append": "loaded"}


def _told(error: Exception, window: Window, stage: str) -> Exception:
    """An error of the file system as a sentence; any other as it is."""
    if isinstance(error, FullStoryError):
        return error
    if told := disk_error(error, f"The window {window} was not {_DONE[stage]}"):
        return told
    return error


def _with_window(rows: pl.DataFrame, window: Window, file: BundleFile) -> pl.DataFrame:
    start, end = (bound.replace(tzinfo=None) for bound in (window.start, window.end))
    return rows.with_columns(
        pl.lit(start, dtype=pl.Datetime("us")).alias("_window_start"),
        pl.lit(end, dtype=pl.Datetime("us")).alias("_window_end"),
        pl.lit(file.export_id, dtype=pl.String).alias("_export_id"),
    )
