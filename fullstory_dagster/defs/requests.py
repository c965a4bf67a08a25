"""Which runs to ask for now: what the sensor and the schedule have in common."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from threading import Thread
from typing import TypeVar

import dagster as dg

from fullstory_dagster.defs.checks import report_completeness
from fullstory_dagster.defs.names import EVENTS, LOAD_JOB, PARSED_EVENTS, RAW_BUNDLES, asset_key
from fullstory_dagster.defs.partitions import key_range_of, key_range_tags
from fullstory_dagster.errors import BundleDamagedError, ConnectionFailedError, FullStoryError
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.status import RETRY_EVERY, WindowStatus, read_status
from fullstory_dagster.windows import Window, split_ranges

WINDOWS_A_RUN = 30
RUNS_UNDER_WAY = 4
"""Runs of the sensor and the schedule that wait or go on at a time: a queue of hundreds would bury everything else."""
PATIENCE_S = 5
"""How long a tick waits for the warehouse, each time it looks, and for each answer of FullStory's: Dagster ends a tick
after 60 s, without a reason."""
LIST_PATIENCE_S = 20
"""How long a tick waits for the whole list of bundles, which has many pages in a long history."""

T = TypeVar("T")

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
    status = read_status(ingestion)
    report_completeness(instance, ingestion.settings.schema, status)
    under_way, n_runs_of_ours = _under_way(ingestion, instance)

    by_stage: dict[str, list[Window]] = defaultdict(list)
    # What was loaded from before the present start date stays, and is no partition any more.
    wanted = [
        entry
        for entry in status.windows
        if entry.window.start >= grid.first and entry.window not in under_way and entry.is_wanted(now)
    ]
    # A bucket is not asked for each of the windows that are not there.
    kept = ingestion.bundles.slugs() if wanted else set()
    for entry in wanted:
        stage = _stage_to_run(ingestion, entry, now) if entry.window.slug in kept else "fetch"
        if stage is None:
            under_way.add(entry.window)
        else:
            by_stage[stage].append(entry.window)
    unavailable, trouble = _unavailable(ingestion, by_stage["fetch"])
    by_stage["fetch"] = [] if trouble else [window for window in by_stage["fetch"] if window not in unavailable]
    ranges = sorted(
        (windows_in_range, stage)
        for stage, of_stage in by_stage.items()
        for windows_in_range in split_ranges(of_stage, WINDOWS_A_RUN)
    )
    chosen = ranges[: max(0, RUNS_UNDER_WAY - n_runs_of_ours)]
    runs = [
        _run_request(ingestion, stage, [grid.key(window) for window in windows_in_range])
        for windows_in_range, stage in chosen
    ]
    n_asked = sum(len(windows_in_range) for windows_in_range, _ in chosen)
    n_waiting = sum(map(len, by_stage.values())) - n_asked
    return Requests(runs, _reason(status.windows, n_asked, len(runs), len(under_way), n_waiting, unavailable, trouble))


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


def _under_way(ingestion: Ingestion, instance: dg.DagsterInstance) -> tuple[set[Window], int]:
    """Windows of runs that wait or go on, whoever asked for them, and how many of those runs are of our own asking."""
    grid = ingestion.settings.grid
    ours = {asset_key(ingestion.settings.schema, name) for name in _ASSET_OF_STAGE.values()}
    windows: set[Window] = set()
    n_runs = 0
    for run in instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS)):
        if not ours & (run.asset_selection or set()):
            continue
        n_runs += run.job_name == LOAD_JOB
        first, last = key_range_of(run.tags)
        # A run that was queued before the window's length was changed has keys of another kind.
        with suppress(ValueError):
            windows.update(grid.between(grid.window_of_key(first).start, grid.window_of_key(last).end))
    return windows, n_runs


def _unavailable(ingestion: Ingestion, windows: list[Window]) -> tuple[dict[Window, str], str | None]:
    """Windows that the older API's list does not cover; the clock alone decides for segment exports.

    Returns:
        tuple: the reason for each such window, and why FullStory could not be asked, if it could not. What is fetched
        already goes on all the same.
    """
    if not windows or ingestion.settings.export_api != "bundle":
        return {}, None

    def ask() -> dict[Window, str]:
        with ingestion.client(PATIENCE_S) as client:
            return ingestion.note_uncovered(windows, client)

    try:
        return _within(LIST_PATIENCE_S, ask), None
    except FullStoryError as error:
        return {}, str(error)


def _within(patience_s: float, work: Callable[[], T]) -> T:
    """What ``work`` gives, or an error when that takes too long: looking up a name has no time limit of its own."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="list of bundles", daemon=True).start()
    try:
        return future.result(patience_s)
    except TimeoutError:
        raise ConnectionFailedError(
            f"FullStory's list of bundles did not come within {patience_s:g} s; the next tick asks again."
        ) from None


def _reason(
    windows: list[WindowStatus],
    n_asked: int,
    n_runs: int,
    n_under_way: int,
    n_waiting: int,
    unavailable: dict[Window, str],
    trouble: str | None,
) -> str:
    parts = []
    if n_runs:
        parts.append(f"Asked for {n_asked} windows in {n_runs} runs")
    else:
        n_loaded = sum(status.load is not None for status in windows)
        parts.append(f"Nothing to ask for: of {len(windows)} windows {n_loaded} are loaded")
    if n_under_way:
        parts.append(f"{n_under_way} are under way")
    if n_waiting:
        parts.append(f"{n_waiting} more wait until fewer than {RUNS_UNDER_WAY} runs are under way")
    if trouble:
        parts.append(f"what is to be fetched could not be chosen: {trouble.rstrip('.')}")
    if unavailable:
        parts.append(f"{len(unavailable)} are not available yet, e.g. {next(iter(unavailable.values()))}")
    failed = [status for status in windows if status.state == "failed"]
    if failed and failed[0].attempt:
        parts.append(f"{len(failed)} failed, e.g. {failed[0].window}: {failed[0].attempt.error}")
    return "; ".join(parts).rstrip(".") + "."
