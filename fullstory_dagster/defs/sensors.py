"""Two sensors: one asks for windows that are missing, the other lets everything downstream follow."""

from collections.abc import Sequence

import dagster as dg

from fullstory_dagster.defs.history import REPORTED_A_TICK, report_loads
from fullstory_dagster.defs.names import EVENTS, EXPERIENCE_REPORT, LOAD_JOB, PARSED_EVENTS, asset_key
from fullstory_dagster.defs.requests import PATIENCE_S, choose_runs
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.errors import FullStoryError
from fullstory_dagster.settings import Settings

_RUNNING, _STOPPED = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED


def build_sensors(settings: Settings, model_keys: Sequence[dg.AssetKey]) -> list[dg.SensorDefinition]:
    """The sensors of one account; both run by default, the first one unless there is a schedule."""

    @dg.sensor(
        name="new_windows",
        job_name=LOAD_JOB,
        minimum_interval_seconds=60,
        default_status=_STOPPED if settings.schedule else _RUNNING,
        description="Asks for every window that is available and not loaded, or not settled, oldest first. Reads the "
        "load log, not Dagster's: what the command line loaded is reported here and not loaded again.",
    )
    def new_windows(
        context: dg.SensorEvaluationContext, account: dg.ResourceParam[FullStoryAccount]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            ingestion = account.ingestion(PATIENCE_S)
            reported = report_loads(context.instance, ingestion, model_keys)
            told = ""
            if reported:
                told = (
                    f"Reported {len(reported)} windows that the warehouse holds and Dagster did not know of, "
                    f"{reported[0]} to {reported[-1]}. "
                )
                context.log.info(told)
            if len(reported) >= REPORTED_A_TICK:
                return dg.SkipReason(f"{told}The next tick goes on.")
            requests = choose_runs(ingestion, context.instance)
        except FullStoryError as error:
            return dg.SkipReason(str(error))
        if not requests.runs:
            return dg.SkipReason(f"{told}{requests.reason}")
        context.log.info(requests.reason)
        return dg.SensorResult(run_requests=requests.runs)

    follow_bundles = dg.AutomationConditionSensorDefinition(
        "follow_bundles",
        target=dg.AssetSelection.assets(
            *(asset_key(settings.schema, name) for name in (PARSED_EVENTS, EVENTS, EXPERIENCE_REPORT)), *model_keys
        ),
        default_status=_RUNNING,
        minimum_interval_seconds=30,
        description="Parses, appends and models each window once its bundle is there, and again after a new fetch; "
        "then draws the report.",
    )
    return [new_windows, follow_bundles]
