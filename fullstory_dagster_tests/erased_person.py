"""A person to be erased, among others who stay, and a search through every byte of a data dir for traces of them."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

EMAIL = "Canary.Person@Erased.test"
APP_KEY = "canary-key-77"
INDV_ID = 900_000_000_000_077
DEVICES = (7_000_000_000_000_000_001, 7_000_000_000_000_000_002)
SHARED_DEVICE = 7_000_000_000_000_000_003
"""The person's until somebody else identified themselves on it."""

OTHER_KEY = "other-key-88"
OTHER_INDV_ID = 900_000_000_000_088
OTHER_DEVICE = 8_000_000_000_000_000_001

TRACES = (EMAIL.lower(), APP_KEY, "canaryname", "canary typed", "canary page", str(INDV_ID), *map(str, DEVICES))
"""Texts, lower case, of which nothing may be left."""

N_THEIR_EVENTS = 13
N_THEIR_REJECTS = 3


def row(day: int, time: str, user_id: int, session_id: int, **fields: Any) -> dict[str, Any]:
    """An event of June 2026."""
    return {
        "UserId": user_id,
        "SessionId": session_id,
        "PageId": session_id * 10,
        "IndvId": fields.pop("IndvId", user_id + 1),
        "EventStart": f"2026-06-{day:02}T{time}.000Z",
        "EventType": "click",
        "PageUrl": "https://shop.test/",
    } | fields


def person(**fields: Any) -> dict[str, Any]:
    """What the rows of the person carry once they are identified."""
    return {
        "IndvId": INDV_ID,
        "UserAppKey": APP_KEY,
        "UserEmail": EMAIL,
        "UserDisplayName": "Erased Canaryname",
    } | fields


def other(**fields: Any) -> dict[str, Any]:
    """What the rows of somebody else carry."""
    return {"IndvId": OTHER_INDV_ID, "UserAppKey": OTHER_KEY, "UserEmail": "other@stays.test"} | fields


def served_rows() -> list[Any]:
    """June 1 to 4: 13 events and 3 rejects of the person, on three devices; the rest is somebody else's."""
    first, second = DEVICES
    theirs = [
        # Identified halfway through a session.
        row(1, "10:00:00", first, 11, EventTargetText="canary typed before"),
        row(1, "10:00:01", first, 11, PageUrl="https://shop.test/canary page"),
        row(1, "10:00:02", first, 11, **person()),
        row(1, "10:00:03", first, 11, **person(EventTargetText="canary typed after", evt_note_str="canary typed too")),
        # Over midnight, identified on the other side of it only.
        row(1, "23:59:58", first, 12),
        row(1, "23:59:59", first, 12),
        row(2, "00:00:01", first, 12, **person(UserEmail=EMAIL.lower())),
        # A second device knows the app key only, and a third field misfits, which is the careful way of reading.
        row(3, "09:00:00", second, 13, IndvId=INDV_ID),
        row(3, "09:00:01", second, 13, IndvId=INDV_ID, UserAppKey=APP_KEY, PageDuration="long"),
        row(4, "09:00:00", second, 14, IndvId=INDV_ID),
        row(4, "09:00:01", SHARED_DEVICE, 15),
        row(4, "09:00:02", SHARED_DEVICE, 15, **person()),
        row(4, "09:00:02", SHARED_DEVICE, 15, **person()),
    ]
    rejects = [
        row(2, "08:00:00", first, 12, **person(EventType="")),
        {"EventStart": "2026-06-02T08:00:01.000Z", "EventType": "click", "note": f"no device, but {EMAIL}"},
        ["no object", APP_KEY],
    ]
    others = [
        row(day, f"{hour:02}:00:00", OTHER_DEVICE, day * 100 + hour, **other(EventTargetText=f"stays {day} {hour}"))
        for day in (1, 2, 3, 4)
        for hour in (1, 9, 10, 20)
    ]
    others += [
        row(4, "12:00:00", SHARED_DEVICE, 16, **other()),
        row(4, "12:00:01", SHARED_DEVICE, 16, **other()),
        row(2, "13:00:00", OTHER_DEVICE, 201, **other(EventType="")),
        row(1, "23:59:59", OTHER_DEVICE, 102, **other()),
        row(2, "00:00:00", OTHER_DEVICE, 102, **other()),
    ]
    in_order = [*theirs[:7], *rejects, *theirs[7:], *others]
    # What has no time goes where the row before it went.
    return in_order


def traces_in(folder: Path, traces: tuple[str, ...] = TRACES) -> dict[str, list[str]]:
    """Which traces are in which file of a folder, packed or not; device ids as DuckDB has them in memory as well."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        for name, content in _contents(path):
            lowered = content.lower()
            hits = [trace for trace in traces if trace.encode() in lowered]
            hits += [trace for trace in traces if trace.isdigit() and struct.pack("<q", int(trace)) in content]
            if hits:
                found[f"{path.relative_to(folder)}{name}"] = hits
    return found


def tables_in(warehouse: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table and view of a DuckDB file, sorted, read from a copy."""
    with tempfile.TemporaryDirectory() as scratch:
        copied = Path(scratch) / warehouse.name
        shutil.copyfile(warehouse, copied)
        with duckdb.connect(str(copied), read_only=True) as connection:
            names = connection.execute(
                "SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL"
            ).fetchall()
            return {
                f"{schema}.{name}": sorted(
                    connection.execute(f'SELECT * FROM "{schema}"."{name}"').fetchall(), key=repr
                )
                for schema, name in names
            }


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    yield "", content
    if content.startswith(b"\x1f\x8b"):
        with suppress(EOFError):  # a test may have cut it
            yield " unpacked", gzip.decompress(content)
    elif content.startswith(b"PAR1"):
        # JSON of DuckDB's is binary to polars, which writes none of that.
        rows = pl.read_parquet(path).with_columns(pl.col(pl.Binary).cast(pl.String, strict=False))
        yield " as rows", rows.write_ndjson().encode()
    elif content[8:12] == b"DUCK":
        for name, rows in tables_in(path).items():
            yield f" {name}", json.dumps(rows, default=str, ensure_ascii=False).encode()
