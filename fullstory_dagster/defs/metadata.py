"""What a window's page shows."""

from __future__ import annotations

from typing import Any

import dagster as dg
import polars as pl

from fullstory_dagster.defs.home import PROJECT_ROOT
from fullstory_dagster.fields import EVENT_COLUMNS
from fullstory_dagster.store.bundles import StoredBundle
from fullstory_dagster.store.dataset import EventDataset, ParsedWindow
from fullstory_dagster.store.warehouse import Load

Metadata = dict[str, Any]

_PREVIEW_ROWS = 8


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


def events_lineage(parsed_events: dg.AssetKey) -> dg.TableColumnLineage:
    """Columns of the events table are those of the Parquet dataset under the same names."""
    names = [column.name for column in parquet_schema().columns]
    return dg.TableColumnLineage({name: [dg.TableColumnDep(parsed_events, name)] for name in names})


def documented_in(page: str) -> Metadata:
    """A page of ``docs/`` beside the code in the list of what to open."""
    reference = dg.LocalFileCodeReference(file_path=str(PROJECT_ROOT / "docs" / page), label=f"docs/{page}")
    return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def bundle_metadata(bundle: StoredBundle) -> Metadata:
    """What was received."""
    return {
        "bytes": bundle.bytes,
        "files": len(bundle.files),
        "API": bundle.api,
        "export id": bundle.export_id,
        "requested at": dg.MetadataValue.timestamp(bundle.requested_at),
        "received at": dg.MetadataValue.timestamp(bundle.received_at),
        "settled": bundle.is_settled,
        "seconds to fetch": round(bundle.fetch_s, 2),
        "sha256": bundle.sha256,
    }


def parsed_metadata(dataset: EventDataset, parsed: ParsedWindow) -> Metadata:
    """What was parsed, and a few rows without anything personal."""
    return {
        "dagster/partition_row_count": parsed.rows_kept,
        **_event_range(parsed),
        "rows in": parsed.rows_in,
        "rows rejected": parsed.rows_rejected,
        "rows of other windows": parsed.rows_outside,
        "misfit values": parsed.values_misfit,
        "bytes of Parquet": dataset.size(parsed.window),
        "seconds to parse": round(parsed.parse_s, 2),
        "preview": preview(dataset, parsed),
    }


def load_metadata(load: Load) -> Metadata:
    """What was committed."""
    return {
        "dagster/partition_row_count": load.rows_kept,
        **_event_range(load),
        "rows in": load.rows_in,
        "rows rejected": load.rows_rejected,
        "rows of other windows": load.rows_outside,
        "rows already there": load.rows_duplicate,
        "rows forgotten": load.rows_forgotten,
        "bytes of bundle": load.bundle_bytes,
        "API": load.api,
        "export id": load.export_id,
        "load id": load.load_id,
        "seconds to fetch": round(load.fetch_s, 2),
        "seconds to parse": round(load.parse_s, 2),
        "seconds to append": round(load.append_s, 2),
    }


def _event_range(counts: ParsedWindow | Load) -> Metadata:
    if counts.min_event_start_at is None or counts.max_event_start_at is None:
        return {}
    return {
        "first event (UTC)": counts.min_event_start_at.isoformat(sep=" ", timespec="milliseconds"),
        "last event (UTC)": counts.max_event_start_at.isoformat(sep=" ", timespec="milliseconds"),
    }


def preview(dataset: EventDataset, parsed: ParsedWindow) -> dg.MarkdownMetadataValue:
    """A table of the first rows, in columns that are not personal. Under 1,000 characters Dagster shows it at once."""
    with dataset.at_hand(parsed) as at_hand:
        rows = (
            pl.scan_parquet(at_hand.events_location)
            .head(_PREVIEW_ROWS)
            .select(
                pl.col("EventStart").dt.strftime("%H:%M:%S%.3f").alias("time (UTC)"),
                pl.col("EventType").alias("type"),
                pl.coalesce("EventCustomName", "EventSubType").alias("name or subtype"),
                pl.col("PageBrowser").alias("browser"),
                pl.col("PageDevice").alias("device"),
            )
            .collect()
        )
    if rows.is_empty():
        return dg.MetadataValue.md("No rows.")
    lines = ["| " + " | ".join(rows.columns) + " |", "|" + " --- |" * rows.width]
    for row in rows.iter_rows():
        lines.append(
            "| " + " | ".join("" if cell is None else " ".join(cell.split()).replace("|", "/") for cell in row) + " |"
        )
    return dg.MetadataValue.md("\n".join(lines))
