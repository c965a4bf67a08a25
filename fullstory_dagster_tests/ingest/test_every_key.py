"""Every key of every event of a real-looking export is found again in the warehouse, under both APIs.

``FULLSTORY_REAL_EXPORT`` names a file of a real export (JSON array or NDJSON) to do the same with.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.fields import FIELDS, FIELDS_BY_NAME, LEGACY_NAMES
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.settings import Settings
from fullstory_dagster.simulator.config import SimulatorConfig, parse_instant
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster.windows import Window

pytestmark = pytest.mark.slow

FIXTURE = Path(__file__).parents[1] / "fixtures" / "legacy_names_and_odd_variables.json"
REAL = os.environ.get("FULLSTORY_REAL_EXPORT")


class Number(str):
    """The text of a number that is not whole: 1.50 is not 1.5."""


def read_json(text: str | bytes) -> Any:
    return json.loads(text, parse_float=Number)


def as_column(name: str, sent: Any) -> Any:
    """What a column holds of a value that fits it, and None of one that does not."""
    match FIELDS_BY_NAME[name].type, sent:
        case "int64", Number():
            return int(float(sent)) if float(sent).is_integer() else None
        case "int64", str():
            return int(sent) if sent.lstrip("-").isdigit() else None
        case "float64", int() | float() | Number():
            return float(sent)
        case "timestamp", str() if sent:
            return parse_instant(sent).replace(tzinfo=None)
        case "string", str() if not isinstance(sent, Number):
            return sent
        case "int64", int():
            return sent
    return None


def expected_of(event: dict[str, Any]) -> dict[str, Any]:
    """The columns and custom variables of an event, from the design's words alone."""
    columns: dict[str, Any] = {}
    custom: dict[str, Any] = {}
    for name, sent in event.items():
        column = LEGACY_NAMES.get(name, name)
        if column not in FIELDS_BY_NAME or (name in LEGACY_NAMES and column in event):
            custom[name] = sent
            continue
        value = as_column(column, sent)
        if value is not None:
            columns[column] = value
        elif sent is not None:
            custom[name] = sent
    return columns | {"CustomVars": custom}


def found_of(row: dict[str, Any]) -> dict[str, Any]:
    columns = {name: value for name, value in row.items() if value is not None and name != "CustomVars"}
    return columns | {"CustomVars": read_json(row["CustomVars"] or "{}")}


def canonical(event: dict[str, Any]) -> str:
    # A Number is written as a text, but never equal to one: the fixture has both.
    def mark(value: Any) -> Any:
        if isinstance(value, Number):
            return {"number": str(value)}
        if isinstance(value, dict):
            return {name: mark(inner) for name, inner in value.items()}
        return [mark(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(mark(event), sort_keys=True, default=str)


def load_all(path: Path, events: list[dict[str, Any]], api: Any, folder: Path) -> Ingestion:
    starts = [parse_instant(event["EventStart"]) for event in events]
    first = min(starts).replace(hour=0, minute=0, second=0, microsecond=0)
    end = max(starts).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    with SimulatorProcess(SimulatorConfig(data=path, now=end + timedelta(days=2), export_s=0)) as simulator:
        settings = Settings(
            start=first,
            data_dir=folder,
            api_key=simulator.api_key,
            api_url=simulator.url,
            export_api=api,
            downloads_per_minute=0,
        )
        ingestion = open_ingestion(settings)
        summary = sync(ingestion, end=end)
    assert summary.failed == {}
    assert {load.window for load in summary.loaded} == {
        Window(at, at + timedelta(days=1)) for at in (first + timedelta(days=n) for n in range((end - first).days))
    }
    assert all(load.is_whole and load.rows_in == load.rows_kept for load in summary.loaded)
    return ingestion


def compare(path: Path, api: str, folder: Path) -> None:
    content = path.read_text(encoding="utf-8")
    events = (
        read_json(content) if content.lstrip().startswith("[") else [read_json(line) for line in content.splitlines()]
    )
    ingestion = load_all(path, events, api, folder)
    columns = ", ".join(f'"{field.name}"' for field in FIELDS)
    rows = ingestion.warehouse.query(f'SELECT {columns}, CustomVars FROM "fullstory"."events"')
    assert len(rows) == len(events)
    expected, found = (
        Counter(canonical(event) for event in events) for events in (map(expected_of, events), map(found_of, rows))
    )
    assert list((expected - found).elements()) == []
    assert list((found - expected).elements()) == []
    ids = ingestion.warehouse.query('SELECT count(DISTINCT _event_id) AS n FROM "fullstory"."events"')
    assert ids == [{"n": len(events)}]
    n_custom = sum(len(found_of(row)["CustomVars"]) for row in rows)
    dotted = {name for event in events for name in event if "." in name}
    print(  # noqa: T201 (shown by pytest -s: what was compared)
        f"{api}: {len(events)} events of {len(ingestion.warehouse.current_loads())} windows, "
        f"{sum(map(len, events))} keys compared, {n_custom} of them in CustomVars, "
        f"{len(dotted)} dotted names unchanged, 0 differ"
    )


@pytest.mark.parametrize("api", ["segment", "bundle"])
def test_every_key_of_every_event_is_found_again(api: str, tmp_path: Path) -> None:
    compare(FIXTURE, api, tmp_path)


@pytest.mark.skipif(not REAL, reason="FULLSTORY_REAL_EXPORT names no file of a real export")
@pytest.mark.parametrize("api", ["segment", "bundle"])
def test_every_key_of_a_real_export_is_found_again(api: str, tmp_path: Path) -> None:
    assert REAL is not None
    compare(Path(REAL).absolute(), api, tmp_path)


def test_the_comparison_itself_sees_a_difference() -> None:
    event = read_json('{"UserId": 1, "evt_a": 1.50, "PageAgent": "x", "PageDuration": "fast", "PageName": null}')
    same = {"UserId": 1, "PageUserAgent": "x", "CustomVars": '{"PageDuration":"fast","evt_a":1.50}', "PageName": None}
    assert canonical(expected_of(event)) == canonical(found_of(same))
    for custom in ('{"PageDuration":"fast","evt_a":1.5}', '{"PageDuration":"fast","evt_a":"1.50"}', '{"evt_a":1.50}'):
        assert canonical(expected_of(event)) != canonical(found_of(same | {"CustomVars": custom}))
    at = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
    assert as_column("EventStart", "2026-06-01T14:00:00+02:00") == at.replace(tzinfo=None)
