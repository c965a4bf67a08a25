"""What the command line loaded, told to Dagster: its log follows the load log, not the other way round."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from fullstory_dagster.defs.checks import WINDOW_CHECKS, evaluate_windows, report_completeness
from fullstory_dagster.defs.dbt.project import DbtProject
from fullstory_dagster.defs.dbt.results import report_results
from fullstory_dagster.defs.metadata import load_metadata
from fullstory_dagster.defs.names import EVENTS, PARSED_EVENTS, RAW_BUNDLES, asset_key
from fullstory_dagster.defs.partitions import window_partitions
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.status import read_status
from fullstory_dagster.store.objects import LocalStore
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window

REPORTED_A_TICK = 100
"""Writing an event into SQLite takes some 50 ms: a year of history is told in a few ticks, not in one too long."""


def report_loads(
    instance: dg.DagsterInstance, ingestion: Ingestion, model_keys: Sequence[dg.AssetKey] = ()
) -> list[Window]:
    """Report the loads this instance lacks as runless materializations, oldest first, checks and models that hold them.

    Args:
        instance: Dagster's storage.
        ingestion: the account.
        model_keys: dbt assets; they are reported for windows that every model holds.

    Returns:
        list[Window]: the windows reported, at most ``REPORTED_A_TICK``.
    """
    settings = ingestion.settings
    grid = settings.grid
    loads = ingestion.warehouse.current_loads()
    partitions = window_partitions(grid)
    offered = set(partitions.get_partition_keys(current_time=ingestion.clock.now()))
    events_key = asset_key(settings.schema, EVENTS)
    known = instance.get_materialized_partitions(events_key)
    lacking = [load for window, load in loads.items() if grid.key(window) in offered - known][:REPORTED_A_TICK]
    built = ingestion.warehouse.built_up_to()
    # Every table has a mark from the first build on, if only 0; views hold everything at once and have none.
    built_up_to = min((built[key.path[-1]] for key in model_keys if key.path[-1] in built), default=0)
    for load in lacking:
        key = grid.key(load.window)
        for name in (RAW_BUNDLES, PARSED_EVENTS, EVENTS):
            _report(instance, asset_key(settings.schema, name), key, load)
        if load.load_id <= built_up_to:
            for model_key in model_keys:
                _report(instance, model_key, key, load)
    windows = [load.window for load in lacking]
    for evaluation in evaluate_windows(instance, ingestion, windows, WINDOW_CHECKS):
        instance.report_runless_asset_event(evaluation)
    if len(windows) < REPORTED_A_TICK:
        # A check speaks of the latest materialization, so it comes after all of them.
        report_results(instance, LocalStore(DbtProject(settings).target), settings.schema)
    return windows


def report_loads_to_home(ingestion: Ingestion) -> None:
    """Report the loads that the Dagster home of the account lacks, all of them, and what is still missing."""
    model_keys = DbtProject(ingestion.settings).asset_keys()
    with dg.DagsterInstance.from_config(str(ingestion.settings.dagster_home)) as instance:
        while len(report_loads(instance, ingestion, model_keys)) >= REPORTED_A_TICK:
            continue
        report_completeness(instance, ingestion.settings.schema, read_status(ingestion))


def _report(instance: dg.DagsterInstance, key: dg.AssetKey, partition: str, load: Load) -> None:
    is_events = key.path[-1] == EVENTS
    metadata = load_metadata(load) if is_events else {"load id": load.load_id, "loaded by": "the command line"}
    instance.report_runless_asset_event(dg.AssetMaterialization(asset_key=key, partition=partition, metadata=metadata))
