"""Bytes to rows: where one row ends and the next begins, in a JSON array and in NDJSON.

A bundle is taken in pieces of whole rows. Where an array's piece ends costs a search for what parts rows, and is right
nearly always; whoever reads a piece and finds something odd asks for its exact rows instead, and gives back what was
handed out behind it. There only brackets and quotes are looked at, so that a row that is no valid
JSON is cut out exactly and can be rejected alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fullstory_dagster.errors import BundleFormatError
from fullstory_dagster.parse.json_text import POSSESSIVE, STRING

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_PIECE_BYTES = 8 << 20

# One flat object in a single match: nearly every event, at the speed of the regex engine. Atomic by construction (no
# alternative can match the same byte twice), so it cannot backtrack.
_FLAT_OBJECT = re.compile(
    rb'\{[^{}\[\]"]*%b(?:%b[^{}\[\]"]*%b)*%b\}' % (POSSESSIVE, STRING, POSSESSIVE, POSSESSIVE), re.DOTALL
)
_STRING_OR_BRACKET = re.compile(STRING + rb'|[{}\[\]]|(?P<open>")', re.DOTALL)
_SCALAR_END = re.compile(STRING + rb'|(?P<end>[,\]])|(?P<open>")', re.DOTALL)
_NOT_BLANK = re.compile(rb"[^ \t\r\n]")
_SEPARATORS = (b"},\n{", b"},{")
"""How programs part the rows of an array: on lines of their own, or one after the other."""


@dataclass(frozen=True)
class Piece:
    """Some rows of a bundle that come one after the other.

    Attributes:
        text: them, a row a line or with commas between; nothing where there is no telling. Where it ends is a guess in
            an array, and wrong where what parts rows stands inside of one: then the last row is no valid JSON, because
            it ends inside a text or a bracket.
        held: bytes of the bundle, among which they stand as they were sent.
        begin: where they begin there.
        end: where they end there; None at its end.
        is_array: they are elements of an array.
        at: where they begin in the bundle, in bytes.
        is_after_row: whether a comma has to part them from the row before.
    """

    text: bytes
    held: bytes
    begin: int = 0
    end: int | None = None
    is_array: bool = False
    at: int = 0
    is_after_row: bool = False

    @property
    def raw(self) -> bytes:
        """Them as they were sent; a copy, which next to nobody needs."""
        return self.held[self.begin : self.end]


class Pieces(Protocol):
    """A bundle, piece by piece."""

    def next_piece(self) -> Piece | None:
        """The next piece; None at the end of the bundle."""

    def exact_rows(self, piece: Piece, ahead: Sequence[Piece] = ()) -> Iterator[bytes]:
        """The rows of a piece, and perhaps of what follows it, each once. What is left comes with the next piece.

        Args:
            piece: which.
            ahead: all the pieces that were given out after it; they are taken back.

        Raises:
            BundleFormatError: the stream ends inside a row, or goes on after its array.
        """


def open_pieces(chunks: Iterable[bytes]) -> Pieces:
    """Tell an array from NDJSON by the first byte.

    Args:
        chunks: gunzipped bytes of one JSON array, or of NDJSON, cut anywhere; a UTF-8 byte order mark is skipped.

    Raises:
        BundleFormatError: the stream is neither.
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
        return _Array(head, source)
    if first in (b"{", b""):
        return _Lines(head, source)
    # One byte is all that is quoted, here and below: these sentences are kept, and more may be somebody's data.
    raise BundleFormatError(
        f"The bundle is neither a JSON array nor NDJSON: its first byte is {first!r}.", byte_offset=0
    )


