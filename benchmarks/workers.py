"""Several workers at one warehouse, with no limit on downloads: windows a minute.

Each worker is a process with one core to itself while there are as many, as a small host would be: what a second one
brings is not hidden by the first one's use of all cores. The simulator that sends the files is on the same cores.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from benchmarks.syncs import pack, served, sync
from benchmarks.table import Row
from benchmarks.warehouses import KINDS, lake_catalog


def measure(folder: Path, n_windows: int, n_events: int, n_workers: Sequence[int]) -> Iterator[Row]:
    """Load the same windows with one worker, and with several that share them out.

    Args:
        folder: for the accounts.
        n_windows: to load; whoever works gets as many neighbours of them as the others.
        n_events: in each.
        n_workers: how many workers are tried.
    """
    section = f"Workers, {n_windows} windows of {n_events:,} events, without models"
    rates: dict[tuple[str, int], float] = {}
    with served(folder, n_windows, n_events) as simulator:
        pack(folder / "packed", simulator.url, n_windows)
        for kind in KINDS:
            for n in n_workers:
                rate = _rate(folder / f"{kind} {n}", simulator.url, kind, n_windows, n)
                first = rates.setdefault((kind, n_workers[0]), rate)
                rates[kind, n] = rate
                if n != n_workers[0]:
                    what = f"windows a minute into a {kind}, {n} workers to {n_workers[0]}"
                    yield Row(section, what, f"{rate:.0f} a minute", f"{first:.0f} a minute", rate / first)
    for n in n_workers:
        of_file, of_lake = rates["file", n], rates["lake", n]
        what = f"windows a minute with {n} {'workers' if n > 1 else 'worker'}, into a lake to into a file"
        yield Row(section, what, f"{of_lake:.0f} a minute", f"{of_file:.0f} a minute", of_lake / of_file)


def _rate(folder: Path, url: str, kind: str, n_windows: int, n_workers: int) -> float:
    """Windows a minute, from the first request to the last commit."""
    folder.mkdir()
    cores = sorted(os.sched_getaffinity(0))
    shares = [range(n_windows * n // n_workers, n_windows * (n + 1) // n_workers) for n in range(n_workers)]
    with ExitStack() as stack:
        shared = {"FULLSTORY_STORE_URL": str(folder / "store"), "FULLSTORY_WAREHOUSE": str(folder / "all.duckdb")}
        if kind == "lake":
            shared["FULLSTORY_WAREHOUSE"] = stack.enter_context(lake_catalog())
        pool = stack.enter_context(ThreadPoolExecutor(n_workers))
        said = [
            pool.submit(
                sync,
                folder / str(number),
                url,
                share,
                0,
                "--no-dbt",
                settings=shared,
                prefix=("taskset", "--cpu-list", str(cores[number % len(cores)])),
            )
            for number, share in enumerate(shares)
        ]
        summaries = [future.result()[1] for future in said]
    n_loaded = sum(len(summary["loaded"]) for summary in summaries)
    assert n_loaded == n_windows, summaries
    return 60 * n_windows / max(summary["seconds"] for summary in summaries)
