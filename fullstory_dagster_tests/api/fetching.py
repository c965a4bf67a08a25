"""One fetch of the tests' day, and what the simulator saw of it."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any

from fullstory_dagster.api import FetchedBundle, FullStoryClient
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import DAY

ROUTES = {"POST /segments/v1/exports": "export_start", "/operations/": "operation", "/results": "results"}


def fetch(client: FullStoryClient, **options: Any) -> tuple[FetchedBundle, bytes]:
    file = io.BytesIO()
    fetched = client.fetch_segment_export(DAY, segment_id="everyone", into=file, **options)
    return fetched, file.getvalue()


def rows_of(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(content).splitlines()]


def routes(simulator: SimulatorProcess) -> list[str]:
    """The routes asked, in order."""
    names = []
    for request in simulator.requests():
        asked = f"{request['method']} {request['path']}"
        names.append(next((name for part, name in ROUTES.items() if part in asked), "location"))
    return names


def count(simulator: SimulatorProcess, route: str) -> int:
    return routes(simulator).count(route)
