"""A process that is killed at any moment costs nothing: the next run gives what an undisturbed one would have given."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fullstory_dagster.errors import ServerError
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.attempts import AttemptLog
from fullstory_dagster.store.objects import LocalStore
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.counts import count

from .account import MARTS, N_DAYS, RANGE, START, Account, write_traffic
from .report import record_rows

pytestmark = [
    pytest.mark.slow,
    pytest.mark.soak,
    pytest.mark.skipif(
        shutil.which("strace") is None and not os.environ.get("FULLSTORY_TESTS_REQUIRE_SYSTEM_PACKAGES"),
        reason="needs strace",
    ),
]

DURABLE = "fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate"
_LINE = re.compile(r"^(\d+) +(.*)$")
_STEP = re.compile(r"^(\w+)\((.*)\) += 0( \(DELAYED\))?$")
_UNFINISHED, _RESUMED = " <unfinished ...>", re.compile(r"^<\.\.\. \w+ resumed>")
_HOLD_US = 25_000
"""After each durable step the thread that made it rests, so that a kill reaches it before its next one."""

_WHAT = (
    (r"data/read/", "read snapshot"),
    (r"data/dbt/", "dbt's own file"),
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


def tell(where: str, found: Counter[str], n_different: int) -> None:
    """Note for the page what was killed, and what was found on the disk right after."""
    row = {
        "kills": sum(found.values()),
        "where": ", ".join(f"{n} × {what}" for what, n in sorted(found.items())),
        "rows that differ after the next run": n_different,
    }
    record_rows("kills", {where: row})


def traced(account: Account, *arguments: str, kill_after: int | None = None, code: int = 0) -> list[str]:
    """Run a command under strace; its durable steps below the data dir, in order, up to the one it is killed after.

    Undisturbed, it has to end with ``code``.
    """
    reader, writer = os.pipe()
    # By a filter in the kernel: else each of the other calls, of which there are a thousand times as many, is held too.
    prefix = ["strace", "--seccomp-bpf", "-f", "-qq", "-y", "-s", "300", "-e", "signal=none", "-e", f"trace={DURABLE}"]
    prefix += ["-e", f"inject={DURABLE}:delay_exit={_HOLD_US}"] if kill_after is not None else []
    prefix += ["-o", f"/dev/fd/{writer}"]
    steps: list[str] = []
    begun: dict[str, str] = {}
    with account.start(*arguments, prefix=prefix, pass_fds=(writer,), start_new_session=True) as process:
        os.close(writer)
        with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                step = _STEP.match(_whole_call(line, begun))
                if step and str(account.data) in step[2]:
                    steps.append(f"{step[1]} {step[2]}")
                    if len(steps) == kill_after:
                        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if kill_after is None:
            assert process.returncode == code
    return steps


def _whole_call(line: str, begun: dict[str, str]) -> str:
    """A call on one line: strace writes it on two when another thread's comes in between."""
    parts = _LINE.match(line)
    if parts is None:
        return ""
    thread, text = parts[1], parts[2]
    if text.endswith(_UNFINISHED):
        begun[thread] = text.removesuffix(_UNFINISHED)
        return ""
    return _RESUMED.sub(lambda _: begun.pop(thread, ""), text)


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
    assert left(account) == left(undisturbed)
    return sum(differences.values())


def left(account: Account) -> Counter[str]:
    """How many files of each kind there are: what a killed process left is none of them."""
    files = (path.relative_to(account.data) for path in account.data.rglob("*") if path.is_file())
    ours = (path for path in files if path.parts[0] in ("bundles", "events", "parses", "attempts", ".scratch"))
    kinds = ("-rejects.parquet", "events.parquet", "bundle.json", ".json.gz", ".json")
    return Counter(next((kind for kind in kinds if path.name.endswith(kind)), path.name) for path in ours)


def make_stale(account: Account) -> None:
    """Let the kept bundles be others than what FullStory would be asked for now, and the last attempt a failure."""
    log = AttemptLog(LocalStore(account.data), "fullstory")
    for sidecar in account.data.glob("bundles/*/bundle.json"):
        kept = json.loads(sidecar.read_text())
        (file,) = kept["files"]
        other = f"{Path(file['key']).parent}/{'0' * 32}.json.gz"
        (account.data / file["key"]).rename(account.data / other)
        file["key"] = other
        kept["shaping"]["fields"] = ["once asked for"]
        sidecar.write_text(json.dumps(kept))
        start = datetime.fromisoformat(kept["window_start"])
        log.record_failure(Window(start, start + timedelta(days=1)), "fetch", ServerError("FullStory said 500."), start)


