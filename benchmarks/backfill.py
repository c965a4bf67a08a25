"""Target 5: many windows at once, with FullStory's limit on downloads and without one."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

from benchmarks.syncs import pack, served, sync
from benchmarks.table import Row

_A_MINUTE = 60
"""Downloads a minute, 30 times FullStory's, so that a year takes six minutes and not three hours."""

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
