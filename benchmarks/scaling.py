"""From one million events to a hundred: what one more window takes, and the questions of docs/analytics, by warehouse.

Run as a module, it fills one warehouse and tells what both took at each size. Only the first windows are loaded and
modelled; the others are copies of them under earlier dates, of other people's sessions, events and models alike.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.account import keep_bundle, open_account
from benchmarks.inputs import write_days
from benchmarks.process import tell, work
from benchmarks.table import Row
from benchmarks.warehouses import KINDS, lake_catalog
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


def measure(folder: Path, n_events: int, n_windows: int, times: Sequence[int]) -> Iterator[Row]:
    """Grow a file and a lake, one after the other.

    Args:
        folder: for the account.
        n_events: in each window.
        n_windows: of the least size.
        times: sizes, as multiples of the least one.
    """
    told = {}
    for kind in KINDS:
        account = folder / kind
        if kind == "file":
            told[kind] = _work(account, "", n_events, n_windows, times)
        else:
            with lake_catalog() as warehouse:
                told[kind] = _work(account, warehouse, n_events, n_windows, times)
        shutil.rmtree(account)
    sizes = [str(n) for n in times]
    section = f"One more window of {n_events:,} events, by size and kind of warehouse"
    for piece in ("append", "models"):
        yield from _by_size(section, f"time of {piece}", [(k, [told[k][n][piece] for n in sizes]) for k in KINDS], told)
    section = f"The {len(questions())} questions of docs/analytics.md, by size and kind of warehouse"
    yield from _by_size(section, "time", [(k, [sum(told[k][n]["questions"]) for n in sizes]) for k in KINDS], told)
    largest = sizes[-1]
    for number, asked in enumerate(questions()):
        file, lake = (told[kind][largest]["questions"][number] for kind in KINDS)
        least = told["file"][sizes[0]]["questions"][number]
        grown = f"in a file with {told['file'][largest]['events'] / 1e6:,.3g} to with "
        grown += f"{told['file'][sizes[0]]['events'] / 1e6:,.3g} million events"
        yield Row(section, f"{asked['question']} (`{asked['mart']}`) {grown}", _s(file), _s(least), file / least)
        yield Row(section, f"{asked['question']} (`{asked['mart']}`) lake to file", _s(lake), _s(file), lake / file)
    section = "Room on disk, models included"
    each = [told[kind][largest]["bytes"] / told[kind][largest]["events"] for kind in KINDS]
    what = f"of a lake with {told['lake'][largest]['events'] / 1e6:,.3g} million events, to a file"
    yield Row(section, what, f"{each[1]:.0f} bytes an event", f"{each[0]:.0f} bytes an event", each[1] / each[0])


def _work(account: Path, warehouse: str, n_events: int, n_windows: int, times: Sequence[int]) -> dict[str, Any]:
    return work("benchmarks.scaling", account, warehouse, n_events, n_windows, *times).told


def _by_size(section: str, what: str, took: Sequence[tuple[str, list[float]]], told: dict[str, Any]) -> Iterator[Row]:
    (_, file), (_, lake) = took
    millions = [f"{size['events'] / 1e6:,.3g}" for size in told["file"].values()]
    for kind, seconds in took:
        for size, now in zip(millions[1:], seconds[1:], strict=True):
            named = f"{what}, in a {kind} with {size} million events to with {millions[0]}"
            yield Row(section, named, _s(now), _s(seconds[0]), now / seconds[0])
    for size, in_file, in_lake in zip(millions, file, lake, strict=True):
        yield Row(
            section, f"{what}, lake to file with {size} million events", _s(in_lake), _s(in_file), in_lake / in_file
        )


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
