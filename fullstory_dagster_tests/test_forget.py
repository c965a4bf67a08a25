"""`forget` as people run it: processes, dbt models, a snapshot, a Dagster home; and every byte is searched after."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pytest

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster_tests.counts import IS_SOAK
from fullstory_dagster_tests.erased_person import (
    APP_KEY,
    EMAIL,
    N_THEIR_EVENTS,
    N_THEIR_REJECTS,
    TRACES,
    served_rows,
    tables_in,
    traces_in,
)
from fullstory_dagster_tests.ingest.conftest import NOW

pytestmark = pytest.mark.slow

CLI = (sys.executable, "-m", "fullstory_dagster.cli")
MARTS = ("sessions", "page_durations", "session_timeline")
FORGET = ("forget", "--email", EMAIL.upper(), "--yes")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("served") / "events.json"
    data.write_text(json.dumps(served_rows()))
    with SimulatorProcess(SimulatorConfig(data=data, now=NOW, export_s=0)) as running:
        yield running


@pytest.fixture(scope="module")
def account(simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose ``.env`` connects the simulator; ``synced`` beside it is a data dir with June 1 to 4."""
    folder = tmp_path_factory.mktemp("account") / "folder"
    folder.mkdir()
    values = {
        "API_KEY": simulator.api_key,
        "API_URL": simulator.url,
        "START_DATE": "2026-06-01",
        "DUCKDB_THREADS": "1",
        "DOWNLOADS_PER_MINUTE": "0",
    }
    (folder / ".env").write_text("".join(f"FULLSTORY_{name}={value}\n" for name, value in values.items()))
    # Days after the data are available to the machine's clock as well, and empty.
    subprocess.run([*CLI, "sync", "--to", "2026-06-05"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (folder / "data").rename(folder.parent / "synced")
    return folder


@pytest.fixture
def folder(account: Path) -> Path:
    """The account's folder as it was after the sync, at the same path: at another one dbt would parse anew."""
    shutil.rmtree(account / "data", ignore_errors=True)
    shutil.copytree(account.parent / "synced", account / "data")
    return account


@pytest.fixture
def cli(folder: Path) -> Run:
    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLI, *arguments],
            cwd=folder,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )

    return run


@pytest.fixture
def synced(folder: Path) -> Path:
    """The data dir, with June 1 to 4 loaded and modelled, and a snapshot."""
    return folder / "data"


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CLI, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def marts(data_dir: Path) -> dict[str, list[tuple[Any, ...]]]:
    tables = tables_in(data_dir / "warehouse.duckdb")
    return {name: tables[f"fullstory.{name}"] for name in MARTS}


def others_of(rows: list[tuple[Any, ...]], data_dir: Path, mart: str) -> list[tuple[Any, ...]]:
    """Rows of a mart for sessions of which no event was erased."""
    with duckdb.connect(str(data_dir / "warehouse.duckdb"), read_only=True) as connection:
        names = [name for name, *_ in connection.execute(f"DESCRIBE fullstory.{mart}").fetchall()]
    key = names.index("session_key")
    return [row for row in rows if row[key].split(":")[0].startswith("8") or row[key].endswith(":16")]


def assert_counts_add_up(data_dir: Path) -> None:
    """The checks of the events asset, on the current loads, and dbt owing nothing."""
    with duckdb.connect(str(data_dir / "warehouse.duckdb"), read_only=True) as connection:
        loads = connection.execute(
            "SELECT window_start, load_id, rows_in, rows_kept, rows_rejected, rows_outside + rows_duplicate, "
            "rows_forgotten FROM fullstory._loads "
            "QUALIFY row_number() OVER (PARTITION BY window_start ORDER BY load_id DESC) = 1"
        ).fetchall()
        in_table = dict(
            connection.execute("SELECT _window_start, count(*) FROM fullstory.events GROUP BY ALL").fetchall()
        )
        rejected = connection.execute("SELECT count(*) FROM fullstory._rejected").fetchone()
        marks = connection.execute("SELECT max(load_id) FROM fullstory._builds GROUP BY model").fetchall()
    for window, _, rows_in, kept, n_rejected, elsewhere, forgotten in loads:
        assert rows_in == kept + n_rejected + elsewhere + forgotten
        assert kept == in_table.get(window, 0)
    assert rejected == (sum(load[4] for load in loads),)
    assert sum(load[6] for load in loads) == N_THEIR_EVENTS + N_THEIR_REJECTS
    assert {mark for (mark,) in marks} == {max(load[1] for load in loads)}


