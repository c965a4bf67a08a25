"""The raw text of one row to typed values, custom variables and an id, or to the reason why it is rejected.

A row that is as FullStory documents it costs two calls of msgspec. Everything else, a value of another type or a name
that stands twice, takes the careful path below, one value at a time.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec

from fullstory_dagster.fields import FIELDS, FIELDS_BY_NAME, LEGACY_NAMES, FieldType
from fullstory_dagster.parse.identity import IDENTITY_COLUMNS, event_id
from fullstory_dagster.parse.json_text import Item, depth, object_items, object_text, scalar_text

# Readers count on Python's own limit of 1,000, which the callers' frames use up as well: whether a row is kept must not
# hang on who parses it.
MAX_DEPTH = 500
_INT64 = range(-(2**63), 2**63)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 (epoch arithmetic on UTC without zone, as in the column)
_SECOND = timedelta(seconds=1)

# EventStart is read as text, like all times: polars turns a column of them into timestamps at a fraction of the price.
_STRICT_TYPES: dict[FieldType, Any] = {
    "int64": Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None,
    "float64": float | None,
    "string": str | None,
    "timestamp": str | None,
}
_StrictRow = msgspec.defstruct(
    "_StrictRow", [(field.name, _STRICT_TYPES[field.type], None) for field in FIELDS], gc=False
)
_decode_row = msgspec.json.Decoder(_StrictRow).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_COLUMN_NAMES = frozenset(FIELDS_BY_NAME)
_POSITIONS = {field.name: position for position, field in enumerate(FIELDS)}
_REQUIRED = tuple(field.name for field in FIELDS if field.is_required)
_REQUIRED_POSITIONS = tuple(_POSITIONS[name] for name in _REQUIRED)
_IDENTITY_POSITIONS = tuple(_POSITIONS[name] for name in IDENTITY_COLUMNS)
_SELECTOR_IN_IDENTITY = IDENTITY_COLUMNS.index("EventTargetSelector")
_EVENT_START = _POSITIONS["EventStart"]
_TIME_POSITIONS = tuple(_POSITIONS[field.name] for field in FIELDS if field.type == "timestamp")

_BEFORE_COLON = (b" :", b"\t", b"\r", b"\n")  # the last three stand nowhere else in a valid object but between tokens
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PLAIN_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)
# What FullStory writes: a real calendar time with milliseconds in UTC. February 29 takes the careful path.
_CANONICAL_MS = re.compile(
    r"[12]\d{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    r"T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z",
    re.ASCII,
)


@dataclass(frozen=True)
class Row:
    """One typed row.

    Attributes:
        values: in the order of ``fields.FIELDS``; times as RFC 3339 text in UTC with at most six decimals.
        custom_vars: JSON object text of everything without a column, in the order of names, or None.
        event_id: see :mod:`fullstory_dagster.parse.identity`; twins share it here.
        n_misfit: values that did not fit their column and stand in ``custom_vars``.
    """

    values: tuple[Any, ...]
    custom_vars: str | None
    event_id: str
    n_misfit: int = 0


class RowRejectedError(ValueError):
    """The row cannot become an event; ``str(error)`` is the reason."""


def read_row(text: bytes) -> Row:
    """Read one row.

    Args:
        text: raw text of one JSON object, UTF-8.

    Raises:
        RowRejectedError: it is no JSON object, a required field cannot be read, or DuckDB could not hold its text.
    """
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and depth(text) > MAX_DEPTH:
        raise RowRejectedError(f"lists or objects stand more than {MAX_DEPTH} deep in one another")
    try:
        if not text.isascii():
            text.decode()
        raw = _decode_object(text)
    except UnicodeDecodeError:
        raise RowRejectedError("the text is not UTF-8") from None
    except msgspec.ValidationError:
        raise RowRejectedError("not a JSON object") from None
    except msgspec.DecodeError as error:
        # Of half a surrogate pair msgspec says that the data was cut short, which sends people looking for a download.
        hint = " (it has escapes of surrogates, which come in pairs)" if _SURROGATE.search(text) else ""
        raise RowRejectedError(f"not valid JSON: {error}{hint}") from None
    # Every name is followed by a colon: other than as many quote-colon pairs as names means nesting or a name that
    # stands twice, and only a full reading tells which. A blank before a colon would hide a name from the count.
    if text.count(b'":') != len(raw) or any(blank in text for blank in _BEFORE_COLON):
        items = object_items(text)
        if len(items) > len(raw):
            return _read_carefully(items)
    try:
        row = _decode_row(text)
    except (msgspec.ValidationError, msgspec.DecodeError):
        return _read_carefully([(name, bytes(value)) for name, value in raw.items()])
    values = msgspec.structs.astuple(row)
    custom = [(name, bytes(value)) for name, value in raw.items() if name not in _COLUMN_NAMES]
    if not all(_CANONICAL_MS.fullmatch(values[at]) for at in _TIME_POSITIONS if values[at] is not None) or any(
        not values[at] and values[at] != 0 for at in _REQUIRED_POSITIONS
    ):
        return _read_carefully([(name, bytes(value)) for name, value in raw.items()])
    return _finished(list(values), custom, n_misfit=0)


def _read_carefully(items: list[Item]) -> Row:
    values: list[Any] = [None] * len(FIELDS)
    custom: list[Item] = []
    n_misfit = 0
    # The last of several values of one name is the one that JSON readers see; the others are kept beside.
    last = {name: position for position, (name, _) in enumerate(items)}
    for position, (name, value) in enumerate(items):
        field = FIELDS_BY_NAME.get(name)
        if field is None:
            custom.append((name, value))
            continue
        if last[name] != position:
            custom.append((name, value))
            n_misfit += 1
            continue
        typed, is_whole = read_value(value, field.type)
        values[_POSITIONS[name]] = typed
        if not is_whole:
            custom.append((name, value))
            n_misfit += 1
    for name, at in zip(_REQUIRED, _REQUIRED_POSITIONS, strict=True):
        if values[at] is None or values[at] == "":
            # Without the value: a reason is kept, and shown, where privacy settings keep no raw text.
            is_empty = all(value in (b"null", b'""') for other, value in items if other == name)
            raise RowRejectedError(f"{name} is {'missing' if is_empty else f'no {FIELDS_BY_NAME[name].type}'}")
    return _finished(values, custom, n_misfit)


def _finished(values: list[Any], custom: list[Item], n_misfit: int) -> Row:
    variables: list[tuple[str, str]] = []
    kept: list[Item] = []
    for name, value in custom:
        column = LEGACY_NAMES.get(name)
        if column and values[_POSITIONS[column]] is None and value[:1] == b'"':
            values[_POSITIONS[column]] = scalar_text(value)
            continue
        kept.append((name, value))
        if name.startswith("evt_") and (said := scalar_text(value)):
            variables.append((name, said))
    identity = [_identity_text(values[at]) for at in _IDENTITY_POSITIONS]
    identity[IDENTITY_COLUMNS.index("EventStart")] = str(epoch_ms(values[_EVENT_START]))
    # A real export under the older name escapes selectors (`%2D` for a dash); that the newer name does not is a guess.
    identity[_SELECTOR_IN_IDENTITY] = unquote(identity[_SELECTOR_IN_IDENTITY])
    if n_misfit:
        # What did not fit its column still tells one event from another.
        misfits = dict(kept)
        for at, name in enumerate(IDENTITY_COLUMNS):
            if not identity[at] and name in misfits:
                identity[at] = scalar_text(misfits[name])
    return Row(tuple(values), object_text(sorted(kept, key=_name_of)), event_id(identity, variables), n_misfit)


def _name_of(item: Item) -> str:
    return item[0]


def _identity_text(value: Any) -> str:
    return "" if value is None else str(value)


def epoch_ms(text: str) -> int:
    """Milliseconds since 1970 of a time as :class:`Row` holds it, finer digits cut off."""
    return (datetime.fromisoformat(text[:19]) - _EPOCH) // _SECOND * 1000 + int(text[20:23])


def read_value(value: bytes, kind: FieldType) -> tuple[Any, bool]:
    """Read a raw JSON value as a column's type.

    Returns:
        tuple: the value or None, and whether nothing was lost. null is None without a loss; a text that says a whole
            number is one; anything that would be cut or guessed is None and lost, for whole numbers what would be
            rounded, too: a float column holds the nearest float. A time finer than microseconds is cut and lost.
    """
    if value == b"null":
        return None, True
    is_text = value[:1] == b'"'
    if value[:1] in b"{[":
        return None, False
    said = scalar_text(value)
    if kind == "string":
        return said, True
    if not is_text and said in ("true", "false"):
        return None, False
    if kind == "int64":
        return _read_int(said, is_text)
    if kind == "float64":
        return _read_float(said, is_text)
    return _read_time(said) if is_text else (None, False)


def _read_int(said: str, is_text: bool) -> tuple[int | None, bool]:
    if re.fullmatch(r"-?(0|[1-9]\d{0,18})", said, re.ASCII):
        number = int(said)
    elif is_text or len(said) > 40:
        return None, False
    else:
        try:
            exact = Decimal(said)
        except InvalidOperation:
            return None, False
        # Far exponents would unfold into as many digits.
        if not -20 < exact.adjusted() < 20 or exact != exact.to_integral_value():
            return None, False
        number = int(exact)
    return (number, True) if number in _INT64 else (None, False)


def _read_float(said: str, is_text: bool) -> tuple[float | None, bool]:
    if is_text and not re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", said, re.ASCII):
        return None, False
    number = float(said)
    return (number, True) if math.isfinite(number) else (None, False)


def _read_time(said: str) -> tuple[str | None, bool]:
    parts = _PLAIN_TIME.fullmatch(said)
    if not parts:
        return None, False
    year, month, day, hour, minute, second = (int(part) for part in parts.groups()[:6])
    digits = parts[7] or ""
    offset_hours, offset_minutes = int(parts[9] or 0), int(parts[10] or 0)
    if offset_hours > 23 or offset_minutes > 59:
        return None, False
    offset = timedelta(hours=offset_hours, minutes=offset_minutes) * (-1 if parts[8] == "-" else 1)
    try:
        instant = datetime(year, month, day, hour, minute, second) - offset  # noqa: DTZ001 (UTC from here on)
    except (ValueError, OverflowError):
        return None, False
    decimals = (digits[:6] or "0").ljust(3, "0")
    return f"{instant.isoformat(timespec='seconds')}.{decimals}Z", not digits[6:].strip("0")
