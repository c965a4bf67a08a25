"""The load log in a few numbers."""

from __future__ import annotations

from dataclasses import replace

from fullstory_dagster.store.load_summary import summarize_loads
from fullstory_dagster_tests.sample_loads import load


def test_nothing_loaded_is_nothing_to_sum_up() -> None:
    assert summarize_loads([]) is None


def test_totals_are_of_all_windows_and_averages_of_the_newest() -> None:
    loads = [replace(load(1), rows_in=1_000_000), *(load(1) for _ in range(27)), load(2)]
    summary = summarize_loads(loads)
    assert summary
    assert (summary.n_windows, summary.n_recent, summary.rows) == (29, 28, 1_002_900)
    assert (summary.first, summary.last) == (
        loads[0].window.start.replace(tzinfo=None),
        loads[-1].window.end.replace(tzinfo=None),
    )
    assert summary.rows_a_window == (27 * 100 + 200) / 28
    assert summary.rows_a_year == 365 * summary.rows_a_window
    assert (summary.fetch_s, summary.parse_s, summary.append_s) == (1.0, 0.5, 0.1)
    assert summary.hours_after_end == 25
    assert summary.asked_for == "segment export of everyone, all fields"


def test_a_year_has_more_windows_where_they_are_shorter() -> None:
    day = load(1)
    hours = replace(day, window=replace(day.window, end=day.window.start + (day.window.end - day.window.start) / 4))
    summary = summarize_loads([hours])
    assert summary
    assert summary.rows_a_year == 365 * 4 * 100


def test_windows_whose_time_is_up_say_nothing_of_what_is_usual() -> None:
    expired = replace(load(1), rows_in=9, rows_kept=0, rows_expired=9)
    summary = summarize_loads([expired, load(2), load(3)])
    assert summary
    assert (summary.n_windows, summary.n_recent, summary.rows_a_window) == (3, 2, 250)
    assert summarize_loads([expired])


def test_it_says_what_was_asked_for() -> None:
    some = summarize_loads([load(1, settings={"segment_id": "abc", "fields": ["UserId", "PageUrl"]})])
    legacy = summarize_loads([load(1, api="bundle")])
    assert some
    assert legacy
    assert some.asked_for == "segment export of abc, 2 fields"
    assert legacy.asked_for == "bundles of the Data Export pack"
