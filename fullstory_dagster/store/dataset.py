"""The Parquet dataset: one file of typed events a window, partitioned by window as Hive does, beside its rejects.

``events/window_start=20260601T0000Z/events.parquet`` is the commit point: it names the parse it comes from, and the
counts and the rejects of that parse were published before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import polars as pl
from polars.io.plugins import register_io_source

from fullstory_dagster.errors import BundleMissingError
from fullstory_dagster.store.objects import ObjectStore, publish_text
from fullstory_dagster.windows import Window

_ROW_GROUP_ROWS = 100_000
_COMPRESSION_LEVEL = 1  # the file is read once or twice; level 3 costs double the time for 8 % of the size


@dataclass(frozen=True)
class ParsedWindow:
    """What parsing made of a window: counts, and where the rows are. Times are aware UTC unless said otherwise.

    Attributes:
        window: the range.
        parse_id: unique for every parse.
        events_location: the Parquet file.
        rejects_location: newline-delimited JSON of position, export_id, reason, raw_text, raw_sha256.
        rows_in: rows FullStory sent = kept + rejected + outside.
        rows_kept: rows in the Parquet file.
        rows_rejected: rows in the rejects file.
        rows_outside: rows of another window.
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
        batches: Iterable[pl.DataFrame],
        rename_twins: Callable[[pl.LazyFrame], pl.DataFrame | None],
        rejects: Iterable[dict[str, Any]],
        summary: Callable[[], dict[str, Any]],
    ) -> ParsedWindow:
        """Write a window's rows as they come, and publish them when all of them came.

        Args:
            window: whose rows they are.
            schema: columns of every batch.
            batches: rows in order; memory holds a few batches at a time.
            rename_twins: given the written rows, new ids by row number, or None.
            rejects: read after the batches.
            summary: the counts of :class:`ParsedWindow`, asked for after the batches.
        """
        parse_id = uuid4().hex
        with self._objects.scratch() as written, self._objects.scratch() as renamed:
            _sink(_stream(batches, schema), str(written), parse_id)
            result = written
            new_ids = rename_twins(pl.scan_parquet(written))
            if new_ids is not None:
                _sink(_with_ids(pl.scan_parquet(written), new_ids), str(renamed), parse_id)
                result = renamed
            with self._objects.scratch() as lines:
                with lines.open("w", encoding="utf-8") as file:
                    file.writelines(json.dumps(reject) + "\n" for reject in rejects)
                self._objects.publish(_rejects_key(window, parse_id), lines)
            publish_text(self._objects, _summary_key(window, parse_id), json.dumps(summary(), default=_iso, indent=1))
            self._objects.publish(_events_key(window), result)
        parsed = self.require(window)
        self._delete_all(
            window, but={_events_key(window), _rejects_key(window, parse_id), _summary_key(window, parse_id)}
        )
        return parsed

    def get(self, window: Window) -> ParsedWindow | None:
        """The window's parse, None if there is none."""
        try:
            with self._objects.open(_events_key(window)) as file:
                parse_id = pl.read_parquet_metadata(file)["parse_id"]
            with self._objects.open(_summary_key(window, parse_id)) as file:
                summary = json.load(file)
        except FileNotFoundError:
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
        self._delete_all(window, but=set())

    def _delete_all(self, window: Window, but: set[str]) -> None:
        for key in list(self._objects.keys(_folder(window))):
            if key not in but:
                self._objects.delete(key)


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


def _folder(window: Window) -> str:
    return f"events/window_start={window.slug}/"


def _events_key(window: Window) -> str:
    return f"{_folder(window)}events.parquet"


def _rejects_key(window: Window, parse_id: str) -> str:
    return f"{_folder(window)}rejects-{parse_id}.ndjson"


def _summary_key(window: Window, parse_id: str) -> str:
    return f"{_folder(window)}parse-{parse_id}.json"
