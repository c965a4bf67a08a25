"""Windows side by side: bounded, each to its own end, and no more of them than asked for."""

from __future__ import annotations

import threading
from typing import Any

from fullstory_dagster.ingest.side_by_side import Outcome, each_window
from fullstory_dagster.windows import Window

from .conftest import day


def windows_of_a_month() -> list[Window]:
    return [day(number) for number in range(1, 31)]


def test_an_error_ends_its_own_window_only() -> None:
    def work(window: Window) -> int:
        if window.start.day % 7 == 0:
            raise RuntimeError(window.start.day)
        return window.start.day

    outcomes: list[Outcome[Any]] = list(each_window(windows_of_a_month(), work, jobs=3))
    assert {outcome.window for outcome in outcomes} == set(windows_of_a_month())
    assert sorted(outcome.result for outcome in outcomes if outcome.result) == [n for n in range(1, 31) if n % 7]
    assert sorted(outcome.error.args[0] for outcome in outcomes if outcome.error) == [7, 14, 21, 28]


def test_no_more_windows_are_under_way_than_allowed() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(_: Window) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.005)
        with lock:
            running -= 1

    assert len(list(each_window(windows_of_a_month(), work, jobs=3))) == 30
    assert most <= 3


def test_when_the_caller_stops_no_further_window_is_begun() -> None:
    begun: list[Window] = []
    outcomes = each_window(windows_of_a_month(), begun.append, jobs=1)
    next(outcomes)
    outcomes.close()
    assert len(begun) < 6


def test_no_windows_are_no_work() -> None:
    assert list(each_window([], lambda _: None, jobs=4)) == []
