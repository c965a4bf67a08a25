"""MetricFlow answers with what the marts hold."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .traffic import traffic
from .warehouse import PROJECT, TestWarehouse, day

pytestmark = [
    pytest.mark.slow,
    # dbt's own dependencies; nothing here can mend them.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

OF_A_DAY = {
    "sessions": "n_sessions",
    "people": "n_people",
    "new_people": "n_new_people",
    "converted_sessions": "n_converted_sessions",
    "frustrated_sessions": "n_frustrated_sessions",
    "events": "n_events",
    "errors": "n_errors",
    "active_time_s": "active_duration_s",
    "median_session_duration_s": "median_duration_s",
    "conversion_rate": "converted_pct / 100",
    "bounce_rate": "bounce_pct / 100",
}
"""Metric → the same number in daily_metrics."""


@pytest.fixture
def mf(tmp_path: Path) -> Callable[..., str]:
    """MetricFlow on a copy of the project, because it reads dbt's manifest in the project's own folder only."""
    project = tmp_path / "dbt_project"
    shutil.copytree(PROJECT, project, ignore=shutil.ignore_patterns("target", "logs"))
    surroundings = {**os.environ, "DBT_PROFILES_DIR": str(project), "DBT_LOG_PATH": str(tmp_path / "logs"), "CI": "1"}
    del surroundings["DBT_TARGET_PATH"]

    def run(program: str, *arguments: str) -> str:
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        ended = subprocess.run(command, cwd=project, env=surroundings, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    run("dbt", "--quiet", "parse")
    return lambda *arguments: run("mf", *arguments)


def test_a_metric_is_the_number_of_the_mart(warehouse: TestWarehouse, mf: Callable[..., str], tmp_path: Path) -> None:
    for number in (1, 2, 4):
        warehouse.load(day(number), traffic())
    warehouse.build()
    told = mf("validate-configs", "--show-all")
    assert told.count("(ERRORS: 0, FUTURE_ERRORS: 0, WARNINGS: 0)") == 6, told

    answer = tmp_path / "answer.csv"
    mf("query", "--metrics", ",".join(OF_A_DAY), "--group-by", "metric_time,session__device", "--csv", str(answer))
    asked = list(csv.DictReader(answer.read_text().splitlines()))
    columns = ", ".join(f"{column} AS {metric}" for metric, column in OF_A_DAY.items())
    with warehouse.connect() as connection:
        held = connection.execute(
            f"SELECT metric_date, dimension_value, {columns} FROM fullstory.daily_metrics WHERE dimension = 'device'"
        ).fetchall()
    assert len(held) >= 6
    assert {(row["metric_time__day"][:10], row["session__device"]): row for row in asked}.keys() == {
        (str(date), device) for date, device, *_ in held
    }
    for date, device, *numbers in held:
        [row] = [r for r in asked if (r["metric_time__day"][:10], r["session__device"]) == (str(date), device)]
        assert [float(row[metric] or 0) for metric in OF_A_DAY] == pytest.approx([float(n or 0) for n in numbers])


def test_the_days_of_the_time_spine_have_no_gap(warehouse: TestWarehouse) -> None:
    for number in (1, 4):
        warehouse.load(day(number), traffic())
    warehouse.build("--select", "+time_spine_daily")
    days = [row[0] for row in warehouse.execute("SELECT date_day FROM fullstory.time_spine_daily ORDER BY 1")]
    [(first, last)] = warehouse.execute(
        "SELECT min(session_start_at)::DATE, max(session_start_at)::DATE FROM fullstory.sessions"
    )
    assert (days[0], days[-1], len(days)) == (first, last, (last - first).days + 1)
    assert len(days) >= 4
