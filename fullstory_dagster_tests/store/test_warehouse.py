"""Every window in the warehouse exactly once, whoever else is there and whatever fails."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fullstory_dagster.errors import (
    PermanentError,
    WarehouseMismatchError,
    WindowShrankError,
)
from fullstory_dagster.fields import EVENT_COLUMNS
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.sample_events import DAY, event

from .conftest import SHAPING, Loader, rows_of


@pytest.fixture
def loader(any_loader: Loader) -> Loader:
    """Every test here is one of a file and of a lake."""
    return any_loader


NEXT_DAY = Window(DAY.end, DAY.end + timedelta(days=1))
TOMORROW = {"EventStart": "2026-06-02T12:00:00.000Z"}


def naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)


def test_a_window_is_loaded_with_its_line_in_the_load_log(loader: Loader) -> None:
    loader.keep([event(), event(PageDuration="x"), {"a": 1}, event(**TOMORROW)])
    loader.parse()
    load = loader.append(dagster_run_id="run-1")
    assert (load.load_id, load.window, load.api, load.export_id) == (1, DAY, "segment", "e1")
    counts = (
        load.rows_in,
        load.rows_kept,
        load.rows_rejected,
        load.rows_outside,
        load.rows_duplicate,
        load.rows_forgotten,
    )
    assert counts == (4, 2, 1, 1, 0, 0)
    assert load.is_whole
    assert load.is_settled
    assert load.values_misfit == 1
    assert load.min_event_start_at == load.max_event_start_at == datetime(2026, 6, 1, 12)  # noqa: DTZ001
    assert (load.requested_at, load.loaded_at) == (naive(DAY.settled_at), naive(DAY.settled_at + timedelta(hours=1)))
    assert (load.settings, load.dagster_run_id) == (SHAPING, "run-1")
    assert loader.warehouse.current_loads() == {DAY: load}
    (line,) = rows_of(loader, "_loads")
    assert line["bundle_sha256"] == loader.bundles.require(DAY).sha256
    assert (line["fetch_s"], line["parse_s"]) == (60.0, 0.5)
    assert line["append_s"] > 0


def test_rows_carry_the_marks_of_their_load(loader: Loader) -> None:
    loader.load([event()])
    (row,) = rows_of(loader)
    assert list(row) == [field.name for field in EVENT_COLUMNS]
    marks = [row[name] for name in ("_window_start", "_window_end", "_export_id", "_loaded_at", "_load_id")]
    assert marks == [naive(DAY.start), naive(DAY.end), "e1", naive(DAY.settled_at + timedelta(hours=1)), 1]


def test_loading_a_window_again_gives_the_same_rows(loader: Loader) -> None:
    rows = [event(PageId=n) for n in range(5)] + [event()] * 3 + [{"a": 1}]
    loader.load(rows)
    before = rows_of(loader, columns="* EXCLUDE (_load_id)")
    again = loader.load(rows[::-1])
    assert rows_of(loader, columns="* EXCLUDE (_load_id)") == before
    assert (again.rows_kept, again.rows_duplicate) == (8, 0)
    assert [row["load_id"] for row in rows_of(loader, "_rejected")] == [2]
    assert [row["load_id"] for row in rows_of(loader, "_loads")] == [1, 2]


def test_what_fullstory_no_longer_sends_goes_with_its_window_only(loader: Loader) -> None:
    loader.load([event(PageId=1), event(PageId=2), {"a": 1}])
    loader.load([event(PageId=9, **TOMORROW), {"a": 2}], NEXT_DAY)
    loader.load([event(PageId=2)])
    assert [row["PageId"] for row in rows_of(loader, columns="PageId")] == [2, 9]
    assert [row["raw_text"] for row in rows_of(loader, "_rejected", "raw_text")] == ['{"a": 2}']
    loads = loader.warehouse.current_loads()
    assert [(window, load.load_id) for window, load in loads.items()] == [(DAY, 3), (NEXT_DAY, 2)]


def test_an_empty_window_is_loaded_too(loader: Loader) -> None:
    loader.load([event()])
    load = loader.load([])
    assert (load.rows_in, load.rows_kept, load.min_event_start_at) == (0, 0, None)
    assert rows_of(loader) == []


@pytest.mark.parametrize(("n_now", "is_refused"), [(0, True), (4, True), (5, False), (50, False)])
def test_a_window_that_shrank_to_under_the_limit_is_refused_and_keeps_its_rows(
    loader: Loader, n_now: int, is_refused: bool
) -> None:
    # Rejects count: what FullStory sent is compared, not what became of it.
    loader.load([event(PageId=n) for n in range(8)] + [{"a": 1}, {"a": 2}])
    before = rows_of(loader), rows_of(loader, "_loads"), rows_of(loader, "_rejected")
    loader.keep([event(PageId=100 + n) for n in range(n_now)])
    loader.parse()
    if not is_refused:
        assert loader.append(min_rows_pct=50).rows_kept == n_now
        return
    with pytest.raises(WindowShrankError, match=rf"came back with {n_now} rows, less than 50 % of the 10") as caught:
        loader.append(min_rows_pct=50)
    assert (caught.value.rows_before, caught.value.rows_now) == (10, n_now)
    assert "2026-06-01 00:00" in str(caught.value)
    assert (rows_of(loader), rows_of(loader, "_loads"), rows_of(loader, "_rejected")) == before
    assert loader.append().rows_kept == n_now


def test_a_window_is_compared_with_its_own_latest_load(loader: Loader) -> None:
    loader.load([event(PageId=n) for n in range(10)])
    loader.load([event(PageId=1)])
    loader.load([event(PageId=n, **TOMORROW) for n in range(10)], NEXT_DAY)
    loader.keep([event(PageId=1)])
    loader.parse()
    assert loader.append(min_rows_pct=100).rows_kept == 1


def test_load_ids_go_up_whatever_the_order_of_windows(loader: Loader) -> None:
    ids = [loader.load([event(**TOMORROW)], NEXT_DAY).load_id, loader.load([event()]).load_id]
    ids.append(loader.load([event(**TOMORROW)], NEXT_DAY).load_id)
    assert ids == [1, 2, 3]


def test_an_event_that_another_window_brought_is_counted_and_stands_once(loader: Loader) -> None:
    loader.load([event(PageId=1), event(PageId=2)])
    with loader.warehouse.writing() as connection:
        # As if the row had come with the window of the day after.
        connection.execute('UPDATE "fullstory"."events" SET _window_start = _window_end WHERE PageId = 1')
    load = loader.load([event(PageId=1), event(PageId=2)])
    assert (load.rows_in, load.rows_kept, load.rows_duplicate) == (2, 1, 1)
    assert load.is_whole
    assert [row["PageId"] for row in rows_of(loader, columns="PageId")] == [1, 2]


def test_a_failure_inside_the_transaction_leaves_the_rows_and_no_line(loader: Loader) -> None:
    loader.load([event(PageId=1), {"a": 1}])
    before = rows_of(loader), rows_of(loader, "_loads"), rows_of(loader, "_rejected")
    loader.keep([event(PageId=2), {"a": 2}])
    bundle = loader.bundles.require(DAY)
    with loader.dataset.at_hand(loader.parse()) as parsed:
        # The events are deleted and inserted before the rejects are looked for.
        Path(parsed.rejects_location).unlink()
        with pytest.raises(PermanentError, match=r"was not loaded: .* unchanged: .*-rejects\.parquet"):
            loader.warehouse.replace_windows([(parsed, bundle)], loaded_at=DAY.settled_at)
    assert (rows_of(loader), rows_of(loader, "_loads"), rows_of(loader, "_rejected")) == before
    assert loader.load([event(PageId=3)]).load_id == 2


def test_too_little_memory_is_told_with_the_setting_and_changes_nothing(loader: Loader) -> None:
    loader.load([event()])
    before = rows_of(loader)
    small = loader.reopened(memory_limit="20MB", threads=1)

    def ask_for_much() -> None:
        with small.writing() as connection:
            connection.execute("SET temp_directory = ''")
            connection.execute("SELECT count(*) FROM (SELECT DISTINCT md5(i::VARCHAR) FROM range(10_000_000) r(i))")

    with pytest.raises(PermanentError, match="FULLSTORY_DUCKDB_MEMORY_LIMIT") as raised:
        ask_for_much()
    assert raised.value.setting == "FULLSTORY_DUCKDB_MEMORY_LIMIT"
    assert "LINE 1" not in str(raised.value)
    assert rows_of(loader) == before


def test_an_exception_leaves_no_lock_behind(loader: Loader) -> None:
    def fail() -> None:
        with loader.warehouse.writing():
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert loader.load([event()]).load_id == 1


def test_windows_of_another_length_are_refused(loader: Loader) -> None:
    loader.load([event()])
    before = rows_of(loader)
    half = Window(DAY.start, DAY.start + timedelta(hours=12))
    with pytest.raises(WarehouseMismatchError, match=r"windows of 24 h since 2026-06-01.*says 12") as refused:
        loader.load([], half)
    assert refused.value.setting == "FULLSTORY_BUNDLE_HOURS"
    assert rows_of(loader) == before
    assert list(loader.warehouse.current_loads()) == [DAY]


ODD_TEXTS = [
    '"\\u0000"',
    '"\x00"',
    '{"a":"\\ud800"}',
    "é🎈\u2028",
    '{"quote":"\\"\'"}',
    "'; DROP TABLE x; --",
    "x" * 20_000_000,
]


def test_rejects_of_any_text_are_loaded_in_little_memory(loader: Loader) -> None:
    # The buffer for reading rejects as JSON was once two gigabytes: one reject was one too many for the default limit.
    loader.warehouse = loader.reopened(memory_limit="500MB", threads=1)
    load = loader.load("\n".join(['{"b":1}', *ODD_TEXTS]).encode() + b"\n\xff")
    assert load.rows_rejected == 9
    rejected = loader.warehouse.query('SELECT * FROM "fullstory"."_rejected" ORDER BY position')
    assert [row["raw_text"] for row in rejected] == ['{"b":1}', *ODD_TEXTS, "\\xff"]
    assert {(row["export_id"], row["load_id"]) for row in rejected} == {("e1", 1)}


def test_events_of_any_text_are_loaded(loader: Loader) -> None:
    variables = {
        "evt_nul_str": "\0",
        "evt_x'; DROP TABLE events; --": "'",
        "evt_deep": json.loads("[" * 400 + "]" * 400),
    }
    load = loader.load([event(EventTargetText="a\0b\n'\"🎈", **variables), event(evt_big_str="x" * 10_000_000)])
    assert load.rows_kept == 2
    texts = [row["EventTargetText"] for row in rows_of(loader, columns="EventTargetText")]
    assert texts == ["a\0b\n'\"🎈", None]
    custom = [json.loads(row["CustomVars"]) for row in rows_of(loader, columns="CustomVars")]
    assert variables in custom
    assert {"evt_big_str": "x" * 10_000_000} in custom


def test_queries_written_for_older_names_find_them(loader: Loader) -> None:
    loader.load([event(EventTargetSelectorTok="html", PageAgent="Mozilla")])
    (row,) = rows_of(loader, "events_compat")
    assert list(row) == [*(field.name for field in EVENT_COLUMNS), "EventTargetSelectorTok", "PageAgent"]
    assert (row["EventTargetSelectorTok"], row["EventTargetSelector"]) == ("html", "html")
    assert (row["PageAgent"], row["PageUserAgent"]) == ("Mozilla", "Mozilla")


def test_before_the_first_load_there_is_nothing_to_read(loader: Loader) -> None:
    assert loader.warehouse.current_loads() == {}
    assert loader.warehouse.built_up_to() == {}
    assert loader.warehouse.query("SELECT 1") == []
    assert not loader.warehouse.database.exists


def test_what_dbt_built_is_known_by_model(loader: Loader) -> None:
    loader.load([event()])
    assert loader.warehouse.built_up_to() == {}
    with loader.warehouse.writing() as connection:
        connection.execute("INSERT INTO fullstory._builds VALUES ('a', 1, now()), ('a', 2, now()), ('b', 1, now())")
    assert loader.warehouse.built_up_to() == {"a": 2, "b": 1}


def test_a_query_takes_parameters(loader: Loader) -> None:
    loader.load([event(PageId=1), event(PageId=2)])
    found = loader.warehouse.query('SELECT PageId FROM "fullstory"."events" WHERE PageId > $least', {"least": 1})
    assert found == [{"PageId": 2}]


def test_threads_of_one_process_take_turns(loader: Loader) -> None:
    days = [Window(DAY.start + timedelta(days=n), DAY.end + timedelta(days=n)) for n in range(4)]
    for day in days:
        loader.keep([event(EventStart=f"{day.start:%Y-%m-%dT%H:%M:%S}.000Z")], day)
        loader.parse(day)
    loads: list[int] = []
    threads = [threading.Thread(target=lambda day=day: loads.append(loader.append(day).load_id)) for day in days]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(loads) == [1, 2, 3, 4]
    assert len(rows_of(loader)) == 4
