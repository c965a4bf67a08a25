"""How results look: tables and bars on a terminal, plain lines elsewhere, one JSON object where a program asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from fullstory_dagster.ingest.forget import Receipt
from fullstory_dagster.ingest.gaps import find_gaps
from fullstory_dagster.ingest.side_by_side import Outcome
from fullstory_dagster.ingest.status import Status
from fullstory_dagster.ingest.sync import Progress as Report
from fullstory_dagster.ingest.sync import SyncSummary
from fullstory_dagster.store.load_summary import summarize_loads
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window, name_ranges

_NAMED = 10
"""Windows named one by one in a list for people; the rest is counted."""

_STATE_STYLES = {
    "loaded": "green",
    "missing": "yellow",
    "partial": "yellow",
    "empty": "yellow",
    "unsettled": "cyan",
    "failed": "red",
}


@contextmanager
def window_progress(console: Console, what: str) -> Iterator[Report]:
    """A callback for ``sync``: a bar on a terminal, a line a window elsewhere."""
    if not console.is_terminal:
        yield lambda outcome, done, total: console.print(f"[{done}/{total}] {_line(outcome)}", soft_wrap=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)

        def report(outcome: Outcome[Load], done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"{what} {outcome.window}")
            if outcome.error and not outcome.is_unavailable:
                bar.console.print(Text(_line(outcome), style="red"))

        yield report


def _line(outcome: Outcome[Load]) -> str:
    if outcome.result:
        load = outcome.result
        rejected = f", {load.rows_rejected} rejected" if load.rows_rejected else ""
        return f"{outcome.window}: {load.rows_kept:,} rows{rejected}"
    # The summary says why.
    return f"{outcome.window}: {'FAILED' if outcome.error and not outcome.is_unavailable else 'skipped'}"


def print_summary(console: Console, summary: SyncSummary, dbt: str | None) -> None:
    """What a sync did, in a few lines."""
    windows = "window" if len(summary.loaded) == 1 else "windows"
    console.print(
        f"[bold]{len(summary.loaded)}[/] {windows} loaded, [bold]{summary.n_rows:,}[/] rows, "
        f"{len(summary.skipped)} skipped, {len(summary.failed)} failed, {summary.seconds:.1f} s."
    )
    reasons: dict[str, list[Window]] = {}
    for window, reason in summary.skipped.items():
        reasons.setdefault(reason, []).append(window)
    for reason, skipped in reasons.items():
        console.print(f"  skipped {_named(skipped)}: {reason}", soft_wrap=True, markup=False)
    if summary.expired:
        console.print(f"  deleted {_named(summary.expired)}: FULLSTORY_KEEP_EVENTS_DAYS", soft_wrap=True, markup=False)
    for window, reason in summary.failed.items():
        console.print(Text(f"  failed {window}: {reason}", style="red"), soft_wrap=True)
    if summary.not_deleted:
        console.print(Text(f"  {summary.not_deleted}", style="red"), soft_wrap=True)
    if dbt:
        console.print(dbt, soft_wrap=True, markup=False)


def summary_object(summary: SyncSummary, dbt: dict[str, Any] | None) -> dict[str, Any]:
    """The same for a program. Times are RFC 3339, UTC."""
    return {
        "loaded": [
            {"window": _range(load.window), "rows": load.rows_kept, "rejected": load.rows_rejected}
            for load in sorted(summary.loaded, key=lambda load: load.window)
        ],
        "skipped": [{"window": _range(window), "reason": why} for window, why in summary.skipped.items()],
        "failed": [{"window": _range(window), "reason": why} for window, why in summary.failed.items()],
        "expired": [_range(window) for window in summary.expired],
        "not_deleted": summary.not_deleted,
        "rows": summary.n_rows,
        "seconds": round(summary.seconds, 3),
        "dbt": dbt,
    }


def print_receipt(console: Console, receipt: Receipt, dbt_failures: Sequence[str]) -> None:
    """What an erasure did, in a few lines."""
    console.print(
        f"Erased [bold]{receipt.events:,}[/] events and {receipt.rejects:,} rejected rows of {receipt.windows} windows "
        f"from the warehouse, {receipt.bundle_rows:,} rows from {receipt.bundles} kept bundles, "
        f"{receipt.parquet_rows + receipt.parquet_rejects:,} from {receipt.parquet_files} Parquet files; "
        f"{receipt.models} models rebuilt, {_size(receipt.bytes_rewritten)} written anew.",
        soft_wrap=True,
    )
    until = "Whatever they do" if receipt.always else "What they did before now"
    console.print(f"{until} stays out of later loads.")
    for name, n_rows in receipt.other_tables.items():
        console.print(
            f"The table {name} is not this project's: {n_rows:,} of its rows still name them. Delete those yourself, "
            "then run the same command again.",
            soft_wrap=True,
            markup=False,
        )
    for window, reason in receipt.not_done.items():
        console.print(Text(f"  not done {window}: {reason}", style="red"), soft_wrap=True)
    for failure in dbt_failures:
        console.print(Text(f"  dbt: {failure}", style="red"), soft_wrap=True)
    if receipt.not_done:
        console.print(Text("Not everything is erased yet: run the same command again.", style="red"))
    console.print(f"Receipt: {receipt.path}", soft_wrap=True, markup=False)


def print_status(console: Console, status: Status) -> None:
    """Windows by state, what each state means, and what needs somebody."""
    table = Table("windows", "state", "which", box=None, pad_edge=False)
    for state, n_windows in status.count().items():
        if n_windows:
            which = [entry.window for entry in status.windows if entry.state == state]
            table.add_row(str(n_windows), Text(state, style=_STATE_STYLES.get(state, "")), _named(which))
    console.print(table)
    for gap in find_gaps(status):
        hours = _hours(None if gap.is_expected else gap.late_by)
        late = f" ({hours:g} h late)" if hours else ""
        console.print(Text(f"{gap}{late}", style=_STATE_STYLES.get(gap.state, "")), soft_wrap=True)
    loads = status.loads
    if not loads:
        console.print("Nothing is loaded yet: run 'fullstory-dagster sync'.")
        return
    n_bytes = sum(load.bundle_bytes for load in loads)
    last = max(loads, key=lambda load: load.load_id)
    console.print(
        f"{sum(load.rows_kept for load in loads):,} rows from {_size(n_bytes)} of bundles, "
        f"{sum(load.rows_rejected for load in loads):,} rejected; last load {last.loaded_at:%Y-%m-%d %H:%M} UTC.",
        soft_wrap=True,
    )
    if usual := summarize_loads(loads):
        console.print(
            f"The newest {usual.n_recent}: {usual.rows_a_window:,.0f} rows, {_size(round(usual.bytes_a_window))} each; "
            f"fetched in {usual.fetch_s:.1f} s, parsed in {usual.parse_s:.1f} s, appended in {usual.append_s:.1f} s, "
            f"there {usual.hours_after_end:.1f} h after their end. A year of them is {usual.rows_a_year:,.0f} rows and "
            f"{_size(round(usual.bytes_a_year))} of bundles ({usual.asked_for}).",
            soft_wrap=True,
        )
    if status.n_pending_loads is None:
        console.print("dbt has built nothing yet: the next sync or build does.")
    elif status.n_pending_loads:
        owed = "1 load" if status.n_pending_loads == 1 else f"{status.n_pending_loads} loads"
        console.print(f"dbt still owes {owed}: the next sync or build picks them up.")
    if status.snapshot_made_at:
        console.print(f"Read snapshot of {status.snapshot_made_at:%Y-%m-%d %H:%M} UTC.")
    for name, windows in status.other_settings.items():
        console.print(f"Loaded under another setting of {name}: {_named(windows)}.", soft_wrap=True)


def status_object(status: Status) -> dict[str, Any]:
    """The same for a program. Times are RFC 3339, UTC."""
    loads = status.loads
    gaps = find_gaps(status)
    return {
        "complete": all(gap.is_expected for gap in gaps),
        "counts": status.count(),
        "windows": [
            {
                "window": _range(entry.window),
                "state": entry.state,
                "available_at": _instant(entry.available_at),
                "late_hours": _hours(entry.late_by(status.read_at)),
                "rows": entry.load.rows_kept if entry.load else None,
                "bytes": entry.load.bundle_bytes if entry.load else None,
                "error": entry.attempt.error if entry.attempt else None,
                "attempts": entry.attempt.count if entry.attempt else 0,
            }
            for entry in status.windows
        ],
        "gaps": [
            {
                "state": gap.state,
                "windows": [_range(window) for window in gap.windows],
                "says": gap.says,
                "late_hours": _hours(gap.late_by),
                "expected": gap.is_expected,
            }
            for gap in gaps
        ],
        "rows": sum(load.rows_kept for load in loads),
        "bytes": sum(load.bundle_bytes for load in loads),
        "recent": _recent(loads),
        "last_load_at": _instant(max((load.loaded_at for load in loads), default=None)),
        "pending_loads": status.n_pending_loads,
        "snapshot_made_at": _instant(status.snapshot_made_at),
        "loaded_under_other_settings": {
            name: [_range(window) for window in windows] for name, windows in status.other_settings.items()
        },
    }


def _recent(loads: Sequence[Load]) -> dict[str, Any] | None:
    usual = summarize_loads(loads)
    if usual is None:
        return None
    return {
        "windows": usual.n_recent,
        "rows_a_window": round(usual.rows_a_window),
        "bytes_a_window": round(usual.bytes_a_window),
        "median_fetch_s": usual.fetch_s,
        "median_parse_s": usual.parse_s,
        "median_append_s": usual.append_s,
        "median_hours_after_end": round(usual.hours_after_end, 1),
        "rows_a_year": round(usual.rows_a_year),
        "bytes_a_year": round(usual.bytes_a_year),
        "asked_for": usual.asked_for,
    }


def print_rows(console: Console, title: str, rows: Sequence[dict[str, Any]]) -> None:
    """A small result as a table; cells as DuckDB gave them."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        is_number = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        # As text, because what visitors typed may look like rich's markup.
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row.values()))
    console.print(table)


def _named(windows: Sequence[Window]) -> str:
    return name_ranges(windows, _NAMED)


def _range(window: Window) -> dict[str, str | None]:
    return {"start": _instant(window.start), "end": _instant(window.end)}


def _hours(length: timedelta | None) -> float | None:
    return None if length is None else round(length.total_seconds() / 3600, 1)


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else instant.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _size(n_bytes: int) -> str:
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
