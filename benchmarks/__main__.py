"""`python -m benchmarks`: measure, print, renew the page."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import backfill, growth, loading, overhead, scaling, scaling_page, workers
from benchmarks.inputs import PLAIN, SITE, WIDE
from benchmarks.table import HEAD, Row, record, record_usual


def full_parts(n_events: int, window_events: int, rounds: int) -> dict[str, Callable[[Path], Iterator[Row]]]:
    """What `make bench` measures, by name; each is given a folder of its own."""

    def backfills(folder: Path) -> Iterator[Row]:
        yield from backfill.measure_unlimited(folder, 20, window_events)
        yield from backfill.measure_limited(folder, 365)

    return {
        "loading": lambda folder: loading.measure(folder, (PLAIN, SITE), n_events, rounds),
        "wide": lambda folder: loading.measure(folder, (WIDE,), n_events, rounds),
        "memory": lambda folder: loading.measure_memory(folder, n_events),
        "growth": lambda folder: growth.measure(folder, window_events, 10, 100),
        "scaling_file": lambda folder: scaling.measure(folder, "file", window_events, 10, (1, 10, 100)),
        "scaling_lake": lambda folder: scaling.measure(folder, "lake", window_events, 10, (1, 10, 100)),
        "workers": lambda folder: workers.measure(folder, 40, window_events // 5, (1, 2, 4)),
        "backfill": backfills,
        "overhead": lambda folder: overhead.measure(folder, rounds),
    }


def quick_parts() -> dict[str, Callable[[Path], Iterator[Row]]]:
    """What the tests measure."""
    return {
        "loading": lambda folder: loading.measure(folder, (SITE,), 30_000, 1),
        "growth": lambda folder: growth.measure(folder, 5_000, 2, 5),
        "scaling_lake": lambda folder: scaling.measure(folder, "lake", 500, 1, (1, 2)),
        "workers": lambda folder: workers.measure(folder, 4, 500, (1, 2)),
        "backfill": lambda folder: backfill.measure_unlimited(folder, 6, 5_000),
        "overhead": lambda folder: overhead.measure(folder, 1),
    }


def main(
    only: Annotated[str, typer.Option(help="Parts, separated by commas.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes, and no page; what the tests run.")] = False,
    events: Annotated[int, typer.Option(help="Events in each bundle.")] = 2_000_000,
    window_events: Annotated[int, typer.Option(help="Events in each window of growth and backfill.")] = 100_000,
    rounds: Annotated[int, typer.Option(help="How often each is measured; the best counts.")] = 3,
    usual: Annotated[bool, typer.Option("--usual", help="Make the ratios of a quick run the usual ones.")] = False,
) -> None:
    """Measure, print, and renew the measured parts of docs/benchmarks.md."""
    parts = quick_parts() if quick else full_parts(events, window_events, rounds)
    chosen = [part.strip() for part in only.split(",")] if only else list(parts)
    if unknown := set(chosen) - parts.keys():
        raise typer.BadParameter(f"there is no part {', '.join(sorted(unknown))}", param_hint="--only")
    print("\t".join(("section", *HEAD)))
    for part in chosen:
        started, rows = time.monotonic(), []
        with tempfile.TemporaryDirectory(prefix=f"benchmarks-{part}-") as folder:
            for row in parts[part](Path(folder)):
                rows.append(row)
                print("\t".join((row.section, *row.cells())), flush=True)
        if quick:
            if usual:
                record_usual(rows)
            continue
        of = ""
        if part in ("loading", "wide", "memory"):
            of = f", {events:,} events a bundle"
        elif part in ("growth", "scaling_file", "scaling_lake", "backfill"):
            of = f", {window_events:,} events a window"
        how = f"Measured on {datetime.now(timezone.utc):%F} in {(time.monotonic() - started) / 60:.0f} minutes{of}"
        record(part, rows, f"{how}, the best of {rounds}." if part in ("loading", "wide", "overhead") else f"{how}.")
        if part in scaling_page.PARTS:
            page = scaling_page.PAGE.read_text(encoding="utf-8")
            scaling_page.PAGE.write_text(scaling_page.renewed(page), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
