"""`python -m benchmarks`: measure, print, write the page."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import backfill, growth, loading, overhead
from benchmarks.table import HEAD, PAGE, Row, page, record_usual

PARTS = ("loading", "growth", "backfill", "overhead")
QUICK_EVENTS, QUICK_WINDOW_EVENTS = 30_000, 5_000


def measured(
    folder: Path, parts: Sequence[str], *, n_events: int, window_events: int, rounds: int, is_quick: bool
) -> Iterator[Row]:
    """Rows of the chosen parts, as they are measured."""
    few, many = (2, 5) if is_quick else (10, 100)

    def backfills(place: Path) -> Iterator[Row]:
        yield from backfill.measure_unlimited(place, 6 if is_quick else 20, window_events)
        if not is_quick:
            yield from backfill.measure_limited(place, 365)

    chosen: dict[str, Callable[[Path], Iterator[Row]]] = {
        "loading": lambda place: loading.measure(place, n_events, rounds, is_quick=is_quick),
        "growth": lambda place: growth.measure(place, window_events, few, many),
        "backfill": backfills,
        "overhead": lambda place: overhead.measure(place, rounds),
    }
    for part in parts:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f"{part}-") as place:
            yield from chosen[part](Path(place))


def main(
    only: Annotated[str, typer.Option(help=f"Parts, separated by commas: {', '.join(PARTS)}.")] = ",".join(PARTS),
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes; what the tests run.")] = False,
    events: Annotated[int, typer.Option(help="Events in each bundle.")] = 0,
    window_events: Annotated[int, typer.Option(help="Events in each window of growth and backfill.")] = 0,
    rounds: Annotated[int, typer.Option(help="How often each is measured; the best counts.")] = 0,
    record: Annotated[bool, typer.Option("--record", help="Make the ratios the usual ones of a quick run.")] = False,
    page_path: Annotated[Path | None, typer.Option("--page", help="Write the page here.")] = None,
) -> None:
    """Measure and print; write the page only when all of it was measured."""
    parts = [part.strip() for part in only.split(",")]
    if unknown := set(parts) - set(PARTS):
        raise typer.BadParameter(f"there is no part {', '.join(sorted(unknown))}", param_hint="--only")
    n_events = events or (QUICK_EVENTS if quick else 2_000_000)
    in_window = window_events or (QUICK_WINDOW_EVENTS if quick else 100_000)
    rounds = rounds or (1 if quick else 3)
    started, rows = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        print("\t".join(("section", *HEAD)))
        for row in measured(
            Path(folder), parts, n_events=n_events, window_events=in_window, rounds=rounds, is_quick=quick
        ):
            rows.append(row)
            print("\t".join((row.section, *row.cells())), flush=True)
    if record:
        record_usual(rows)
    target = page_path or (PAGE if set(parts) == set(PARTS) and not quick else None)
    if target:
        how = (
            f"This run took {(time.monotonic() - started) / 60:.0f} minutes: {n_events:,} events a bundle, "
            f"{in_window:,} a window of growth and backfill, the best of {rounds}."
        )
        target.write_text(page(rows, how), encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
