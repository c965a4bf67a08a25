"""Several runs at once, of one window and of one warehouse: exact, or a clear failure."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fullstory_dagster.simulator.process import SimulatorProcess

from .account import N_DAYS, RANGE, START, Account

pytestmark = pytest.mark.slow

STAGES = """
import os, sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from fullstory_dagster.errors import TransientError
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import read_settings
from fullstory_dagster.windows import Window

ingestion = open_ingestion(read_settings(dotenv=Path(os.devnull)))
start = datetime.fromisoformat(sys.argv[1])
windows = [Window(start + timedelta(days=n), start + timedelta(days=n + 1)) for n in range(int(sys.argv[2]))]
with ingestion.client() as client:
    for stage in (lambda window: ingestion.fetch(window, client), ingestion.parse, ingestion.append):
        for window in windows:
            try:
                stage(window)
            except TransientError as error:
                print(type(error).__name__, flush=True)
"""
"""What Dagster's assets do: each stage by itself, for all windows of its run."""

HOLD_A_WINDOW = """
import os, sys
from pathlib import Path
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import read_settings

ingestion = open_ingestion(read_settings(dotenv=Path(os.devnull)))
with ingestion.window_lock(ingestion.settings.grid.window_of_key("2026-06-01")):
    sys.stdout.write("held\\n")
    sys.stdout.flush()
    sys.stdin.readline()
"""


