"""The pieces of a bundle on several cores: each is read before it is asked for, and they are given out in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import polars as pl

from fullstory_dagster.parse.framing import Piece, Pieces
from fullstory_dagster.parse.plain_rows import read_plain_rows

_READERS = min(os.cpu_count() or 1, 4)
"""Threads. More of them would wait for whoever unpacks the bundle and writes its rows."""


class ReadAhead:
    """Reads the pieces of one bundle as plain rows; a context manager, which stops its threads.

    Memory holds a piece, and what it is read to, for every thread and one more.
    """

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="read-ahead")
        self._under_way: deque[tuple[Piece, Future[pl.DataFrame | None]]] = deque()
        self._is_over = False
        # A piece that is read in vain costs as much as another one, so after an odd one they come one by one.
        self._n_ahead = _READERS

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def next_piece(self) -> tuple[Piece, pl.DataFrame | None] | None:
        """The next piece and its rows; without rows where it is not all plain, None at the end of the bundle."""
        # Behind a piece whose rows are not told apart there is no telling where the next one begins.
        while len(self._under_way) <= self._n_ahead and not (self._under_way and not self._under_way[-1][0].text):
            piece = None if self._is_over else self._pieces.next_piece()
            if piece is None:
                self._is_over = True
                break
            self._under_way.append((piece, self._pool.submit(_read, piece)))
        if not self._under_way:
            return None
        piece, reading = self._under_way.popleft()
        rows = reading.result()
        self._n_ahead = 0 if rows is None else _READERS
        return piece, rows

    def exact_rows(self, piece: Piece) -> Iterator[bytes]:
        """The rows of the piece that was given out last as :meth:`Pieces.exact_rows` gives them."""
        for _, reading in self._under_way:
            reading.cancel()
        ahead = [later for later, _ in self._under_way]
        self._under_way.clear()
        self._is_over = False
        yield from self._pieces.exact_rows(piece, ahead)


def _read(piece: Piece) -> pl.DataFrame | None:
    return read_plain_rows(piece.text, is_array=piece.is_array)
