"""The three assets that load a window: fetch, parse, append.

Each takes its windows from the context, calls one function of ``ingest`` for each and says what came of it. They have
different backfill policies, so that a backfill runs them as separate runs: a window that fails stops no other.

Dagster reads the annotations of decorated functions, so they are not postponed, here or in the other such modules.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import dagster as dg

from fullstory_dagster.defs.automation import follow_upstream
from fullstory_dagster.defs.checks import WINDOW_CHECKS, evaluate_windows
from fullstory_dagster.defs.failures import as_failure, raise_for_failed, window_failure
from fullstory_dagster.defs.metadata import (
    Metadata,
    bundle_metadata,
    documented_in,
    events_lineage,
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
from fullstory_dagster.errors import FullStoryError, sentence_of
from fullstory_dagster.ingest.retention import delete_expired_events, delete_old_bundles
from fullstory_dagster.ingest.side_by_side import Outcome, T, each_window
from fullstory_dagster.settings import Settings
from fullstory_dagster.windows import Window, WindowGrid, name_ranges


class EventsConfig(dg.Config):
    """How to load.

    Attributes:
        allow_shrink: take windows for which FullStory now sends far fewer rows than before.
    """

    allow_shrink: bool = False


_NAMED = 5
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
            "Bound by the network; never needs the database. When a window is there: docs/windows.md."
        ),
        metadata=documented_in("windows.md"),
    )
    def raw_bundles(context: dg.AssetExecutionContext, account: dg.ResourceParam[FullStoryAccount]) -> Iterator[Any]:
        windows = windows_of(context, grid)
        with as_failure(f"Fetching {name_ranges(windows, _NAMED)}"), ExitStack() as stack:
            ingestion = account.ingestion()
            client = stack.enter_context(ingestion.client())
            outcomes = each_window(windows, lambda window: ingestion.fetch(window, client), settings.jobs)
            yield from _report(context, grid, outcomes, bundle_metadata)

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
            "that could not be typed beside it. A dataset of its own, partitioned by window; columns: docs/schema.md."
        ),
        metadata={
            **documented_in("schema.md"),
            "dagster/column_schema": parquet_schema(),
            "dagster/uri": f"{settings.store}/events",
        },
    )
    def parsed_events(context: dg.AssetExecutionContext, account: dg.ResourceParam[FullStoryAccount]) -> Iterator[Any]:
        windows = windows_of(context, grid)
        with as_failure(f"Parsing {name_ranges(windows, _NAMED)}"):
            ingestion = account.ingestion()
            outcomes = each_window(windows, ingestion.parse, settings.jobs)
            yield from _report(
                context,
                grid,
                outcomes,
                lambda parsed: parsed_metadata(ingestion.dataset, parsed),
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
            "transaction with its line in the load log. Its columns: docs/schema.md; what to do about a window that is "
            "not green: docs/troubleshooting.md."
        ),
        metadata={
            **documented_in("troubleshooting.md"),
            "dagster/column_schema": events_schema(),
            "dagster/column_lineage": events_lineage(parsed_key),
            "dagster/table_name": f"{settings.schema}.{EVENTS}",
            "dagster/uri": str(settings.warehouse),
        },
    )
    def events(
        context: dg.AssetExecutionContext, config: EventsConfig, account: dg.ResourceParam[FullStoryAccount]
    ) -> Iterator[Any]:
        windows = windows_of(context, grid)

        def check(good: list[Window]) -> Iterator[dg.AssetCheckEvaluation]:
            # The checks' own step is not reached when this one fails, and what went well is to be checked all the same.
            try:
                yield from evaluate_windows(context.instance, ingestion, good, WINDOW_CHECKS)
            except FullStoryError as error:
                context.log.warning(f"The windows that are done were not checked: {error}")

        with as_failure(f"Appending {name_ranges(windows, _NAMED)}"):
            ingestion = account.ingestion()
            dataset = ingestion.dataset
            yield from _report(
                context,
                grid,
                ingestion.append_all(windows, dagster_run_id=context.run_id, allow_shrink=config.allow_shrink),
                lambda load: load_metadata(load) | {"preview": preview(dataset, dataset.require(load.window))},
                check,
            )
            for window in delete_expired_events(ingestion):
                context.log.info(f"Deleted the events of the window {window}: FULLSTORY_KEEP_EVENTS_DAYS.")
            delete_old_bundles(ingestion)

    return [raw_bundles, parsed_events, events]


def _report(
    context: dg.AssetExecutionContext,
    grid: WindowGrid,
    outcomes: Iterable[Outcome[T]],
    metadata_of: Callable[[T], Metadata],
    check: Callable[[list[Window]], Iterable[Any]] | None = None,
) -> Iterator[Any]:
    """Attach each window's metadata to its partition; fail at the end if any window failed, the good ones kept.

    Dagster would not report a step that fails: the good windows are reported by hand, so that they stay green and what
    is downstream of them goes on.
    """
    name = context.asset_key.path[-1]
    ended: list[Outcome[T]] = []
    good: dict[Window, Metadata] = {}
    for outcome in outcomes:
        ended.append(outcome)
        if outcome.error is None and outcome.result is not None:
            good[outcome.window] = _metadata(context, outcome.result, metadata_of)
        elif outcome.error:
            context.log.error(window_failure(outcome.window, name, outcome.error))
    if len(good) == len(ended):
        for window, metadata in good.items():
            context.add_asset_metadata(metadata, partition_key=grid.key(window))
        yield dg.MaterializeResult()
        return
    for window, metadata in good.items():
        yield dg.AssetMaterialization(asset_key=context.asset_key, partition=grid.key(window), metadata=metadata)
    if check and good:
        yield from check(sorted(good))
    raise_for_failed(name, ended)


def _metadata(context: dg.AssetExecutionContext, result: T, metadata_of: Callable[[T], Metadata]) -> Metadata:
    try:
        return metadata_of(result)
    except Exception as error:
        # The window is done: what could not be shown of it is no reason to do it again.
        context.log.warning(f"What is shown of a window could not be read: {sentence_of(error)}")
        return {}
