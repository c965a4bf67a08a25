"""Bytes to the raw text of rows: where one row ends and the next begins, in a JSON array and in NDJSON.

Only brackets and quotes are looked at, so a row that is no valid JSON is still cut out exactly and can be rejected
alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from fullstory_dagster.errors import BundleFormatError
from fullstory_dagster.parse.json_text import POSSESSIVE, STRING

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"

# One flat object in a single match: nearly every event, at the speed of the regex engine. Atomic by construction (no
# alternative can match the same byte twice), so it cannot backtrack.
_FLAT_OBJECT = re.compile(
    rb'\{[^{}\[\]"]*%b(?:%b[^{}\[\]"]*%b)*%b\}' % (POSSESSIVE, STRING, POSSESSIVE, POSSESSIVE), re.DOTALL
)
_STRING_OR_BRACKET = re.compile(STRING + rb'|[{}\[\]]|(?P<open>")', re.DOTALL)
_SCALAR_END = re.compile(STRING + rb'|(?P<end>[,\]])|(?P<open>")', re.DOTALL)
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")


def frame_rows(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a bundle into the raw text of its rows, in the order they were sent.

    Args:
        chunks: gunzipped bytes of one JSON array, or of NDJSON, cut anywhere; a UTF-8 byte order mark is skipped.

    Yields:
        bytes: one array element or one line, without the blanks and commas around it. It need not be valid JSON.

    Raises:
        BundleFormatError: the stream is neither, ends inside a row, or goes on after its array.
    """
    source = iter(chunks)
    head = b""
    for chunk in source:
        head += chunk
        if len(head) >= len(_BOM) and head.removeprefix(_BOM).strip(_BLANK):
            break
    head = head.removeprefix(_BOM)
    first = head.lstrip(_BLANK)[:1]
    if first == b"[":
        yield from _array_rows(head, source)
    elif first in (b"{", b""):
        yield from _lines(head, source)
    else:
        raise BundleFormatError(
            f"The bundle is neither a JSON array nor NDJSON: it begins with {head.lstrip(_BLANK)[:40]!r}.",
            byte_offset=0,
        )


def _lines(head: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    buffer = head
    while True:
        *whole, buffer = buffer.split(b"\n")
        for line in whole:
            if row := line.strip(_BLANK):
                yield row
        # A long line is gathered piece by piece, so that its cost stays linear.
        pieces = [buffer]
        for chunk in source:
            pieces.append(chunk)
            if b"\n" in chunk:
                break
        else:
            if row := b"".join(pieces).strip(_BLANK):
                yield row
            return
        buffer = b"".join(pieces)


def _array_rows(head: bytes, source: Iterator[bytes]) -> Iterator[bytes]:
    buffer, at = head, head.index(b"[") + 1
    dropped = 0  # bytes that were in the buffer before
    after_row = False
    while True:
        found = _NOT_BLANK.search(buffer, at)
        if found:
            at = found.start()
            if found.group() == b"]":
                _refuse_rest(buffer[at + 1 :], source, dropped + at + 1)
                return
            if after_row != (found.group() == b","):
                raise BundleFormatError(
                    f"The bundle's JSON array has {buffer[at : at + 20]!r} where {'a comma' if after_row else 'a row'} "
                    "should be.",
                    byte_offset=dropped + at,
                )
            if after_row:
                at, after_row = at + 1, False
                continue
            end = _element_end(buffer, at)
            if end is not None:
                yield buffer[at:end].rstrip(_BLANK)
                at, after_row = end, True
                continue
        # As much again is read as is left, so that a row of many chunks is not scanned anew for every chunk.
        more = _read(source, at_least=len(buffer) - at)
        if not more:
            raise BundleFormatError(
                f"The bundle ends inside its JSON array, after {dropped + len(buffer):,} bytes.",
                byte_offset=dropped + len(buffer),
            )
        dropped += at
        buffer, at = buffer[at:] + more, 0


def _read(source: Iterator[bytes], at_least: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    for chunk in source:
        pieces.append(chunk)
        size += len(chunk)
        if size >= at_least and size:
            break
    return b"".join(pieces)


def _element_end(buffer: bytes, at: int) -> int | None:
    """Where the array element that begins at ``at`` ends, or None while its end is not in the buffer."""
    if buffer[at] not in b"{[":
        for token in _SCALAR_END.finditer(buffer, at):
            if token["open"]:
                return None
            if token["end"]:
                return token.start()
        return None
    flat = _FLAT_OBJECT.match(buffer, at)
    if flat:
        return flat.end()
    depth = 0
    for token in _STRING_OR_BRACKET.finditer(buffer, at):
        if token["open"]:
            return None
        byte = token.group()[:1]
        if byte in b"{[":
            depth += 1
        elif byte in b"}]":
            depth -= 1
            if depth == 0:
                return token.end()
    return None


def _refuse_rest(rest: bytes, source: Iterator[bytes], offset: int) -> None:
    for piece in (rest, *source):
        if piece.strip(_BLANK):
            raise BundleFormatError(
                f"The bundle goes on after the end of its JSON array: {piece.strip(_BLANK)[:40]!r}.", byte_offset=offset
            )
