"""A process that is killed at any moment costs nothing: the next run gives what an undisturbed one would have given."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster_tests.counts import count

from .account import N_DAYS, RANGE, START, Account, write_traffic
from .report import record_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.skipif(
        shutil.which("strace") is None and not os.environ.get("FULLSTORY_TESTS_REQUIRE_SYSTEM_PACKAGES"),
        reason="needs strace",
    ),
]

Told = dict[str, tuple[Counter[str], int]]
"""By test: what was found on the disk right after each kill, and how many rows differed after the next run."""

DURABLE = "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate"
_STEP = re.compile(r"^\d+ +(\w+)\((.*)\) += 0( \(DELAYED\))?$")
_HOLD_US = 25_000
"""After each durable step the thread that made it rests, so that a kill reaches it before its next one."""

_WHAT = (
    (r"rate_limit/", "rate limit"),
    (r"\.scratch/.*bundles/.*\.json\.gz|bundles/.*\.json\.gz", "bundle file"),
    (r"bundles/.*bundle\.json", "sidecar"),
    (r"bundles/", "folder of a bundle"),
    (r"-rejects\.parquet", "rejects"),
    (r"parses/.*\.json", "counts of a parse"),
    (r"parses/", "folder of a parse"),
    (r"events\.parquet", "Parquet"),
    (r"events/", "folder of Parquet"),
    (r"warehouse\.duckdb\.wal", "write-ahead log"),
    (r"warehouse\.duckdb", "warehouse"),
    (r"attempts/", "attempt"),
    (r"\.scratch/", "scratch file"),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """A few hundred events a day: what counts here are steps."""
    data = tmp_path_factory.mktemp("small") / "events.ndjson"
    write_traffic(data, 0.04)
    with SimulatorProcess(SimulatorConfig(data=data, now=START.replace(day=8), export_s=0)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    """So many events that each stage takes its time."""
    data = tmp_path_factory.mktemp("large") / "events.ndjson"
    write_traffic(data, 0.6)
    with SimulatorProcess(SimulatorConfig(data=data, now=START.replace(day=8), export_s=0)) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def small_undisturbed(small: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Account:
    account = Account(tmp_path_factory.mktemp("undisturbed"), small.url)
    account.sync("--no-dbt", "--jobs", "1")
    return account


@pytest.fixture(scope="module")
def large_undisturbed(large: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> tuple[Account, float]:
    """The account, and how long its sync took without dbt, s."""
    account = Account(tmp_path_factory.mktemp("undisturbed"), large.url)
    started = time.monotonic()
    account.sync("--no-dbt")
    seconds = time.monotonic() - started
    account.sync()
    return account, seconds


@pytest.fixture(scope="module")
def told() -> Iterator[Told]:
    """What each test killed, and where: after which step, or with how much on the disk."""
    told: Told = {}
    yield told
    rows = {}
    for test, (found, n_different) in told.items():
        rows[test] = {
            "kills": sum(found.values()),
            "where": ", ".join(f"{n} × {what}" for what, n in sorted(found.items())),
            "rows that differ after the next run": n_different,
        }
    record_rows("kills", rows)


def traced(account: Account, *arguments: str, kill_after: int | None = None) -> list[str]:
    """Run a command under strace; its durable steps below the data dir, in order, up to the one it is killed after."""
    reader, writer = os.pipe()
    prefix = ["strace", "-f", "-qq", "-y", "-s", "300", "-e", "signal=none", "-e", f"trace={DURABLE}"]
    prefix += ["-e", f"inject={DURABLE}:delay_exit={_HOLD_US}"] if kill_after is not None else []
    prefix += ["-o", f"/dev/fd/{writer}"]
    steps: list[str] = []
    with account.start(*arguments, prefix=prefix, pass_fds=(writer,), start_new_session=True) as process:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                step = _STEP.match(line)
                if step and str(account.data) in step[2]:
                    steps.append(f"{step[1]} {step[2]}")
                    if len(steps) == kill_after:
                        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if kill_after is None:
            assert process.returncode == 0
    return steps


def name_of(step: str) -> str:
    """A step in words: what was done to what."""
    call, _, rest = step.partition(" ")
    what = next((name for pattern, name in _WHAT if re.search(pattern, rest)), "other")
    return f"{call.replace('renameat2', 'rename')} {what}"


def healed(account: Account, undisturbed: Account, *arguments: str) -> int:
    """Run the command again; in how many rows the warehouse differs from an undisturbed one, which has to be none."""
    ended = account.run(*arguments)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    differences = account.differences(undisturbed)
    assert differences == {}
    assert account.states() == ["loaded"] * N_DAYS
    assert list(account.data.glob("attempts/**/*Z.json")) == []
    return sum(differences.values())


@pytest.mark.parametrize("command", ["sync", "reset"])
def test_a_kill_after_any_durable_step_costs_nothing(
    command: str, told: Told, small: SimulatorProcess, small_undisturbed: Account, tmp_path: Path
) -> None:
    arguments = [command, *RANGE, "--no-dbt", "--jobs", "1", *(["--yes"] if command == "reset" else [])]

    def prepared(name: str) -> Account:
        account = Account(tmp_path / name, small.url)
        if command == "reset":
            shutil.copytree(small_undisturbed.data, account.data)
        return account

    steps = traced(prepared("enumerated"), *arguments)
    # The three windows take the same steps: the first and the second one are gone through.
    n_steps = len(steps) * 2 // N_DAYS + 1
    assert n_steps > 15, steps
    every = count(n_steps // 6, full=1)
    reached: Counter[str] = Counter()
    n_different = 0
    for n in range(1, n_steps + 1, every):
        account = prepared(f"killed after {n}")
        made = traced(account, *arguments, kill_after=n)
        assert len(made) >= n
        reached[name_of(made[n - 1])] += 1
        if command == "reset":
            # Rows are replaced in one transaction: whatever the moment, every window is there as a whole.
            assert account.differences(small_undisturbed) == {}
        n_different += healed(account, small_undisturbed, *arguments)
        shutil.rmtree(account.folder)
    told[f"after {'every' if every == 1 else 'some'} durable step of {command}"] = reached, n_different


def killed_at(account: Account, seconds: float, *arguments: str) -> bool:
    """Kill a command after a while; whether it was still running."""
    with account.start(*arguments, start_new_session=True) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL


def test_a_kill_at_any_moment_costs_nothing(
    told: Told, large: SimulatorProcess, large_undisturbed: tuple[Account, float], tmp_path: Path
) -> None:
    undisturbed, seconds = large_undisturbed
    moments = random.Random(3)
    reached: Counter[str] = Counter()
    n_different = 0
    while sum(reached.values()) < count(6, full=200):
        account = Account(tmp_path / "killed", large.url)
        # Python and its libraries are being imported in the first part, which no kill can do anything to.
        if killed_at(account, seconds * moments.uniform(0.3, 1.0), "sync", *RANGE, "--no-dbt"):
            reached[account.progress()] += 1
            n_different += healed(account, undisturbed, "sync", *RANGE, "--no-dbt")
        shutil.rmtree(account.folder)
    told["at random moments of sync"] = reached, n_different


def test_a_kill_while_dbt_builds_costs_nothing_and_what_it_owes_is_built(
    told: Told, large: SimulatorProcess, large_undisturbed: tuple[Account, float], tmp_path: Path
) -> None:
    undisturbed, _ = large_undisturbed
    loaded = Account(tmp_path / "loaded", large.url)
    loaded.sync("--no-dbt")
    # In one place, so that dbt parses its project once: it is the models that are to be killed.
    account = Account(tmp_path / "killed", large.url)
    shutil.copytree(loaded.data, account.data)
    account.sync()
    seconds = build_again(account, loaded)
    assert account.differences(undisturbed, with_marts=True) == {}
    moments = random.Random(4)
    reached: Counter[str] = Counter()
    n_different = 0
    while sum(reached.values()) < count(2, full=20):
        take_back(account, loaded)
        if not killed_at(account, seconds * moments.uniform(0.4, 1.0), "sync", *RANGE):
            continue
        reached[f"{len(models_of(account))} models built"] += 1
        account.sync()
        differences = account.differences(undisturbed, with_marts=True)
        assert differences == {}
        n_different += sum(differences.values())
        assert '"pending_loads": 0' in account.run("status", "--json").stdout
    told["at random moments while dbt builds"] = reached, n_different


def take_back(account: Account, loaded: Account) -> None:
    """Put the warehouse back to where dbt has built nothing."""
    for path in account.data.glob("warehouse.duckdb*"):
        path.unlink()
    shutil.copyfile(loaded.data / "warehouse.duckdb", account.data / "warehouse.duckdb")


def build_again(account: Account, loaded: Account) -> float:
    """How long a sync takes that only has to build, s."""
    take_back(account, loaded)
    started = time.monotonic()
    account.sync()
    return time.monotonic() - started


def models_of(account: Account) -> list[Any]:
    with duckdb.connect(str(account.data / "warehouse.duckdb"), read_only=True) as connection:
        return connection.execute("SELECT DISTINCT model FROM fullstory._builds WHERE load_id > 0").fetchall()
