"""A Parquet file: written as its rows come, and known by its end alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import BinaryIO

import polars as pl
from polars.io.plugins import register_io_source

_TAIL_BYTES = 8
"""The last ones: how long the footer before them is, and `PAR1`."""

_ROW_GROUP_ROWS = 20_000
"""Held in memory until it is written: 100 MB where an event has fifty variables."""
_COMPRESSION_LEVEL = 1  # the file is read once or twice; level 3 costs double the time for 8 % of the size


def stream_rows(batches: Iterable[pl.DataFrame], schema: pl.Schema) -> pl.LazyFrame:
    """Batches that share a schema as rows to be written, a batch at a time."""

    def rows(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        # A sink of the bare source asks for everything; the arguments are the plugin's interface.
        yield from batches

    return register_io_source(rows, schema=schema)


def sink_parquet(rows: pl.LazyFrame, path: str, parse_id: str) -> None:
    """Write rows to a local file that names its parse in its metadata."""
    rows.sink_parquet(
        path,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        row_group_size=_ROW_GROUP_ROWS,
        metadata={"parse_id": parse_id},
    )


def read_footer(file: BinaryIO) -> BytesIO:
    """The end of a Parquet file, enough for its metadata. What is no Parquet file gives nothing polars can read."""
    n_bytes = min(file.seek(0, os.SEEK_END), _TAIL_BYTES)
    file.seek(-n_bytes, os.SEEK_END)
    tail = file.read(n_bytes)
    n_footer = int.from_bytes(tail[:4], "little") + _TAIL_BYTES
    file.seek(-min(n_footer, file.tell()), os.SEEK_END)
    return BytesIO(file.read())
