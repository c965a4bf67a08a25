"""The Parquet dataset: one file of typed events a window, partitioned by window as Hive does.

``events/window_start=20260601T0000Z/events.parquet`` is the commit point: it names the parse it comes from, and the
counts and the rejects of that parse were published before it, under ``parses/``: engines that read a folder whole find
nothing but events below ``events/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

import polars as pl

from fullstory_dagster.errors import BundleMissingError, StoreTooNewError
from fullstory_dagster.fields import CUSTOM_VARS
from fullstory_dagster.forgotten import CARRIER_COLUMNS, Carrier, Matcher
from fullstory_dagster.store.objects import ObjectStore, publish_text, read_json
from fullstory_dagster.store.parquet_file import read_footer, sink_parquet, stream_rows
from fullstory_dagster.windows import Window

_VERSION = 1
"""Of the summary and of what the Parquet file holds."""


@dataclass(frozen=True)
class ParsedWindow:
    """What parsing made of a window: counts, and where the rows are. Times are aware UTC unless said otherwise.

    Attributes:
        window: the range.
        parse_id: unique for every parse.
        events_location: the Parquet file; a path wherever an engine is to read it, see :meth:`EventDataset.at_hand`.
        rejects_location: Parquet file of position, export_id, reason, raw_text, raw_sha256; likewise.
        rows_in: rows FullStory sent = kept + rejected + outside + forgotten.
        rows_kept: rows in the Parquet file.
        rows_rejected: rows in the rejects file.
        rows_outside: rows of another window.
        rows_forgotten: rows of people who were erased.
        values_misfit: values that did not fit their column.
        min_event_start_at: earliest event, naive UTC.
        max_event_start_at: latest event, naive UTC.
        parse_s: seconds it took.
        bundle_sha256: what was parsed.
        shaping: settings that shaped the rows.
    """

    window: Window
    parse_id: str
    events_location: str
    rejects_location: str
    rows_in: int
    rows_kept: int
    rows_rejected: int
    rows_outside: int
    rows_forgotten: int
    values_misfit: int
    min_event_start_at: datetime | None
    max_event_start_at: datetime | None
    parse_s: float
    bundle_sha256: str
    shaping: dict[str, Any]


@dataclass(frozen=True)
class ErasedRows:
    """What was taken out of a window's Parquet.

    Attributes:
        events: rows.
        rejects: rows of the rejects file.
        bytes_written: of the files that took the place of the old ones.
    """

    events: int = 0
    rejects: int = 0
    bytes_written: int = 0


class Twins(Protocol):
    """Tells events of one window apart that share an id."""

    def number(self, batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The rows as they can be told while they come, in their order."""

    def renumber(self, rows: pl.LazyFrame) -> Iterator[pl.DataFrame] | None:
        """Given those rows, all of them with their final ids; None if these are it."""


