"""The schedule: its times, and that it asks what the sensor asks."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from fullstory_dagster.defs.schedules import build_schedule, cron_of
from fullstory_dagster.errors import SettingsError
from fullstory_dagster.ingest.sync import sync
from fullstory_dagster.settings import Settings

from .conftest import START, AccountAt

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def plain() -> Settings:
    return Settings(start=START)


@pytest.mark.parametrize(
    ("schedule", "cron"),
    [
        ("every 6h at 03:15", "15 3,9,15,21 * * *"),
        ("every 6h at 21:15", "15 3,9,15,21 * * *"),
        ("every 24h at 7:05", "5 7 * * *"),
        ("every 12h at 00:00", "0 0,12 * * *"),
        ("every 1h at 00:30", f"30 {','.join(map(str, range(24)))} * * *"),
        ("15 3 * * 1-5", "15 3 * * 1-5"),
    ],
)
def test_an_anchored_schedule_is_unfolded_into_its_hours(schedule: str, cron: str) -> None:
    assert cron_of(schedule) == cron


def test_it_runs_by_default_only_when_a_time_is_set(plain: Settings) -> None:
    assert build_schedule(plain).default_status == dg.DefaultScheduleStatus.STOPPED
    assert build_schedule(plain).execution_timezone == "UTC"
    is_set = build_schedule(plain.with_changes(schedule="every 6h at 03:15", schedule_timezone="Europe/Berlin"))
    assert is_set.default_status == dg.DefaultScheduleStatus.RUNNING
    assert is_set.execution_timezone == "Europe/Berlin"
    assert is_set.cron_schedule == "15 3,9,15,21 * * *"


@pytest.mark.parametrize("schedule", ["61 3 * * *", "0 25 * * *", "a b c d e", "0 0 30 2 *"])
def test_a_cron_line_that_means_nothing_is_a_sentence_that_names_the_setting(plain: Settings, schedule: str) -> None:
    with pytest.raises(SettingsError, match=r"^FULLSTORY_SCHEDULE is '.*', but must be a cron line"):
        build_schedule(plain.with_changes(schedule=schedule))


def ticks(schedule: dg.ScheduleDefinition, start: datetime, n: int) -> list[str]:
    """The next ``n`` times Dagster evaluates the schedule, local time with its offset."""
    times = schedule_execution_time_iterator(
        start.timestamp(), str(schedule.cron_schedule), schedule.execution_timezone or "UTC"
    )
    return [f"{tick.astimezone(BERLIN):%d %H:%M%z}" for tick in islice(times, n)]


@pytest.fixture
def berlin(plain: Settings) -> Settings:
    return plain.with_changes(schedule_timezone="Europe/Berlin")


def test_the_hours_stay_where_they_are_when_the_clock_goes_forward(berlin: Settings) -> None:
    schedule = build_schedule(berlin.with_changes(schedule="every 6h at 03:15"))
    assert ticks(schedule, datetime(2026, 3, 28, 20, tzinfo=BERLIN), 5) == [
        "28 21:15+0100",
        "29 03:15+0200",
        "29 09:15+0200",
        "29 15:15+0200",
        "29 21:15+0200",
    ]


def test_the_hours_stay_where_they_are_when_the_clock_goes_back(berlin: Settings) -> None:
    schedule = build_schedule(berlin.with_changes(schedule="every 6h at 03:15"))
    assert ticks(schedule, datetime(2026, 10, 24, 20, tzinfo=BERLIN), 4) == [
        "24 21:15+0200",
        "25 03:15+0100",
        "25 09:15+0100",
        "25 15:15+0100",
    ]


def test_a_time_that_the_clock_leaves_out_happens_an_hour_later(berlin: Settings) -> None:
    schedule = build_schedule(berlin.with_changes(schedule="30 2 * * *"))
    found = ticks(schedule, datetime(2026, 3, 28, 12, tzinfo=BERLIN), 2)
    assert found == ["29 03:00+0200", "30 02:30+0200"]


def test_a_time_that_comes_twice_happens_once(berlin: Settings) -> None:
    schedule = build_schedule(berlin.with_changes(schedule="30 2 * * *"))
    found = ticks(schedule, datetime(2026, 10, 24, 12, tzinfo=BERLIN), 2)
    assert [tick[:8] for tick in found] == ["25 02:30", "26 02:30"]


@pytest.mark.slow
def test_it_asks_what_the_sensor_asks(account: AccountAt, stored_instance: dg.DagsterInstance) -> None:
    schedule = build_schedule(account.settings)

    def evaluate(of: AccountAt) -> Any:
        with dg.build_schedule_context(
            instance=stored_instance, scheduled_execution_time=account.clock.at, resources={"account": of}
        ) as context:
            return schedule(context)

    [run] = evaluate(account)
    assert run.tags["dagster/asset_partition_range_start"] == "2026-06-01"
    assert run.tags["dagster/asset_partition_range_end"] == "2026-06-06"
    sync(account.ingestion())
    assert evaluate(account).skip_message == "Nothing to ask for: of 6 windows 6 are loaded."
    impatient = AccountAt(account.settings.with_changes(lock_timeout_s=0), account.clock)
    with account.ingestion().warehouse.database.locked():
        assert "was held by process" in evaluate(impatient).skip_message
