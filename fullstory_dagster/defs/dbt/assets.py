"""The dbt models as assets: one asset a model, built together for all windows that dbt still owes."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster_dbt import dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from fullstory_dagster.defs.dbt.project import DbtBuildError, DbtProject
from fullstory_dagster.defs.dbt.translator import ModelTranslator
from fullstory_dagster.defs.failures import as_failure
from fullstory_dagster.defs.names import WAREHOUSE_POOL
from fullstory_dagster.defs.partitions import window_partitions, windows_of
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.windows import WindowGrid


class ModelsConfig(dg.Config):
    """How to build.

    Attributes:
        full_refresh: build incremental models anew from all events, after a change of their SQL.
    """

    full_refresh: bool = False


def build_dbt_assets(settings: Settings) -> dg.AssetsDefinition:
    """The models of the dbt project for one account."""
    project = DbtProject(settings)
    manifest = project.manifest()
    translator = ModelTranslator(settings.schema, project.column_sources(manifest))

    @dbt_assets(
        manifest=manifest,
        name=f"{settings.schema}_models",
        partitions_def=window_partitions(settings.grid),
        backfill_policy=dg.BackfillPolicy.single_run(),
        dagster_dbt_translator=translator,
        pool=WAREHOUSE_POOL,
    )
    def models(
        context: dg.AssetExecutionContext, config: ModelsConfig, account: dg.ResourceParam[FullStoryAccount]
    ) -> Iterator[Any]:
        ingestion = account.ingestion()
        with as_failure("Building the dbt models"):
            _refuse_missing_windows(context, ingestion, settings.grid)
            selected = _selected_nodes(context, manifest, translator)
            build = project.build(
                ingestion.warehouse,
                select=selected,
                full_refresh=config.full_refresh,
                tests_alone=not context.selected_asset_keys,
            )
        for event in build.events:
            message = DbtCoreCliEventMessage(raw_event=event, event_history_metadata={})
            yield from message.to_default_asset_events(
                manifest=manifest, dagster_dbt_translator=translator, context=context
            )
        if build.failures:
            raise dg.Failure(
                f"dbt: {len(build.failures)} failed, what they were to replace is unchanged. The first: "
                f"{build.failures[0]}",
                allow_retries=False,
            ) from DbtBuildError("; ".join(build.failures))
        with as_failure("Publishing the read snapshot after the models were built"):
            seconds = ingestion.publish_snapshot_if_due()
        if seconds and ingestion.snapshot:
            context.log.info(f"Published the read snapshot {ingestion.snapshot.path} in {seconds:.1f} s.")

    return models


def _refuse_missing_windows(context: dg.AssetExecutionContext, ingestion: Ingestion, grid: WindowGrid) -> None:
    if not context.selected_asset_keys:
        # dbt's tests alone: they look at whole models, and the run has no window.
        return
    loaded = ingestion.warehouse.current_loads()
    not_loaded = [window for window in windows_of(context, grid) if window not in loaded]
    if not_loaded:
        raise dg.Failure(
            f"{len(not_loaded)} of the windows are not in the warehouse, {not_loaded[0]} is the first; models were "
            "not built. Materialize events for them first.",
            allow_retries=False,
        )


def _selected_nodes(
    context: dg.AssetExecutionContext, manifest: dict[str, Any], translator: ModelTranslator
) -> list[str]:
    """Dbt selectors of what the run is about; none for everything."""
    nodes = manifest["nodes"].values()
    if not context.selected_asset_keys:
        wanted = context.selected_asset_check_keys
        tests = [node for node in nodes if node["resource_type"] == "test"]
        return [
            ".".join(node["fqn"])
            for node in tests
            if get_asset_check_key_for_test(manifest, translator, node["unique_id"], project=None) in wanted
        ]
    models = {translator.get_asset_key(node): node["fqn"] for node in nodes if node["resource_type"] == "model"}
    if models.keys() == context.selected_asset_keys:
        return []
    return [".".join(models[key]) for key in sorted(context.selected_asset_keys)]
