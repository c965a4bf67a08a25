"""What dbt's tests said last, kept for a Dagster that was not there: the command line builds models as well."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from fullstory_dagster.defs.check_targets import latest_materialization
from fullstory_dagster.defs.names import EVENTS, asset_key
from fullstory_dagster.store.objects import ObjectStore, publish_text, read_json

_KEY = "published/test_results.json"


@dataclass(frozen=True)
class TestResult:
    """One test in one build.

    Attributes:
        asset: name of the asset that the test is a check of.
        test: name of the test, and of the check.
        is_passed: whether it found nothing.
        is_warning: whether what it found is a warning.
        n_failures: rows that it found.
        at: seconds since the epoch.
    """

    __test__ = False  # for pytest, which would take the name for a class of tests

    asset: str
    test: str
    is_passed: bool
    is_warning: bool
    n_failures: int
    at: float


def results_of(node_results: Iterable[Any]) -> list[TestResult]:
    """The tests among what dbt says of its nodes; a skipped one said nothing."""
    at = datetime.now(timezone.utc).timestamp()
    results = []
    for result in node_results:
        node, status = result.node, result.status.value
        if node.resource_type.value != "test" or status not in ("pass", "warn", "fail", "error"):
            continue
        tested = getattr(node, "attached_node", None) or next(iter(node.depends_on.nodes), "")
        # Sources are parts of the events asset, as the translator says as well.
        asset = EVENTS if tested.startswith("source.") else tested.split(".")[-1]
        results.append(TestResult(asset, node.name, status == "pass", status == "warn", result.failures or 0, at))
    return results


def keep_results(target: ObjectStore, results: Iterable[TestResult], *, is_whole: bool) -> None:
    """Keep what tests said.

    Args:
        target: dbt's target folder.
        results: of one build.
        is_whole: whether all tests were run; of some, the others keep what they said before.
    """
    kept = {} if is_whole else read_json(target, _KEY) or {}
    kept |= {f"{result.asset}.{result.test}": asdict(result) for result in results}
    publish_text(target, _KEY, json.dumps(kept))


def report_results(instance: dg.DagsterInstance, target: ObjectStore, schema: str) -> int:
    """Evaluate checks without a run where a test said something since Dagster last heard of it; how many.

    Args:
        instance: Dagster's storage.
        target: dbt's target folder.
        schema: of the assets.
    """
    kept = [TestResult(**result) for result in (read_json(target, _KEY) or {}).values()]
    by_key = {dg.AssetCheckKey(asset_key(schema, result.asset), result.test): result for result in kept}
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(by_key)) if by_key else {}
    n_reported = 0
    for key, result in by_key.items():
        known = latest.get(key)
        if known and known.status == AssetCheckExecutionRecordStatus.PLANNED:
            continue  # a run is about to say it
        if known and known.event and known.event.timestamp >= result.at:
            continue
        instance.report_runless_asset_event(
            dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=result.is_passed,
                severity=dg.AssetCheckSeverity.WARN if result.is_warning else dg.AssetCheckSeverity.ERROR,
                metadata={"dagster_dbt/failed_row_count": result.n_failures, "tested by": "the command line"},
                target_materialization_data=latest_materialization(instance, key.asset_key),
            )
        )
        n_reported += 1
    return n_reported
