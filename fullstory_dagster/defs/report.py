"""The experience report as an asset, with small pictures on the assets that they are about."""

import base64
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import dagster as dg

from fullstory_dagster.defs.automation import follow_models
from fullstory_dagster.defs.failures import as_failure
from fullstory_dagster.defs.metadata import documented_in
from fullstory_dagster.defs.names import EVENTS, EXPERIENCE_REPORT, GROUP_REPORT, asset_key
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.report.reading import MARTS, NothingToReportError
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.report_file import ReportFile
from fullstory_dagster.store.tables import LOADS

if TYPE_CHECKING:
    from fullstory_dagster.report.charts import Picture


def build_report(settings: Settings) -> dg.AssetsDefinition:
    """The asset of one account. It has no partitions: each report is about the newest four weeks."""

    @dg.asset(
        key=asset_key(settings.schema, EXPERIENCE_REPORT),
        deps=[asset_key(settings.schema, mart) for mart in MARTS],
        group_name=GROUP_REPORT,
        kinds={"altair", "html"},
        automation_condition=follow_models(),
        description="One HTML file with the pictures people ask for most and a session explorer, for the newest four "
        "weeks. It needs no network; open it in a browser. What else can be asked, with the SELECT: docs/analytics.md.",
        metadata=documented_in("analytics.md"),
    )
    def experience_report(
        context: dg.AssetExecutionContext, account: dg.ResourceParam[FullStoryAccount]
    ) -> Iterator[Any]:
        # Altair takes half a second to import, which every run of everything else would wait for.
        from fullstory_dagster.report.page import write_report

        settings = account.settings
        with as_failure("Drawing the experience report"):
            try:
                report = write_report(
                    account.ingestion().warehouse, ReportFile(settings.report_path), datetime.now(timezone.utc)
                )
            except NothingToReportError as error:
                # Windows without events are windows as well, and nobody is to be woken for them.
                context.log.warning(str(error))
                yield dg.MaterializeResult(metadata={"not drawn": str(error)})
                return
        shown = [(picture, _image(picture)) for picture in report.pictures if picture.is_public]
        for mart in sorted({picture.mart for picture, _ in shown}):
            images = {picture.title: image for picture, image in shown if picture.mart == mart}
            # The load log is a part of the events asset.
            named = EVENTS if mart == LOADS else mart
            yield dg.AssetObservation(asset_key(settings.schema, named), metadata=images)
        yield dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.path(report.path),
                "first day (UTC)": report.data.first_date.isoformat(),
                "last day (UTC)": report.data.last_date.isoformat(),
                "sessions to watch": len(report.data.sessions),
                "bytes": report.bytes,
                **{picture.title: image for picture, image in shown},
            }
        )

    return experience_report


def _image(picture: "Picture") -> dg.MarkdownMetadataValue:
    encoded = base64.b64encode(picture.png()).decode()
    return dg.MetadataValue.md(f"![{picture.title}](data:image/png;base64,{encoded})\n\n{picture.note}")
