"""Whose row is it: raw rows of people who were erased, found and taken out of a bundle."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone

import msgspec

from fullstory_dagster.fields import FIELDS
from fullstory_dagster.forgotten import CARRIER_COLUMNS, Carrier, Matcher, Name
from fullstory_dagster.parse.framing import frame_rows
from fullstory_dagster.parse.identity import twin_id
from fullstory_dagster.parse.json_text import STRING
from fullstory_dagster.parse.rows import RowRejectedError, read_row

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"


class _Marked(msgspec.Struct, gc=False):
    """The fields that say whose a row is, and its time. Names are FullStory's."""

    UserId: int | None = None
    IndvId: int | None = None
    UserAppKey: str | None = None
    UserEmail: str | None = None
    EventStart: str | None = None


_decode = msgspec.json.Decoder(_Marked).decode
_decode_text = msgspec.json.Decoder(str).decode
_POSITIONS = {field.name: position for position, field in enumerate(FIELDS)}
_AT = tuple(_POSITIONS[name] for name in CARRIER_COLUMNS)
_CANONICAL_MS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)

_FIELD = re.compile(
    rb'"(UserId|IndvId|UserAppKey|UserEmail)"[ \t\r\n]*:[ \t\r\n]*(?:(' + STRING + rb")|(-?\d+))", re.DOTALL
)
# From every quote to the next one: in a row that was cut, which quotes open a text is anybody's guess.
_STRING = re.compile(rb"(?=(" + STRING + rb"))", re.DOTALL)
_NUMBER = re.compile(rb"(?<![\d.])-?\d+(?![\d.])")
_EMAIL = re.compile(r"[^\s\"'<>()\[\]{},;:=?&/\\]+@[^\s\"'<>()\[\]{},;:=?&/\\]+")


def read_carrier(text: bytes) -> tuple[Carrier, str | None]:
    """What a raw row says of whose it is, and its EventStart as RFC 3339 in UTC, None where that cannot be read.

    A row that cannot become an event is read for the same fields as far as its text goes.
    """
    try:
        row = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        row = None
    if row and row.UserId is not None and row.EventStart and _CANONICAL_MS.fullmatch(row.EventStart):
        return Carrier(row.UserId, row.IndvId, row.UserAppKey, row.UserEmail), row.EventStart
    try:
        values = read_row(text).values
    except RowRejectedError:
        return _carrier_of_reject(text), None
    return Carrier(*(values[at] for at in _AT)), values[_POSITIONS["EventStart"]]


def is_erased(matcher: Matcher, text: bytes, assumed_at: datetime) -> bool:
    """Whether a raw row is one of a person who was erased.

    A row whose device can be read is judged by its fields: that another person's row mentions a name of theirs, in a
    text or a variable, does not make it theirs. Where it cannot be read, every name in the text counts.

    Args:
        matcher: who was erased.
        text: of the row, valid JSON or not.
        assumed_at: the time of rows that tell none, aware UTC.
    """
    return _is_erased(matcher, text, *read_carrier(text), assumed_at)


def _is_erased(matcher: Matcher, text: bytes, carrier: Carrier, said_at: str | None, assumed_at: datetime) -> bool:
    until = matcher.until(carrier)
    if until is None and carrier.user_id is None:
        untils = (matcher.until_named(name, value) for name, value in _names_in(text))
        until = max(filter(None, untils), default=None)
    return until is not None and (_instant(said_at) or assumed_at) < until


def count_erased(chunks: Iterable[bytes], matcher: Matcher, assumed_at: datetime) -> int:
    """How many rows of a bundle are erased; the matcher learns from all rows.

    It learns devices: one that turns out to be somebody's only at the end makes rows before it theirs, so whoever finds
    it to have learnt something counts again. And it learns what stored rows may not tell any more, under a privacy
    setting: which events on such devices are somebody else's, and which rejects were theirs.
    """
    n_rows = 0
    others: Counter[str] = Counter()
    for text in frame_rows(chunks):
        carrier, said_at = read_carrier(text)
        if _is_erased(matcher, text, carrier, said_at, assumed_at):
            n_rows += 1
            if _is_rejected(text):
                matcher.rejects.add(hashlib.sha256(text).hexdigest())
        elif carrier.app_key and said_at and matcher.is_others(carrier):
            first_id = read_row(text).event_id
            others[first_id] += 1
    for first_id, n_twins in others.items():
        matcher.others.update([first_id, *(twin_id(first_id, ordinal) for ordinal in range(1, n_twins))])
    return n_rows


def without_rows(chunks: Iterable[bytes], is_left_out: Callable[[bytes], bool]) -> Iterator[bytes]:
    """A bundle without some of its rows: the text of all others stays as it was sent, and so does the format.

    Args:
        chunks: unpacked bytes of a JSON array or of NDJSON.
        is_left_out: given the text of a row.
    """
    source = iter(chunks)
    head: list[bytes] = []
    for chunk in source:
        head.append(chunk)
        if b"".join(head).removeprefix(_BOM).strip(_BLANK):
            break
    begin = b"".join(head)
    is_array = begin.removeprefix(_BOM).lstrip(_BLANK).startswith(b"[")
    rows = (text for text in frame_rows(_chained(begin, source)) if not is_left_out(text))
    if not is_array:
        for text in rows:
            yield text + b"\n"
        return
    yield b"["
    separator = b""
    for text in rows:
        yield separator + text
        separator = b",\n"
    yield b"]"


def _chained(head: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield head
    yield from rest


def is_reject_erased(matcher: Matcher, text: str | None, sha256: str, assumed_at: datetime) -> bool:
    """Whether a stored reject is of a person who was erased; where its text was not kept, its hash tells."""
    if text is None:
        return sha256 in matcher.rejects
    return is_erased(matcher, text.encode(), assumed_at)


def _is_rejected(text: bytes) -> bool:
    try:
        read_row(text)
    except RowRejectedError:
        return True
    return False


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        # Python 3.10 reads fractions of three or six digits only.
        at = datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return at.replace(microsecond=int(text[20:].removesuffix("Z")[:6].ljust(6, "0") or 0))


def _carrier_of_reject(text: bytes) -> Carrier:
    said: dict[bytes, str] = {}
    for match in _FIELD.finditer(text):
        said[match[1]] = _text_of(match[2]) if match[2] is not None else match[3].decode()
    user_id, indv_id = (_int_of(said.get(name, "")) for name in (b"UserId", b"IndvId"))
    return Carrier(user_id, indv_id, said.get(b"UserAppKey"), said.get(b"UserEmail"))


def _names_in(text: bytes) -> Iterator[tuple[Name, str]]:
    strings = {_text_of(match[1]) for match in _STRING.finditer(text)}
    whole = {text.decode(errors="replace"), *strings}
    for email in {match.group() for said in whole for match in _EMAIL.finditer(said)}:
        yield "email", email.rstrip(".!")
    for said in strings:
        yield "app_key", said
    for number in {match.group().decode() for match in _NUMBER.finditer(text)}:
        yield "indv_id", number
        yield "device", number


def _text_of(quoted: bytes) -> str:
    try:
        return _decode_text(quoted)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return quoted[1:-1].decode(errors="replace")


def _int_of(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d{1,40}", text, re.ASCII) else None
