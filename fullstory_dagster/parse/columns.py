"""Many rows at once, column by column, when every one of them is as FullStory documents it.

polars reads the columns and msgspec what has none, both without an object for each value. Neither is exact by itself:
polars keeps the first of two values of one name and takes a number for a text, msgspec passes over names it was not
told of. So the reading is proved by counting: every name of a JSON object is followed by a colon, and as many
quote-colon pairs as values were found means that none was passed over, doubled or mistaken. Whatever does not add up
is left to :mod:`fullstory_dagster.parse.rows`, which reads one value at a time and gives the same result.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from threading import Lock
from urllib.parse import unquote

import msgspec
import numpy as np
import polars as pl

from fullstory_dagster.fields import FIELDS, FIELDS_BY_NAME, LEGACY_NAMES, FieldType
from fullstory_dagster.parse.identity import IDENTITY_COLUMNS, VERSION
from fullstory_dagster.parse.json_text import scalar_text
from fullstory_dagster.parse.rows import MAX_DEPTH

_MAX_NAMES = 5_000
"""More different names without a column than this and a row costs more here than one at a time."""

_FEW_NAMES = 300

_READ_TYPES: dict[FieldType, pl.DataType] = {
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "string": pl.String(),
    "timestamp": pl.String(),
}
_SCHEMA = pl.Schema(
    {field.name: _READ_TYPES[field.type] for field in FIELDS} | dict.fromkeys(LEGACY_NAMES, pl.String())
)
_TEXTS = [name for name, dtype in _SCHEMA.items() if dtype == pl.String]
_TIMES = [field.name for field in FIELDS if field.type == "timestamp"]
_REQUIRED = [field.name for field in FIELDS if field.is_required]
_LEGACY_TOKENS = {old: f'"{old}":'.encode() for old in LEGACY_NAMES}
_UNNAMEABLE = re.compile(r'[\\"\x00-\x1f]')
"""What msgspec lets stand in no name of its structures."""
_QUOTE, _BACKSLASH, _COLON, _BLANK, _N = b'"\\: n'
_SURROGATE = re.compile(rb"\\u[dD]")
_PLAIN_TIME = r"^[12]\d{3}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$"

_decode_row = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_rows = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines
_encode_lines = msgspec.json.Encoder().encode_lines


@dataclass(frozen=True)
class _Colons:
    """How many names and texts stand in some JSON, told by the bytes around its colons.

    What stands inside a text has a backslash before its quote. A text that begins with a colon counts as one name too
    many, and nothing counts as one too few: errors don't make up for one another.

    Attributes:
        names: names, of nested objects as well.
        texts: names that are followed by a text.
        nulls: names that are followed by null.
        is_clear: whether no byte before a colon leaves it open if a name ends there.
    """

    names: int
    texts: int
    nulls: int
    is_clear: bool

    @classmethod
    def of(cls, text: bytes) -> _Colons:
        """Count in one pass over the bytes, which is quicker than a search for each token."""
        if b":" in text[:3] or text.endswith(b":"):
            return cls(0, 0, 0, is_clear=False)  # the shortest object that has a name begins with {"":
        found = np.frombuffer(text, dtype=np.uint8)
        at = np.flatnonzero(found == _COLON)
        before, second, third = found[at - 1], found[at - 2], found[at - 3]
        is_quoted = before == _QUOTE
        is_escaped = is_quoted & (second == _BACKSLASH)
        # A name that ends in a backslash looks like an escaped quote, and one with a blank behind it like no name.
        is_open = is_escaped & (third == _BACKSLASH)
        is_open |= (before == _BLANK) & ((second == _QUOTE) | (second == _BLANK))
        follows = found[at[is_quoted & ~is_escaped] + 1]
        return cls(
            names=len(follows),
            texts=int(np.count_nonzero(follows == _QUOTE)),
            nulls=int(np.count_nonzero(follows == _N)),
            is_clear=not is_open.any(),
        )


class ColumnReader:
    """Reads pieces of one bundle, in any thread; learns the names without a column as they come.

    What a row is read to does not depend on what was learnt, only how quickly.

    Args:
        names: names without a column that are known already.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._known = _Known.of(names)
        self._learning = Lock()

    @property
    def names(self) -> list[str]:
        """Names without a column seen so far, in the order of their text, which is the order they are kept in."""
        return self._known.names

    def read(self, lines: bytes, n_rows: int | None = None) -> pl.DataFrame | None:
        """Read rows that stand on lines of their own.

        Args:
            lines: a row a line.
            n_rows: how many there are, where it is known better than by the lines.

        Returns:
            DataFrame: the fields, ``CustomVars`` and ``_event_id`` of every row, in order; None when the rows are not
                all plain, and have to be read one at a time.
        """
        if _may_be_odd(lines) or not (found := _Colons.of(lines)).is_clear:
            return None
        try:
            # In one piece each column: what is added to many small ones makes them into one, each time.
            rows = pl.read_ndjson(lines, schema=_SCHEMA).rechunk()
        except pl.exceptions.PolarsError:
            return None
        if rows.height != (lines.count(b"\n") + (not lines.endswith(b"\n")) if n_rows is None else n_rows):
            return None
        n_values = rows.select(pl.all().count()).row(0, named=True)
        if any(n_values[name] < rows.height for name in _REQUIRED) or not _are_plain(rows, n_values):
            return None
        try:
            kept = self._custom_vars(lines, found, rows.height, n_values)
        except msgspec.MsgspecError:
            return None
        if kept is None:
            return None
        custom_vars, has_nulls = kept
        named = _with_modern_names(rows, lines if has_nulls else None, n_values)
        if named is None:
            return None
        try:
            times = [pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us") for name in _TIMES]
            return named.with_columns(*times, CustomVars=custom_vars, _event_id=_event_ids(named, custom_vars))
        except pl.exceptions.PolarsError:
            return None  # February 30

    def _custom_vars(
        self, lines: bytes, found: _Colons, height: int, n_values: dict[str, int]
    ) -> tuple[pl.Series, bool] | None:
        """What has no column, and whether something that has one is null."""
        n_known, n_known_texts = sum(n_values.values()), sum(n_values[name] for name in _TEXTS)
        # The columns account for every name: nothing is left that msgspec would find.
        if (found.names, found.texts) == (n_known, n_known_texts):
            return pl.repeat(None, height, dtype=pl.String, eager=True), False

        def n_nulls_beside(rest: bytes, known: _Known) -> int | None:
            """Nulls of what has a column; None if these, the values and the rest are not everything."""
            left = _Colons.of(rest)
            if found.texts != n_known_texts + left.texts:
                return None
            n_nulls = found.names - n_known - left.names
            if n_nulls == 0:
                return 0
            # Nulls of what has a column are found by polars as nothing; nulls without one are kept as they are. That no
            # row has two nulls of one name, and that none is of a name not seen before, is not told by numbers.
            is_all = (
                n_nulls == found.nulls - left.nulls
                and _names_without_column(lines) <= set(known.names)
                and found.names - left.names == _n_names(lines) - _n_names(rest)
            )
            return n_nulls if is_all else None

        known = self._known
        rest = known.rest_of(lines)
        n_nulls = n_nulls_beside(rest, known)
        if n_nulls is None and (learnt := self._learn(lines, known)):
            rest = learnt.rest_of(lines)
            n_nulls = n_nulls_beside(rest, learnt)
        if n_nulls is None:
            return None
        kept = _lines_of(rest)
        if kept.len() != height or (rest.count(b"[") + rest.count(b"{") > MAX_DEPTH and _may_be_deep(kept)):
            return None
        return kept.replace("{}", None), n_nulls > 0

    def _learn(self, lines: bytes, known: _Known) -> _Known | None:
        """Find names that were not known; None if there are none, or too many."""
        found = _names_without_column(lines)
        if found <= set(known.names) or any(map(_UNNAMEABLE.search, found)):
            return None
        with self._learning:
            if not found <= set(self._known.names):
                learnt = found | set(self._known.names)
                if len(learnt) > _MAX_NAMES:
                    return None
                self._known = _Known.of(learnt)
            return self._known


class NamesSeen:
    """Names without a column on their way from one bundle to the next, so that they are learnt once."""

    def __init__(self) -> None:
        self._names: list[str] = []

    def reader(self) -> ColumnReader:
        """A reader that knows them."""
        return ColumnReader(self._names)

    def keep(self, reader: ColumnReader) -> None:
        """Take those that a reader knows by now."""
        # Each that is known costs every row a little, whether the row has it or not.
        self._names = reader.names if len(reader.names) <= _FEW_NAMES else []


@dataclass(frozen=True)
class _Known:
    """Names without a column, and what reads their values."""

    names: list[str]
    decoder: msgspec.json.Decoder[list[msgspec.Struct]]

    @classmethod
    def of(cls, names: Iterable[str]) -> _Known:
        in_order = sorted(names)
        return cls(in_order, _decoder_of(in_order))

    def rest_of(self, lines: bytes) -> bytes:
        """What has no column, as one JSON object a line."""
        return _encode_lines(self.decoder.decode_lines(lines))


def _names_without_column(lines: bytes) -> set[str]:
    names: set[str] = set().union(*_decode_rows(lines))
    return names - FIELDS_BY_NAME.keys() - LEGACY_NAMES.keys()


def _n_names(lines: bytes) -> int:
    """Different names of each row, added up."""
    return sum(map(len, _decode_rows(lines)))


def _may_be_odd(lines: bytes) -> bool:
    """Whether something may stand in the text that the counting, or polars, would not understand."""
    if lines[:1] not in (b"{", b" ", b"\n"):
        return True  # polars unpacks what begins as packed bytes do
    if b"\t" in lines or b"\r" in lines:
        return True  # blanks that the count does not know
    # polars makes a NUL of half a surrogate pair
    return b"\\" in lines and _SURROGATE.search(lines) is not None


def _lines_of(text: bytes) -> pl.Series:
    """Lines that each end with a line feed."""
    return pl.Series([text[:-1].decode()]).str.split("\n").explode()


def _may_be_deep(texts: pl.Series) -> bool:
    """Whether in one of them so many brackets open that they could stand too deep in one another."""
    n_brackets = texts.str.count_matches("[", literal=True) + texts.str.count_matches("{", literal=True)
    return bool((n_brackets > MAX_DEPTH).any())


def _are_plain(rows: pl.DataFrame, n_values: dict[str, int]) -> bool:
    checks = [pl.col(name).str.contains(_PLAIN_TIME).all() for name in _TIMES if n_values[name]]
    checks.append((pl.col("EventType") != "").all())
    return all(rows.select(**{f"check {n}": check for n, check in enumerate(checks)}).row(0))


def _with_modern_names(rows: pl.DataFrame, lines: bytes | None, n_values: dict[str, int]) -> pl.DataFrame | None:
    """Values of older names in the columns of the modern ones; None where a row has both, or an older one's null.

    Args:
        rows: as they were read.
        lines: what they were read from; None if no null in it has a column.
        n_values: how many values each column has.
    """
    moved = []
    for old, modern in LEGACY_NAMES.items():
        token = _LEGACY_TOKENS[old]
        if not n_values[old]:
            if lines is not None and token in lines:
                return None
            continue
        both = rows.select((pl.col(old).is_not_null() & pl.col(modern).is_not_null()).any()).item()
        if both or (lines is not None and lines.count(token) != n_values[old]):
            return None
        moved.append(pl.coalesce(modern, old).alias(modern))
    return rows.with_columns(moved).drop(*LEGACY_NAMES)


def _decoder_of(names: list[str]) -> msgspec.json.Decoder[list[msgspec.Struct]]:
    struct = msgspec.defstruct(
        "_Rest",
        [(f"v{n}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for n in range(len(names))],
        rename={f"v{n}": name for n, name in enumerate(names)},
        omit_defaults=True,
        gc=False,
    )
    return msgspec.json.Decoder(struct)


def _event_ids(rows: pl.DataFrame, custom_vars: pl.Series) -> pl.Series:
    """As :func:`fullstory_dagster.parse.identity.event_id`, for all rows at once."""
    parts: list[pl.Expr] = []
    constant = f"{len(VERSION)}:{VERSION}"
    for name in IDENTITY_COLUMNS:
        if rows[name].null_count() == rows.height:
            constant += "0:"
            continue
        text = pl.col(name)
        if name == "EventStart":
            text = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ms").dt.epoch("ms")
        elif name == "EventTargetSelector":
            text = (
                pl.when(text.str.contains("%", literal=True))
                .then(text.map_elements(_unquoted, return_dtype=pl.String, skip_nulls=True))
                .otherwise(text)
            )
        text = text.cast(pl.String).fill_null("")
        parts += [pl.lit(constant), text.str.len_bytes().cast(pl.String), pl.lit(":"), text]
        constant = ""
    said = rows.select(pl.concat_str([*parts, pl.lit(constant)])).to_series()
    md5 = hashlib.md5
    ids = [
        md5((text + variables).encode(), usedforsecurity=False).hexdigest()
        for text, variables in zip(said, _variables(custom_vars), strict=True)
    ]
    return pl.Series(ids, dtype=pl.String)


def _variables(custom_vars: pl.Series) -> list[str]:
    """The ``evt_*`` variables of each row as netstrings, by name: all values of all rows in one column.

    One at a time they cost more than everything else together where a row has 50 of them.
    """
    rows: list[int] = []
    names: list[str] = []
    values: list[msgspec.Raw] = []
    at = custom_vars.str.contains('"evt_', literal=True).arg_true()
    for row, text in zip(at, custom_vars.gather(at), strict=True):
        said = _decode_row(text)  # in the order of names already
        rows += repeat(row, len(said))
        names += said
        values += said.values()
    variables = [""] * len(custom_vars)
    if not names:
        return variables
    flat = pl.DataFrame({"row": rows, "name": names, "raw": b"\n".join(values).decode().split("\n")})
    raw = pl.col("raw")
    is_text = raw.str.starts_with('"')
    # An escape has to be read, and blanks in a list or an object are no part of what it says.
    is_odd = (is_text & raw.str.contains("\\", literal=True)) | (
        raw.str.contains(r"^[\[{]") & raw.str.contains(r"[\[{,:] | [\]},:]")
    )
    flat = flat.filter(pl.col("name").str.starts_with("evt_")).with_columns(
        text=pl.when(is_text).then(raw.str.slice(1, raw.str.len_chars() - 2)).when(raw != "null").then(raw),
        is_odd=is_odd,
    )
    if flat["is_odd"].any():
        read = [scalar_text(value.encode()) for value in flat.filter("is_odd")["raw"]]
        flat = flat.with_columns(text=flat["text"].scatter(flat["is_odd"].arg_true(), read))
    parts = [part for name in ("name", "text") for part in (pl.col(name).str.len_bytes(), pl.lit(":"), pl.col(name))]
    joined = (
        flat.filter(pl.col("text") != "")
        .select("row", said=pl.concat_str(parts))
        .group_by("row", maintain_order=True)
        .agg(pl.col("said").str.join())
    )
    for row, text in joined.iter_rows():
        variables[row] = text
    return variables


def _unquoted(selector: str) -> str:
    return unquote(selector) if "%" in selector else selector
