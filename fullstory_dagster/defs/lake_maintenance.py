"""The care a lake needs, as an asset with a schedule of its own; a warehouse in a file needs none."""

from datetime import timedelta

import dagster as dg

from fullstory_dagster.defs.failures import as_failure
from fullstory_dagster.defs.names import EVENTS, GROUP_INGEST, LAKE_MAINTENANCE, WAREHOUSE_POOL, asset_key
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.lake import Lake
from fullstory_dagster.store.lake_maintenance import LakeFiles, maintain
from fullstory_dagster.warehouse_location import LakeCatalog

KEEP = timedelta(days=1)
"""How long a query may take, and how far back the lake can be asked what it held."""

CRON = "45 4 * * *"


def build_lake_maintenance(settings: Settings) -> tuple[dg.AssetsDefinition, dg.ScheduleDefinition] | None:
    """The asset and its schedule; None unless the warehouse is a lake."""
    if not isinstance(settings.warehouse, LakeCatalog):
        return None

    @dg.asset(
        key=asset_key(settings.schema, LAKE_MAINTENANCE),
        # It tells of the events' files and waits for none of them.
        deps=[asset_key(settings.schema, EVENTS)],
        group_name=GROUP_INGEST,
        kinds={"ducklake"},
        pool=WAREHOUSE_POOL,
        description="Merges the small files that loads and builds leave in the lake, gives up states that are older "
        "than a day, and deletes the files that nothing needs any more. Readers are not disturbed.",
    )
    def lake_maintenance(account: dg.ResourceParam[FullStoryAccount]) -> dg.MaterializeResult[None]:
        database = account.ingestion().warehouse.database
        assert isinstance(database, Lake)  # noqa: S101 (by the setting, above)
        with as_failure("Maintaining the lake"):
            done = maintain(database, KEEP)
        if done is None:
            return dg.MaterializeResult(metadata={"not done": "There is no lake yet; the first load makes it."})
        return dg.MaterializeResult(
            metadata={
                **_named("before", done.before),
                **_named("after", done.after),
                "files deleted": done.n_deleted,
            }
        )

    schedule = dg.ScheduleDefinition(
        name="maintain_lake_daily",
        target=dg.AssetSelection.assets(lake_maintenance),
        cron_schedule=CRON,
        execution_timezone=settings.schedule_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Maintains the lake in the night. Without it small files gather, and queries become slow.",
    )
    return lake_maintenance, schedule


def _named(when: str, files: LakeFiles) -> dict[str, int]:
    return {
        f"files {when}": files.n_files,
        f"bytes {when}": files.n_bytes,
        f"files kept {when}": files.n_kept,
        f"snapshots {when}": files.n_snapshots,
    }
