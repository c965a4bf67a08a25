"""The commands a person types, as processes of their own, against the simulator in another process."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dotenv import dotenv_values
from typer.testing import CliRunner

from fullstory_dagster.cli import app
from fullstory_dagster.errors import RequestRefusedError, WindowNotOfferedError, WindowUnavailableError
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.store.attempts import AttemptLog
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.objects import LocalStore
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.windows import Window

HEARS_CTRL_C = ["env", "--default-signal=INT"]
"""A script in the background may have the signal ignored, and its children with it."""
COMMANDS = ("init", "sync", "reset", "forget", "status", "demo", "dev", "simulate")
CLI = (sys.executable, "-m", "fullstory_dagster.cli")
KEY = "simulator-key"
N_WINDOWS = 3

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def days_ago(number: int) -> datetime:
    return datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=number)


@pytest.fixture(scope="module")
def started() -> Iterator[SimulatorProcess]:
    config = SimulatorConfig(days=N_WINDOWS + 1, scale=0.05, export_s=0, api_key=KEY)
    with SimulatorProcess(config) as simulator:
        yield simulator


@pytest.fixture
def simulator(started: SimulatorProcess) -> SimulatorProcess:
    started.clear()
    return started


@pytest.fixture
def cli(tmp_path: Path) -> Run:
    """Run a command in an empty folder, without a terminal; keyword arguments are environment variables."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments],
            cwd=tmp_path,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return run


@pytest.fixture
def connected(tmp_path: Path, simulator: SimulatorProcess) -> Path:
    """A folder whose ``.env`` connects the simulator, with three windows available."""
    start = f"{days_ago(N_WINDOWS + 1):%Y-%m-%d}"
    values = {"API_KEY": KEY, "API_URL": simulator.url, "START_DATE": start, "DUCKDB_THREADS": "1"}
    (tmp_path / ".env").write_text("".join(f"FULLSTORY_{name}={value}\n" for name, value in values.items()))
    return tmp_path


def n_events(folder: Path) -> int:
    with duckdb.connect(str(folder / "data" / "warehouse.duckdb"), read_only=True) as connection:
        [(n_rows,)] = connection.execute("SELECT count(*) FROM fullstory.events").fetchall()
        return int(n_rows)


def assert_wrong_use(ended: subprocess.CompletedProcess[str], sentence: str) -> None:
    assert ended.returncode == 2, ended.stderr
    assert sentence in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


# --- help and wrong use


