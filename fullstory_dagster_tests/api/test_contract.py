"""Whether the simulator answers in the shapes a real account does. Runs against FullStory only when a key is given."""

from __future__ import annotations

import gzip
import json
import os
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests

from fullstory_dagster.api import base_url_of_key
from fullstory_dagster.simulator.config import DEFAULT_KEY, SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

REAL_KEY = os.environ.get("FULLSTORY_CONTRACT_API_KEY")
HOUR = timedelta(hours=1)

Shape = Any


def shape(value: Any) -> Shape:
    """Names and JSON types, values left out; of a list the shape of its first element."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def shapes_of_an_export(url: str, key: str) -> dict[str, Shape]:
    """The shapes of every answer on the way to an hour's events, two days ago, when people are awake."""
    headers = {"Authorization": f"Basic {key}"}
    end = (datetime.now(timezone.utc) - timedelta(days=2)).replace(hour=13, minute=0, second=0, microsecond=0)
    time_range = {"start": (end - HOUR).isoformat(), "end": end.isoformat()}
    body = {
        "segmentId": "everyone",
        "type": "TYPE_EVENT",
        "format": "FORMAT_NDJSON",
        "timeRange": time_range,
        "segmentTimeRange": {"start": "", "end": ""},
        "timezone": "UTC",
        "fields": [],
        "eventDetails": {"scope": "SCOPE_EVENTS"},
    }
    started = requests.post(f"{url}/segments/v1/exports", json=body, headers=headers, timeout=60).json()
    for _ in range(120):
        operation = requests.get(f"{url}/operations/v1/{started['operationId']}", headers=headers, timeout=60).json()
        if operation["state"] in ("COMPLETED", "FAILED"):
            break
        time.sleep(1)
    export_id = operation["results"]["searchExportId"]
    results = requests.get(f"{url}/search/v1/exports/{export_id}/results", headers=headers, timeout=60).json()
    packed = requests.get(results["location"], timeout=60).content
    rows = [json.loads(line) for line in gzip.decompress(packed).splitlines() if line.strip()]
    fixed = {name: kind for row in rows for name, kind in shape(row).items() if name in ("UserId", "EventStart")}
    return {"started": shape(started), "operation": shape(operation), "results": shape(results), "row": fixed}


@pytest.fixture(scope="module")
def simulated() -> dict[str, Shape]:
    with SimulatorProcess(SimulatorConfig(days=3, export_s=0.1)) as simulator:
        return shapes_of_an_export(simulator.url, DEFAULT_KEY)


def test_the_simulator_answers_in_the_shapes_of_the_facts_page(simulated: dict[str, Shape]) -> None:
    assert simulated["started"] == {"operationId": "str"}
    assert simulated["operation"]["results"] == {"expires": "str", "searchExportId": "str"}
    assert {"id", "type", "state", "createdAt", "finishedAt", "estimatePctComplete"} <= simulated["operation"].keys()
    assert simulated["results"] == {"expires": "str", "location": "str"}
    assert simulated["row"] == {"UserId": "int", "EventStart": "str"}


@pytest.mark.enable_socket
@pytest.mark.skipif(REAL_KEY is None, reason="FULLSTORY_CONTRACT_API_KEY is not set: there is no real account to ask")
def test_a_real_account_answers_in_the_simulators_shapes(simulated: dict[str, Shape]) -> None:
    assert REAL_KEY is not None
    real = shapes_of_an_export(base_url_of_key(REAL_KEY), REAL_KEY)
    for answer in ("started", "results", "row"):
        assert real[answer] == simulated[answer]
    assert real["operation"].keys() <= simulated["operation"].keys()
