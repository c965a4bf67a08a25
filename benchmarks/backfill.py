"""Target 5: many windows at once, with FullStory's limit on downloads and without one."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.inputs import START, day, traffic
from benchmarks.process import Cost, command
from benchmarks.table import Row
from fullstory_dagster.simulator.config import DEFAULT_KEY, SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

_A_MINUTE = 60
"""Downloads a minute, 30 times FullStory's, so that a year takes six minutes and not three hours."""

_CLI = (sys.executable, "-m", "fullstory_dagster.cli")
_SECTION = "Backfill"


def measure_limited(folder: Path, n_windows: int) -> Iterator[Row]:
    """Time of a backfill to what the limit alone dictates."""
    with served(folder, n_windows, 50, rate_limit=_A_MINUTE) as simulator:
        cost, told = sync(folder / "limited", simulator.url, range(n_windows), _A_MINUTE)
    assert len(told["loaded"]) == n_windows, told
    # As many at once as a minute grants, and as many again in each minute after.
    dictated_s = (math.ceil(n_windows / _A_MINUTE) - 1) * 60.0
    what = f"{n_windows} windows at {_A_MINUTE} downloads a minute, models included, to what the limit dictates"
    yield Row(_SECTION, what, f"{cost.wall_s:.0f} s", f"{dictated_s:.0f} s", cost.wall_s / dictated_s, 1.05)
    assert told["dbt"]["models"] > 0


def measure_unlimited(folder: Path, n_windows: int, n_events: int) -> Iterator[Row]:
    """How busy a sync keeps the cores, the simulator that sends the files aside."""
    with served(folder, n_windows, n_events) as simulator:
        pack(folder / "packed", simulator.url, n_windows)
        cost, told = sync(folder / "unlimited", simulator.url, range(n_windows), 0, "--no-dbt")
    assert len(told["loaded"]) == n_windows, told
    n_cores = os.cpu_count() or 1
    what = f"cores busy with a sync of {n_windows} windows of {n_events:,} events, to all there are"
    busy = cost.cpu_s / told["seconds"]
    yield Row(_SECTION, what, f"{busy:.2f}", f"{n_cores}", busy / n_cores, 0.8, is_floor=True)


def served(folder: Path, n_windows: int, n_events: int, rate_limit: int = 0) -> SimulatorProcess:
    """A simulator that serves a file, because made-up traffic takes longer to make up than to load."""
    data = folder / f"{n_windows} windows.ndjson"
    shop = traffic(n_events, n_windows)
    encode = msgspec.json.Encoder().encode
    with data.open("wb") as file:
        for row in shop.events(START, START + timedelta(days=n_windows)):
            file.write(encode(row) + b"\n")
    now = day(n_windows + 2).start
    return SimulatorProcess(
        SimulatorConfig(data=data, days=n_windows + 1, now=now, rate_limit=rate_limit), start_timeout_s=300
    )


def pack(folder: Path, url: str, n_windows: int) -> None:
    """Have the simulator pack its files, which takes it longer than they take to load; FullStory's are there."""
    sync(folder, url, range(n_windows), 0, "--no-dbt")
    shutil.rmtree(folder)


def sync(
    folder: Path,
    url: str,
    windows: range,
    a_minute: int,
    *options: str,
    settings: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> tuple[Cost, dict[str, Any]]:
    """Run `fullstory-dagster sync` in a process of its own.

    Args:
        folder: is made, with the data dir in it.
        url: of the simulator.
        windows: days, by number.
        a_minute: how many downloads a minute it believes to have.
        options: of the command.
        settings: besides those that follow from the above.
        prefix: what the command is run by.

    Returns:
        tuple: what it cost, and what it said.
    """
    folder.mkdir()
    environment = {
        "FULLSTORY_API_KEY": DEFAULT_KEY,
        "FULLSTORY_API_URL": url,
        "FULLSTORY_EXPORT_API": "bundle",
        "FULLSTORY_START_DATE": f"{START:%Y-%m-%d}",
        "FULLSTORY_DATA_DIR": str(folder / "data"),
        "FULLSTORY_DOWNLOADS_PER_MINUTE": str(a_minute),
    }
    summary = folder / "summary.json"
    script = f'"$@" > "{summary}"'
    bounds = ["--from", f"{day(windows.start).start:%Y-%m-%d}", "--to", f"{day(windows.stop).start:%Y-%m-%d}"]
    arguments = ["sh", "-c", script, "sh", *prefix, *_CLI, "sync", *bounds, "--json", *options]
    cost = command(arguments, environment | (settings or {}), cwd=folder)
    told: dict[str, Any] = msgspec.json.decode(summary.read_bytes())
    return cost, told
