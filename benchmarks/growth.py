"""Target 4: what one more window costs, with few windows loaded and with many.

Run as a module, it fills a folder and tells what the windows after ``n_few`` and after ``n_many`` took.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.account import keep_bundle, open_account
from benchmarks.inputs import write_days
from benchmarks.process import own_cpu_s, tell, work
from benchmarks.table import Row

_N_MEASURED = 3


def measure(folder: Path, n_events: int, n_few: int, n_many: int) -> Iterator[Row]:
    """Load windows one after the other, building the models after each that is measured.

    Args:
        folder: for the account.
        n_events: in each window.
        n_few: windows loaded before the first ones that are measured.
        n_many: windows loaded before the last ones.
    """
    told = work("benchmarks.growth", folder / "account", n_events, n_few, n_many).told
    shutil.rmtree(folder / "account")
    section = f"One more window of {n_events:,} events"
    for piece, goal in (("append and models", 1.2), ("append", None), ("models", None)):
        for kind, unit in (("time", "s"), ("CPU", "CPU-s")):
            few, many = (median(told[when][f"{piece} {kind}"]) for when in ("few", "many"))
            what = f"{kind} of {piece}, with {n_many} windows loaded to with {n_few}"
            yield Row(section, what, f"{many:.2f} {unit}", f"{few:.2f} {unit}", many / few, goal)


def _load(folder: Path, n_events: int, n_few: int, n_many: int) -> dict[str, Any]:
    from fullstory_dagster.defs.dbt.project import DbtProject

    folder.mkdir()
    ingestion = open_account(folder)
    models = DbtProject(ingestion.settings)
    told: dict[str, Any] = {when: {} for when in ("few", "many")}
    whole = n_few + _N_MEASURED
    measured = {**dict.fromkeys(range(n_few, whole), "few"), **dict.fromkeys(range(n_many, n_many + 3), "many")}
    for number, (window, file) in enumerate(write_days(folder, n_many + _N_MEASURED, n_events)):
        if number in (n_few, n_many):
            built = models.build(ingestion.warehouse)
            assert not built.failures, built.failures
        keep_bundle(ingestion, window, file)
        ingestion.parse(window)
        began = time.perf_counter(), own_cpu_s()
        ingestion.append(window)
        appended = time.perf_counter(), own_cpu_s()
        ingestion.bundles.delete(window)
        if (when := measured.get(number)) is None:
            continue
        began_models = time.perf_counter(), own_cpu_s()
        built = models.build(ingestion.warehouse)
        ended = time.perf_counter(), own_cpu_s()
        assert not built.failures, built.failures
        for at, kind in enumerate(("time", "CPU")):
            append, build = appended[at] - began[at], ended[at] - began_models[at]
            for piece, value in (("append", append), ("models", build), ("append and models", append + build)):
                told[when].setdefault(f"{piece} {kind}", []).append(value)
    return told


if __name__ == "__main__":
    tell(lambda: _load(Path(sys.argv[1]), *map(int, sys.argv[2:])))
