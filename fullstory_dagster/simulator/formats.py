"""The three file formats of an export, and the choice of fields.

Arrays and NDJSON are written one row a line, without needless blanks. The gzip layer is deterministic: no file name, no
time.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from fullstory_dagster.fields import CUSTOM_VARIABLE_KINDS, FIELDS, FIELDS_BY_NAME, LEGACY_NAMES
from fullstory_dagster.simulator.events import Row

Format = Literal["FORMAT_JSON", "FORMAT_NDJSON", "FORMAT_CSV"]

SUFFIXES: dict[Format, str] = {"FORMAT_JSON": "json", "FORMAT_NDJSON": "ndjson", "FORMAT_CSV": "csv"}

_KIND_PREFIXES = tuple(kind.rstrip("*") for kind in CUSTOM_VARIABLE_KINDS)
_ROWS_A_WRITE = 500


@dataclass(frozen=True)
class FieldChoice:
    """Which fields an export was asked for; no names at all is every field.

    Attributes:
        names: field names and, for all custom variables of a kind, ``user_*``, ``evt_*``, ``page_*``.
    """

    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what the segment export refuses.

        Raises:
            ValueError: a field is named twice, or is none. That FullStory refuses the second is a guess.
        """
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise ValueError(f"field {twice} is listed more than once")
        for name in self.names:
            if name not in FIELDS_BY_NAME and name not in LEGACY_NAMES and not name.startswith(_KIND_PREFIXES):
                raise ValueError(f"unknown field {name}")

    def keeps(self, name: str) -> bool:
        """Whether a key of a row is in the export."""
        if not self.names or name in self.names:
            return True
        return any(name.startswith(prefix) and f"{prefix}*" in self.names for prefix in _KIND_PREFIXES)

    def of(self, row: Row) -> Row:
        """The part of a row that was asked for."""
        return {name: value for name, value in row.items() if self.keeps(name)} if self.names else row


ALL_FIELDS = FieldChoice()


def pack(rows: Callable[[], Iterator[Row | msgspec.Raw]], file_format: Format, choice: FieldChoice) -> bytes:
    """The gzip file of an export; rows are taken one by one, only the packed bytes are held."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=packed, mtime=0) as out:
        if file_format == "FORMAT_CSV":
            _write_csv(rows, choice, out)
        else:
            _write_json(rows(), choice, out, array=file_format == "FORMAT_JSON")
    return packed.getvalue()


def _write_json(rows: Iterator[Row | msgspec.Raw], choice: FieldChoice, out: gzip.GzipFile, *, array: bool) -> None:
    encode = msgspec.json.Encoder().encode
    separator = b",\n" if array else b"\n"
    batch: list[bytes] = []
    n_written = 0
    if array:
        out.write(b"[")
    for row in rows:
        text = bytes(row) if isinstance(row, msgspec.Raw) else encode(choice.of(row))
        # Values kept from an indented file can hold line ends; those inside strings are escaped and cannot.
        batch.append(msgspec.json.format(text, indent=-1) if b"\n" in text else text)
        if len(batch) == _ROWS_A_WRITE:
            out.write((separator if n_written else b"") + separator.join(batch))
            n_written += len(batch)
            batch.clear()
    if batch:
        out.write((separator if n_written else b"") + separator.join(batch))
        n_written += len(batch)
    if array:
        out.write(b"]")
    elif n_written:
        out.write(b"\n")


def _write_csv(rows: Callable[[], Iterator[Row | msgspec.Raw]], choice: FieldChoice, out: gzip.GzipFile) -> None:
    """Header and rows. Guesses: the header has every field of the list, line ends are LF, quotes only where needed."""
    header = _header(rows(), choice)
    text = io.TextIOWrapper(out, encoding="utf-8", errors="replace", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows():
        if not isinstance(row, msgspec.Raw):
            writer.writerow([_cell(row.get(name)) for name in header])
    text.flush()
    text.detach()


def _header(rows: Iterator[Row | msgspec.Raw], choice: FieldChoice) -> list[str]:
    if choice.names and not any(name.endswith("*") for name in choice.names):
        return list(choice.names)
    wanted = [name for name in choice.names if not name.endswith("*")] or [field.name for field in FIELDS]
    others = {name for row in rows if not isinstance(row, msgspec.Raw) for name in row if choice.keeps(name)}
    return wanted + sorted(others.difference(wanted))


def _cell(value: Any) -> str:
    """A CSV cell: text as it is, everything else as its JSON text; null is empty. The latter two are guesses."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    text = bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
    if text == b"null":
        return ""
    return str(json.loads(text)) if text[:1] == b'"' else text.decode()