def frame_rows(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a bundle into the raw text of its rows, exactly, in the order they were sent.

    Args:
        chunks: see :func:`open_pieces`.

    Yields:
        bytes: one array element or one line, without the blanks and commas around it. It need not be valid JSON.

    Raises:
        BundleFormatError: the stream is neither, ends inside a row, or goes on after its array.
    """
    pieces = open_pieces(chunks)
    while (piece := pieces.next_piece()) is not None:
        yield from pieces.exact_rows(piece)


class _Lines:
    """NDJSON: the lines are the rows."""

    def __init__(self, head: bytes, source: Iterator[bytes]) -> None:
        self._rest = head
        self._source = source
        self._is_over = False

    def next_piece(self) -> Piece | None:
        """See :class:`Pieces`."""
        if self._is_over:
            return None
        # Gathered in a list, so that the cost of a line longer than a piece stays linear.
        pieces = [self._rest]
        size = len(self._rest)
        self._rest = b""
        for chunk in self._source:
            pieces.append(chunk)
            size += len(chunk)
            if size >= _PIECE_BYTES and b"\n" in chunk:
                end = chunk.rindex(b"\n") + 1
                pieces[-1], self._rest = chunk[:end], chunk[end:]
                break
        else:
            self._is_over = True
        lines = b"".join(pieces)
        return Piece(lines, lines)

    def exact_rows(self, piece: Piece, ahead: Sequence[Piece] = ()) -> Iterator[bytes]:
        """See :class:`Pieces`."""
        if ahead:
            self._rest = b"".join([*(later.raw for later in ahead), self._rest])
            self._is_over = False
        for line in piece.raw.split(b"\n"):
            if row := line.strip(_BLANK):
                yield row


class _Array:
    """The elements of an array."""

    def __init__(self, head: bytes, source: Iterator[bytes]) -> None:
        self._buffer = head
        self._source = source
        self._at = head.index(b"[") + 1
        self._dropped = 0  # bytes that were in the buffer before
        self._after_row = False
        self._is_over = False
        self._separator = _SEPARATORS[0]
        self._ahead = b""  # a chunk that was looked at to see whether there is one

    def next_piece(self) -> Piece | None:
        """See :class:`Pieces`."""
        if self._is_over:
            return None
        self._read(_PIECE_BYTES)
        first, is_after_row = self._at, self._after_row
        text = self._text()
        return Piece(
            text,
            self._buffer,
            first,
            self._at,
            is_array=True,
            at=self._dropped + first,
            is_after_row=is_after_row,
        )

    def _text(self) -> bytes:
        """Rows, and go on behind them; nothing, and stay, where there is no telling."""
        start = self._at
        if self._after_row:
            # A comma parts it from the row before; where there is none the exact reader says so.
            comma = _NOT_BLANK.search(self._buffer, start)
            if comma is None or comma.group() != b",":
                return b""
            start = comma.end()
        # The one that parted the rows before is at hand; what is not there takes a search of the whole buffer.
        if (end := self._buffer.rfind(self._separator, start)) < 0:
            found = {separator: self._buffer.rfind(separator, start) for separator in _SEPARATORS}
            self._separator, end = max(found.items(), key=lambda each: each[1])
        if self._has_ended():
            # The last piece: everything up to the bracket at its end.
            tail = self._buffer.rstrip(_BLANK)
            if not tail.endswith(b"]") or len(tail) <= start:
                return b""
            end = len(tail) - 1
            self._at, self._is_over = len(self._buffer), True
        elif end < 0:
            return b""
        else:
            end += 1
            self._at, self._after_row = end, True
        return self._buffer[start:end]

    def exact_rows(self, piece: Piece, ahead: Sequence[Piece] = ()) -> Iterator[bytes]:
        """See :class:`Pieces`."""
        self._buffer = b"".join([piece.raw, *(later.raw for later in ahead), self._buffer[self._at :]])
        self._at, self._dropped, self._after_row = 0, piece.at, piece.is_after_row
        self._is_over = False
        n_rows = 0
        while True:
            for row in self._rows_in_buffer():
                n_rows += 1
                yield row
            if self._is_over:
                self._refuse_rest()
                return
            if n_rows:
                return
            # Not one whole row: as much again is read as is left, so that a row of many chunks is not scanned anew for
            # every chunk.
            if not self._read(2 * (len(self._buffer) - self._at), at_least=1):
                self._refuse_end()

    def _rows_in_buffer(self) -> Iterator[bytes]:
        while found := _NOT_BLANK.search(self._buffer, self._at):
            self._at = found.start()
            if found.group() == b"]":
                self._at, self._is_over = self._at + 1, True
                return
            if self._after_row != (found.group() == b","):
                raise BundleFormatError(
                    f"The bundle's JSON array has {self._buffer[self._at : self._at + 1]!r} where "
                    f"{'a comma' if self._after_row else 'a row'} should be.",
                    byte_offset=self._dropped + self._at,
                )
            if self._after_row:
                self._at, self._after_row = self._at + 1, False
                continue
            end = _element_end(self._buffer, self._at)
            if end is None:
                return
            row = self._buffer[self._at : end].rstrip(_BLANK)
            self._at, self._after_row = end, True
            yield row

    def _has_ended(self) -> bool:
        """Whether the buffer holds all that is left; looks one chunk ahead."""
        if not self._ahead:
            self._ahead = next(filter(None, self._source), b"")
        return not self._ahead

    def _read(self, size: int, at_least: int = 0) -> int:
        """Read on until the buffer holds ``size`` bytes that were not given out, and ``at_least`` new ones."""
        pieces = [self._buffer[self._at :]]
        held, n_new = len(pieces[0]), 0
        while held < size or n_new < at_least:
            if self._has_ended():
                break
            chunk, self._ahead = self._ahead, b""
            pieces.append(chunk)
            held, n_new = held + len(chunk), n_new + len(chunk)
        self._dropped += self._at
        self._buffer, self._at = b"".join(pieces), 0
        return n_new

    def _refuse_end(self) -> None:
        raise BundleFormatError(
            f"The bundle ends inside its JSON array, after {self._dropped + len(self._buffer):,} bytes.",
            byte_offset=self._dropped + len(self._buffer),
        )

    def _refuse_rest(self) -> None:
        for piece in (self._buffer[self._at :], self._ahead, *self._source):
            if piece.strip(_BLANK):
                raise BundleFormatError(
                    f"The bundle goes on after the end of its JSON array: {piece.strip(_BLANK)[:1]!r}.",
                    byte_offset=self._dropped + self._at,
                )


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
