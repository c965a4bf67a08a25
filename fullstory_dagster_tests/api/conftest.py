"""One simulator for all tests of the client, cleared between them; the tests' own events are behind both APIs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.api import FileLedger, FullStoryClient, RateLimiter, RetryPolicy, Timeouts
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.windows import Window

CANARY_KEY = "na1.Y2FuYXJ5/key+that=must.never.be.seen"
DAY = Window(datetime(2026, 6, 1, tzinfo=timezone.utc), datetime(2026, 6, 2, tzinfo=timezone.utc))
EVENTS = [
    {
        "UserId": 2**60 + n,
        "SessionId": n * 7919 % 104729,
        "EventStart": f"2026-06-01T{n // 250:02d}:{n % 250 // 5:02d}:{n % 5:02d}.123Z",
        "EventType": "click",
        # Hard to pack, so that the file has room to break in.
        "EventTargetText": f"{n * 2654435761 % 2**32:x}{n * 40503 % 65537:x}",
    }
    for n in range(6000)
]

MakeClient = Callable[..., FullStoryClient]


@pytest.fixture(scope="session")
def _started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("data") / "events.json"
    data.write_text(json.dumps(EVENTS))
    now = datetime(2026, 6, 3, 12, tzinfo=timezone.utc)
    with SimulatorProcess(SimulatorConfig(data=data, now=now, export_s=0, api_key=CANARY_KEY)) as simulator:
        yield simulator


@pytest.fixture
def simulator(_started: SimulatorProcess) -> SimulatorProcess:
    _started.clear()
    return _started


@pytest.fixture
def make_client(simulator: SimulatorProcess, tmp_path: Path) -> Iterator[MakeClient]:
    """A client of the simulator that does not wait; keyword arguments replace its own."""
    clients = []

    def make(**changes: Any) -> FullStoryClient:
        key = changes.pop("api_key", CANARY_KEY)
        url = changes.pop("base_url", simulator.url)
        arguments: dict[str, Any] = {
            "limiter": RateLimiter(FileLedger(tmp_path / "rate_limit"), base_url=url, api_key=key, limits={}),
            "timeouts": Timeouts(connect_s=2, read_s=2, poll_s=0.01, export_s=5, download_s=20),
            "retry": RetryPolicy(backoff_base_s=0.001),
        }
        clients.append(FullStoryClient(api_key=key, base_url=url, **(arguments | changes)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(make_client: MakeClient) -> FullStoryClient:
    return make_client()
