"""The Parquet dataset: one file of typed events a window, partitioned by window as Hive does.

``events/window_start=20260601T0000Z/events.parquet`` is the commit point: it names the parse it comes from, and the
counts and the rejects of that parse were published before it, under ``parses/``: engines that read a folder whole find
nothing but events below ``events/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO
from uuid import uuid4

import polars as pl
from polars.io.plugins import register_io_source

from fullstory_dagster.errors import BundleMissingError, StoreTooNewError
from fullstory_dagster.store.objects import ObjectStore, publish_text, read_json
from fullstory_dagster.windows import Window

_VERSION = 1
"""Of the summary and of what the Parquet file holds."""

_ROW_GROUP_ROWS = 100_000
_COMPRESSION_LEVEL = 1  # the file is read once or twice; level 3 costs double the time for 8 % of the size


@dataclass(frozen=True)
class ParsedWindow:
    """What parsing made of a window: counts, and where the rows are. Times are aware UTC unless said otherwise.

    Attributes:
        window: the range.
        parse_id: unique for every parse.
        events_location: the Parquet file.
        rejects_location: Parquet file of position, export_id, reason, raw_text, raw_sha256.
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
        rename_twins: Callable[[pl.LazyFrame], pl.DataFrame | None],
        summary: Callable[[], dict[str, Any]],
    ) -> ParsedWindow:
        """Write a window's rows as they come, and publish them when all of them came.

        Args:
            window: whose rows they are.
            schema: columns of the rows.
            rejects_schema: columns of the rejects.
            batches: rows and rejects in order; memory holds a few batches at a time.
            rename_twins: given the written rows, new ids by row number, or None.
            summary: the counts of :class:`ParsedWindow`, asked for after the batches.
        """
        parse_id = uuid4().hex
        with self._objects.scratch() as written, self._objects.scratch() as renamed, self._objects.scratch() as lines:
            # Only one Parquet file can be streamed into at a time: rejects, few as a rule, wait in another.
            with lines.open("wb") as file:
                _sink(_stream(_rows_of(batches, file), schema), str(written), parse_id)
            result = written
            new_ids = rename_twins(pl.scan_parquet(written))
            if new_ids is not None:
                _sink(_with_ids(pl.scan_parquet(written), new_ids), str(renamed), parse_id)
                result = renamed
            with self._objects.scratch() as rejects:
                _sink(pl.scan_ndjson(lines, schema=rejects_schema), str(rejects), parse_id)
                self._objects.publish(_rejects_key(window, parse_id), rejects)
            described = {"version": _VERSION, "window_end": window.end, **summary()}
            publish_text(self._objects, _summary_key(window, parse_id), json.dumps(described, default=_iso, indent=1))
            self._objects.publish(_events_key(window), result)
        parsed = self.require(window)
        self._delete_parses(window, but=parse_id)
        return parsed

    def get(self, window: Window) -> ParsedWindow | None:
        """The window's parse, None if there is none; one of another length is not the window's."""
        try:
            with self._objects.open(_events_key(window)) as file:
                parse_id = pl.read_parquet_metadata(file)["parse_id"]
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
        if datetime.fromisoformat(summary.pop("window_end")) != window.end:
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

    def size(self, window: Window) -> int:
        """Bytes of the window's Parquet file, 0 without one."""
        return self._objects.size(_events_key(window)) or 0

    def delete(self, window: Window) -> None:
        """Remove the window's files, the commit point first."""
        self._objects.delete(_events_key(window))
        self._delete_parses(window)

    def _delete_parses(self, window: Window, but: str | None = None) -> None:
        kept = {_rejects_key(window, but), _summary_key(window, but)} if but else set()
        for key in list(self._objects.keys(_parses_folder(window))):
            if key not in kept:
                self._objects.delete(key)


def _rows_of(batches: Iterable[tuple[pl.DataFrame, pl.DataFrame]], rejects_file: BinaryIO) -> Iterator[pl.DataFrame]:
    for rows, rejects in batches:
        rejects.write_ndjson(rejects_file)
        yield rows


def _stream(batches: Iterable[pl.DataFrame], schema: pl.Schema) -> pl.LazyFrame:
    def rows(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        # A sink of the bare source asks for everything; the arguments are the plugin's interface.
        yield from batches

    return register_io_source(rows, schema=schema)


def _sink(rows: pl.LazyFrame, path: str, parse_id: str) -> None:
    rows.sink_parquet(
        path,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        row_group_size=_ROW_GROUP_ROWS,
        metadata={"parse_id": parse_id},
    )


def _with_ids(rows: pl.LazyFrame, new_ids: pl.DataFrame) -> pl.LazyFrame:
    return (
        rows.with_row_index("_row")
        .join(new_ids.lazy().rename({"_event_id": "_new_id"}), on="_row", how="left", maintain_order="left")
        .with_columns(_event_id=pl.coalesce("_new_id", "_event_id"))
        .drop("_row", "_new_id")
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