class EventDataset:
    """Parsed windows in an object store."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def publish(
        self,
        window: Window,
        *,
        schema: pl.Schema,
        rejects_schema: pl.Schema,
        batches: Iterable[tuple[pl.DataFrame, pl.DataFrame]],
        twins: Twins,
        summary: Callable[[], dict[str, Any]],
    ) -> ParsedWindow:
        """Write a window's rows as they come, and publish them when all of them came.

        Args:
            window: whose rows they are.
            schema: columns of the rows.
            rejects_schema: columns of the rejects.
            batches: rows and rejects in order; memory holds a few batches at a time.
            twins: tells events apart that share an id.
            summary: the counts of :class:`ParsedWindow`, asked for after the batches.
        """
        parse_id = uuid4().hex
        with self._objects.scratch() as written, self._objects.scratch() as renamed, self._objects.scratch() as lines:
            # Only one Parquet file can be streamed into at a time: rejects, few as a rule, wait in another.
            with lines.open("wb") as file:
                _sink_events(stream_rows(_by_session(twins.number(_rows_of(batches, file))), schema), written, parse_id)
            result = written
            rows = twins.renumber(pl.scan_parquet(written))
            if rows is not None:
                _sink_events(stream_rows(rows, schema), renamed, parse_id)
                result = renamed
            with self._objects.scratch() as rejects:
                sink_parquet(pl.scan_ndjson(lines, schema=rejects_schema), str(rejects), parse_id)
                self._objects.publish(_rejects_key(window, parse_id), rejects)
            described = {"version": _VERSION, "window_end": window.end, **summary()}
            publish_text(self._objects, _summary_key(window, parse_id), json.dumps(described, default=_iso, indent=1))
            self._objects.publish(_events_key(window), result)
        parsed = self.require(window)
        self._delete_parses(window, but=parse_id)
        return parsed

    def get(self, window: Window) -> ParsedWindow | None:
        """The window's parse, None if there is none; one of another length is not the window's."""
        found = self._summary(window)
        if found is None:
            return None
        parse_id, summary = found
        if summary.pop("window_end") != window.end:
            return None
        for name in ("min_event_start_at", "max_event_start_at"):
            summary[name] = datetime.fromisoformat(summary[name]) if summary[name] else None
        return ParsedWindow(
            window=window,
            parse_id=parse_id,
            events_location=self._objects.location(_events_key(window)),
            rejects_location=self._objects.location(_rejects_key(window, parse_id)),
            **summary,
        )

    def _summary(self, window: Window) -> tuple[str, dict[str, Any]] | None:
        try:
            with self._objects.open(_events_key(window)) as file:
                parse_id = pl.read_parquet_metadata(read_footer(file))["parse_id"]
        except (FileNotFoundError, KeyError, pl.exceptions.PolarsError):
            return None  # a file that cannot be read is as good as none: the window is parsed again
        summary = read_json(self._objects, _summary_key(window, parse_id))
        if summary is None:
            return None
        if (version := summary.pop("version", _VERSION)) > _VERSION:
            raise StoreTooNewError(
                f"The window {window} was parsed by a newer version of fullstory-dagster (dataset version {version}, "
                f"this one knows {_VERSION}); nothing was changed. Upgrade, or use another FULLSTORY_STORE_URL."
            )
        summary["window_end"] = datetime.fromisoformat(summary["window_end"])
        return parse_id, summary

    def require(self, window: Window) -> ParsedWindow:
        """The window's parse.

        Raises:
            BundleMissingError: there is none.
        """
        parsed = self.get(window)
        if parsed is None:
            raise BundleMissingError(
                f"The window {window} has not been parsed; materialize parsed_events for it, or sync it, first."
            )
        return parsed

    @contextmanager
    def at_hand(self, parsed: ParsedWindow) -> Iterator[ParsedWindow]:
        """The parse with its files on this machine, where polars and DuckDB read them, for as long as this is open.

        Raises:
            FileNotFoundError: another parse has taken its place.
            DiskFullError: there is no room for them.
        """
        window = parsed.window
        with (
            self._objects.local(_events_key(window)) as events,
            self._objects.local(_rejects_key(window, parsed.parse_id)) as rejects,
        ):
            yield replace(parsed, events_location=str(events), rejects_location=str(rejects))

    def size(self, window: Window) -> int:
        """Bytes of the window's Parquet file, 0 without one."""
        return self._objects.size(_events_key(window)) or 0

    def windows(self, length: timedelta, before: datetime | None = None) -> list[Window]:
        """Windows of which a parse left anything, oldest first.

        Args:
            length: of windows whose parse cannot be read.
            before: only those that begin earlier, aware UTC.
        """
        keys = [*self._objects.keys("events/"), *self._objects.keys("parses/")]
        windows = []
        for slug in sorted({key.split("/")[1].removeprefix("window_start=") for key in keys}):
            start = datetime.strptime(slug, "%Y%m%dT%H%MZ").replace(tzinfo=timezone.utc)
            if before is not None and start >= before:
                break
            summary = self._summary(Window(start, start + length))
            windows.append(Window(start, summary[1]["window_end"] if summary else start + length))
        return windows

    def carriers(self, window: Window) -> Iterator[Carrier]:
        """What the window's rows say of whose they are, each once; nothing without a parse that can be read."""
        if self._summary(window) is None:
            return
        with self._objects.local(_events_key(window)) as events:
            yield from _carriers(events)

    def erase(
        self,
        window: Window,
        matcher: Matcher,
        *,
        is_reject_theirs: Callable[[str | None, str], bool],
        bundle_sha256: tuple[str, str] | None = None,
        n_bundle_rows: int = 0,
    ) -> ErasedRows:
        """Take the rows of erased people out of the window's Parquet and rejects; a window without a parse has none.

        Args:
            window: which.
            matcher: who was erased.
            is_reject_theirs: given the raw text of a reject and its hash.
            bundle_sha256: of the bundle as it was and as it is going to be, if it changes; a parse of the one becomes
                a parse of the other.
            n_bundle_rows: how many rows are taken out of that bundle.
        """
        parsed = self.get(window)
        if parsed is None:
            return ErasedRows()
        with self.at_hand(parsed) as at_hand:
            return self._erase(at_hand, matcher, is_reject_theirs, bundle_sha256, n_bundle_rows)

    def _erase(
        self,
        parsed: ParsedWindow,
        matcher: Matcher,
        is_reject_theirs: Callable[[str | None, str], bool],
        bundle_sha256: tuple[str, str] | None,
        n_bundle_rows: int,
    ) -> ErasedRows:
        window = parsed.window
        is_of_bundle = bundle_sha256 is not None and parsed.bundle_sha256 == bundle_sha256[0]
        rejects = pl.read_parquet(parsed.rejects_location)
        is_kept = [not is_reject_theirs(*said) for said in rejects.select("raw_text", "raw_sha256").iter_rows()]
        n_rejects = len(rejects) - sum(is_kept)
        theirs = _theirs(parsed.events_location, matcher)
        with self._objects.scratch() as kept, self._objects.scratch() as kept_rejects:
            n_events = 0
            summary: dict[str, Any] = {}
            parse_id = uuid4().hex
            if len(theirs):
                _sink_events(_without(pl.scan_parquet(parsed.events_location), theirs, matcher.others), kept, parse_id)
                bounds = pl.scan_parquet(kept).select(
                    pl.len(), pl.col("EventStart").min().alias("first"), pl.col("EventStart").max().alias("last")
                )
                n_kept, first, last = bounds.collect().row(0)
                n_events = parsed.rows_kept - n_kept
                summary = {"min_event_start_at": first, "max_event_start_at": last}
            if not n_events and not n_rejects and not is_of_bundle:
                return ErasedRows()
            # Rows of other windows were in the bundle only.
            n_outside = n_bundle_rows - n_events - n_rejects
            if not is_of_bundle or not 0 <= n_outside <= parsed.rows_outside:
                n_outside = 0
            summary |= {
                "rows_kept": parsed.rows_kept - n_events,
                "rows_rejected": parsed.rows_rejected - n_rejects,
                "rows_outside": parsed.rows_outside - n_outside,
                "rows_forgotten": parsed.rows_forgotten + n_events + n_rejects + n_outside,
            }
            if bundle_sha256 and is_of_bundle:
                summary["bundle_sha256"] = bundle_sha256[1]
            if not n_events:
                _sink_events(pl.scan_parquet(parsed.events_location), kept, parse_id)
            rejects.filter(pl.Series(is_kept, dtype=pl.Boolean)).write_parquet(kept_rejects)
            n_bytes = kept.stat().st_size + kept_rejects.stat().st_size
            self._objects.publish(_rejects_key(window, parse_id), kept_rejects)
            described = read_json(self._objects, _summary_key(window, parsed.parse_id)) or {}
            text = json.dumps(described | summary, default=_iso, indent=1)
            publish_text(self._objects, _summary_key(window, parse_id), text)
            self._objects.publish(_events_key(window), kept)
        self._delete_parses(window, but=parse_id)
        return ErasedRows(n_events, n_rejects, n_bytes)

    def delete_unnamed(self, window: Window) -> None:
        """Delete what killed parses left of the window, or all that cannot be read, with the window locked."""
        parsed = self.get(window)
        if parsed:
            self._delete_parses(window, but=parsed.parse_id)
        else:
            self.delete(window)

    def delete(self, window: Window) -> None:
        """Remove the window's files, the commit point first."""
        self._objects.delete(_events_key(window))
        self._delete_parses(window)

    def _delete_parses(self, window: Window, but: str | None = None) -> None:
        kept = {_rejects_key(window, but), _summary_key(window, but)} if but else set()
        for key in list(self._objects.keys(_parses_folder(window))):
            if key not in kept:
                self._objects.delete(key)


