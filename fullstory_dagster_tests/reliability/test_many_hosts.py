"""Whole syncs at once, each with a data dir of its own as another host has, into one lake: every window once."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster_tests.counts import count
from fullstory_dagster_tests.postgres import PostgresServer

from .account import N_DAYS, RANGE, Account

pytestmark = pytest.mark.slow

N_HOSTS = count(2, full=4)


@pytest.fixture
def hosts(simulator: SimulatorProcess, tmp_path: Path, postgres: PostgresServer) -> list[Account]:
    """What they share is the lake's catalog, the folder of the store, and FullStory."""
    shared = {
        "FULLSTORY_WAREHOUSE": f"ducklake:postgres:{postgres.conninfo(postgres.new_database())}",
        "FULLSTORY_STORE_URL": str(tmp_path / "store"),
    }
    return [Account(tmp_path / f"host {number}", simulator.url, **shared) for number in range(N_HOSTS)]


@pytest.mark.soak
def test_each_window_is_asked_for_and_loaded_by_one_of_them_and_modelled_once(
    hosts: list[Account], simulator: SimulatorProcess, undisturbed: Account
) -> None:
    runs = [host.start("sync", *RANGE, "--json") for host in hosts]
    summaries = []
    for run in runs:
        said, told = run.communicate(timeout=240)
        assert run.returncode == 0, told.decode() + said.decode()
        summaries.append(json.loads(said))
    assert sum(len(summary["loaded"]) for summary in summaries) == N_DAYS
    assert [summary["failed"] for summary in summaries] == [[]] * N_HOSTS
    assert sum("/get" in request["path"] for request in simulator.requests()) == N_DAYS
    assert hosts[0].states() == ["loaded"] * N_DAYS
    assert hosts[0].differences(undisturbed, with_marts=True) == {}


@pytest.mark.soak
@pytest.mark.parametrize("seconds", count([2.5], full=[2.0 + n / 4 for n in range(16)]))
def test_whatever_a_killed_one_had_begun_the_others_end(
    hosts: list[Account], undisturbed: Account, seconds: float
) -> None:
    dies, *others = (host.start("sync", *RANGE, "--json", "--no-dbt") for host in hosts)
    with suppress(subprocess.TimeoutExpired):
        dies.communicate(timeout=seconds)
    dies.kill()
    dies.communicate()
    for run in others:
        said, told = run.communicate(timeout=240)
        assert run.returncode == 0, told.decode() + said.decode()
        assert json.loads(said)["failed"] == []
    assert hosts[1].states() == ["loaded"] * N_DAYS
    assert hosts[1].differences(undisturbed) == {}
