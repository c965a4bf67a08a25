"""Bytes of a CSV export to rows. A cell is text and nothing else: exactness ends at what it says."""

from __future__ import annotations

import codecs
import csv
import sys
from collections.abc import Iterable, Iterator

import msgspec

from fullstory_dagster.errors import BundleFormatError

_encode = msgspec.json.Encoder().encode


def frame_csv_rows(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Turn CSV into the raw text of rows, one JSON object of texts each; an empty cell is an absent field.

    Args:
        chunks: gunzipped bytes, UTF-8, cut anywhere; the first record is the header.

    Yields:
        bytes: one row as JSON; a record with more or fewer cells than the header as a JSON array, which is rejected
            downstream with its text.

    Raises:
        BundleFormatError: the header names a field twice, or the text is not UTF-8.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    records = csv.reader(_text_lines(chunks), strict=True)
    try:
        header = next(records, None)
        if header is None:
            return
        if len(set(header)) < len(header):
            raise BundleFormatError("The bundle's CSV header names a field twice.", byte_offset=0)
        for record in records:
            if not record:
                continue  # a blank line
            if len(record) != len(header):
                yield _encode(record)
            else:
                yield _encode({name: cell for name, cell in zip(header, record, strict=True) if cell})
    except (csv.Error, UnicodeDecodeError) as error:
        raise BundleFormatError(f"The bundle is no CSV after line {records.line_num}: {error}.") from error


def _text_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    # csv.reader wants lines with their ends, and a line break inside quotes belongs to the cell.
    decode = codecs.getincrementaldecoder("utf-8-sig")().decode
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + decode(chunk)).split("\n")
        for line in lines:
            yield line + "\n"
    rest += decode(b"", final=True)
    if rest:
        yield rest
