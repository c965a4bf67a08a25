"""What the asset checks are told of a window."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fullstory_dagster.store.audit import WindowAudit, audit_windows
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.sample_events import DAY, event

from .conftest import Loader


@pytest.fixture
def loader(any_loader: Loader) -> Loader:
    """Every test here is one of a file and of a lake."""
    return any_loader


NEXT_DAY = Window(DAY.end, DAY.end + timedelta(days=1))


def test_a_window_as_it_was_loaded_has_nothing_to_be_found(loader: Loader) -> None:
    loader.load([event(), event(), event(PageId=1)])
    loader.load([], NEXT_DAY)
    assert audit_windows(loader.warehouse, [DAY, NEXT_DAY]) == [
        WindowAudit(DAY, 3, 0, 0, {}),
        WindowAudit(NEXT_DAY, 0, 0, 0, {}),
    ]


def test_rows_outside_their_window_and_doubled_ones_are_found(loader: Loader) -> None:
    loader.load([event(), event(PageId=1), event(PageId=2, EventStart="2026-06-01T00:00:00.000Z")])
    with loader.warehouse.writing() as connection:
        events = '"fullstory"."events"'
        connection.execute(f"UPDATE {events} SET EventStart = EventStart - INTERVAL 1 SECOND WHERE PageId = 2")
        # Doubled by a row that carries the mark of another window.
        connection.execute(
            f"INSERT INTO {events} SELECT * REPLACE (_window_end AS _window_start) FROM {events} WHERE PageId = 1"
        )
    assert audit_windows(loader.warehouse, [DAY]) == [WindowAudit(DAY, n_rows=3, n_outside=1, n_doubled=2, rejects={})]


def test_the_most_frequent_reasons_of_rejected_rows_come_first(loader: Loader) -> None:
    loader.load([event(), {"EventType": "click"}, *[event(UserId="abc")] * 2])
    [audit] = audit_windows(loader.warehouse, [DAY])
    assert list(audit.rejects.values()) == [2, 1]
    assert "abc" not in "".join(audit.rejects)


def test_without_a_warehouse_there_is_nothing_to_audit(loader: Loader) -> None:
    assert audit_windows(loader.warehouse, [DAY]) == []
