"""A window's bundle to typed batches and rejects: the only door into ``parse/``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, cast

import polars as pl

from fullstory_dagster.fields import CUSTOM_VARS, FIELDS, FieldType
from fullstory_dagster.parse.csv_rows import frame_csv_rows
from fullstory_dagster.parse.framing import open_pieces
from fullstory_dagster.parse.plain_rows import read_plain_rows
from fullstory_dagster.parse.privacy import PrivacyPolicy
from fullstory_dagster.parse.read_ahead import ReadAhead
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
_FEW_ROWS = 250
"""So few rows are read one by one because one of them is odd."""

Reject = tuple[int, str, str | None, str]


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
        if bundle_format == "csv":
            for texts in _batches(frame_csv_rows(chunks), _BATCH_ROWS):
                yield self._parse_one_by_one(texts)
            return
        with ReadAhead(open_pieces(chunks)) as reading:
            while (given := reading.next_piece()) is not None:
                piece, rows = given
                if rows is not None:
                    yield self._counted(rows)
                    continue
                # One odd row must not cost its whole piece the quick way.
                for texts in _batches(reading.exact_rows(piece), _FEW_ROWS):
                    rows = read_plain_rows(b"\n".join(texts), len(texts))
                    if rows is not None:
                        yield self._counted(rows)
                    else:
                        yield self._parse_one_by_one(texts)

    def _parse_one_by_one(self, texts: list[bytes]) -> ParsedBatch:
        rows, rejects = read_one_by_one(texts, self.counts.rows_in, keep_text=not self.privacy.is_on)
        self.counts.values_misfit += int(self._inside(rows)["_n_misfit"].sum())
        return self._counted(rows.drop("_n_misfit"), rejects)

    def _counted(self, rows: pl.DataFrame, rejects: Sequence[Reject] = ()) -> ParsedBatch:
        counts = self.counts
        counts.rows_in += len(rows) + len(rejects)
        counts.rows_rejected += len(rejects)
        inside = self._inside(rows)
        counts.rows_outside += len(rows) - len(inside)
        counts.rows_kept += len(inside)
        if len(inside):
            first, last = _bounds(inside)
            counts.min_event_start_at = min(filter(None, (counts.min_event_start_at, first)))
            counts.max_event_start_at = max(filter(None, (counts.max_event_start_at, last)))
        return ParsedBatch(
            rows=self.privacy.apply(inside), rejects=pl.DataFrame(rejects, schema=REJECT_SCHEMA, orient="row")
        )

    def _inside(self, rows: pl.DataFrame) -> pl.DataFrame:
        start, end = (bound.replace(tzinfo=None) for bound in (self.window.start, self.window.end))
        # Next to always all of them are, and a filter copies every column.
        if len(rows) and start <= (bounds := _bounds(rows))[0] and bounds[1] < end:
            return rows
        return rows.filter(pl.col("EventStart").is_between(start, end, closed="left"))


def _bounds(rows: pl.DataFrame) -> tuple[datetime, datetime]:
    starts = rows["EventStart"]
    return cast("datetime", starts.min()), cast("datetime", starts.max())


def read_one_by_one(texts: list[bytes], position: int, *, keep_text: bool) -> tuple[pl.DataFrame, list[Reject]]:
    """Read rows whatever they hold.

    Args:
        texts: raw text of each.
        position: of the first one in its window's bundle.
        keep_text: whether rejects keep theirs.

    Returns:
        tuple: the columns of ``BATCH_SCHEMA`` and ``_n_misfit``; position, reason, text and its sha256 of the rejects.
    """
    rows: list[Row] = []
    rejects: list[Reject] = []
    for at, text in enumerate(texts, start=position):
        try:
            rows.append(read_row(text))
        except RowRejectedError as reason:
            raw_text = text.decode(errors="backslashreplace") if keep_text else None
            rejects.append((at, str(reason), raw_text, hashlib.sha256(text).hexdigest()))
    return _frame(rows), rejects


def _batches(rows: Iterable[bytes], n_rows: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for text in rows:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES or len(batch) >= n_rows:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


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
