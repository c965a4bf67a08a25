"""What a window's page shows."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from fullstory_dagster.fields import EVENT_COLUMNS, FIELDS
from fullstory_dagster.store.bundles import StoredBundle
from fullstory_dagster.store.dataset import ParsedWindow
from fullstory_dagster.store.warehouse import Load

Metadata = dict[str, Any]

_PREVIEW_ROWS = 5
_PREVIEW_COLUMNS = tuple(
    name
    for name in ("EventStart", "EventType", "EventSubType", "EventCustomName", "PageBrowser", "PageDevice", "SessionId")
    if not next(field for field in FIELDS if field.name == name).is_personal
)


def events_schema() -> dg.TableSchema:
    """Columns of the events table, from the field list."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name=field.name,
                type=field.duckdb_type,
                description=field.description,
                constraints=dg.TableColumnConstraints(nullable=not field.is_required),
                tags={"personal": ""} if field.is_personal else {},
            )
            for field in EVENT_COLUMNS
        ]
    )


def parquet_schema() -> dg.TableSchema:
    """Columns of the Parquet dataset: those of events, without what only a load knows."""
    names = {"_loaded_at", "_load_id"}
    return dg.TableSchema(columns=[column for column in events_schema().columns if column.name not in names])


def bundle_metadata(bundle: StoredBundle) -> Metadata:
    """What was received."""
    return {
        "bytes": bundle.bytes,
        "files": len(bundle.files),
        "API": bundle.api,
        "export id": bundle.export_id,
        "requested at": dg.MetadataValue.timestamp(bundle.requested_at),
        "received at": dg.MetadataValue.timestamp(bundle.received_at),
        "seconds": round(bundle.fetch_s, 2),
        "settled": bundle.is_settled,
        "sha256": bundle.sha256,
    }


def parsed_metadata(parsed: ParsedWindow, n_bytes: int) -> Metadata:
    """What was parsed, and a few rows without anything personal."""
    return {
        "dagster/row_count": parsed.rows_kept,
        "rows in": parsed.rows_in,
        "rows rejected": parsed.rows_rejected,
        "rows of other windows": parsed.rows_outside,
        "values kept in CustomVars for want of fit": parsed.values_misfit,
        "Parquet bytes": n_bytes,
        "seconds": round(parsed.parse_s, 2),
        "preview": dg.MetadataValue.md(_preview(parsed)),
    } | _event_range(parsed)


def load_metadata(load: Load) -> Metadata:
    """What was committed."""
    return {
        "dagster/partition_row_count": load.rows_kept,
        "rows in": load.rows_in,
        "rows kept": load.rows_kept,
        "rows rejected": load.rows_rejected,
        "rows of other windows": load.rows_outside,
        "rows already there": load.rows_duplicate,
        "rows forgotten": load.rows_forgotten,
        "bytes": load.bundle_bytes,
        "API": load.api,
        "export id": load.export_id,
        "load id": load.load_id,
        "seconds to fetch": round(load.fetch_s, 2),
        "seconds to parse": round(load.parse_s, 2),
        "seconds to append": round(load.append_s, 2),
    } | _event_range(load)


def _event_range(counts: ParsedWindow | Load) -> Metadata:
    if counts.min_event_start_at is None or counts.max_event_start_at is None:
        return {}
    return {
        "first event (UTC)": counts.min_event_start_at.isoformat(sep=" ", timespec="milliseconds"),
        "last event (UTC)": counts.max_event_start_at.isoformat(sep=" ", timespec="milliseconds"),
    }


def _preview(parsed: ParsedWindow) -> str:
    """A Markdown table of the first rows, in columns that are not personal."""
    rows = pl.scan_parquet(parsed.events_location).select(_PREVIEW_COLUMNS).head(_PREVIEW_ROWS).collect()
    if rows.is_empty():
        return "No rows."
    lines = ["| " + " | ".join(rows.columns) + " |", "|" + " --- |" * rows.width]
    for row in rows.iter_rows():
        lines.append("| " + " | ".join("" if cell is None else str(cell).replace("|", "/") for cell in row) + " |")
    return "\n".join(lines)
