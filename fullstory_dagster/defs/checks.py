"""Asset checks on events: of each window that was loaded, and of all windows together.

The checks of a window are partitioned as the asset is, and evaluated for every window of a run, one evaluation each. In
Dagster 1.13 an ``AssetCheckResult`` has no partition: in a run over a range it would be one result without a partition,
and its windows would stay planned for ever. An ``AssetCheckEvaluation`` names its partition, so those are yielded.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import mean

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from fullstory_dagster.defs.check_targets import latest_materialization
from fullstory_dagster.defs.failures import as_failure
from fullstory_dagster.defs.names import EVENTS, WAREHOUSE_POOL, asset_key
from fullstory_dagster.defs.partitions import window_partitions, windows_of
from fullstory_dagster.defs.resources import FullStoryAccount
from fullstory_dagster.ingest.gaps import find_gaps
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.status import Status, read_status
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.audit import WindowAudit, audit_windows
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window, name_ranges

EVERY_ROW = "every_row_is_accounted_for"
NO_DOUBLE = "no_event_stands_twice"
IN_WINDOW = "events_lie_in_their_window"
NOT_QUIET = "window_is_not_unusually_quiet"
NO_REJECTS = "no_row_is_rejected"
ALL_FIT = "every_value_fits_its_column"
WINDOW_CHECKS = (EVERY_ROW, NO_DOUBLE, IN_WINDOW, NOT_QUIET, NO_REJECTS, ALL_FIT)
"""Each speaks of one window."""

EVERY_WINDOW = "every_window_is_loaded"
"""Speaks of all of them, and of what is not there."""

TRAILING_WINDOWS = 7
QUIET_RATIO = 0.1
"""A window with less than a tenth of the rows of the windows before it is worth a look."""

_ERROR, _WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
_NAMED = 20
_LISTS = ("problems", "on their way")


@dataclass(frozen=True)
class _About:
    description: str
    severity: dg.AssetCheckSeverity = _ERROR
    is_blocking: bool = False


_ABOUT = {
    EVERY_ROW: _About(
        "Rows FullStory sent = kept + rejected + of other windows + already there + forgotten + expired, and the table "
        "holds as many as were kept.",
        is_blocking=True,
    ),
    NO_DOUBLE: _About("No two rows share an _event_id.", is_blocking=True),
    IN_WINDOW: _About("EventStart is within the row's window."),
    NOT_QUIET: _About(
        f"A warning when a window has less than {QUIET_RATIO:.0%} of the average rows of the {TRAILING_WINDOWS} "
        "windows before it.",
        _WARN,
    ),
    NO_REJECTS: _About(
        "A warning when rows of the window could not become events; they lie in _rejected, whole, with their reason.",
        _WARN,
    ),
    ALL_FIT: _About(
        "A warning when values did not fit their columns; they lie in CustomVars, unchanged, and the columns are NULL.",
        _WARN,
    ),
}


def build_checks(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Checks of the events asset of one account."""
    events_key = asset_key(settings.schema, EVENTS)
    partitions = window_partitions(settings.grid)
    specs = {
        name: dg.AssetCheckSpec(
            name,
            asset=events_key,
            description=about.description,
            blocking=about.is_blocking,
            partitions_def=partitions,
        )
        for name, about in _ABOUT.items()
    }

    @dg.multi_asset_check(specs=list(specs.values()), name="events_checks", can_subset=True, pool=WAREHOUSE_POOL)
    def events_checks(
        context: dg.AssetCheckExecutionContext, account: dg.ResourceParam[FullStoryAccount]
    ) -> Iterator[dg.AssetCheckEvaluation | dg.Output[None]]:
        selected = [name for name, spec in specs.items() if spec.key in context.selected_asset_check_keys]
        stopping: list[str] = []
        with as_failure(f"Checking {', '.join(selected)}"):
            ingestion = account.ingestion()
            # Started by hand without a partition, they look at everything that is loaded.
            windows = windows_of(context, settings.grid) if _is_partitioned(context) else None
            for evaluation in evaluate_windows(context.instance, ingestion, windows, selected):
                if evaluation.blocking and not evaluation.passed:
                    window = settings.grid.window_of_key(str(evaluation.partition))
                    stopping.append(f"{evaluation.check_name}: {window}: {evaluation.description}")
                yield evaluation
            for name in selected:
                yield dg.Output(None, output_name=specs[name].get_python_identifier())
        if stopping:
            raise dg.Failure(
                "What was loaded is kept, and nothing was built on it in this run. Load these windows again with "
                "'fullstory-dagster reset --from … --to …'; if that does not mend it, somebody else writes into the "
                "table, or it is a mistake in this project: " + " ".join(stopping),
                allow_retries=False,
            )

    @dg.asset_check(
        name=EVERY_WINDOW,
        asset=events_key,
        pool=WAREHOUSE_POOL,
        description="A warning that names every window since the start date that is missing, partial, unsettled, not "
        "offered, empty or failed, since when, why, and what to do. The sensor evaluates it whenever that changes.",
    )
    def every_window_is_loaded(account: dg.ResourceParam[FullStoryAccount]) -> dg.AssetCheckResult:
        with as_failure("Checking that every window is loaded"):
            evaluation = evaluate_completeness(settings.schema, read_status(account.ingestion()))
        return dg.AssetCheckResult(
            passed=evaluation.passed,
            severity=evaluation.severity,
            description=evaluation.description,
            metadata=evaluation.metadata,
        )

    return [events_checks, every_window_is_loaded]


