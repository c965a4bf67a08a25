"""The same few days for all: served once, and loaded once by a run that nobody disturbed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

from .account import START, Account, write_traffic


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """A few hundred events a day."""
    data = tmp_path_factory.mktemp("served") / "events.ndjson"
    write_traffic(data, 0.06)
    with SimulatorProcess(SimulatorConfig(data=data, now=START.replace(day=8), export_s=0)) as simulator:
        yield simulator


@pytest.fixture
def simulator(served: SimulatorProcess) -> SimulatorProcess:
    served.clear()
    return served


@pytest.fixture(scope="module")
def undisturbed(served: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Account:
    """What a run comes to when nothing happens."""
    account = Account(tmp_path_factory.mktemp("undisturbed"), served.url)
    account.sync()
    return account