def ended_well(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a ``sync --json`` that had to work says it did."""
    said, told = process.communicate(timeout=240)
    assert process.returncode == 0, told.decode() + said.decode()
    summary: dict[str, Any] = json.loads(said)
    return summary


def n_loads(account: Account) -> int:
    with duckdb.connect(str(account.data / "warehouse.duckdb"), read_only=True) as connection:
        [(n_lines,)] = connection.execute("SELECT count(*) FROM fullstory._loads").fetchall()
        return int(n_lines)


def n_downloads(simulator: SimulatorProcess) -> int:
    return sum("/get" in request["path"] for request in simulator.requests())


@pytest.mark.parametrize("jobs", ["1", "4"])
def test_two_first_syncs_load_every_window_once_and_ask_for_it_once(
    simulator: SimulatorProcess, undisturbed: Account, tmp_path: Path, jobs: str
) -> None:
    account = Account(tmp_path / "both", simulator.url)
    runs = [account.start("sync", *RANGE, "--json", "--jobs", jobs) for _ in range(2)]
    summaries = [ended_well(run) for run in runs]
    assert account.differences(undisturbed, with_marts=True) == {}
    assert account.states() == ["loaded"] * N_DAYS
    assert [summary["failed"] for summary in summaries] == [[], []]
    assert sum(len(summary["loaded"]) for summary in summaries) == N_DAYS == n_loads(account)
    assert n_downloads(simulator) == N_DAYS


def test_two_resets_replace_every_window_twice_and_double_nothing(
    simulator: SimulatorProcess, undisturbed: Account, tmp_path: Path
) -> None:
    account = Account(tmp_path / "both", simulator.url)
    account.sync("--no-dbt")
    runs = [account.start("reset", *RANGE, "--yes", "--json", "--no-dbt") for _ in range(2)]
    assert [len(ended_well(run)["loaded"]) for run in runs] == [N_DAYS, N_DAYS]
    assert n_loads(account) == 3 * N_DAYS
    assert account.differences(undisturbed) == {}


def test_a_sync_beside_the_stages_of_a_dagster_run_is_exact(
    simulator: SimulatorProcess, undisturbed: Account, tmp_path: Path
) -> None:
    account = Account(tmp_path / "both", simulator.url)
    stages = account.start_script(STAGES, START.isoformat(), str(N_DAYS))
    sync = account.start("sync", *RANGE, "--json", "--no-dbt")
    said, told = stages.communicate(timeout=240)
    # A bundle that the other one fetched anew in between is a failure that passes, and says so.
    assert set(said.decode().split()) <= {"BundleChangedError"}, told.decode()
    assert stages.returncode == 0, told.decode()
    assert ended_well(sync)["failed"] == []
    assert account.differences(undisturbed) == {}


@contextmanager
def held_window(account: Account) -> Iterator[int]:
    """Another process that works on the first window, and works, and works; its id."""
    holder = account.start_script(HOLD_A_WINDOW, stdin=subprocess.PIPE)
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        yield holder.pid
    finally:
        holder.communicate(b"\n")


def test_a_window_that_somebody_works_on_for_too_long_fails_alone_with_the_holder_named(
    simulator: SimulatorProcess, undisturbed: Account, tmp_path: Path
) -> None:
    account = Account(tmp_path / "account", simulator.url)
    with held_window(account) as holder:
        ended = account.run("sync", *RANGE, "--no-dbt", "--json", FULLSTORY_LOCK_TIMEOUT_S="1")
    summary = json.loads(ended.stdout)
    assert (ended.returncode, len(summary["loaded"])) == (1, N_DAYS - 1)
    (failed,) = summary["failed"]
    assert f"process {holder}" in failed["reason"]
    assert "2026-06-01 00:00 to 2026-06-02 00:00 UTC" in failed["reason"]
    # It is the other run's window: that it was busy is nothing that status would have to remember.
    assert account.states() == ["missing", "loaded", "loaded"]
    account.sync("--no-dbt")
    assert account.differences(undisturbed) == {}


@pytest.mark.parametrize("command", ["sync", "reset", "status"])
def test_a_warehouse_that_somebody_has_open_is_waited_for_within_bounds_and_left_as_it_is(
    simulator: SimulatorProcess, undisturbed: Account, tmp_path: Path, command: str
) -> None:
    account = Account(tmp_path / "account", simulator.url)
    account.sync("--no-dbt", "--to", "2026-06-02")
    before = sorted(path.relative_to(account.data) for path in account.data.rglob("*.parquet"))
    arguments = {"sync": RANGE, "reset": (*RANGE, "--yes"), "status": ()}[command]
    with duckdb.connect(str(account.data / "warehouse.duckdb")):
        ended = account.run(command, *arguments, FULLSTORY_LOCK_TIMEOUT_S="1")
    assert ended.returncode == 1
    assert f"was held by process {os.getpid()} for more than 1 s; nothing was changed" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert sorted(path.relative_to(account.data) for path in account.data.rglob("*.parquet")) == before
    assert n_loads(account) == 1
    account.sync("--no-dbt")
    assert account.differences(undisturbed) == {}


def test_a_warehouse_that_is_taken_in_the_middle_of_a_sync_keeps_what_was_prepared(
    simulator: SimulatorProcess, undisturbed: Account, tmp_path: Path
) -> None:
    account = Account(tmp_path / "account", simulator.url)
    account.sync("--no-dbt", "--to", "2026-06-02")
    # The second window's download takes its time; meanwhile the warehouse gets into other hands.
    simulator.clear()
    simulator.set_faults([{"route": "get", "drip_bytes_per_s": 8000}])
    run = account.start("sync", *RANGE, "--no-dbt", "--jobs", "1", prefix=["env", "FULLSTORY_LOCK_TIMEOUT_S=1"])
    while not simulator.requests():
        assert run.poll() is None
        time.sleep(0.02)
    with duckdb.connect(str(account.data / "warehouse.duckdb")):
        said, told = run.communicate(timeout=120)
    assert run.returncode == 1, told.decode() + said.decode()
    assert f"process {os.getpid()}" in " ".join(said.decode().split())
    assert "not tried after that failure" in said.decode()
    assert account.sync("--no-dbt")["failed"] == []
    # What had been fetched is not fetched again.
    assert n_downloads(simulator) == N_DAYS - 1
    assert account.differences(undisturbed) == {}
