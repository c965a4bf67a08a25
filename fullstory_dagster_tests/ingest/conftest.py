"""An account on a real simulator, under a clock of the test's own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.windows import Window

START = datetime(2026, 6, 1, tzinfo=timezone.utc)
NOW = datetime(2026, 6, 6, 1, tzinfo=timezone.utc)
"""June 1 to 4 are over and settled, their bundles listed; June 5 is neither."""

HOURS_OF_EVENTS = (0, 5, 6, 11, 12, 23)
N_EVENTS_A_DAY = len(HOURS_OF_EVENTS)


def day(number: int, n_days: int = 1) -> Window:
    """A window that begins on a day of June 2026."""
    return Window(START + timedelta(days=number - 1), START + timedelta(days=number - 1 + n_days))


def served_events() -> list[dict[str, Any]]:
    """The same few hours of June 1 to 5, the last event of a day a millisecond before midnight."""
    return [
        {
            "UserId": 2**60 + number,
            "SessionId": number,
            "PageId": hour,
            "EventStart": f"2026-06-{number:02d}T{hour:02d}:{'59:59.999' if hour == 23 else '00:00.000'}Z",
            "EventType": "click",
            "UserEmail": f"person-{number}@canary.test",
            "PageIp": "203.0.113.77",
            "PageAgent": "canary-agent",
            "evt_secret_str": "canary-variable",
            "evt_hour_int": hour,
        }
        for number in range(1, 6)
        for hour in HOURS_OF_EVENTS
    ]


class SettableClock:
    """Stands where it is put; what sleeps wakes up soon."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, 0.01))


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("served") / "events.json"
    data.write_text(json.dumps(served_events()))
    with SimulatorProcess(SimulatorConfig(data=data, now=NOW, export_s=0)) as simulator:
        yield simulator


@pytest.fixture
def simulator(_running: SimulatorProcess) -> SimulatorProcess:
    _running.clear()
    return _running


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture(params=["folder", "S3"])
def anywhere(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Settings of a store of each kind."""
    return {"store": request.getfixturevalue("bucket").url} if request.param == "S3" else {}


MakeIngestion = Callable[..., Ingestion]


@pytest.fixture
def make_ingestion(simulator: SimulatorProcess, clock: SettableClock, tmp_path: Path) -> MakeIngestion:
    """The account's ingestion; keyword arguments are settings."""

    def make(**changes: Any) -> Ingestion:
        settings: dict[str, Any] = {
            "start": START,
            "data_dir": tmp_path / "data",
            "api_key": simulator.api_key,
            "api_url": simulator.url,
            "downloads_per_minute": 0,
            "lock_timeout_s": 20,
        }
        return open_ingestion(Settings(**(settings | changes)), clock)

    return make
