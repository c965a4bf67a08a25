"""Asset checks on events, over the windows of the run; without a window they look at every one that is loaded."""

from collections.abc import Iterator
from statistics import mean

import dagster as dg

from fullstory_dagster.defs.failures import as_failure
from fullstory_dagster.defs.names import EVENTS, WAREHOUSE_POOL, asset_key
from fullstory_dagster.defs.partitions import windows_of
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.audit import audit_windows
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window

EVERY_ROW = "every_row_is_accounted_for"
NO_DOUBLE = "no_event_stands_twice"
IN_WINDOW = "events_lie_in_their_window"
NOT_QUIET = "window_is_not_unusually_quiet"

TRAILING_WINDOWS = 7
QUIET_RATIO = 0.1
"""A window with less than a tenth of the rows of the windows before it is worth a look."""

_SHOWN = 20


def build_checks(settings: Settings) -> dg.AssetChecksDefinition:
    """Checks of the events asset of one account."""
    events_key = asset_key(settings.schema, EVENTS)
    specs = [
        dg.AssetCheckSpec(
            EVERY_ROW,
            asset=events_key,
            blocking=True,
            description="Rows FullStory sent = kept + rejected + of other windows + already there + forgotten, and the "
            "table holds as many as were kept.",
        ),
        dg.AssetCheckSpec(NO_DOUBLE, asset=events_key, blocking=True, description="No two rows share an _event_id."),
        dg.AssetCheckSpec(IN_WINDOW, asset=events_key, description="EventStart is within the row's window."),
        dg.AssetCheckSpec(
            NOT_QUIET,
            asset=events_key,
            description=f"A warning when a window has less than {QUIET_RATIO:.0%} of the average rows of the "
            f"{TRAILING_WINDOWS} windows before it.",
        ),
    ]

    @dg.multi_asset_check(specs=specs, name="events_checks", can_subset=True, pool=WAREHOUSE_POOL)
    def events_checks(
        context: dg.AssetCheckExecutionContext, account: dg.ResourceParam[FullStoryAccount]
    ) -> Iterator[dg.AssetCheckResult]:
        warehouse = account.ingestion().warehouse
        with as_failure():
            loads = warehouse.current_loads()
            in_run = windows_of(context, settings.grid) if _is_partitioned(context) else list(loads)
            windows = [window for window in in_run if window in loads]
            audits = audit_windows(warehouse, windows)
        miscounted = {
            audit.window: f"{loads[audit.window].rows_in} came in, {audit.n_rows} are in the table"
            for audit in audits
            if not loads[audit.window].is_whole or audit.n_rows != loads[audit.window].rows_kept
        }
        doubled = {audit.window: f"{audit.n_doubled} rows share an id" for audit in audits if audit.n_doubled}
        outside = {audit.window: f"{audit.n_outside} rows lie outside" for audit in audits if audit.n_outside}
        results = [
            _result(events_key, EVERY_ROW, miscounted, len(windows)),
            _result(events_key, NO_DOUBLE, doubled, len(windows)),
            _result(events_key, IN_WINDOW, outside, len(windows)),
            _result(events_key, NOT_QUIET, quiet_windows(windows, loads), len(windows), dg.AssetCheckSeverity.WARN),
        ]
        selected = {key.name for key in context.selected_asset_check_keys}
        yield from (result for result in results if result.check_name in selected)

    return events_checks


def quiet_windows(windows: list[Window], loads: dict[Window, Load]) -> dict[Window, str]:
    """Windows with far fewer rows than the ones loaded before them, and by how much."""
    in_order = sorted(loads)
    quiet = {}
    for window in windows:
        at = in_order.index(window)
        before = [loads[earlier].rows_kept for earlier in in_order[max(0, at - TRAILING_WINDOWS) : at]]
        n_rows = loads[window].rows_kept
        if before and n_rows < QUIET_RATIO * mean(before):
            quiet[window] = f"{n_rows} rows, the {len(before)} windows before it have {mean(before):.0f} on average"
    return quiet


def _result(
    key: dg.AssetKey,
    name: str,
    bad: dict[Window, str],
    n_windows: int,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    lines = "\n".join(f"- **{window}**: {what}" for window, what in list(bad.items())[:_SHOWN])
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=not bad,
        severity=severity,
        metadata={"windows checked": n_windows, "windows with a problem": len(bad)}
        | ({"problems": dg.MetadataValue.md(lines)} if bad else {}),
    )


def _is_partitioned(context: dg.AssetCheckExecutionContext) -> bool:
    return context.has_partition_key or "dagster/asset_partition_range_start" in context.run.tags
