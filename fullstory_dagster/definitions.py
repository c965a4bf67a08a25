"""The code location: the only place where everything is put together."""

from __future__ import annotations

import warnings
from typing import Any

import dagster as dg

from fullstory_dagster.defs.alerts import build_alerts
from fullstory_dagster.defs.assets import build_assets
from fullstory_dagster.defs.checks import build_checks
from fullstory_dagster.defs.dbt.assets import build_dbt_assets
from fullstory_dagster.defs.lake_maintenance import build_lake_maintenance
from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.defs.report import build_report
from fullstory_dagster.defs.resources import FullStoryAccount, warehouse_resource
from fullstory_dagster.defs.schedules import build_schedule
from fullstory_dagster.defs.sensors import build_sensors
from fullstory_dagster.demo import settings_or_demo
from fullstory_dagster.settings import Settings


def build_definitions(settings: Settings, **overrides: Any) -> dg.Definitions:
    """Everything one account needs in Dagster.

    Args:
        settings: of the account; another schema and another data dir make room for a second account beside it.
        overrides: resources by name that replace ours, e.g. ``account`` in a test.
    """
    assets = build_assets(settings)
    models = build_dbt_assets(settings)
    report = build_report(settings)
    maintenance = build_lake_maintenance(settings)
    lake_assets, lake_schedules = ([maintenance[0]], [maintenance[1]]) if maintenance else ([], [])
    job = dg.define_asset_job(
        LOAD_JOB,
        selection=dg.AssetSelection.assets(*assets, models) - dg.AssetSelection.checks(),
        description="Fetch, parse, append and model windows.",
    )
    model_keys = sorted(models.keys)
    resources = {"account": FullStoryAccount(settings), "warehouse": warehouse_resource(settings)} | overrides
    return dg.Definitions(
        assets=[*dg.with_source_code_references([*assets, report, *lake_assets]), models],
        asset_checks=build_checks(settings),
        jobs=[job],
        schedules=[build_schedule(settings), *lake_schedules],
        sensors=[*build_sensors(settings, model_keys), *build_alerts(settings)],
        resources=resources,
        # A process a step would cost more than most steps do; parallelism is inside an asset's body.
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """What Dagster loads: the account's definitions, or the demo's while there is no API key.

    A function, so that importing :func:`build_definitions` reads no settings and makes no folder.
    """
    # Backfill policies are beta in Dagster's words and years old; saying so in every process helps nobody.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    # The stages' policies differ on purpose, and the job is only ever asked for one stage at a time.
    warnings.filterwarnings("ignore", message="(?s)Asset job .* varying BackfillPolicies")
    return build_definitions(settings_or_demo())
