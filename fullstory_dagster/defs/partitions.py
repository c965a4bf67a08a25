"""One partition a bundle window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg

from fullstory_dagster.windows import Window, WindowGrid

_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def window_partitions(grid: WindowGrid) -> dg.TimeWindowPartitionsDefinition:
    """The windows the clock allows, as Dagster's partitions.

    The negative ``end_offset`` keeps a window out until its delay is over; a delay that is no multiple of the window's
    length shows it a little early, and fetching checks the clock again.
    """
    return dg.TimeWindowPartitionsDefinition(
        start=grid.first,
        fmt=grid.key_format,
        cron_schedule="0 0 * * *" if grid.hours == 24 else f"0 */{grid.hours} * * *",
        timezone="UTC",
        end_offset=grid.end_offset,
    )


def windows_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext, grid: WindowGrid) -> list[Window]:
    """The windows a run is about, oldest first: one, or the range of a backfill."""
    keys: Sequence[str] = context.partition_keys
    return sorted(grid.window_of_key(key) for key in keys)


def key_range_tags(keys: Sequence[str]) -> dict[str, str]:
    """Tags that make one run cover the range from the first to the last key."""
    return {_RANGE_START: keys[0], _RANGE_END: keys[-1]}


def key_range_of(tags: Mapping[str, str]) -> tuple[str, str]:
    """First and last key of a run with these tags; two empty texts for a run without partitions."""
    one = tags.get("dagster/partition", "")
    return tags.get(_RANGE_START, one), tags.get(_RANGE_END, one)
