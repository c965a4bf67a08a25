"""Window arithmetic, and that Dagster's partitions are the same windows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullstory_dagster.windows import WINDOW_HOURS, Window, WindowGrid, split_ranges


def at(day: int, hour: int = 0, minute: int = 0, *, month: int = 6) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=timezone.utc)


def grid(hours: int = 24, delay_hours: int = 24, first: datetime | None = None) -> WindowGrid:
    return WindowGrid(first=first or at(1), hours=hours, delay_hours=delay_hours)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (datetime(2026, 6, 1), at(2)),  # noqa: DTZ001
        (at(1), at(1)),
        (at(2), at(1)),
        (at(1), datetime(2026, 6, 2, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_a_window_needs_utc_bounds_in_order(start: datetime, end: datetime) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(start, end)


def test_a_window_is_named_for_people_and_for_paths() -> None:
    assert str(Window(at(1, 12), at(1, 18))) == "2026-06-01 12:00 to 18:00 UTC"
    assert str(Window(at(1, 18), at(2))) == "2026-06-01 18:00 to 2026-06-02 00:00 UTC"
    assert Window(at(1, 12), at(1, 18)).slug == "20260601T1200Z"


def test_a_window_is_settled_a_day_after_its_end() -> None:
    assert Window(at(1), at(2)).settled_at == at(3)


@pytest.mark.parametrize("hours", WINDOW_HOURS)
def test_windows_are_aligned_to_midnight_utc(hours: int) -> None:
    aligned = grid(hours).align(datetime(2026, 6, 2, 1, 59, tzinfo=timezone(timedelta(hours=2))))
    assert aligned == at(1, 23 // hours * hours)


@pytest.mark.parametrize(
    ("hours", "window", "key"),
    [(24, Window(at(1), at(2)), "2026-06-01"), (6, Window(at(1, 18), at(2)), "2026-06-01-18:00")],
)
def test_a_partition_key_names_its_window_and_back(hours: int, window: Window, key: str) -> None:
    assert grid(hours).key(window) == key
    assert grid(hours).window_of_key(key) == window


@pytest.mark.parametrize(
    ("hours", "key"),
    [
        (24, "2026-06-01-00:00"),
        (24, "2026-6-1"),
        (24, "2026-02-30"),
        (6, "2026-06-01"),
        (6, "2026-06-01-05:00"),
        (6, "2026-06-01-06:30"),
    ],
)
def test_a_key_of_another_format_or_off_the_grid_is_refused(hours: int, key: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        grid(hours).window_of_key(key)


@pytest.mark.parametrize(
    ("hours", "delay_hours", "end_offset"),
    [(24, 24, -1), (6, 24, -4), (24, 0, 0), (24, 30, -1), (12, 30, -2), (1, 24, -24), (24, 12, 0)],
)
def test_the_end_offset_counts_the_ended_windows_still_inside_the_delay(
    hours: int, delay_hours: int, end_offset: int
) -> None:
    assert grid(hours, delay_hours).end_offset == end_offset


def test_a_six_hour_window_appears_a_day_after_its_end() -> None:
    # The example of the data export reference: June 1, 12:00-18:00 can be had from June 2, 18:00.
    window = Window(at(1, 12), at(1, 18))
    assert not grid(6).is_available(window, at(2, 17, 59))
    assert grid(6).is_available(window, at(2, 18))
    assert grid(6).available(at(2, 18))[-1] == window


def test_a_delay_that_is_no_multiple_of_the_length_is_kept_to_the_hour() -> None:
    odd = grid(24, 30)
    assert odd.available(at(3, 5, 59)) == []
    assert odd.available(at(3, 6)) == [Window(at(1), at(2))]


def test_no_window_begins_before_the_first_one() -> None:
    assert list(grid().between(at(1, month=5), at(3))) == [Window(at(1), at(2)), Window(at(2), at(3))]
    assert grid().available(at(1)) == []


def test_windows_between_two_instants_begin_between_them() -> None:
    found = list(grid(6).between(at(1, 1), at(1, 18)))
    assert found == [Window(at(1, 6), at(1, 12)), Window(at(1, 12), at(1, 18))]
    assert list(grid(6).between(at(3), at(3))) == []


def test_ranges_are_neighbours_and_no_longer_than_allowed() -> None:
    days = [Window(at(day), at(day + 1)) for day in (5, 1, 2, 3, 7, 8)]
    ranges = split_ranges(days, longest=2)
    assert [[window.start.day for window in windows] for windows in ranges] == [[1, 2], [3], [5], [7, 8]]
    assert split_ranges([], longest=2) == []


instants = st.datetimes(
    min_value=datetime(2020, 1, 1),  # noqa: DTZ001 (hypothesis wants them naive)
    max_value=datetime(2030, 1, 1),  # noqa: DTZ001
    timezones=st.just(timezone.utc),
)


@given(instant=instants, hours=st.sampled_from(WINDOW_HOURS))
def test_every_instant_lies_in_exactly_one_window(instant: datetime, hours: int) -> None:
    start = grid(hours).align(instant)
    end = start + grid(hours).length
    assert start <= instant < end
    assert grid(hours).align(end) == end
    assert grid(hours).align(end - timedelta(microseconds=1)) == start


@given(first=instants, now=instants, hours=st.sampled_from(WINDOW_HOURS), delay_hours=st.integers(0, 50))
def test_available_windows_tile_the_time_from_the_first_one_on(
    first: datetime, now: datetime, hours: int, delay_hours: int
) -> None:
    now = min(now, first + timedelta(days=20))
    account = grid(hours, delay_hours, first=grid(hours).align(first))
    windows = account.available(now)
    assert [window.start for window in windows] == [account.first + n * account.length for n in range(len(windows))]
    assert all(account.is_available(window, now) for window in windows)
    following = account.first + len(windows) * account.length
    assert not account.is_available(Window(following, following + account.length), now)


@pytest.mark.parametrize(
    ("hours", "delay_hours"), [(24, 24), (24, 0), (24, 48), (6, 24), (6, 0), (1, 3), (8, 24), (12, 36)]
)
@pytest.mark.parametrize("first_hour", [0, 12])
def test_dagster_offers_exactly_the_available_windows(hours: int, delay_hours: int, first_hour: int) -> None:
    from fullstory_dagster.defs.partitions import window_partitions

    account = grid(hours, delay_hours, first=grid(hours).align(at(27, first_hour, month=2)))
    partitions = window_partitions(account)
    for minutes in range(0, 4 * 24 * 60, 353):
        now = account.first + timedelta(minutes=minutes)
        offered = partitions.get_partition_keys(current_time=now)
        assert offered == [account.key(window) for window in account.available(now)], now
    edge = account.first + account.length + account.delay
    assert len(partitions.get_partition_keys(current_time=edge)) == 1
    assert partitions.get_partition_keys(current_time=edge - timedelta(seconds=1)) == []


def test_dagster_shows_a_window_a_little_early_when_the_delay_is_no_multiple() -> None:
    from fullstory_dagster.defs.partitions import window_partitions

    account = grid(24, 30)
    assert window_partitions(account).get_partition_keys(current_time=at(3)) == ["2026-06-01"]
    assert account.available(at(3)) == []
