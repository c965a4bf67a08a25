"""Made-up people and the calendar they live by."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

from fullstory_dagster.simulator.traffic.calendar import (
    is_order_button_broken,
    is_sale_page_heavy,
    midnight_ms,
    n_visits,
    release,
)
from fullstory_dagster.simulator.traffic.people import person, visits

THURSDAY = date(2026, 6, 18)


def at(day: date, hour: int, minute: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=timezone.utc).timestamp() * 1000)


def test_a_person_is_the_same_whenever_they_are_made() -> None:
    first = person(1, THURSDAY, 3, True)
    person.cache_clear()
    assert person(1, THURSDAY, 3, True) == first
    assert person(1, THURSDAY, 4, True) != first


def test_everybody_who_comes_was_first_seen_before_that() -> None:
    for visit in visits(1, THURSDAY, 1.0):
        assert visit.device.created_ms <= visit.start_ms
        assert midnight_ms(THURSDAY) <= visit.start_ms < midnight_ms(THURSDAY + timedelta(days=1))


def test_sessions_have_ids_of_their_own() -> None:
    ids = [visit.session_id for n in range(7) for visit in visits(1, THURSDAY + timedelta(days=n), 1.0)]
    assert len(set(ids)) == len(ids)


def test_saturdays_are_quieter_than_mondays() -> None:
    mondays = sum(n_visits(1, date(2026, 6, 15) + timedelta(weeks=n), 1.0) for n in range(8))
    saturdays = sum(n_visits(1, date(2026, 6, 20) + timedelta(weeks=n), 1.0) for n in range(8))
    assert saturdays < 0.9 * mondays


def test_the_button_breaks_with_thursdays_release_and_works_after_the_hotfix() -> None:
    moments = [at(THURSDAY, 13, 9), at(THURSDAY, 13, 10), at(THURSDAY, 21, 39), at(THURSDAY, 21, 40)]
    assert [is_order_button_broken(moment) for moment in moments] == [False, True, True, False]
    assert [release(moment) for moment in moments] == ["2026.24.2", "2026.25.1", "2026.25.1", "2026.25.2"]
    assert release(at(THURSDAY + timedelta(days=6), 12)) == "2026.25.2"


def test_the_campaign_weighs_on_the_sale_page_from_wednesday_morning_to_sunday_night() -> None:
    wednesday, sunday = THURSDAY - timedelta(days=1), THURSDAY + timedelta(days=3)
    moments = [at(wednesday, 8, 59), at(wednesday, 9), at(sunday, 23, 59), at(sunday + timedelta(days=1), 0)]
    assert [is_sale_page_heavy(moment) for moment in moments] == [False, True, True, False]
