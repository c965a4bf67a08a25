"""The schedule: the sensor's question at fixed times, for accounts that want to be loaded at theirs."""

import dagster as dg

from fullstory_dagster.defs.names import LOAD_JOB
from fullstory_dagster.defs.requests import PATIENCE_S, choose_runs
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.errors import FullStoryError, SettingsError
from fullstory_dagster.setting_values import ANCHORED_SCHEDULE
from fullstory_dagster.settings import Settings

DEFAULT_CRON = "30 0 * * *"


def cron_of(schedule: str) -> str:
    """The cron line of a schedule, anchored ones (``every 6h at 03:15``) unfolded into their hours of the day."""
    anchored = ANCHORED_SCHEDULE.fullmatch(schedule)
    if not anchored:
        return schedule
    every, hour, minute = (int(anchored[name]) for name in ("hours", "hour", "minute"))
    hours = sorted((hour + step) % 24 for step in range(0, 24, every))
    return f"{minute} {','.join(map(str, hours))} * * *"


def build_schedule(settings: Settings) -> dg.ScheduleDefinition:
    """Ask for missing windows at the account's times; running by default once a time is set.

    Raises:
        SettingsError: the cron line has five fields and still means nothing.
    """
    is_set = settings.schedule is not None

    def load_windows_on_schedule(
        context: dg.ScheduleEvaluationContext, account: dg.ResourceParam[FullStoryAccount]
    ) -> dg.SkipReason | list[dg.RunRequest]:
        try:
            requests = choose_runs(account.ingestion(PATIENCE_S), context.instance)
        except FullStoryError as error:
            return dg.SkipReason(str(error))
        return requests.runs or dg.SkipReason(requests.reason)

    decorate = dg.schedule(
        name="load_windows_on_schedule",
        job_name=LOAD_JOB,
        cron_schedule=cron_of(settings.schedule or DEFAULT_CRON),
        execution_timezone=settings.schedule_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING if is_set else dg.DefaultScheduleStatus.STOPPED,
        description="Asks at fixed times for every window that is available and not loaded, or not settled. "
        "FULLSTORY_SCHEDULE sets the times and starts it.",
    )
    try:
        return decorate(load_windows_on_schedule)
    except dg.DagsterInvalidDefinitionError:
        # Only Dagster knows what it makes of a cron line; the settings are read without it.
        raise SettingsError(
            "FULLSTORY_SCHEDULE",
            f"is {settings.schedule!r}, but must be a cron line that Dagster can read, such as '15 3 * * *', or "
            "'every 6h at 03:15'.",
        ) from None
