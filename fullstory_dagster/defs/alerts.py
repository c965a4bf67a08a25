"""Failed runs told to people: to Slack, by e-mail, to any webhook, wherever Apprise can send a text."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg

from fullstory_dagster.errors import FullStoryError, SettingsError
from fullstory_dagster.settings import Settings

_MAX_CHARACTERS = 2_000
"""Of a message; some services take no more, and the rest is a click away."""


class AlertError(FullStoryError):
    """A failed run could not be told to everybody who is to know."""


def build_alerts(settings: Settings) -> list[dg.SensorDefinition]:
    """The sensor that tells of failed runs; none while nobody is to be told.

    Raises:
        SettingsError: Apprise does not know what to do with an address.
    """
    if not settings.alert_urls:
        return []
    _refuse_unknown(settings.alert_urls)

    @dg.run_failure_sensor(
        name="tell_of_failed_runs",
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends the sentences of a failed run to the addresses in FULLSTORY_ALERT_URLS.",
    )
    def tell_of_failed_runs(context: dg.RunFailureSensorContext) -> None:
        run = context.dagster_run
        partition = run.tags.get("dagster/partition") or " to ".join(
            run.tags[tag]
            for tag in ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
            if tag in run.tags
        )
        title = f"FullStory ({settings.schema}): a run failed" + (f" for {partition}" if partition else "")
        tell(settings.alert_urls, title, f"{_reasons(context)}\nRun {run.run_id}")

    return [tell_of_failed_runs]


def tell(urls: Sequence[str], title: str, text: str) -> None:
    """Send a text to every address.

    Args:
        urls: as Apprise writes them, e.g. ``slack://…``, ``mailto://…``, ``json://…``.
        title: one line.
        text: cut after 2,000 characters.

    Raises:
        AlertError: some address did not take it; the others have got it. Says how many, and no address, because a token
            is part of it.
    """
    # Not at the top: this takes longer to import than most runs need it for.
    import apprise

    shown = text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"
    n_failed = 0
    # Apprise says of an address that fails what its answer was, address included.
    with apprise.LogCapture(level=apprise.logging.CRITICAL):  # type: ignore[no-untyped-call]
        for url in urls:
            sender = apprise.Apprise()
            sender.add(url)
            n_failed += not sender.notify(title=title, body=shown, body_format=apprise.NotifyFormat.TEXT)
    if n_failed:
        raise AlertError(
            f"A failed run could not be told to {n_failed} of {len(urls)} addresses; look at FULLSTORY_ALERT_URLS. "
            f"It said: {title}. {shown}"
        )


def _reasons(context: dg.RunFailureSensorContext) -> str:
    """The sentences of the failed steps; Dagster's own word where no step had failed."""
    said = []
    for event in context.get_step_failure_events():
        data = event.step_failure_data
        told = data.user_failure_data.description if data.user_failure_data else None
        said.append(told or event.message or "A step failed.")
    return "\n".join(said) or context.failure_event.message or "It ended before any step had begun."


def _refuse_unknown(urls: Sequence[str]) -> None:
    import apprise

    for number, url in enumerate(urls, start=1):
        if not apprise.Apprise().add(url):
            raise SettingsError(
                "FULLSTORY_ALERT_URLS",
                f"is set, but Apprise does not know what to do with address {number} of {len(urls)}; its list of "
                "services says how each is written.",
            )