def _sink_events(rows: pl.LazyFrame, path: Path, parse_id: str) -> None:
    sink_parquet(rows, str(path), parse_id, json_column=CUSTOM_VARS.name)


def _rows_of(batches: Iterable[tuple[pl.DataFrame, pl.DataFrame]], rejects_file: BinaryIO) -> Iterator[pl.DataFrame]:
    for rows, rejects in batches:
        if not rejects.is_empty():
            rejects.write_ndjson(rejects_file)
        yield rows


def _by_session(batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The rows of a session one after the other, as far as they are in one batch.

    Most of what they say is the same: everything that packs columns is quicker then, and packs them closer.
    """
    for rows in batches:
        yield rows.sort("UserId", "SessionId", maintain_order=True)


def _carriers(events: Path | str) -> Iterator[Carrier]:
    carriers = pl.scan_parquet(events).select(CARRIER_COLUMNS).unique().collect(engine="streaming")
    yield from map(Carrier._make, carriers.iter_rows())


def _theirs(events: str, matcher: Matcher) -> pl.DataFrame:
    """What rows of erased people carry, and before when they are erased (naive UTC)."""
    while True:
        n_learnt = len(matcher.learnt)
        found = [(*carrier, until) for carrier in _carriers(events) if (until := matcher.until(carrier))]
        if len(matcher.learnt) == n_learnt:
            break
    rows = [(*carrier, until.replace(tzinfo=None)) for *carrier, until in found]
    schema = {"UserId": pl.Int64, "IndvId": pl.Int64, "UserAppKey": pl.String, "UserEmail": pl.String}
    return pl.DataFrame(rows, schema=schema | {"_until": pl.Datetime("us")}, orient="row")


def _without(rows: pl.LazyFrame, theirs: pl.DataFrame, others: set[str]) -> pl.LazyFrame:
    is_others = pl.col("_event_id").is_in(pl.Series(sorted(others), dtype=pl.String).implode())
    return (
        rows.join(theirs.lazy(), on=list(CARRIER_COLUMNS), how="left", nulls_equal=True, maintain_order="left")
        .filter(pl.col("_until").is_null() | (pl.col("EventStart") >= pl.col("_until")) | is_others)
        .drop("_until")
    )


def _iso(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")


def _events_key(window: Window) -> str:
    return f"events/window_start={window.slug}/events.parquet"


def _parses_folder(window: Window) -> str:
    return f"parses/window_start={window.slug}/"


def _rejects_key(window: Window, parse_id: str) -> str:
    return f"{_parses_folder(window)}{parse_id}-rejects.parquet"


def _summary_key(window: Window, parse_id: str) -> str:
    return f"{_parses_folder(window)}{parse_id}.json"