def test_a_person_is_erased_from_models_snapshot_and_all_and_stays_out(cli: Run, synced: Path, folder: Path) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fullstory_dagster.defs.home import prepare_home
        from fullstory_dagster.settings import read_settings

        prepare_home(read_settings(dotenv=folder / ".env"))
    assert cli("sync", "--to", "2026-06-05").returncode == 0  # Dagster's home is told
    assert any(name.startswith("read/") for name in traces_in(synced))
    before = marts(synced)
    assert any(APP_KEY in repr(row) for row in before["sessions"])
    assert cli("report").returncode == 0
    assert (synced / "report" / "experience_report.html").is_file()

    # A snapshot that is never made by itself is renewed as well, when there is one.
    ended = cli(*FORGET, "--json", FULLSTORY_SNAPSHOT_MINUTES="0")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    receipt: dict[str, Any] = json.loads(ended.stdout)
    assert traces_in(folder) == {}
    assert [trace for trace in TRACES if trace in (ended.stdout + ended.stderr).lower()] == []
    assert (receipt["events"], receipt["rejects"]) == (N_THEIR_EVENTS, N_THEIR_REJECTS)
    assert receipt["models"] == 20
    assert Path(receipt["receipt"]).is_file()
    assert not (synced / "report" / "experience_report.html").exists()
    assert_counts_add_up(synced)
    after = marts(synced)
    for mart in MARTS:
        assert after[mart] == others_of(before[mart], synced, mart)
    assert marts_of_snapshot(synced) == after
    assert not list(synced.glob("*.wal"))

    # Full refresh and data tests of the models on what is left.
    assert_dbt_is_content(cli, folder)
    # The whole table again: from the kept bundles, then from FullStory, which still serves them.
    for _ in range(2):
        reset = cli("reset", "--yes", "--to", "2026-06-05")
        assert reset.returncode == 0, reset.stdout + reset.stderr
        assert traces_in(folder) == {}
        assert_counts_add_up(synced)
        assert marts(synced) == after
        shutil.rmtree(synced / "bundles")


def marts_of_snapshot(data_dir: Path) -> dict[str, list[tuple[Any, ...]]]:
    tables = tables_in(data_dir / "read" / "warehouse.duckdb")
    return {name: tables[f"fullstory.{name}"] for name in MARTS}


