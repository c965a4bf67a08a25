"""The demo: an account of its own that anybody can try, and Dagster's UI on it."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pytest

from fullstory_dagster.demo import demo_account, settings_or_demo
from fullstory_dagster.errors import SettingsError, UsageError
from fullstory_dagster.simulator.config import DEFAULT_KEY
from fullstory_dagster_tests.counts import count
from fullstory_dagster_tests.reachability import addresses_that_answer

CLI = (sys.executable, "-m", "fullstory_dagster.cli")
NOW = datetime(2026, 6, 9, 15, tzinfo=timezone.utc)


# --- the account


def test_the_newest_of_its_windows_is_available_at_once() -> None:
    account = demo_account(days=7, now=NOW)
    windows = account.settings().grid.available(NOW)
    assert [window.start.day for window in windows] == [1, 2, 3, 4, 5, 6, 7]


def test_its_start_date_and_seed_are_fixed_by_the_first_call(tmp_path: Path) -> None:
    first = demo_account(seed=3, now=NOW)
    assert demo_account() == first
    assert (first.seed, first.home) == (3, tmp_path / "data" / "demo")
    assert demo_account(seed=3) == first
    with pytest.raises(UsageError, match=r"holds the site of seed 3; delete the folder for another one\.$"):
        demo_account(seed=4)
    longer = demo_account(days=9, now=NOW)
    assert (longer.seed, longer.start.day) == (3, 30)


def test_it_shares_no_place_with_the_real_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = {
        "API_KEY": "real-key",
        "API_URL": "https://api.eu1.fullstory.com",
        "EXPORT_API": "bundle",
        "START_DATE": "2026-01-01",
        "BUNDLE_HOURS": "6",
        "DELAY_HOURS": "0",
        "DATA_DIR": str(tmp_path / "real"),
        "STORE_URL": str(tmp_path / "elsewhere"),
        "WAREHOUSE": str(tmp_path / "real.duckdb"),
    }
    for name, value in real.items():
        monkeypatch.setenv(f"FULLSTORY_{name}", value)
    settings = demo_account(now=NOW).settings()
    assert (settings.api_key, settings.api_url) == (None, None)
    with_simulator = demo_account(now=NOW).settings("http://127.0.0.1:8000")
    assert (with_simulator.api_key, with_simulator.api_url) == (DEFAULT_KEY, "http://127.0.0.1:8000")
    assert (settings.export_api, settings.bundle_hours, settings.delay_hours) == ("segment", 24, 24)
    home = tmp_path / "real" / "demo"
    assert (settings.data_dir, settings.store_dir, settings.warehouse) == (home, home, home / "warehouse.duckdb")
    assert settings.dagster_home == home / "dagster"


def test_definitions_are_the_demo_s_without_a_key_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert settings_or_demo().data_dir == tmp_path / "data" / "demo"
    monkeypatch.setenv("FULLSTORY_API_KEY", "real-key")
    with pytest.raises(SettingsError, match="FULLSTORY_START_DATE is not set"):
        settings_or_demo()
    monkeypatch.setenv("FULLSTORY_START_DATE", "2026-06-01")
    assert settings_or_demo().data_dir == tmp_path / "data"


# --- the command


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*CLI, *arguments],
        cwd=folder,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder where the demo ran, beside a real account's warehouse that is none of its business."""
    folder = tmp_path_factory.mktemp("demo")
    ended = run(folder, "demo", "--days", "2", FULLSTORY_WAREHOUSE=str(folder / "real.duckdb"))
    return folder, ended


@pytest.mark.slow
def test_the_demo_loads_builds_and_shows_what_came_of_it(
    demonstrated: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, ended = demonstrated
    assert ended.returncode == 0, ended.stderr
    assert "2 windows loaded" in ended.stdout
    assert "dbt: 20 models built" in ended.stdout
    assert "What one visitor did (session_timeline)" in ended.stdout
    assert "Where people spend their time (page_durations)" in ended.stdout
    assert f"  {folder / 'data' / 'demo' / 'read' / 'warehouse.duckdb'}  the same tables" in ended.stdout
    assert not (folder / "real.duckdb").exists()
    assert {path.name for path in (folder / "data").iterdir()} == {"demo"}
    with duckdb.connect(str(folder / "data/demo/read/warehouse.duckdb"), read_only=True) as connection:
        assert connection.execute("SELECT count(*) > 10 FROM fullstory.sessions").fetchall() == [(True,)]


@pytest.mark.slow
def test_the_demo_again_loads_nothing_and_is_quick(
    demonstrated: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, first = demonstrated
    began = time.monotonic()
    again = run(folder, "demo")
    assert time.monotonic() - began < 20
    assert again.returncode == 0, again.stderr
    assert "0 windows loaded, 0 rows, 2 skipped" in again.stdout
    assert "dbt:" not in again.stdout
    shown = first.stdout[first.stdout.index("What one visitor did") :]
    assert again.stdout.endswith(shown)


@pytest.mark.slow
def test_another_site_is_refused(demonstrated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = demonstrated
    refused = run(folder, "demo", "--seed", "5")
    assert refused.returncode == 2
    assert "holds the site of seed 1; delete the folder for another one." in refused.stderr


# --- dev


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def dev(demonstrated: tuple[Path, subprocess.CompletedProcess[str]], free_port: int) -> Iterator[subprocess.Popen[str]]:
    """``dev`` on the demo, in a session of its own, of which nothing is left."""
    folder, _ = demonstrated
    process = subprocess.Popen(
        ["env", "--default-signal=INT,QUIT,TERM", *CLI, "dev", "--port", str(free_port)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            wait_for_server(free_port, process)
            yield process
        finally:
            for member in session_of(process.pid):
                os.kill(member, signal.SIGKILL)


def wait_for_server(port: int, process: subprocess.Popen[str], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(f"http://127.0.0.1:{port}/server_info", timeout=5) as answer:
                assert b"dagster_version" in answer.read()
                return
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)


def session_of(leader: int) -> list[int]:
    """Processes of a session that are still there."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,sid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, sid, state in rows if int(sid) == leader and not state.startswith("Z")]


def command_with(leader: int, *words: str) -> list[str]:
    """The command line of the first process of a session that has all these words."""
    members = ",".join(map(str, session_of(leader)))
    listed = subprocess.run(
        ["ps", "-ww", "-o", "args=", "-p", members], capture_output=True, text=True, check=True
    ).stdout
    return next(line.split() for line in listed.splitlines() if set(words) <= set(line.split()))


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.soak
@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM to it alone", *count([], full=["SIGINT to it alone"])])
def test_dev_serves_the_ui_to_this_machine_and_leaves_no_process_behind(
    dev: subprocess.Popen[str], free_port: int, how: str
) -> None:
    # dev, dagster dev, its code server, webserver, daemon, and the simulator.
    assert len(session_of(dev.pid)) >= 6
    # The UI starts runs for whoever opens it.
    assert [address for address in addresses_that_answer(free_port) if not is_loopback(address)] == []
    assert {"-h", "127.0.0.1"} <= set(command_with(dev.pid, "dagster", "dev"))
    if how == "ctrl-c":
        os.killpg(dev.pid, signal.SIGINT)
    else:
        dev.send_signal(signal.SIGTERM if "TERM" in how else signal.SIGINT)
    said, _ = dev.communicate(timeout=60)
    assert "No FULLSTORY_API_KEY: running on the demo in " in said
    deadline = time.monotonic() + 10
    while session_of(dev.pid) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert session_of(dev.pid) == []
