"""`fullstory-dagster sync` in a process of its own, against a simulator that sends files made beforehand."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.inputs import START, day, traffic
from benchmarks.process import Cost, command
from fullstory_dagster.simulator.config import DEFAULT_KEY, SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

_CLI = (sys.executable, "-m", "fullstory_dagster.cli")


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
    bounds = ["--from", f"{day(windows.start).start:%Y-%m-%d}", "--to", f"{day(windows.stop).start:%Y-%m-%d}"]
    arguments = [*prefix, *_CLI, "sync", *bounds, "--json", *options]
    cost = command(arguments, environment | (settings or {}), cwd=folder)
    told: dict[str, Any] = msgspec.json.decode(cost.output)
    return cost, told
