"""Ways to load one bundle, each in a process of its own: `python -m benchmarks.contestants WHICH FILE FOLDER`."""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import orjson

from benchmarks.account import keep_bundle, open_account
from benchmarks.inputs import day
from benchmarks.process import tell
from fullstory_dagster.compression import gunzip
from fullstory_dagster.fields import FIELDS
from fullstory_dagster.parse import plain_rows
from fullstory_dagster.parse.bundle import BundleParser
from fullstory_dagster.parse.identity import IDENTITY_COLUMNS
from fullstory_dagster.store.tables import EVENTS, columns_of, quote, quote_text

Told = dict[str, Any]

_READ_BYTES = 1 << 20


def ours(file: Path, folder: Path) -> Told:
    """A kept bundle to committed rows, by way of Parquet, as a sync does it."""
    ingestion = open_account(folder)
    started = time.perf_counter()
    ingestion.parse(day(0))
    parsed = time.perf_counter()
    load = ingestion.append(day(0))
    appended = time.perf_counter()
    return {"parse_s": parsed - started, "append_s": appended - parsed, "rows": load.rows_kept}


def one_liner(file: Path, folder: Path) -> Told:
    """What an expert types. With less than full sampling it fails on names that appear late."""
    return _created(folder, f"SELECT * FROM read_json_auto({quote_text(str(file))}, sample_size = -1)")


def equal_output(file: Path, folder: Path) -> Told:
    """DuckDB alone, to the same columns, the rest as JSON, and an id."""
    layout = "array" if file.name.endswith(".json.gz") else "newline_delimited"
    types = columns_of(EVENTS)
    without = "{" + ", ".join(f'"{f.name}": null' for f in FIELDS) + "}"
    structure = "{" + ", ".join(f'"{f.name}": "{types[f.name]}"' for f in FIELDS) + "}"
    identity = ", ".join(f"coalesce(CAST(f.{quote(name)} AS VARCHAR), '')" for name in IDENTITY_COLUMNS)
    return _created(
        folder,
        f"SELECT f.*, rest AS CustomVars, md5(concat_ws(chr(31), {identity}, CAST(rest AS VARCHAR))) AS _event_id FROM "
        f"(SELECT json_transform(json, {quote_text(structure)}) AS f, "
        f"json_merge_patch(json, {quote_text(without)}) AS rest "
        f"FROM read_json_objects({quote_text(str(file))}, format = {quote_text(layout)}))",
    )


def loop(file: Path, folder: Path) -> Told:
    """Nothing but gunzip and orjson, a row at a time."""
    n_rows = 0
    with gzip.open(file, "rb") as lines:
        for line in lines:
            orjson.loads(line.strip(b"[],\n"))
            n_rows += 1
    return {"rows": n_rows}


def parser(file: Path, folder: Path) -> Told:
    """Our parser alone, its rows thrown away."""
    rows = BundleParser(day(0))
    with file.open("rb") as packed:
        for _ in rows.parse(gunzip(iter(lambda: packed.read(_READ_BYTES), b""), what="the bundle")):
            pass
    return {"rows": rows.counts.rows_kept}


def parser_without_ids(file: Path, folder: Path) -> Told:
    """The parser without md5 and what goes into it."""
    plain_rows._reader = plain_rows.reader(identity=())
    return parser(file, folder)


CONTESTANTS: dict[str, Callable[[Path, Path], Told]] = {
    function.__name__: function for function in (ours, one_liner, equal_output, loop, parser, parser_without_ids)
}


def _created(folder: Path, select: str) -> Told:
    folder.mkdir(parents=True, exist_ok=True)
    with duckdb.connect(str(folder / "warehouse.duckdb"), config={"autoinstall_known_extensions": False}) as connection:
        connection.execute(f"CREATE TABLE events AS {select}")
        connection.execute("CHECKPOINT")
        return {"rows": connection.execute("SELECT count(*) FROM events").fetchall()[0][0]}


if __name__ == "__main__":
    which, file, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if which == "ours":
        keep_bundle(open_account(folder), day(0), file)
    tell(lambda: CONTESTANTS[which](file, folder))
