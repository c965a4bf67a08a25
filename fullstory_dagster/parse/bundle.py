"""A window's bundle to typed batches and rejects: the only door into ``parse/``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import polars as pl

from fullstory_dagster.fields import CUSTOM_VARS, FIELDS, FieldType
from fullstory_dagster.parse.csv_rows import frame_csv_rows
from fullstory_dagster.parse.framing import frame_rows
from fullstory_dagster.parse.privacy import PrivacyPolicy
from fullstory_dagster.parse.rows import Row, RowRejectedError, read_row
from fullstory_dagster.windows import Window

BundleFormat = Literal["json", "csv"]

_POLARS_TYPES: dict[FieldType, pl.DataType] = {
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "string": pl.String(),
    "timestamp": pl.Datetime("us"),
    "json": pl.String(),
}

BATCH_SCHEMA = pl.Schema({f.name: _POLARS_TYPES[f.type] for f in (*FIELDS, CUSTOM_VARS)} | {"_event_id": pl.String()})
"""Columns of a batch; times are UTC without zone."""

REJECT_SCHEMA = pl.Schema(
    {"position": pl.Int64(), "reason": pl.String(), "raw_text": pl.String(), "raw_sha256": pl.String()}
)
"""Columns of the rejects."""

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 20_000


@dataclass
class RowCounts:
    """What became of the rows of one window's bundle: in = kept + rejected + outside + forgotten.

    Attributes:
        rows_in: rows that FullStory sent.
        rows_kept: rows inside the window.
        rows_rejected: rows that could not become events.
        rows_outside: rows whose EventStart is in another window, which gets them.
        rows_forgotten: rows of people who were erased.
        values_misfit: values that did not fit their column and went to CustomVars, of kept rows.
        min_event_start_at: earliest EventStart kept, naive UTC.
        max_event_start_at: latest EventStart kept, naive UTC.
    """

    rows_in: int = 0
    rows_kept: int = 0
    rows_rejected: int = 0
    rows_outside: int = 0
    rows_forgotten: int = 0
    values_misfit: int = 0
    min_event_start_at: datetime | None = None
    max_event_start_at: datetime | None = None


@dataclass(frozen=True)
class ParsedBatch:
    """Some rows of a bundle, in the order they were sent.

    Attributes:
        rows: columns of ``BATCH_SCHEMA``, privacy applied; events that agree in their identity share ``_event_id``.
        rejects: columns of ``REJECT_SCHEMA``; ``raw_text`` is NULL while a privacy setting is on.
    """

    rows: pl.DataFrame
    rejects: pl.DataFrame


@dataclass
class BundleParser:
    """Parses the bundles of one window and counts what it saw.

    Attributes:
        window: rows outside it are counted and left out.
        privacy: applied to every batch.
        counts: of all rows so far; complete when every ``parse`` has been run to its end.
    """

    window: Window
    privacy: PrivacyPolicy = field(default_factory=PrivacyPolicy)
    counts: RowCounts = field(default_factory=RowCounts)

    def parse(self, chunks: Iterable[bytes], bundle_format: BundleFormat = "json") -> Iterator[ParsedBatch]:
        """Turn one bundle into batches; memory is bounded by the batch, not by the bundle.

        Args:
            chunks: gunzipped bytes of one JSON array, NDJSON (told apart by the first byte) or CSV, cut anywhere.
            bundle_format: ``json`` for the first two.

        Raises:
            BundleFormatError: the bundle cannot be read as rows at all, or ends inside one.
        """
        framed = frame_csv_rows(chunks) if bundle_format == "csv" else frame_rows(chunks)
        batch: list[bytes] = []
        size = 0
        for text in framed:
            batch.append(text)
            size += len(text)
            if size >= _BATCH_BYTES or len(batch) >= _BATCH_ROWS:
                yield self._parse_batch(batch)
                batch, size = [], 0
        if batch:
            yield self._parse_batch(batch)

    def _parse_batch(self, texts: list[bytes]) -> ParsedBatch:
        counts = self.counts
        rows: list[Row] = []
        rejects: list[tuple[int, str, str | None, str]] = []
        for position, text in enumerate(texts, start=counts.rows_in):
            try:
                rows.append(read_row(text))
            except RowRejectedError as reason:
                raw_text = None if self.privacy.is_on else text.decode(errors="backslashreplace")
                rejects.append((position, str(reason), raw_text, hashlib.sha256(text).hexdigest()))
        counts.rows_in += len(texts)
        counts.rows_rejected += len(rejects)
        inside = self._inside(_frame(rows))
        counts.rows_outside += len(rows) - len(inside)
        counts.rows_kept += len(inside)
        counts.values_misfit += int(inside["_n_misfit"].sum())
        if len(inside):
            first, last = inside["EventStart"].min(), inside["EventStart"].max()
            counts.min_event_start_at = min(filter(None, (counts.min_event_start_at, first)))
            counts.max_event_start_at = max(filter(None, (counts.max_event_start_at, last)))
        return ParsedBatch(
            rows=self.privacy.apply(inside.drop("_n_misfit")),
            rejects=pl.DataFrame(rejects, schema=REJECT_SCHEMA, orient="row"),
        )

    def _inside(self, rows: pl.DataFrame) -> pl.DataFrame:
        start, end = (bound.replace(tzinfo=None) for bound in (self.window.start, self.window.end))
        return rows.filter(pl.col("EventStart").is_between(start, end, closed="left"))


def _frame(rows: list[Row]) -> pl.DataFrame:
    columns: dict[str, pl.Series] = {}
    by_column = zip(*(row.values for row in rows), strict=True) if rows else (() for _ in FIELDS)
    for f, values in zip(FIELDS, by_column, strict=True):
        if f.type == "timestamp":
            texts = pl.Series(f.name, values, dtype=pl.String)
            columns[f.name] = texts.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us")
        else:
            columns[f.name] = pl.Series(f.name, values, dtype=_POLARS_TYPES[f.type])
    columns["CustomVars"] = pl.Series("CustomVars", [row.custom_vars for row in rows], dtype=pl.String)
    columns["_event_id"] = pl.Series("_event_id", [row.event_id for row in rows], dtype=pl.String)
    columns["_n_misfit"] = pl.Series("_n_misfit", [row.n_misfit for row in rows], dtype=pl.Int64)
    return pl.DataFrame(columns)
