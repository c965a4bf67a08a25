"""Which runs to ask for now: what the sensor and the schedule have in common."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from fullstory_dagster.defs.names import EVENTS, LOAD_JOB, PARSED_EVENTS, RAW_BUNDLES, asset_key
from fullstory_dagster.defs.partitions import key_range_of, key_range_tags
from fullstory_dagster.errors import BundleDamagedError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.status import RETRY_EVERY, WindowStatus, read_status
from fullstory_dagster.windows import Window, split_ranges

WINDOWS_A_RUN = 30
RUNS_A_TICK = 4
PATIENCE_S = 10
"""How long a tick waits for the warehouse, each time it looks: Dagster ends a tick after 60 s, without a reason."""

_IN_PROGRESS = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]

_ASSET_OF_STAGE = {"fetch": RAW_BUNDLES, "parse": PARSED_EVENTS, "append": EVENTS}


@dataclass(frozen=True)
class Requests:
    """What to run, and the reason in one sentence.

    Attributes:
        runs: a run request for each range.
        reason: for the tick's page.
    """

    runs: list[dg.RunRequest]
    reason: str


def choose_runs(ingestion: Ingestion, instance: dg.DagsterInstance) -> Requests:
    """Ask for every available window that was never loaded, or is not settled, oldest first, in bounded ranges.

    A window that is under way is left alone; one that failed is tried again hourly and a bounded number of times if
    trying can help, and otherwise left to a person. The stage that failed is the one that is asked for.

    Raises:
        SettingsError: there is no API key, so no run could do anything.
        WarehouseLockedError: somebody else held the warehouse for too long.
        WarehouseMismatchError: the warehouse holds windows of another length.
    """
    ingestion.settings.require_api_key()
    now = ingestion.clock.now()
    grid = ingestion.settings.grid
    windows = read_status(ingestion).windows
    under_way = _under_way(ingestion, instance)
    wanted = [status for status in windows if status.is_wanted(now) and status.window not in under_way]
    unavailable = _unavailable(ingestion, [status.window for status in wanted])
    wanted = [status for status in wanted if status.window not in unavailable]

    by_stage: dict[str, list[Window]] = defaultdict(list)
    for status in wanted:
        stage = _stage_to_run(ingestion, status, now)
        if stage is None:
            under_way.add(status.window)
        else:
            by_stage[stage].append(status.window)
    ranges = sorted(
        (windows_in_range, stage)
        for stage, of_stage in by_stage.items()
        for windows_in_range in split_ranges(of_stage, WINDOWS_A_RUN)
    )
    chosen = ranges[:RUNS_A_TICK]
    runs = [
        _run_request(ingestion, stage, [grid.key(window) for window in windows_in_range])
        for windows_in_range, stage in chosen
    ]
    n_asked = sum(len(windows_in_range) for windows_in_range, _ in chosen)
    return Requests(runs, _reason(windows, n_asked, len(runs), len(under_way), unavailable))


def _stage_to_run(ingestion: Ingestion, status: WindowStatus, now: datetime) -> str | None:
    """The stage a window waits for; None while what follows its bundle is given the time to do so."""
    bundle = ingestion.bundles.get(status.window)
    has_settled_since = bundle is not None and not bundle.is_settled and now >= status.window.settled_at
    if bundle is None or has_settled_since:
        return "fetch"
    # A failure from before the bundle came says nothing of what follows it.
    if status.attempt and status.attempt.last_at > bundle.received_at:
        return "fetch" if status.attempt.kind == BundleDamagedError.__name__ else status.attempt.stage
    if now - bundle.received_at < RETRY_EVERY:
        return None
    parsed = ingestion.dataset.get(status.window)
    return "append" if parsed and parsed.bundle_sha256 == bundle.sha256 else "parse"


def _run_request(ingestion: Ingestion, stage: str, keys: list[str]) -> dg.RunRequest:
    selection = [asset_key(ingestion.settings.schema, _ASSET_OF_STAGE[stage])]
    if len(keys) == 1:
        return dg.RunRequest(job_name=LOAD_JOB, partition_key=keys[0], asset_selection=selection)
    return dg.RunRequest(job_name=LOAD_JOB, asset_selection=selection, tags=key_range_tags(keys))


def _under_way(ingestion: Ingestion, instance: dg.DagsterInstance) -> set[Window]:
    """Windows of runs that wait or go on, whoever asked for them: a backfill's as well as the sensor's own."""
    grid = ingestion.settings.grid
    ours = {asset_key(ingestion.settings.schema, name) for name in _ASSET_OF_STAGE.values()}
    windows: set[Window] = set()
    for run in instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS)):
        if not ours & (run.asset_selection or set()):
            continue
        first, last = key_range_of(run.tags)
        # A run that was queued before the window's length was changed has keys of another kind.
        with suppress(ValueError):
            windows.update(grid.between(grid.window_of_key(first).start, grid.window_of_key(last).end))
    return windows


def _unavailable(ingestion: Ingestion, windows: list[Window]) -> dict[Window, str]:
    """Windows that the older API's list does not cover; the clock alone decides for segment exports."""
    if not windows or ingestion.settings.export_api != "bundle":
        return {}
    with ingestion.client() as client:
        return ingestion.note_uncovered(windows, client)


def _reason(
    windows: list[WindowStatus],
    n_asked: int,
    n_runs: int,
    n_under_way: int,
    unavailable: dict[Window, str],
) -> str:
    parts = []
    if n_runs:
        parts.append(f"Asked for {n_asked} windows in {n_runs} runs")
    else:
        n_loaded = sum(status.load is not None for status in windows)
        parts.append(f"Nothing to ask for: of {len(windows)} windows {n_loaded} are loaded")
    if n_under_way:
        parts.append(f"{n_under_way} are under way")
    if unavailable:
        parts.append(f"{len(unavailable)} are not available yet, e.g. {next(iter(unavailable.values()))}")
    failed = [status for status in windows if status.state == "failed"]
    if failed and failed[0].attempt:
        parts.append(f"{len(failed)} failed, e.g. {failed[0].window}: {failed[0].attempt.error}")
    return "; ".join(parts).rstrip(".") + "."