@pytest.mark.parametrize("command", COMMANDS[:-1])
def test_every_command_says_what_it_does(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage: " in result.output
    assert len(result.output.splitlines()) > 4


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert [name for name in COMMANDS if f" {name} " not in result.output] == []


def test_the_simulator_s_help_is_its_own(cli: Run) -> None:
    helped = cli("simulate", "--help")
    assert helped.returncode == 0
    assert "--export-seconds" in helped.stdout


def test_the_version_is_the_package_s(cli: Run) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", cli("--version").stdout)


SOME_ACCOUNT = {"FULLSTORY_API_KEY": "k", "FULLSTORY_START_DATE": "2026-06-01"}


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["sync"], {}, "FULLSTORY_API_KEY is not set; run 'fullstory-dagster init'"),
        (["status"], {}, "FULLSTORY_API_KEY is not set"),
        (["reset", "--yes"], {}, "FULLSTORY_API_KEY is not set"),
        (["sync"], {"FULLSTORY_API_KEY": "k"}, "FULLSTORY_START_DATE is not set; run 'fullstory-dagster init'"),
        (["sync"], SOME_ACCOUNT | {"FULLSTORY_BUNDLE_HOURS": "5"}, "FULLSTORY_BUNDLE_HOURS is '5', but must be"),
        (["sync"], SOME_ACCOUNT | {"FULLSTORY_BUNDEL_HOURS": "6"}, "FULLSTORY_BUNDLE_HOURS may be meant"),
        (["sync", "--from", "tomorrow"], SOME_ACCOUNT, "'tomorrow' must be a date"),
        (["sync", "--from", "2026-05-31"], SOME_ACCOUNT, "before FULLSTORY_START_DATE (2026-06-01 00:00 UTC)"),
        (["sync", "--from", "2026-06-02", "--to", "2026-06-02"], SOME_ACCOUNT, "holds no window"),
        (["sync", "--jobs", "0"], SOME_ACCOUNT, "--jobs"),
        (["reset"], SOME_ACCOUNT, "There is no terminal to ask on; add --yes"),
        (["forget", "--yes"], {}, "exactly one of --email, --app-key and --indv-id"),
        (["forget", "--email", "a@b.test", "--indv-id", "5", "--yes"], SOME_ACCOUNT, "exactly one of"),
        (["forget", "--app-key", " ", "--yes"], SOME_ACCOUNT, "exactly one of"),
        (["forget", "--email", "ann", "--yes"], SOME_ACCOUNT, "that has no @ in it"),
        (["forget", "--indv-id", "5.0", "--yes"], SOME_ACCOUNT, "--indv-id takes a whole number"),
        (["forget", "--app-key", "ann"], SOME_ACCOUNT, "There is no terminal to ask on; add --yes to erase"),
        (["forget", "--app-key", "ann", "--yes"], {}, "FULLSTORY_API_KEY is not set"),
        (["init"], {}, "There is no terminal to ask for the key on; set FULLSTORY_API_KEY"),
        (["demo", "--days", "0"], {}, "--days"),
        (["simulate", "--days", "0"], {}, "argument --days: 0 is not above zero"),
        (["frobnicate"], {}, "No such command 'frobnicate'"),
        (["sync", "--frobnicate"], {}, "No such option"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_use_is_told_in_a_sentence_and_ends_with_2(
    cli: Run, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    assert_wrong_use(cli(*arguments, **environment), sentence)


def test_the_key_stands_in_no_message(cli: Run) -> None:
    ended = cli("sync", FULLSTORY_API_KEY="se cret", FULLSTORY_START_DATE="2026-06-01")
    assert_wrong_use(ended, "FULLSTORY_API_KEY is set, but must be printable ASCII")
    assert "cret" not in ended.stderr


# --- init


@pytest.mark.slow
def test_init_writes_the_key_and_fixes_the_start_date_a_year_back(
    cli: Run, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    ended = cli("init", FULLSTORY_API_KEY=KEY, FULLSTORY_API_URL=simulator.url)
    assert ended.returncode == 0, ended.stderr
    env = tmp_path / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    written = dotenv_values(env)
    assert written["FULLSTORY_API_KEY"] == KEY
    assert written["FULLSTORY_START_DATE"] == f"{days_ago(365):%Y-%m-%d}"
    assert KEY not in ended.stdout + ended.stderr
    assert [request["path"] for request in simulator.requests() if request["method"] == "POST"] == []


@pytest.mark.slow
def test_init_again_keeps_the_start_date(cli: Run, connected: Path) -> None:
    before = (connected / ".env").read_text()
    ended = cli("init")
    assert ended.returncode == 0, ended.stderr
    assert "needed nothing new" in ended.stdout
    assert (connected / ".env").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize("export_api", ["segment", "bundle"])
def test_a_wrong_key_is_a_sentence_and_writes_nothing(
    cli: Run, simulator: SimulatorProcess, tmp_path: Path, export_api: str
) -> None:
    ended = cli("init", FULLSTORY_API_KEY="wrong-key", FULLSTORY_API_URL=simulator.url, FULLSTORY_EXPORT_API=export_api)
    assert ended.returncode == 1
    assert ended.stderr.startswith("fullstory-dagster: FullStory did not accept the API key")
    assert len(ended.stderr.splitlines()) == 1
    assert "wrong-key" not in ended.stderr
    assert not (tmp_path / ".env").exists()


# --- sync, status, reset


@pytest.mark.slow
def test_sync_loads_what_is_available_once_and_builds_once(cli: Run, connected: Path) -> None:
    first = cli("sync", "--json")
    assert first.returncode == 0, first.stderr
    summary: dict[str, Any] = json.loads(first.stdout)
    assert summary.keys() == {"loaded", "skipped", "failed", "expired", "not_deleted", "rows", "seconds", "dbt"}
    assert [load["window"]["start"] for load in summary["loaded"]] == [
        f"{days_ago(number):%Y-%m-%dT%H:%M:%SZ}" for number in (4, 3, 2)
    ]
    assert summary["dbt"]["models"] == 20
    assert summary["dbt"]["failures"] == []
    assert n_events(connected) == summary["rows"] > 0

    second = cli("sync")
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith("0 windows loaded, 0 rows, 3 skipped, 0 failed, ")
    assert "dbt" not in second.stdout
    assert n_events(connected) == summary["rows"]

    status = json.loads(cli("status", "--json", FORCE_COLOR="1").stdout)
    assert status["counts"]["loaded"] == N_WINDOWS
    assert (status["rows"], status["pending_loads"]) == (summary["rows"], 0)
    assert [entry["state"] for entry in status["windows"]] == ["loaded"] * N_WINDOWS
    assert "3        loaded" in cli("status").stdout

    reset = cli("reset", "--yes", "--no-dbt", "--from", f"{days_ago(3):%Y-%m-%d}", "--to", f"{days_ago(2):%Y-%m-%d}")
    assert reset.returncode == 0, reset.stderr
    assert "[1/1]" in reset.stdout
    assert n_events(connected) == summary["rows"]
    assert json.loads(cli("status", "--json").stdout)["pending_loads"] == 1
    assert "dbt: 20 models built" in cli("sync").stdout


@pytest.mark.slow
def test_report_without_marts_says_what_to_do_and_leaves_nothing(cli: Run, connected: Path) -> None:
    assert cli("sync", "--no-dbt").returncode == 0
    ended = cli("report")
    assert ended.returncode == 1
    assert ended.stderr.startswith("fullstory-dagster: The models daily_metrics, ")
    assert "Run 'fullstory-dagster sync' first" in ended.stderr
    assert not list(connected.rglob("*.html"))


@pytest.mark.slow
def test_a_window_that_fails_is_named_and_the_others_stay(
    cli: Run, connected: Path, simulator: SimulatorProcess
) -> None:
    simulator.set_faults([{"route": "export_start", "status": 404, "times": 1}])
    ended = cli("sync", "--no-dbt", "--jobs", "1")
    assert ended.returncode == 1
    failed = f"{days_ago(4):%Y-%m-%d %H:%M} to {days_ago(3):%Y-%m-%d %H:%M} UTC"
    assert f"[1/3] {failed}: FAILED" in ended.stdout
    assert "2 windows loaded" in ended.stdout
    assert f"  failed {failed}: FullStory" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr

    status = cli("status")
    assert status.returncode == 0
    assert f"{failed}: failed. FullStory" in status.stdout
    assert "(1 try, the last at " in status.stdout
    checked = cli("status", "--check", "--json")
    assert checked.returncode == 1
    [gap] = json.loads(checked.stdout)["gaps"]
    assert (gap["state"], len(gap["windows"])) == ("failed", 1)
    # A person who asks again is a person who has looked.
    again = json.loads(cli("sync", "--no-dbt", "--json").stdout)
    assert [len(again[name]) for name in ("loaded", "skipped", "failed")] == [1, 2, 0]
    assert cli("status", "--check").returncode == 0


@pytest.mark.slow
def test_status_tells_every_state_apart_and_how_late_what_is_not_there(cli: Run, connected: Path) -> None:
    start = {"FULLSTORY_START_DATE": f"{days_ago(9):%Y-%m-%d}"}
    for first, last in ((9, 8), (4, 2)):
        bounds = ("--from", f"{days_ago(first):%Y-%m-%d}", "--to", f"{days_ago(last):%Y-%m-%d}")
        assert cli("sync", "--no-dbt", *bounds, **start).returncode == 0
    with duckdb.connect(str(connected / "data" / "warehouse.duckdb")) as connection:
        connection.execute(
            "UPDATE fullstory._loads SET requested_at = window_end WHERE window_start = ?",
            [days_ago(3).replace(tzinfo=None)],
        )
    attempts = AttemptLog(LocalStore(connected / "data"), "fullstory")
    errors = {
        8: RequestRefusedError("Refused."),
        7: WindowUnavailableError("Not yet."),
        6: WindowNotOfferedError("Old."),
    }
    for number, error in errors.items():
        attempts.record_failure(Window(days_ago(number), days_ago(number - 1)), "fetch", error, days_ago(1))

    before = datetime.now(timezone.utc)
    ended = cli("status", "--json", **start)
    after = datetime.now(timezone.utc)
    assert (ended.returncode, ended.stderr) == (0, "")
    status = json.loads(ended.stdout)
    assert [entry["state"] for entry in status["windows"]] == [
        "empty",
        "failed",
        "partial",
        "not offered",
        "missing",
        "loaded",
        "unsettled",
        "missing",
    ]
    assert status["counts"] == dict.fromkeys(status["counts"], 1) | {"missing": 2, "expired": 0}
    for number, entry in zip(range(9, 1, -1), status["windows"], strict=True):
        available_at = days_ago(number - 2)
        assert entry["available_at"] == f"{available_at:%Y-%m-%dT%H:%M:%SZ}"
        due_at = days_ago(number - 2) if number != 6 else None
        late = {round((now - due_at) / timedelta(hours=1), 1) for now in (before, after)} if due_at else {None}
        assert entry["late_hours"] in ({None} if number in (9, 4) else late)
    assert [entry["error"] for entry in status["windows"]][1:4] == ["Refused.", "Not yet.", "Old."]

    said = cli("status", **start)
    assert said.returncode == 0
    for state in ("empty", "unsettled", "missing", "partial", "not offered", "failed"):
        assert f" UTC: {state}. " in said.stdout
    assert " h late)\n" in said.stdout


@pytest.mark.slow
def test_dbt_that_cannot_begin_loses_no_summary(cli: Run, connected: Path) -> None:
    assert cli("sync", "--no-dbt").returncode == 0
    ended = cli("sync", "--json", DBT_PARTIAL_PARSE="neither true nor false")
    assert ended.returncode == 1
    summary = json.loads(ended.stdout)
    assert len(summary["skipped"]) == N_WINDOWS
    [failure] = summary["dbt"]["failures"]
    assert failure.startswith("dbt build did not begin: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_a_warehouse_that_somebody_holds_is_named_with_its_holder(cli: Run, connected: Path) -> None:
    assert cli("sync", "--no-dbt", "--to", f"{days_ago(3):%Y-%m-%d}").returncode == 0
    warehouse = Warehouse(DatabaseFile(connected / "data" / "warehouse.duckdb"), "fullstory")
    with warehouse.database.locked():
        ended = cli("status", FULLSTORY_LOCK_TIMEOUT_S="0")
    assert ended.returncode == 1
    assert f"was held by process {os.getpid()} for more than 0 s" in ended.stderr


@pytest.mark.slow
def test_what_is_loaded_here_shows_in_dagster_at_once_if_it_has_a_home(cli: Run, connected: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dagster as dg

        from fullstory_dagster.defs.home import prepare_home

        start = days_ago(N_WINDOWS + 1)
        home = prepare_home(Settings(start=start, data_dir=connected / "data"))
        ended = cli("sync", "--json")
        assert ended.returncode == 0, ended.stderr
        json.loads(ended.stdout)
        with dg.DagsterInstance.from_config(str(home)) as instance:
            for name in ("raw_bundles", "parsed_events", "events", "sessions", "page_durations", "session_timeline"):
                known = instance.get_materialized_partitions(dg.AssetKey(["fullstory", name]))
                assert known == {f"{days_ago(number):%Y-%m-%d}" for number in (4, 3, 2)}, name


@pytest.mark.slow
def test_ctrl_c_says_what_stays(connected: Path, simulator: SimulatorProcess) -> None:
    # An export that never ends is not waited for.
    simulator.set_faults([{"route": "operation", "operation_state": "RUNNING", "times": -1}])
    command = [*HEARS_CTRL_C, *CLI, "sync", "--no-dbt"]
    with subprocess.Popen(
        command, cwd=connected, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            wait_until(lambda: any("/operations/" in request["path"] for request in simulator.requests()))
            os.killpg(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=15)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert said == "fullstory-dagster: Interrupted; the windows that were loaded are loaded.\n"


def wait_until(is_so: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# --- simulate


def test_simulate_runs_until_it_is_interrupted(tmp_path: Path) -> None:
    command = [*HEARS_CTRL_C, *CLI, "simulate", "--days", "1", "--api-key", "k1"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"FullStory simulator at http://127\.0\.0\.1:\d+ \(API key: k1\)\n", line)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
