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

_ROW_GROUP_ROWS = 20_480
"""Held in memory until it is written: 100 MB where an event has fifty variables. Two are one of DuckDB's in a file."""
_COMPRESSION_LEVEL = 1  # the file is read once or twice; level 3 costs double the time for 8 % of the size


def stream_rows(batches: Iterable[pl.DataFrame], schema: pl.Schema) -> pl.LazyFrame:
    """Batches that share a schema as rows to be written, a batch at a time."""

    def rows(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        # A sink of the bare source asks for everything; the arguments are the plugin's interface.
        yield from batches

    return register_io_source(rows, schema=schema)


def sink_parquet(rows: pl.LazyFrame, path: str, parse_id: str, *, json_column: str | None = None) -> None:
    """Write rows to a local file that names its parse in its metadata.

    Args:
        rows: what is written.
        path: of the file.
        parse_id: of the parse.
        json_column: a text column of nothing but JSON, which the file is to say of it.
    """
    rows.sink_parquet(
        path,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        row_group_size=_ROW_GROUP_ROWS,
        metadata={"parse_id": parse_id},
    )
    if json_column:
        _mark_json(path, json_column)


def read_footer(file: BinaryIO) -> BytesIO:
    """The end of a Parquet file, enough for its metadata. What is no Parquet file gives nothing polars can read."""
    n_bytes = min(file.seek(0, os.SEEK_END), _TAIL_BYTES)
    file.seek(-n_bytes, os.SEEK_END)
    tail = file.read(n_bytes)
    n_footer = int.from_bytes(tail[:4], "little") + _TAIL_BYTES
    file.seek(-min(n_footer, file.tell()), os.SEEK_END)
    return BytesIO(file.read())


def _mark_json(path: str, column: str) -> None:
    """Have the footer call a text column JSON, or DuckDB reads every value to see if it is. polars has no word for it.

    In Parquet's schema a column's name (a field of text) is followed by its converted type (UTF8 is 0, JSON is 19, and
    twice that in Thrift's compact protocol) and its logical type (a union: STRING is its member 1, JSON its member 12).
    A footer that is written differently is left as it is.
    """
    name = b"\x18" + bytes([len(column)]) + column.encode()
    is_text, is_json = name + b"\x25\x00\x4c\x1c\x00\x00", name + b"\x25\x26\x4c\xcc\x00\x00"
    with open(path, "r+b") as file:
        footer = read_footer(file).getvalue()
        if footer.count(is_text) == 1:
            file.seek(-len(footer) + footer.index(is_text), os.SEEK_END)
            file.write(is_json)
