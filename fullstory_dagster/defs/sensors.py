"""Three sensors: what was loaded elsewhere is told, what is missing is asked for, and everything downstream follows."""

from collections.abc import Sequence

import dagster as dg

from fullstory_dagster.defs.history import report_loads
from fullstory_dagster.defs.names import EVENTS, EXPERIENCE_REPORT, LOAD_JOB, PARSED_EVENTS, asset_key
from fullstory_dagster.defs.requests import PATIENCE_S, choose_runs
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.defs.run_retention import delete_old_runs
from fullstory_dagster.errors import FullStoryError
from fullstory_dagster.settings import Settings
from fullstory_dagster.windows import name_ranges

_NAMED = 10
_RUNNING, _STOPPED = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED


def build_sensors(settings: Settings, model_keys: Sequence[dg.AssetKey]) -> list[dg.SensorDefinition]:
    """The sensors of one account; all run by default, but for the one that asks where a schedule does."""

    @dg.sensor(
        name="loads_elsewhere",
        minimum_interval_seconds=60,
        default_status=_RUNNING,
        description="Tells Dagster of windows that the warehouse holds and Dagster did not load: the command line did, "
        "or this Dagster home is newer than the warehouse. What the checks say of them is told as well. Deletes runs "
        "that are older than FULLSTORY_KEEP_RUNS_DAYS.",
    )
    def loads_elsewhere(
        context: dg.SensorEvaluationContext, account: dg.ResourceParam[FullStoryAccount]
    ) -> dg.SkipReason:
        try:
            ingestion = account.ingestion(PATIENCE_S)
            if settings.keep_runs_days is not None:
                # First, because what only these runs knew is told again below.
                n_deleted = delete_old_runs(context.instance, settings.keep_runs_days, ingestion.clock.now())
                if n_deleted:
                    context.log.info(f"Deleted {n_deleted} runs of more than {settings.keep_runs_days} days ago.")
            reported = report_loads(context.instance, ingestion, model_keys)
        except FullStoryError as error:
            return dg.SkipReason(str(error))
        if not reported:
            return dg.SkipReason("Dagster knows of every window that the warehouse holds.")
        told = (
            f"Reported {len(reported)} windows that the warehouse holds and Dagster did not know of: "
            f"{name_ranges(reported, _NAMED)}."
        )
        context.log.info(told)
        return dg.SkipReason(told)

    @dg.sensor(
        name="new_windows",
        job_name=LOAD_JOB,
        minimum_interval_seconds=60,
        default_status=_STOPPED if settings.schedule else _RUNNING,
        description="Asks for every window that is available and not loaded, or not settled, oldest first. Reads the "
        "load log, not Dagster's: what the command line loaded is not loaded again.",
    )
    def new_windows(
        context: dg.SensorEvaluationContext, account: dg.ResourceParam[FullStoryAccount]
    ) -> dg.SensorResult | dg.SkipReason:
        try:
            requests = choose_runs(account.ingestion(PATIENCE_S), context.instance)
        except FullStoryError as error:
            return dg.SkipReason(str(error))
        if not requests.runs:
            return dg.SkipReason(requests.reason)
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
    return [loads_elsewhere, new_windows, follow_bundles]
