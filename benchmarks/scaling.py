"""From one million events to a hundred: what one more window takes, and the questions of docs/analytics, by warehouse.

Run as a module, it fills one warehouse and tells what both took at each size. Only the first windows are loaded and
modelled; the others are copies of them under earlier dates, of other people's sessions, events and models alike.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.account import keep_bundle, open_account
from benchmarks.inputs import write_days
from benchmarks.process import tell, work
from benchmarks.table import Row
from benchmarks.warehouses import lake_catalog
from fullstory_dagster.store.tables import EVENTS, LOADS, quote, quote_text, table
from fullstory_dagster_tests.analytics import questions
from fullstory_dagster_tests.dbt_project.warehouse import MARTS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from fullstory_dagster.defs.dbt.project import DbtProject
    from fullstory_dagster.ingest.ingestion import Ingestion
    from fullstory_dagster.windows import Window

_TIMES = 2
"""How often each is measured; the least counts."""

_IDS = ("userid", "sessionid", "pageid", "indvid")


def measure(folder: Path, kind: str, n_events: int, n_windows: int, times: Sequence[int]) -> Iterator[Row]:
    """Grow a file or a lake.

    Args:
        folder: for the account.
        kind: one of ``KINDS``.
        n_events: in each window.
        n_windows: of the least size.
        times: sizes, as multiples of the least one, which is 1.
    """
    with ExitStack() as stack:
        warehouse = stack.enter_context(lake_catalog()) if kind == "lake" else ""
        arguments = (folder / "account", warehouse, n_events, n_windows, *times)
        told = work("benchmarks.scaling", *arguments).told
    shutil.rmtree(folder / "account")
    least, *larger = (told[str(n)] for n in times)
    for section, what, seconds in (
        (f"One more window of {n_events:,} events, in a {kind} that grows", "time of append", _seconds("append")),
        (f"One more window of {n_events:,} events, in a {kind} that grows", "time of models", _seconds("models")),
        (f"The {len(questions())} questions of docs/analytics.md, in a {kind} that grows", "time of all", _all),
    ):
        first = seconds(least)
        for size in larger:
            now = seconds(size)
            sizes = f"with {_millions(size)} million events to with {_millions(least)}"
            yield Row(section, f"{what}, {sizes}", _s(now), _s(first), now / first)
    largest = larger[-1]
    sizes = f"with {_millions(largest)} million events to with {_millions(least)}"
    for asked, now, first in zip(questions(), largest["questions"], least["questions"], strict=True):
        what = f"{asked['question']} (`{asked['mart']}`), {sizes}"
        yield Row(section, what, _s(now), _s(first), now / first)
    now, first = (size["bytes"] / size["events"] for size in (largest, least))
    section = f"Room of a {kind} that grows, models included"
    yield Row(section, sizes, f"{now:.0f} bytes an event", f"{first:.0f} bytes an event", now / first)


def _seconds(piece: str) -> Callable[[dict[str, Any]], float]:
    return lambda size: float(size[piece])


def _all(size: dict[str, Any]) -> float:
    return float(sum(size["questions"]))


def _millions(size: dict[str, Any]) -> str:
    return f"{size['events'] / 1e6:,.3g}"


def _grow(folder: Path, warehouse: str, n_events: int, n_windows: int, times: Sequence[int]) -> dict[str, Any]:
    from fullstory_dagster.defs.dbt.project import DbtProject

    folder.mkdir()
    ingestion = open_account(folder, warehouse or None)
    models = DbtProject(ingestion.settings)
    days = write_days(folder, n_windows + _TIMES * len(times), n_events)
    for _ in range(n_windows):
        _append(ingestion, *next(days))
    _build(ingestion, models)
    kept = _Copies(ingestion, folder / "copied")
    told: dict[str, Any] = {}
    n_copies = 1
    for n in times:
        while n_copies < n:
            kept.insert(n_copies, n_windows)
            n_copies += 1
        now: dict[str, Any] = {"events": n * n_windows * n_events, "questions": _ask(ingestion)}
        for _ in range(_TIMES):
            append, build = _append(ingestion, *next(days)), _build(ingestion, models)
            now["append"] = min(append, now.get("append", append))
            now["models"] = min(build, now.get("models", build))
        now["bytes"] = _bytes(ingestion)
        told[str(n)] = now
    return told


class _Copies:
    """Everything that is loaded and modelled by now, to be put in again under other dates."""

    def __init__(self, ingestion: Ingestion, folder: Path) -> None:
        self._warehouse = ingestion.warehouse
        self._schema = ingestion.settings.schema
        self._folder = folder
        folder.mkdir()
        self._types: dict[str, dict[str, str]] = {}
        with self._warehouse.reading() as connection:
            assert connection is not None
            for name in (LOADS, EVENTS, *MARTS):
                described = connection.execute(f"DESCRIBE {table(self._schema, name)}").fetchall()
                self._types[name] = {column: kind for column, kind, *_ in described}
                connection.execute(f"COPY {table(self._schema, name)} TO {quote_text(self._file(name))}")

    def insert(self, number: int, n_windows: int) -> None:
        """Put it in so many times its own length earlier."""

        def insert(connection: DuckDBPyConnection) -> None:
            for name, types in self._types.items():
                moved = [
                    f"{expression} AS {quote(column)}"
                    for column, kind in types.items()
                    if (expression := _moved(column, kind, number, n_windows)) is not None
                ]
                connection.execute(
                    f"INSERT INTO {table(self._schema, name)} BY NAME SELECT * REPLACE ({', '.join(moved)}) "
                    f"FROM read_parquet({quote_text(self._file(name))})"
                )

        self._warehouse.change(insert)

    def _file(self, name: str) -> str:
        return str(self._folder / f"{name}.parquet")


def _moved(column: str, kind: str, number: int, n_windows: int) -> str | None:
    """What a column of a copy holds, None if it is what it was."""
    name = quote(column)
    if kind in ("TIMESTAMP", "DATE"):
        return f"CAST({name} - INTERVAL {number * n_windows} DAY AS {kind})"
    if column in ("load_id", "_load_id"):
        # Below zero: nothing of it is pending for a model.
        return f"{name} - {number * 1_000_000}"
    if column.lower().replace("_", "") in _IDS:
        return f"xor({name}, {number << 32})"
    if column in ("_event_id", "event_id"):
        return f"md5({name} || '{number}')"
    if column.endswith("_key") or column == "UserAppKey":
        return f"{name} || '-{number}'"
    return None


def _append(ingestion: Ingestion, window: Window, file: Path) -> float:
    """Seconds of the append alone."""
    keep_bundle(ingestion, window, file)
    ingestion.parse(window)
    began = time.perf_counter()
    ingestion.append(window)
    took = time.perf_counter() - began
    ingestion.bundles.delete(window)
    return took


def _build(ingestion: Ingestion, models: DbtProject) -> float:
    began = time.perf_counter()
    built = models.build(ingestion.warehouse)
    assert not built.failures, built.failures
    return time.perf_counter() - began


def _ask(ingestion: Ingestion) -> list[float]:
    """Seconds of each question, to whoever has all of the machine's memory for it."""
    took = []
    with ingestion.warehouse.reading() as connection:
        assert connection is not None
        connection.execute("RESET memory_limit")
        for asked in questions():
            seconds = []
            for _ in range(_TIMES):
                began = time.perf_counter()
                connection.execute(asked["sql"]).fetchall()
                seconds.append(time.perf_counter() - began)
            took.append(min(seconds))
    return took


def _bytes(ingestion: Ingestion) -> int:
    """Of the warehouse's file, or of the lake's files that are in use or not yet cleaned up."""
    location = ingestion.settings.warehouse
    if isinstance(location, Path):
        return location.stat().st_size
    files = (ingestion.settings.data_dir / "lake").rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _s(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 1 else f"{seconds:.1f} s"


if __name__ == "__main__":
    folder, warehouse, *numbers = sys.argv[1:]
    n_events, n_windows, *times = map(int, numbers)
    tell(lambda: _grow(Path(folder), warehouse, n_events, n_windows, times))
