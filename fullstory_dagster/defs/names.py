"""Names that definitions share: asset keys, groups, the pool of the warehouse."""

from __future__ import annotations

import dagster as dg

WAREHOUSE_POOL = "warehouse"
"""Whoever writes to the DuckDB file takes the only place in this pool."""

GROUP_INGEST = "fullstory_1_ingest"
GROUP_STAGING = "fullstory_2_staging"
GROUP_MARTS = "fullstory_3_marts"
GROUP_REPORT = "fullstory_4_report"
"""The UI opens with groups folded and in alphabetical order: the numbers make it the order of the data."""

RAW_BUNDLES = "raw_bundles"
PARSED_EVENTS = "parsed_events"
EVENTS = "events"
EXPERIENCE_REPORT = "experience_report"
LAKE_MAINTENANCE = "lake_maintenance"

LOAD_JOB = "load_windows"


def asset_key(schema: str, name: str) -> dg.AssetKey:
    """``[schema, name]``: the asset key of everything here, as the table is called in the warehouse."""
    return dg.AssetKey([schema, name])