def assert_dbt_is_content(cli: Run, folder: Path) -> None:
    # Nothing is owed, so that a build of everything changes nothing.
    before = marts(folder / "data")
    code = (
        "from fullstory_dagster.defs.dbt.project import DbtProject\n"
        "from fullstory_dagster.ingest.opening import open_ingestion\n"
        "from fullstory_dagster.settings import read_settings\n"
        "s = read_settings()\n"
        "b = DbtProject(s).build(open_ingestion(s).warehouse, full_refresh=True)\n"
        "assert not b.failures, b.failures\n"
        "assert b.n_tests > 10\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=folder, check=True, timeout=120)
    assert marts(folder / "data") == before


def test_words_for_people_and_exit_codes(cli: Run, synced: Path) -> None:
    nobody = cli("forget", "--app-key", "nobody-s-key", "--yes")
    assert nobody.returncode == 1
    assert "Nobody was found by that; is it spelt right?" in nobody.stdout
    ended = cli(*FORGET)
    assert ended.returncode == 0, ended.stderr
    assert "Found 3 devices: 13 events in 4 windows of the warehouse, and rows in 4 kept bundles." in ended.stdout
    assert "Erased 13 events and 3 rejected rows of 4 windows" in ended.stdout
    assert "20 models rebuilt" in ended.stdout
    assert "Receipt: " in ended.stdout
    again = cli(*FORGET)
    assert again.returncode == 0
    assert "Nothing of this person is left but their name on the list" in again.stdout
    assert traces_in(synced) == {}


@pytest.mark.parametrize(
    ("command", "question"),
    [(FORGET[:-1], b"Erase all of it, up to now? There is no way back."), (("reset",), b"Load every window from")],
    ids=["forget", "reset"],
)
@pytest.mark.parametrize("answer", [b"n\n", b"\x04"], ids=["no", "end of input"])
def test_who_says_no_at_a_terminal_changes_nothing(
    folder: Path, synced: Path, command: tuple[str, ...], question: bytes, answer: bytes
) -> None:
    def state() -> dict[str, bytes]:
        files = (path for path in synced.rglob("*") if path.is_file() and ".lock" not in path.name)
        return {str(path): path.read_bytes() for path in files}

    before = state()
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*CLI, *command], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the terminal ends with the process
        while chunk := os.read(ours, 1000):
            shown += chunk
            if answer and b"[y/N]" in shown:
                os.write(ours, answer)
                answer = b""
    os.close(ours)
    assert process.wait(30) == 1
    assert question in shown
    assert state() == before


def test_models_that_fail_are_told_of_without_a_word_of_the_rows(cli: Run, synced: Path) -> None:
    with duckdb.connect(str(synced / "warehouse.duckdb")) as connection:
        connection.execute("ALTER TABLE fullstory.sessions RENAME COLUMN user_email TO mail")
    ended = cli(*FORGET)
    assert ended.returncode == 1
    assert "not erased everywhere yet" in ended.stderr
    assert "not all dbt models could be rebuilt" in ended.stderr
    assert [trace for trace in TRACES if trace in (ended.stdout + ended.stderr).lower()] == []
    with duckdb.connect(str(synced / "warehouse.duckdb")) as connection:
        connection.execute("ALTER TABLE fullstory.sessions RENAME COLUMN mail TO user_email")
    assert cli(*FORGET).returncode == 0
    assert traces_in(synced) == {}
    assert_counts_add_up(synced)


def test_two_at_once_and_a_sync_beside_them_are_exact(cli: Run, synced: Path, folder: Path) -> None:
    shutil.rmtree(synced / "bundles")
    processes = [
        start(folder, *FORGET),
        start(folder, "forget", "--app-key", APP_KEY, "--yes"),
        start(folder, "reset", "--yes", "--to", "2026-06-05", "--jobs", "2"),
    ]
    said = [process.communicate(timeout=180)[0] for process in processes]
    # Who comes second may find nobody any more, and says so by its exit code.
    assert processes[0].returncode in (0, 1), said[0]
    assert processes[1].returncode in (0, 1), said[1]
    assert "Traceback" not in "".join(said)
    assert cli("sync", "--to", "2026-06-05").returncode == 0
    ended = cli(*FORGET)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert traces_in(folder) == {}
    assert_counts_add_up(synced)


MOMENTS_S = [round(0.2 + 0.23 * number, 2) for number in range(20)] if IS_SOAK else [1.12]


@pytest.mark.soak
@pytest.mark.parametrize("after_s", MOMENTS_S)
def test_killed_at_any_moment_the_next_one_completes_it(cli: Run, synced: Path, folder: Path, after_s: float) -> None:
    process = start(folder, *FORGET)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    ended = cli(*FORGET)
    assert ended.returncode in (0, 1), ended.stderr
    assert "Traceback" not in ended.stderr
    assert traces_in(folder) == {}
    assert_counts_add_up(synced)
    assert len(json.loads((synced / "forgotten.json").read_text())["erasures"]) == 1
