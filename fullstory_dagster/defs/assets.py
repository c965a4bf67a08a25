"""The three assets that load a window: fetch, parse, append.

Each takes its windows from the context, calls one function of ``ingest`` for each and says what came of it. They have
different backfill policies, so that a backfill runs them as separate runs: a window that fails stops no other.

Dagster reads the annotations of decorated functions, so they are not postponed, here or in the other such modules.
"""

from collections.abc import Callable, Iterable

import dagster as dg

from fullstory_dagster.defs.automation import follow_upstream
from fullstory_dagster.defs.failures import as_failure, raise_for_failed
from fullstory_dagster.defs.metadata import (
    Metadata,
    bundle_metadata,
    events_schema,
    load_metadata,
    parquet_schema,
    parsed_metadata,
    preview,
)
from fullstory_dagster.defs.names import (
    EVENTS,
    GROUP_INGEST,
    PARSED_EVENTS,
    RAW_BUNDLES,
    WAREHOUSE_POOL,
    asset_key,
)
from fullstory_dagster.defs.partitions import window_partitions, windows_of
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.ingest.sync import Outcome, T, each_window
from fullstory_dagster.settings import Settings
from fullstory_dagster.windows import WindowGrid


class EventsConfig(dg.Config):
    """How to load.

    Attributes:
        allow_shrink: take windows for which FullStory now sends far fewer rows than before.
    """

    allow_shrink: bool = False


_FETCHED_IN_A_RUN, _PARSED_IN_A_RUN, _APPENDED_IN_A_RUN = 30, 40, 60


def build_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """``raw_bundles``, ``parsed_events`` and ``events`` for one account."""
    grid = settings.grid
    partitions = window_partitions(grid)
    raw_key, parsed_key, events_key = (
        asset_key(settings.schema, name) for name in (RAW_BUNDLES, PARSED_EVENTS, EVENTS)
    )

    @dg.asset(
        key=raw_key,
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(_FETCHED_IN_A_RUN),
        group_name=GROUP_INGEST,
        kinds={"fullstory", "gzip"},
        description=(
            "The export of each window, byte for byte as FullStory sent it, with a sidecar that says how it came. "
            "Bound by the network; never needs the database."
        ),
    )
    def raw_bundles(context: dg.AssetExecutionContext, account: dg.ResourceParam[FullStoryAccount]) -> None:
        ingestion = account.ingestion()
        with as_failure(), ingestion.client() as client:
            outcomes = each_window(
                windows_of(context, grid), lambda window: ingestion.fetch(window, client), settings.jobs
            )
            _report(context, grid, outcomes, bundle_metadata)

    @dg.asset(
        key=parsed_key,
        deps=[raw_key],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(_PARSED_IN_A_RUN),
        automation_condition=follow_upstream(),
        group_name=GROUP_INGEST,
        kinds={"polars", "parquet"},
        description=(
            "The window's events as Parquet, every field typed and everything else kept in CustomVars, with the rows "
            "that could not be typed beside it. A dataset of its own, partitioned by window."
        ),
        metadata={"dagster/column_schema": parquet_schema(), "dagster/uri": str(settings.store_dir / "events")},
    )
    def parsed_events(context: dg.AssetExecutionContext, account: dg.ResourceParam[FullStoryAccount]) -> None:
        ingestion = account.ingestion()
        outcomes = each_window(windows_of(context, grid), ingestion.parse, settings.jobs)
        _report(
            context,
            grid,
            outcomes,
            lambda parsed: parsed_metadata(parsed, ingestion.dataset.size(parsed.window)),
        )

    @dg.asset(
        key=events_key,
        deps=[parsed_key],
        partitions_def=partitions,
        backfill_policy=dg.BackfillPolicy.multi_run(_APPENDED_IN_A_RUN),
        automation_condition=follow_upstream(),
        pool=WAREHOUSE_POOL,
        group_name=GROUP_INGEST,
        kinds={"duckdb"},
        description=(
            "One row an event in the warehouse, every window exactly once: its rows are replaced as a whole, in one "
            "transaction with its line in the load log."
        ),
        metadata={
            "dagster/column_schema": events_schema(),
            "dagster/table_name": f"{settings.schema}.{EVENTS}",
            "dagster/uri": str(settings.warehouse),
        },
    )
    def events(
        context: dg.AssetExecutionContext, config: EventsConfig, account: dg.ResourceParam[FullStoryAccount]
    ) -> None:
        ingestion = account.ingestion()
        outcomes = each_window(
            windows_of(context, grid),
            lambda window: ingestion.append(window, dagster_run_id=context.run_id, allow_shrink=config.allow_shrink),
            jobs=1,
        )
        _report(
            context,
            grid,
            outcomes,
            lambda load: load_metadata(load) | {"preview": preview(ingestion.dataset.require(load.window))},
        )
        with as_failure():
            ingestion.delete_old_bundles()

    return [raw_bundles, parsed_events, events]


def _report(
    context: dg.AssetExecutionContext,
    grid: WindowGrid,
    outcomes: Iterable[Outcome[T]],
    metadata_of: Callable[[T], Metadata],
) -> None:
    """Attach each window's metadata to its partition; fail at the end if any window failed, the good ones kept."""
    ended: list[Outcome[T]] = []
    good: dict[str, Metadata] = {}
    for outcome in outcomes:
        ended.append(outcome)
        if outcome.error is None and outcome.result is not None:
            good[grid.key(outcome.window)] = metadata_of(outcome.result)
        else:
            context.log.error(f"{outcome.window}: {outcome.error}")
    if len(good) == len(ended):
        for key, metadata in good.items():
            context.add_asset_metadata(metadata, partition_key=key)
        return
    for key, metadata in good.items():
        context.log_event(dg.AssetMaterialization(asset_key=context.asset_key, partition=key, metadata=metadata))
    raise_for_failed(context, ended)
