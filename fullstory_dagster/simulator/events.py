"""The seam between the server and what it serves: a source of event rows, and the one that reads a file."""

from __future__ import annotations

import bisect
import gzip
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Protocol

import msgspec

from fullstory_dagster.simulator.config import parse_instant
from fullstory_dagster.windows import Window, WindowGrid

Row = dict[str, Any]
"""One event by FullStory's field names. A ``msgspec.Raw`` value is sent as it stands, so ``49.90`` stays ``49.90``."""


class EventSource(Protocol):
    """Where the rows of an export come from."""

    def span(self) -> Window | None:
        """The whole days that have traffic, or None when there is nothing at all."""

    def events(self, start: datetime, end: datetime) -> Iterator[Row | msgspec.Raw]:
        """Rows with EventStart in ``[start, end)``, UTC, in that order; what is no object comes as it stands."""


class _Stamped(msgspec.Struct):
    EventStart: str


class FileSource:
    """Events of a file, value texts untouched.

    A row whose EventStart cannot be read takes the instant of the row before it, so that broken rows can be served too.
    """

    def __init__(self, path: Path) -> None:
        """Read the file whole: the rows are views into its bytes.

        Raises:
            ValueError: the file is neither a JSON array nor NDJSON.
        """
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
        rows = _split(content, path)
        stamped: list[tuple[datetime, int]] = []
        last: datetime | None = None
        stamps = [_stamp(row) for row in rows]
        first = next((stamp for stamp in stamps if stamp is not None), None)
        for index, stamp in enumerate(stamps):
            last = stamp or last or first or datetime(2020, 1, 1, tzinfo=timezone.utc)
            stamped.append((last, index))
        stamped.sort()
        self._stamps = [stamp for stamp, _ in stamped]
        self._rows = [rows[index] for _, index in stamped]

    def span(self) -> Window | None:
        """From the midnight before the first event to the midnight after the last."""
        if not self._stamps:
            return None
        days = WindowGrid(first=self._stamps[0], hours=24, delay_hours=0)
        return Window(days.align(self._stamps[0]), days.align(self._stamps[-1]) + timedelta(days=1))

    def events(self, start: datetime, end: datetime) -> Iterator[Row | msgspec.Raw]:
        """Rows with EventStart in ``[start, end)``, in that order; equal instants in the file's order."""
        decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        low, high = bisect.bisect_left(self._stamps, start), bisect.bisect_left(self._stamps, end)
        for row in self._rows[low:high]:
            try:
                yield decode(row)
            except msgspec.MsgspecError:
                yield row


def _split(content: bytes, path: Path) -> list[msgspec.Raw]:
    try:
        if content.lstrip()[:1] == b"[":
            return msgspec.json.decode(content, type=list[msgspec.Raw])
        lines = (line for line in content.splitlines() if line.strip())
        return [msgspec.json.decode(line, type=msgspec.Raw) for line in lines]
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name} is neither a JSON array nor NDJSON: {error}") from error


def _stamp(row: msgspec.Raw) -> datetime | None:
    try:
        return parse_instant(msgspec.json.decode(row, type=_Stamped).EventStart)
    except (msgspec.MsgspecError, ValueError):
        return None
