"""The packed files of exports, made when first needed and kept while there is room."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from fullstory_dagster.simulator.events import EventSource
from fullstory_dagster.simulator.formats import ALL_FIELDS, FieldChoice, Format, pack

_KEPT_BYTES = 256 << 20
"""A file that was dropped is made again from the same source, so this bounds memory and loses nothing."""


@dataclass(frozen=True)
class FileKey:
    """All that decides an export file's bytes.

    Attributes:
        start: first EventStart, UTC, included.
        end: last EventStart, UTC, excluded.
    """

    start: datetime
    end: datetime
    format: Format = "FORMAT_JSON"
    fields: FieldChoice = ALL_FIELDS


class ExportFiles:
    """Packed files by what was asked for; safe to ask from several threads."""

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._packing = threading.Lock()
        self._files: OrderedDict[FileKey, bytes] = OrderedDict()

    def get(self, key: FileKey) -> bytes:
        """The gzip file; takes some tenths of a second for a day of made-up traffic that nobody asked for yet."""
        if (content := self._kept(key)) is not None:
            return content
        # One at a time: the interpreter would not make two of them any sooner.
        with self._packing:
            if (content := self._kept(key)) is None:
                content = pack(lambda: self._source.events(key.start, key.end), key.format, key.fields)
                self._keep(key, content)
            return content

    def _kept(self, key: FileKey) -> bytes | None:
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
            return self._files.get(key)

    def _keep(self, key: FileKey, content: bytes) -> None:
        with self._lock:
            self._files[key] = content
            while len(self._files) > 1 and sum(map(len, self._files.values())) > _KEPT_BYTES:
                self._files.popitem(last=False)
