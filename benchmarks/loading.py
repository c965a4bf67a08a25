"""Target 1, 2 and 3: a gzip bundle on disk to committed rows, against DuckDB by itself and a bare loop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.inputs import LAYOUTS, SITE, DataSet, path_of, write_bundles
from benchmarks.process import Cost, least, work
from benchmarks.table import Row

_MODULE = "benchmarks.contestants"
_GROWN = 3
"""How many times as many events must not take more memory."""

_PEAK_MB = 800


def measure(folder: Path, data_sets: Sequence[DataSet], n_events: int, rounds: int) -> Iterator[Row]:
    """Load data sets in both layouts with each contestant, taking turns.

    Args:
        folder: for the files.
        data_sets: which.
        n_events: in each file.
        rounds: how often; the least CPU and the least time count.
    """
    write_bundles(folder, n_events, data_sets)
    for data_set in data_sets:
        for layout in LAYOUTS:
            yield from _compare(folder, data_set, layout, n_events, rounds)


def measure_memory(folder: Path, n_events: int) -> Iterator[Row]:
    """The most memory a load takes, of so many events and of several times as many."""
    peaks = []
    for n in (n_events, n_events * _GROWN):
        write_bundles(folder, n, (SITE,))
        peaks.append(_run("ours", path_of(folder, SITE, "NDJSON"), folder / "run").peak_mb)
    what = f"peak memory, {n_events * _GROWN:,} events to {n_events:,}"
    yield Row("Memory", what, f"{peaks[1]:.0f} MB", f"{peaks[0]:.0f} MB", peaks[1] / peaks[0], 1.1)


def _compare(folder: Path, data_set: DataSet, layout: str, n_events: int, rounds: int) -> Iterator[Row]:
    is_site = data_set is SITE
    names = ["ours", "one_liner", "equal_output", "parser"]
    names += ["loop", "parser_without_ids"] if is_site else []
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            costs[name].append(_run(name, path_of(folder, data_set, layout), folder / "run"))
    section = f"Parse and load, {data_set.name} ({data_set.about}), {layout}"
    ours = least(costs["ours"])
    seconds = min(cost.wall_s for cost in costs["ours"])

    def throughput(name: str, what: str, goal: float | None) -> Row:
        other = min(cost.wall_s for cost in costs[name])
        return Row(
            section, what, _rate(n_events, seconds), _rate(n_events, other), other / seconds, goal, is_floor=True
        )

    def cpu(name: str, what: str, goal: float | None = None, of: Cost = ours) -> Row:
        other = least(costs[name])
        return Row(section, what, _each(n_events, of), _each(n_events, other), of.cpu_s / other.cpu_s, goal)

    is_array = layout == "array"
    yield throughput("one_liner", "throughput, to read_json_auto", 0.8 if is_array else 0.5)
    yield throughput("equal_output", "throughput, to a DuckDB query with equal output", 1.4 if is_array else 0.8)
    yield cpu("one_liner", "CPU, to read_json_auto", 1.0 if is_site else None)
    yield cpu("equal_output", "CPU, to a DuckDB query with equal output")
    if is_site:
        yield cpu("loop", "CPU, to a bare loop of gunzip and orjson", 2.0)
        yield cpu("parser_without_ids", "CPU of the parser, to itself without md5 ids", of=least(costs["parser"]))
    parser_s, parse_s = (
        min(cost.wall_s for cost in costs["parser"]),
        min(cost.told["parse_s"] for cost in costs["ours"]),
    )
    yield Row(
        section,
        "time of the parse with its Parquet file, to the parser alone",
        f"{parse_s:.1f} s",
        f"{parser_s:.1f} s",
        parse_s / parser_s,
    )
    append_s = min(cost.told["append_s"] for cost in costs["ours"])
    yield Row(
        section,
        "time the warehouse is held, to the time of the load",
        f"{append_s:.1f} s",
        f"{parse_s + append_s:.1f} s",
        append_s / (parse_s + append_s),
        0.35,
    )
    other_mb = min(cost.peak_mb for cost in costs["one_liner"])
    peak_mb = min(cost.peak_mb for cost in costs["ours"])
    yield Row(
        section,
        "peak memory, to read_json_auto",
        f"{peak_mb:.0f} MB",
        f"{other_mb:.0f} MB",
        peak_mb / other_mb,
    )
    yield Row(section, "peak memory, to what it may be", f"{peak_mb:.0f} MB", f"{_PEAK_MB} MB", peak_mb / _PEAK_MB, 1.0)


def _run(name: str, file: Path, folder: Path) -> Cost:
    """One contestant on a fresh folder."""
    cost = work(_MODULE, name, file, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return cost


def _rate(n_events: int, seconds: float) -> str:
    return f"{n_events / seconds:,.0f} events/s"


def _each(n_events: int, cost: Cost) -> str:
    return f"{cost.cpu_s / n_events * 1e6:.1f} µs an event"
