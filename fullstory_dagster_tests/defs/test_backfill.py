"""A backfill of a month as the UI starts it, on a real daemon: few runs, a bad window alone, cancelled and resumed."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster_tests.counts import IS_SOAK
from fullstory_dagster_tests.running_dev import running_dev

pytestmark = [
    pytest.mark.soak,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not IS_SOAK, reason="a quarter of an hour, most of it a daemon's pauses: make soak runs it"),
]

N_WINDOWS = 30
MAX_RUNS = 8


@dataclass(frozen=True)
class Deployment:
    """An account's folder and the UI on it."""

    folder: Path
    url: str
    keys: list[str]

    def ask(self, query: str, **variables: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/graphql",
            data=json.dumps({"query": query, "variables": variables}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            told = json.load(answer)
        assert "errors" not in told, told
        return told["data"]

    def backfill(self, asset: str, keys: list[str]) -> str:
        told = self.ask(
            """mutation ($backfill: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $backfill) {
            ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }""",
            backfill={"assetSelection": [{"path": ["fullstory", asset]}], "partitionNames": keys},
        )["launchPartitionBackfill"]
        return str(told["backfillId"])

    def cancel(self, backfill: str) -> None:
        told = self.ask(
            "mutation ($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }", id=backfill
        )
        assert told["cancelPartitionBackfill"]["__typename"] == "CancelBackfillSuccess"

    def backfill_status(self, backfill: str) -> str:
        told = self.ask(
            "query ($id: String!) { partitionBackfillOrError(backfillId: $id) "
            "{ ... on PartitionBackfill { status } } }",
            id=backfill,
        )
        return str(told["partitionBackfillOrError"]["status"])

    def runs(self) -> list[dict[str, Any]]:
        told = self.ask("{ runsOrError(limit: 200) { ... on Runs { results { status assetSelection { path } } } } }")
        return list(told["runsOrError"]["results"])

    def are_all_over(self) -> bool:
        return all(run["status"] in ("SUCCESS", "FAILURE", "CANCELED") for run in self.runs())

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        # From the snapshot nobody is in the way; here the warehouse itself is asked, until it is free.
        for _ in range(200):
            try:
                with duckdb.connect(str(self.folder / "data" / "warehouse.duckdb"), read_only=True) as connection:
                    return connection.execute(sql).fetchall()
            except duckdb.Error:
                time.sleep(0.3)
        pytest.fail("the warehouse was never free")

    def loaded(self) -> int:
        if not (self.folder / "data" / "warehouse.duckdb").exists():
            return 0
        [(n_windows,)] = self.rows("SELECT count(DISTINCT window_start) FROM fullstory._loads")
        return int(n_windows)


@pytest.fixture
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(SimulatorConfig(days=N_WINDOWS + 1, export_s=0, scale=0.05)) as running:
        yield running


@pytest.fixture
def deployment(simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Deployment]:
    start = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(
        days=N_WINDOWS + 1
    )
    settings = {
        "FULLSTORY_API_KEY": simulator.api_key,
        "FULLSTORY_API_URL": simulator.url,
        "FULLSTORY_START_DATE": f"{start:%Y-%m-%d}",
        # The sensor rests: everything here is started by hand.
        "FULLSTORY_SCHEDULE": "0 0 1 1 *",
    }
    keys = [f"{start + timedelta(days=number):%Y-%m-%d}" for number in range(N_WINDOWS)]
    with running_dev(tmp_path, settings) as url:
        yield Deployment(tmp_path, url, keys)


def _wait(is_so: Callable[[], bool], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_so():
            return
        time.sleep(2)
    pytest.fail(otherwise)


def test_a_month_is_backfilled_in_few_runs_and_a_bad_window_takes_none_with_it(
    deployment: Deployment, simulator: SimulatorProcess
) -> None:
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    deployment.backfill("raw_bundles", deployment.keys)
    _wait(lambda: deployment.loaded() == N_WINDOWS - 1, 600, "29 windows were not loaded")

    def is_modelled() -> bool:
        [(held,)] = deployment.rows(
            "SELECT (SELECT max(load_id) FROM fullstory._loads) = (SELECT min(m) FROM "
            "(SELECT max(load_id) AS m FROM fullstory._builds GROUP BY model))"
        )
        return bool(held)

    _wait(is_modelled, 300, "the models were not built")
    _wait(deployment.are_all_over, 120, "runs go on")
    runs = [run for run in deployment.runs() if run["assetSelection"][0]["path"][-1] != "experience_report"]
    assert len(runs) <= MAX_RUNS, runs
    [failed] = [run for run in runs if run["status"] == "FAILURE"]
    assert [asset["path"][-1] for asset in failed["assetSelection"]] == ["raw_bundles"]

    # Begun again, cancelled in the middle, and gone on with: what is loaded is loaded once.
    [(n_before,)] = deployment.rows("SELECT count(*) FROM fullstory.events")
    again = deployment.backfill("raw_bundles", deployment.keys)
    n_runs = len(deployment.runs())
    _wait(lambda: len(deployment.runs()) > n_runs, 120, "it did not begin")
    deployment.cancel(again)
    _wait(lambda: deployment.backfill_status(again) in ("CANCELED", "COMPLETED_SUCCESS"), 180, "it was not cancelled")
    _wait(deployment.are_all_over, 180, "runs go on")
    rest = deployment.backfill("raw_bundles", deployment.keys)
    _wait(lambda: deployment.loaded() == N_WINDOWS, 600, "the rest was not loaded")
    _wait(lambda: deployment.backfill_status(rest).startswith("COMPLETED"), 300, "it did not end")
    _wait(deployment.are_all_over, 300, "runs go on")
    [(n_events, n_ids)] = deployment.rows("SELECT count(*), count(DISTINCT _event_id) FROM fullstory.events")
    assert n_events == n_ids > n_before
    [(n_whole,)] = deployment.rows(
        "SELECT count(*) FROM (SELECT DISTINCT ON (window_start) * FROM fullstory._loads "
        "ORDER BY window_start, load_id DESC) WHERE rows_in = rows_kept + rows_rejected + rows_outside + rows_duplicate"
    )
    assert n_whole == N_WINDOWS
