"""The few lines of HTTP that the simulator's own tests need."""

from __future__ import annotations

import gzip
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from fullstory_dagster.simulator.process import SimulatorProcess


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())


def call(url: str, *, method: str = "GET", document: object = None, headers: dict[str, str] | None = None) -> Answer:
    body = None if document is None else json.dumps(document).encode()
    request = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with _OPENER.open(request, timeout=20) as response:
            return Answer(response.status, {k.lower(): v for k, v in response.headers.items()}, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def api(simulator: SimulatorProcess, path: str, **options: Any) -> Answer:
    return call(simulator.url + path, headers={"Authorization": f"Basic {simulator.api_key}"}, **options)


def export_request(**changes: Any) -> dict[str, Any]:
    return {
        "segmentId": "everyone",
        "type": "TYPE_EVENT",
        "format": "FORMAT_NDJSON",
        "timeRange": {"start": "", "end": ""},
        "segmentTimeRange": {"start": "", "end": ""},
        "eventDetails": {"scope": "SCOPE_EVENTS"},
    } | changes


def finished_operation(simulator: SimulatorProcess, **changes: Any) -> dict[str, Any]:
    started = api(simulator, "/segments/v1/exports", method="POST", document=export_request(**changes))
    assert started.status == 200, started.body
    for _ in range(400):
        operation: dict[str, Any] = api(simulator, f"/operations/v1/{started.json()['operationId']}").json()
        if operation["state"] == "COMPLETED":
            return operation
        time.sleep(0.02)
    raise AssertionError(f"never completed: {operation}")


def location(simulator: SimulatorProcess, **changes: Any) -> str:
    operation = finished_operation(simulator, **changes)
    found = api(simulator, f"/search/v1/exports/{operation['results']['searchExportId']}/results").json()
    url: str = found["location"]
    return url


def export(simulator: SimulatorProcess, **changes: Any) -> bytes:
    answer = call(location(simulator, **changes))
    assert answer.status == 200
    return gzip.decompress(answer.body)