@pytest.mark.parametrize("scenario", ["sync", "sync that fails", "reset", "reset that fetches again"])
def test_a_kill_after_any_durable_step_costs_nothing(
    scenario: str, small: SimulatorProcess, small_undisturbed: Account, tmp_path: Path
) -> None:
    command = scenario.split()[0]
    arguments = [command, *RANGE, "--no-dbt", "--jobs", "1", *(["--yes"] if command == "reset" else [])]
    has_to_fail = scenario == "sync that fails"

    def prepared(name: str) -> Account:
        account = Account(tmp_path / name, small.url)
        if command == "reset":
            shutil.copytree(small_undisturbed.data, account.data)
        if scenario == "reset that fetches again":
            make_stale(account)
        small.set_faults([{"route": "get", "status": 404, "times": -1}] if has_to_fail else [])
        return account

    steps = traced(prepared("enumerated"), *arguments, code=int(has_to_fail))
    # The three windows are fetched and parsed in the same steps, so that those of two are gone through, and appended
    # together, in the steps after the last of them was parsed.
    parsed = [n for n, step in enumerate(steps, start=1) if name_of(step) == "fsync folder of Parquet"]
    appended = range(parsed[-1] + 1, len(steps) + 1) if parsed else range(0)
    n_steps = (parsed[-1] if parsed else len(steps)) * 2 // N_DAYS + 1
    assert n_steps > 10, steps
    every = count(n_steps // (3 if scenario == command else 2), full=1)
    assert has_to_fail or any("warehouse.duckdb" in steps[n - 1] for n in appended), steps
    reached: Counter[str] = Counter()
    n_different = 0
    for n in (*range(1, n_steps + 1, every), *appended[:: count(max(len(appended) // 2, 1), full=1)]):
        account = prepared(f"killed after {n}")
        made = traced(account, *arguments, kill_after=n)
        assert len(made) >= n
        reached[name_of(made[n - 1])] += 1
        small.clear()
        if command == "reset":
            # Rows are replaced in one transaction: whatever the moment, every window is there as a whole.
            assert account.differences(small_undisturbed) == {}
        n_different += healed(account, small_undisturbed, *arguments)
        shutil.rmtree(account.folder)
    tell(f"after {'every' if every == 1 else 'some'} durable step of {scenario}", reached, n_different)


def test_a_kill_after_any_durable_step_of_a_build_costs_nothing(
    small: SimulatorProcess, small_undisturbed: Account, tmp_path: Path
) -> None:
    arguments = ["sync", *RANGE]
    loaded = Account(tmp_path / "loaded", small.url)
    shutil.copytree(small_undisturbed.data, loaded.data)
    built = Account(tmp_path / "built", small.url)
    shutil.copytree(loaded.data, built.data)
    steps = traced(built, *arguments)
    # The models, their marks and the read snapshot.
    n_steps = len(steps)
    assert n_steps > 10, steps
    every = count(n_steps, full=1)
    reached: Counter[str] = Counter()
    n_different = 0
    for n in range(every // 2 + 1, n_steps + 1, every):
        account = Account(tmp_path / f"killed after {n}", small.url)
        shutil.copytree(loaded.data, account.data)
        made = traced(account, *arguments, kill_after=n)
        if len(made) < n:
            continue  # DuckDB's checkpoints are not the same number every time
        reached[name_of(made[n - 1])] += 1
        assert account.differences(small_undisturbed) == {}
        n_different += healed(account, built, *arguments)
        assert account.differences(built, with_marts=True) == {}
        assert '"pending_loads": 0' in account.run("status", "--json").stdout
        assert [path.name for path in (account.data / "read").iterdir()] == ["warehouse.duckdb"]
        assert readers_see(account) == readers_see(built)
        shutil.rmtree(account.folder)
    tell(f"after {'every' if every == 1 else 'some'} durable step of a build and its snapshot", reached, n_different)


def readers_see(account: Account) -> list[Any]:
    """What is in the read snapshot."""
    with duckdb.connect(str(account.data / "read" / "warehouse.duckdb"), read_only=True) as connection:
        counts = " UNION ALL ".join(f"SELECT count(*) FROM fullstory.{name}" for name in ("events", *MARTS))
        return connection.execute(counts).fetchall()


def killed_at(account: Account, seconds: float, *arguments: str) -> bool:
    """Kill a command after a while; whether it was still running."""
    with account.start(*arguments, start_new_session=True) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("seed", range(count(1, full=4)))
def test_a_kill_at_any_moment_costs_nothing(
    seed: int, large: SimulatorProcess, large_undisturbed: tuple[Account, float], tmp_path: Path
) -> None:
    undisturbed, seconds = large_undisturbed
    command = ("sync", *RANGE, "--no-dbt")

    def fetched() -> Account:
        account = Account(tmp_path / "killed", large.url)
        shutil.copytree(undisturbed.data / "bundles", account.data / "bundles")
        return account

    account = fetched()
    started = time.monotonic()
    account.sync("--no-dbt")
    takes = {False: seconds, True: time.monotonic() - started}
    shutil.rmtree(account.folder)
    moments = random.Random(seed)
    reached: Counter[str] = Counter()
    n_different = 0
    # Every other one has its bundles already, so that parsing and appending are met as often as fetching.
    is_fetched = False
    while sum(reached.values()) < count(4, full=50):
        account = fetched() if is_fetched else Account(tmp_path / "killed", large.url)
        # Python and its libraries are being imported in the first part, which no kill can do anything to.
        started = time.monotonic()
        if killed_at(account, takes[is_fetched] * moments.uniform(0.3, 1.0), *command):
            reached[account.progress()] += 1
            n_different += healed(account, undisturbed, *command)
            is_fetched = not is_fetched
        else:
            # The machine was busier when it was measured.
            takes[is_fetched] = time.monotonic() - started
        shutil.rmtree(account.folder)
    tell(f"at random moments of sync, seed {seed}", reached, n_different)


def test_a_kill_while_dbt_builds_costs_nothing_and_what_it_owes_is_built(
    large: SimulatorProcess, large_undisturbed: tuple[Account, float], tmp_path: Path
) -> None:
    undisturbed, _ = large_undisturbed
    loaded = Account(tmp_path / "loaded", large.url)
    loaded.sync("--no-dbt")
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
    tell("at random moments while dbt builds", reached, n_different)


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