def evaluate_windows(
    instance: dg.DagsterInstance, ingestion: Ingestion, windows: list[Window] | None, names: Iterable[str]
) -> Iterator[dg.AssetCheckEvaluation]:
    """Look at windows; one evaluation for each check and window that is loaded.

    Args:
        instance: knows which materialization a window's check speaks of.
        ingestion: the account.
        windows: None for every window that is loaded and still a partition.
        names: of the checks.

    Raises:
        WarehouseLockedError: somebody else held the warehouse for too long.
    """
    grid = ingestion.settings.grid
    key = asset_key(ingestion.settings.schema, EVENTS)
    loads = ingestion.warehouse.current_loads()
    if windows is None:
        windows = [window for window in loads if window.start >= grid.first]
    windows = [window for window in windows if window in loads]
    audits = audit_windows(ingestion.warehouse, windows)
    problems = {
        EVERY_ROW: _miscounted(audits, loads),
        NO_DOUBLE: {a.window: f"{a.n_doubled} rows share an id." for a in audits if a.n_doubled},
        IN_WINDOW: {a.window: f"{a.n_outside} rows lie outside." for a in audits if a.n_outside},
        NOT_QUIET: quiet_windows(windows, loads),
        NO_REJECTS: _rejected(audits, loads),
        ALL_FIT: {
            window: f"{loads[window].values_misfit} values did not fit their columns, in {loads[window].rows_in} rows."
            for window in windows
            if loads[window].values_misfit
        },
    }
    targets = {window: latest_materialization(instance, key, grid.key(window)) for window in windows}
    for name in names:
        for window in windows:
            problem = problems[name].get(window)
            yield dg.AssetCheckEvaluation(
                asset_key=key,
                check_name=name,
                passed=problem is None,
                severity=_ABOUT[name].severity,
                blocking=_ABOUT[name].is_blocking,
                description=problem,
                metadata=_counts(name, loads[window]),
                partition=grid.key(window),
                target_materialization_data=targets[window],
            )


def evaluate_completeness(schema: str, status: Status) -> dg.AssetCheckEvaluation:
    """Whether every window since the start date is loaded or on its way, and which are not.

    What it says depends on which windows are in which state and not on the hour, so that it can be compared with what
    was said before.
    """
    gaps = find_gaps(status)
    problems = [gap for gap in gaps if not gap.is_expected]
    on_their_way = [gap for gap in gaps if gap.is_expected]
    n_windows = sum(len(gap.windows) for gap in problems)
    counts = {f"windows {state}": n for state, n in status.count().items() if n}
    listed: dict[str, dg.MetadataValue] = {}
    for name, some in zip(_LISTS, (problems, on_their_way), strict=True):
        if some:
            lines = (f"- **{gap.state}**: {name_ranges(gap.windows, _NAMED)}. {gap.says}" for gap in some)
            listed[name] = dg.MetadataValue.md("\n".join(lines))
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(schema, EVENTS),
        check_name=EVERY_WINDOW,
        passed=not problems,
        severity=_WARN,
        description=f"{n_windows} of {len(status.windows)} windows: {problems[0]}" if problems else None,
        metadata={**listed, "windows": len(status.windows), **counts},
        blocking=False,
    )


