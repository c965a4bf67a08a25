"""API 1, the segment export: what a request may say, and operations that take their time.

Source: segment export and operations references, read 2026-11. Guesses are marked where they stand.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, cast
from zoneinfo import ZoneInfo

from fullstory_dagster.simulator.config import SimulatorConfig, format_instant, parse_instant
from fullstory_dagster.simulator.events import EventSource
from fullstory_dagster.simulator.export_files import ExportFiles, FileKey
from fullstory_dagster.simulator.formats import SUFFIXES, FieldChoice, Format

_SCOPES = ("SCOPE_EVENTS", "SCOPE_PAGES", "SCOPE_SESSIONS", "SCOPE_INDIVIDUAL")
_KNOWN_KEYS = {"segmentId", "type", "format", "timeRange", "segmentTimeRange", "timezone", "fields", "eventDetails"}
_KEPT_OPERATIONS = 10_000
_RESULTS_KEPT = timedelta(hours=24)
"""How long an export can be asked for. A guess: only that ``results.expires`` exists is documented."""


class BadRequestError(ValueError):
    """The request is answered 400."""


class UnknownIdError(LookupError):
    """The request is answered 404."""


@dataclass(frozen=True)
class ExportRequest:
    """A valid body of ``POST /segments/v1/exports``.

    Attributes:
        start: first EventStart, UTC; None is open.
        end: first EventStart that is too late, UTC; None is open.
    """

    format: Format
    start: datetime | None
    end: datetime | None
    fields: FieldChoice

    @classmethod
    def of(cls, body: object) -> ExportRequest:
        """Read a body.

        Raises:
            BadRequestError: it says something that the segment export does not take.
            UnknownIdError: there is no such segment.
        """
        if not isinstance(body, dict):
            raise BadRequestError("the body is not a JSON object")
        # That unknown keys are refused is a guess; it finds misspelled ones.
        if unknown := sorted(body.keys() - _KNOWN_KEYS):
            raise BadRequestError(f"unknown field {unknown[0]!r} in the request")
        if not isinstance(body.get("segmentId"), str):
            raise BadRequestError("segmentId is missing")
        if body["segmentId"] != "everyone":
            raise UnknownIdError(f"segment {body['segmentId']!r} not found; the simulator has only 'everyone'")
        if body.get("type") == "TYPE_INDIVIDUAL":
            raise BadRequestError("the simulator exports events only, not TYPE_INDIVIDUAL")
        if body.get("type") != "TYPE_EVENT":
            raise BadRequestError(f"unknown type {body.get('type')!r}")
        if body.get("format") not in SUFFIXES:
            raise BadRequestError(f"unknown format {body.get('format')!r}")
        _check_zone(body.get("timezone", "UTC"))
        details = body.get("eventDetails", {})
        if not isinstance(details, dict) or details.get("scope", "SCOPE_EVENTS") not in _SCOPES:
            raise BadRequestError(f"unknown eventDetails {details!r}")
        # Everyone, of all time or not, is everyone: the range is checked and changes nothing.
        _time_range(body, "segmentTimeRange")
        start, end = _time_range(body, "timeRange")
        fields = body.get("fields") or []
        if not isinstance(fields, list) or not all(isinstance(name, str) for name in fields):
            raise BadRequestError("fields is not a list of names")
        try:
            choice = FieldChoice(tuple(fields))
        except ValueError as error:
            raise BadRequestError(str(error)) from error
        return cls(format=cast(Format, body["format"]), start=start, end=end, fields=choice)


def _check_zone(name: object) -> None:
    try:
        ZoneInfo(cast(str, name) or "UTC")
    except Exception as error:
        raise BadRequestError(f"unknown timezone {name!r}") from error


def _time_range(body: Mapping[str, Any], name: str) -> tuple[datetime | None, datetime | None]:
    given = body.get(name) or {}
    if not isinstance(given, dict):
        raise BadRequestError(f"{name} is not an object")
    bounds: list[datetime | None] = []
    for side in ("start", "end"):
        text = given.get(side) or ""
        try:
            bounds.append(parse_instant(text) if text else None)
        except (ValueError, AttributeError) as error:
            raise BadRequestError(f"{name}.{side} is no RFC 3339 time: {text!r}") from error
    start, end = bounds
    if start and end and start >= end:
        raise BadRequestError(f"{name} ends before it starts")
    return start, end


@dataclass(frozen=True)
class Operation:
    """One asynchronous export.

    Attributes:
        created: Unix time, s.
        duration_s: how long it stays pending at least.
        file: becomes done when the file has been packed.
    """

    id: str
    export_id: str
    key: FileKey
    created: float
    duration_s: float
    file: Future[None]

    def is_complete(self, now: float) -> bool:
        """Whether the results can be asked for at ``now``, Unix time in seconds."""
        return self.file.done() and now >= self.created + self.duration_s

    @property
    def file_name(self) -> str:
        """Name of the file at its location."""
        return f"{self.export_id}.{SUFFIXES[self.key.format]}.gz"

    def document(self, now: float) -> dict[str, Any]:
        """The answer of ``GET /operations/v1/{id}``.

        Guesses: ``errorDetails`` is empty text while nothing is wrong; ``finishedAt`` and ``results`` come at the end.
        """
        document: dict[str, Any] = {
            "id": self.id,
            "type": "SEARCH_EXPORT",
            "state": "PENDING",
            "errorDetails": "",
            "createdAt": _instant(self.created),
            "estimatePctComplete": min(99, int(100 * (now - self.created) / max(self.duration_s, 1e-3))),
        }
        if self.is_complete(now):
            document["state"] = "COMPLETED"
            document["estimatePctComplete"] = 100
            document["finishedAt"] = _instant(self.created + self.duration_s)
            document["results"] = {
                "searchExportId": self.export_id,
                "expires": _instant(self.created + _RESULTS_KEPT.total_seconds()),
            }
        return document


def _instant(unix_s: float) -> str:
    return format_instant(datetime.fromtimestamp(unix_s, timezone.utc))


class SegmentExports:
    """All operations of one account."""

    def __init__(self, config: SimulatorConfig, source: EventSource, files: ExportFiles) -> None:
        self._config = config
        self._source = source
        self._files = files
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="export")
        self._operations: OrderedDict[str, Operation] = OrderedDict()
        self._by_export: dict[str, Operation] = {}

    def start(self, request: ExportRequest) -> Operation:
        """Begin an export; an open end stops at the simulator's present."""
        span = self._source.span()
        now = self._config.at()
        start = request.start or (span.start if span else now)
        end = min(request.end or now, now)
        key = FileKey(start, end, request.format, request.fields)
        operation = Operation(
            id=uuid.uuid4().hex,
            export_id=uuid.uuid4().hex,
            key=key,
            created=time.time(),
            duration_s=self._config.export_s,
            file=self._worker.submit(self._prepare, key),
        )
        self._operations[operation.id] = operation
        self._by_export[operation.export_id] = operation
        if len(self._operations) > _KEPT_OPERATIONS:
            _, oldest = self._operations.popitem(last=False)
            del self._by_export[oldest.export_id]
        return operation

    def _prepare(self, key: FileKey) -> None:
        # The bytes stay in the bounded store: an operation that held them would keep every export for ever.
        self._files.get(key)

    def operation(self, operation_id: str) -> Operation:
        """One operation.

        Raises:
            UnknownIdError: there is none of that id.
        """
        try:
            return self._operations[operation_id]
        except KeyError:
            raise UnknownIdError(f"operation {operation_id!r} not found") from None

    def operations(self) -> list[Operation]:
        """Every operation, newest first. The order is a guess."""
        return list(reversed(self._operations.values()))

    def finished(self, export_id: str) -> Operation:
        """The operation behind a search export that has its results.

        Raises:
            UnknownIdError: there is none of that id, or it is not complete.
        """
        operation = self._by_export.get(export_id)
        if operation is None or not operation.is_complete(time.time()):
            raise UnknownIdError(f"search export {export_id!r} not found")
        return operation

    def content(self, operation: Operation) -> bytes:
        """The gzip file of a finished operation."""
        return self._files.get(operation.key)
