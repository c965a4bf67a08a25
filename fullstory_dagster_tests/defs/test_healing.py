"""Days of the sensor's life, its runs executed: what it asks FullStory for, in which order, and how often."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import dagster as dg
import pytest
import yaml

from fullstory_dagster.api import RetryPolicy
from fullstory_dagster.definitions import build_definitions
from fullstory_dagster.defs.home import PROJECT_ROOT
from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.defs.requests import RUNS_UNDER_WAY
from fullstory_dagster.defs.sensors import build_sensors
from fullstory_dagster.errors import RequestRefusedError
from fullstory_dagster.ingest.status import MAX_RETRIES, read_status
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import INGEST, START, AccountAt, StillClock, day, key_of

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)
HALF_PAST = timedelta(minutes=30)


@dataclass
class JumpingClock(StillClock):
    """A clock that jumps where a wait would end."""

    waited_s: float = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.waited_s

    def sleep(self, seconds: float) -> None:
        self.waited_s += seconds
        self.at += timedelta(seconds=seconds)


@dataclass
class Deployment:
    """An account, its definitions and a Dagster instance, run as the daemon would run them.

    Attributes:
        asked: every range the sensor asked for, with the time it did.
    """

    account: AccountAt
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    asked: list[tuple[datetime, str, str, str]] = field(default_factory=list)

    def live(self, until: datetime) -> None:
        """Tick once an hour, at half past, and execute what is asked for."""
        at = self.account.clock.at
        while at <= until:
            self.account.clock.at = at
            for request in self.tick():
                first, last = keys_of(request)
                [asset] = request.asset_selection or ()
                self.asked.append((at, asset.path[-1], first, last))
                self.execute(request)
            at += HOUR

    def tick(self) -> list[dg.RunRequest]:
        [_, sensor, _] = build_sensors(self.account.settings, [])
        with dg.build_sensor_context(instance=self.instance, resources={"account": self.account}) as context:
            result: Any = sensor(context)
        runs = list(result.run_requests) if isinstance(result, dg.SensorResult) else []
        assert len(runs) <= RUNS_UNDER_WAY
        return runs

    def execute(self, request: dg.RunRequest) -> None:
        """Run it, and for each of its windows what the automation conditions would let follow."""
        [asset] = request.asset_selection or ()
        self.run(asset.path[-1], partition_key=request.partition_key, tags=dict(request.tags))
        first, last = keys_of(request)
        grid = self.account.settings.grid
        for window in grid.between(grid.window_of_key(first).start, grid.window_of_key(last).end):
            if self.account.ingestion().bundles.get(window):
                self.load(grid.key(window), INGEST[1:])

    def load(self, key: str, names: tuple[str, ...] = INGEST) -> None:
        for name in names:
            assert self.run(name, partition_key=key).success

    def run(self, name: str, **options: Any) -> dg.ExecuteInProcessResult:
        return self.definitions.resolve_job_def(LOAD_JOB).execute_in_process(
            instance=self.instance, asset_selection=[key_of(name)], raise_on_error=False, **options
        )

    def ranges(self) -> list[tuple[str, str, str]]:
        return [(stage, first, last) for _, stage, first, last in self.asked]


def keys_of(request: dg.RunRequest) -> tuple[str, str]:
    key = request.partition_key
    return (
        key or request.tags["dagster/asset_partition_range_start"],
        key or request.tags["dagster/asset_partition_range_end"],
    )


@pytest.fixture
def deployment(account: AccountAt, instance: dg.DagsterInstance) -> Deployment:
    # One window at a time, so that a fault hits the one the test means.
    patient = AccountAt(account.settings.with_changes(jobs=1), JumpingClock(at=START))
    return Deployment(patient, build_definitions(patient.settings, account=patient), instance)


def answers_to_starts(simulator: SimulatorProcess) -> Counter[int]:
    """How often an export was asked for, by the status of the answer."""
    return Counter(request["status"] for request in simulator.requests() if request["method"] == "POST")


def test_gaps_heal_oldest_first_over_restarts_and_a_permanent_failure_waits_for_a_person(
    deployment: Deployment, simulator: SimulatorProcess
) -> None:
    clock = deployment.account.clock
    # June 1 fails for good, June 3 for an hour.
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    clock.at = day(4).start + HALF_PAST
    deployment.live(until=day(4).end - HALF_PAST)
    assert deployment.ranges() == [("raw_bundles", "2026-06-01", "2026-06-02")]
    simulator.set_faults([{"route": "export_start", "status": 503, "times": RetryPolicy().max_requests}])
    clock.at = day(5).start + HALF_PAST
    deployment.live(until=day(5).start + timedelta(hours=4))

    # Everything stops for three days, and comes back with an empty Dagster home.
    clock.at = day(8).start + HALF_PAST
    with dg.DagsterInstance.ephemeral() as fresh:
        deployment.instance = fresh
        deployment.live(until=day(8).end - HALF_PAST)
        assert deployment.ranges() == [
            ("raw_bundles", "2026-06-01", "2026-06-02"),
            ("raw_bundles", "2026-06-03", "2026-06-03"),
            ("raw_bundles", "2026-06-03", "2026-06-03"),
            ("raw_bundles", "2026-06-04", "2026-06-06"),
        ]
        assert [at for at, *_ in deployment.asked] == [
            day(4).start + HALF_PAST,
            day(5).start + HALF_PAST,
            # An hour after the failure, which came half a minute after the tick.
            day(5).start + HALF_PAST + 2 * HOUR,
            # The first tick tells the new home what is loaded, and asks for the rest.
            day(8).start + HALF_PAST,
        ]
        # One for June 1, three days long; six for June 3; and each that came, once.
        assert answers_to_starts(simulator) == {404: 1, 503: RetryPolicy().max_requests, 200: 5}
        states = {entry.window.start.day: entry.state for entry in read_status(deployment.account.ingestion()).windows}
        assert states == {1: "failed", 2: "loaded", 3: "loaded", 4: "loaded", 5: "loaded", 6: "loaded"}

        deployment.load("2026-06-01")
        assert deployment.tick() == []
        status = read_status(deployment.account.ingestion())
        assert status.count()["loaded"] == len(status.windows) == 6
        assert deployment.account.ingestion().attempts.all() == {}


def test_a_405_reaches_fullstory_once_however_long_the_sensor_runs(
    deployment: Deployment, simulator: SimulatorProcess
) -> None:
    # A tool that people use retries one 405 thousands of times, because three layers retry.
    simulator.set_faults([{"route": "export_start", "status": 405, "times": -1}])
    deployment.account.clock.at = day(8).start + HALF_PAST
    deployment.live(until=day(11).start)
    attempts = deployment.account.ingestion().attempts.all()
    assert {window: attempt.count for window, attempt in attempts.items()} == {day(number): 1 for number in range(1, 9)}
    assert answers_to_starts(simulator) == {405: 8}
    assert len(simulator.requests()) == 8


def test_a_500_is_retried_by_the_client_then_hourly_and_not_for_ever(
    deployment: Deployment, simulator: SimulatorProcess
) -> None:
    simulator.set_faults([{"route": "export_start", "status": 500, "times": -1}])
    deployment.account.clock.at = day(8).start + HALF_PAST
    n_tries = RetryPolicy().max_requests
    # Of June 1 alone: the other days wait for a person.
    for number in range(2, 14):
        deployment.account.ingestion().attempts.record_failure(
            day(number), "fetch", RequestRefusedError("FullStory said 404."), deployment.account.clock.at
        )
    first = deployment.run("raw_bundles", partition_key="2026-06-01")
    assert not first.success
    assert answers_to_starts(simulator) == {500: n_tries}
    deployment.live(until=day(13).start)
    times = [at for at, *_ in deployment.asked]
    assert len(times) == MAX_RETRIES
    assert all(later - earlier >= HOUR for earlier, later in pairwise(times))
    assert answers_to_starts(simulator) == {500: n_tries * (1 + MAX_RETRIES)}


def test_dagster_itself_retries_nothing_that_a_step_did(deployment: Deployment) -> None:
    written = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text())
    assert written["run_retries"]["retry_on_asset_or_op_failure"] is False
    nodes = deployment.definitions.resolve_implicit_global_asset_job_def().all_node_defs
    assert len(nodes) >= 5
    assert [node.name for node in nodes if getattr(node, "retry_policy", None)] == []
    assert [job.name for job in deployment.definitions.jobs or () if getattr(job, "op_retry_policy", None)] == []