def report_completeness(instance: dg.DagsterInstance, schema: str, status: Status) -> None:
    """Evaluate the check of all windows without a run, if it says something else than the last time.

    A window that fails, or that nobody loads, brings no run of events in which the check could say so.
    """
    evaluation = evaluate_completeness(schema, status)
    key = evaluation.asset_check_key
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    if latest and latest.status == AssetCheckExecutionRecordStatus.PLANNED:
        run = instance.get_run_by_id(latest.run_id)
        if run and not run.is_finished:
            return
    elif latest and latest.event and latest.event.dagster_event:
        said = latest.event.dagster_event.asset_check_evaluation_data
        if _what_it_says(said) == _what_it_says(evaluation):
            return
    instance.report_runless_asset_event(evaluation)


def _what_it_says(evaluation: dg.AssetCheckEvaluation) -> tuple[object, ...]:
    lists = [evaluation.metadata.get(name) for name in _LISTS]
    return (evaluation.passed, evaluation.description, *(text.value if text else None for text in lists))


def quiet_windows(windows: list[Window], loads: dict[Window, Load]) -> dict[Window, str]:
    """Windows with far fewer rows than the ones loaded before them, and by how much."""
    in_order = sorted(loads)
    quiet = {}
    for window in windows:
        at = in_order.index(window)
        earlier = [loads[window] for window in in_order[max(0, at - TRAILING_WINDOWS) : at]]
        before = [load.rows_kept for load in earlier if not load.rows_expired]
        n_rows = loads[window].rows_kept + loads[window].rows_expired
        if before and n_rows < QUIET_RATIO * mean(before):
            quiet[window] = f"{n_rows} rows; the {len(before)} windows before it have {mean(before):.0f} on average."
    return quiet


def _miscounted(audits: list[WindowAudit], loads: dict[Window, Load]) -> dict[Window, str]:
    wrong = {}
    for audit in audits:
        load = loads[audit.window]
        if not load.is_whole:
            wrong[audit.window] = (
                f"{load.rows_in} rows came in; {load.rows_kept} kept, {load.rows_rejected} rejected, "
                f"{load.rows_outside} of other windows, {load.rows_duplicate} already there, {load.rows_forgotten} "
                f"forgotten and {load.rows_expired} expired do not add up to that."
            )
        elif audit.n_rows != load.rows_kept:
            wrong[audit.window] = f"{load.rows_kept} rows were kept, {audit.n_rows} are in the table."
    return wrong


def _rejected(audits: list[WindowAudit], loads: dict[Window, Load]) -> dict[Window, str]:
    said = {}
    for audit in audits:
        load = loads[audit.window]
        if load.rows_rejected:
            reasons = "; ".join(f"{n} × {reason}" for reason, n in audit.rejects.items())
            said[audit.window] = f"{load.rows_rejected} of {load.rows_in} rows were rejected: {reasons}."
    return said


def _counts(name: str, load: Load) -> dict[str, int]:
    counts = {"rows in": load.rows_in, "rows kept": load.rows_kept}
    if name == EVERY_ROW:
        counts |= {
            "rows rejected": load.rows_rejected,
            "rows of other windows": load.rows_outside,
            "rows already there": load.rows_duplicate,
            "rows forgotten": load.rows_forgotten,
            "rows expired": load.rows_expired,
        }
    elif name == NO_REJECTS:
        counts["rows rejected"] = load.rows_rejected
    elif name == ALL_FIT:
        counts["misfit values"] = load.values_misfit
    return counts


def _is_partitioned(context: dg.AssetCheckExecutionContext) -> bool:
    return context.has_partition_key or "dagster/asset_partition_range_start" in context.run.tags
