"""Target 4: what one more window costs, with few windows loaded and with many, and each model of it.

Run as a module, it fills a folder and tells what the windows after ``n_few`` and after ``n_many`` took.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.account import keep_bundle, open_account
from benchmarks.inputs import write_days
from benchmarks.process import own_cpu_s, tell, work
from benchmarks.table import Row

if TYPE_CHECKING:
    from fullstory_dagster.defs.dbt.project import DbtBuild
    from fullstory_dagster.ingest.ingestion import Ingestion
    from fullstory_dagster.windows import Window

_N_MEASURED = 3

BUDGETS = {
    "custom_events": 1.0,
    "error_events": 0.75,
    "forms": 1.0,
    "frustration_signals": 1.0,
    "funnel_steps": 2.5,
    "page_durations": 2.0,
    "requests": 1.0,
    "session_timeline": 7.0,
    "sessions": 3.0,
    "web_vitals": 2.5,
}
"""What a model may take for a new window of 100,000 events or more: so many times as long as DuckDB needs to copy the
events of the window. A smaller window costs what a model costs at least."""


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
    section = f"Each model, for one more window of {n_events:,} events"
    few, many = told["few"], told["many"]
    copied = median(many["copy"])
    for name in sorted(many["each"]):
        took, before = median(many["each"][name]), median(few["each"][name])
        yield Row(
            section,
            f"{name}, with {n_many} windows loaded, to a copy of the window's events",
            f"{took:.3f} s",
            f"{copied:.3f} s",
            took / copied,
            BUDGETS[name] if n_events >= 100_000 else None,
        )
        yield Row(section, f"{name}, to itself with {n_few} windows", f"{took:.3f} s", f"{before:.3f} s", took / before)


def _load(folder: Path, n_events: int, n_few: int, n_many: int) -> dict[str, Any]:
    from fullstory_dagster.defs.dbt.project import DbtProject

    folder.mkdir()
    ingestion = open_account(folder)
    models = DbtProject(ingestion.settings)
    told: dict[str, Any] = {when: {"each": {}, "copy": []} for when in ("few", "many")}
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
        for name, took in _times(built).items():
            told[when]["each"].setdefault(name, []).append(took)
        told[when]["copy"].append(_copy_time(ingestion, window))
    return told


def _times(built: DbtBuild) -> dict[str, float]:
    """Seconds of each table that was built; views are made once and take none."""
    results = [event["data"] for event in built.events if event["info"]["name"] == "LogModelResult"]
    return {
        result["node_info"]["node_name"]: result["execution_time"]
        for result in results
        if result["node_info"]["materialized"] == "incremental"
    }


def _copy_time(ingestion: Ingestion, window: Window) -> float:
    """Seconds in which DuckDB copies the events of a window, into memory; the best of three."""
    events = f'SELECT * FROM "{ingestion.settings.schema}".events WHERE _window_start = ?'
    took = []
    with ingestion.warehouse.reading() as connection:
        assert connection is not None
        for _ in range(_N_MEASURED):
            began = time.perf_counter()
            connection.execute(f"CREATE OR REPLACE TEMP TABLE copied AS {events}", [window.start.replace(tzinfo=None)])
            took.append(time.perf_counter() - began)
    return min(took)


if __name__ == "__main__":
    tell(lambda: _load(Path(sys.argv[1]), *map(int, sys.argv[2:])))
