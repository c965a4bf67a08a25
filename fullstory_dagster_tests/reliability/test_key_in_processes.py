"""A sync as a person starts it: its key is in no process list, and on no other host than FullStory's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

from .failures import CANARY_KEY, ROUTES, SPELLINGS, Api
from .report import record
from .surroundings import recording_host

pytestmark = pytest.mark.slow

PROC = Path("/proc")


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(SimulatorConfig(days=3, scale=0.05, api_key=CANARY_KEY)) as simulator:
        yield simulator


def sync(simulator: SimulatorProcess, folder: Path, *arguments: str, api: Api = "segment") -> subprocess.Popen[bytes]:
    start = datetime.now(timezone.utc) - timedelta(days=3)
    environment = {
        **os.environ,
        "FULLSTORY_API_KEY": CANARY_KEY,
        "FULLSTORY_API_URL": simulator.url,
        "FULLSTORY_EXPORT_API": api,
        "FULLSTORY_START_DATE": f"{start:%Y-%m-%d}",
        "FULLSTORY_DOWNLOADS_PER_MINUTE": "0",
        "FULLSTORY_DATA_DIR": str(folder / "data"),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "fullstory_dagster.cli", "sync", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def family_of(pid: int) -> dict[int, bytes]:
    """Command lines of a process and of all that descend from it, by process id."""
    parents, lines = {}, {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal():
            try:
                # Behind the name, which stands in brackets and may hold anything.
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                lines[int(folder.name)] = (folder / "cmdline").read_bytes()
            except (OSError, IndexError):
                continue  # it has ended meanwhile
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    return {member: lines[member] for member in family if member in lines}


@pytest.mark.skipif(not PROC.is_dir(), reason="process lists are read from /proc")
def test_no_process_of_a_sync_shows_the_key(simulator: SimulatorProcess, tmp_path: Path) -> None:
    simulator.clear()
    seen: set[tuple[int, bytes]] = set()
    with sync(simulator, tmp_path) as process:
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                # The simulator is a child of this process, and so is the sync, with whatever dbt starts below it.
                seen.update(family_of(os.getpid()).items())

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            said, _ = process.communicate(timeout=120)
        finally:
            ended.set()
            watcher.join()
    assert process.returncode == 0, said.decode()
    lines = [line for _, line in seen]
    assert any(b"fullstory_dagster.cli" in line for line in lines)
    assert any(b"fullstory_dagster.simulator" in line for line in lines)
    assert b"models built" in said
    found = [line for line in (*lines, said) for spelling in SPELLINGS if spelling.encode() in line]
    assert found == []
    record("processes", {"command lines looked at": len(seen), "with the key": len(found)})


@pytest.mark.parametrize(("api", "route"), [(api, route) for api, routes in ROUTES.items() for route in routes])
def test_no_redirect_brings_the_key_elsewhere(
    simulator: SimulatorProcess, tmp_path: Path, api: Api, route: str
) -> None:
    simulator.clear()
    with recording_host() as elsewhere:
        simulator.set_faults([{"route": route, "redirect": f"{elsewhere.url}/export?of=yours", "times": -1}])
        with sync(simulator, tmp_path, "--no-dbt", api=api) as process:
            said, _ = process.communicate(timeout=120)
        assert process.returncode == 1, said.decode()
        assert b"redirected to 127.0.0.1" in said
        assert b"Traceback" not in said
        assert not any(spelling.encode() in said for spelling in SPELLINGS)
        assert elsewhere.seen == []
    for path in (tmp_path / "data").rglob("*"):
        assert not (path.is_file() and any(spelling.encode() in path.read_bytes() for spelling in SPELLINGS)), path
