"""When assets materialize by themselves once their upstream has."""

from __future__ import annotations

from typing import Any

import dagster as dg

Condition = dg.AutomationCondition[Any]


def follow_upstream() -> Condition:
    """Materialize a window that is missing, and again when its upstream was loaded again.

    ``missing()`` alone never fires twice. A window whose last run failed is left to the sensor, which knows from the
    attempt log whether another try can help.
    """
    condition = dg.AutomationCondition
    is_new = condition.missing() & ~condition.execution_failed()
    is_reloaded = condition.any_deps_updated().since_last_handled()
    return _when_upstream_is_there(is_new | is_reloaded)


def follow_events() -> Condition:
    """As :func:`follow_upstream`, and a failed build is tried again every hour: dbt keeps no attempt log."""
    condition = dg.AutomationCondition
    is_new = condition.missing() & ~condition.execution_failed()
    is_reloaded = condition.any_deps_updated().since_last_handled()
    is_retried = condition.execution_failed() & condition.cron_tick_passed("0 * * * *")
    return _when_upstream_is_there(is_new | is_reloaded | is_retried)


def follow_models() -> Condition:
    """Draw anew once models were built and nothing more is on its way. They never are all there: windows still come."""
    condition = dg.AutomationCondition
    is_newer = condition.any_deps_updated().since_last_handled()
    return is_newer & ~condition.any_deps_in_progress() & ~condition.in_progress()


def _when_upstream_is_there(wanted: Condition) -> Condition:
    condition = dg.AutomationCondition
    return wanted & ~condition.any_deps_missing() & ~condition.any_deps_in_progress() & ~condition.in_progress()
