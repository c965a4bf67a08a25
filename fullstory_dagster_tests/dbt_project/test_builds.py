"""The marts are the same whatever the order in which windows were loaded, and a build is whole or not at all."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from fullstory_dagster.store.database import aware
from fullstory_dagster.store.fence import FENCE
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.retention import expire_windows
from fullstory_dagster.store.warehouse import Warehouse
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.counts import count

from .traffic import MINUTE, traffic
from .warehouse import MARTS, SCHEMA, VIEWS, TestWarehouse, day, event

pytestmark = [
    pytest.mark.slow,
    # dbt's own dependencies; nothing here can mend them.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def ids(rows: list[dict[str, Any]], key: str) -> list[Any]:
    return [row[key] for row in rows]


def expected_marts(warehouse: TestWarehouse) -> dict[str, list[dict[str, Any]]]:
    """What a build from nothing makes of the same events."""
    warehouse.build("--full-refresh")
    return warehouse.marts()


@pytest.mark.soak
@pytest.mark.parametrize("order", count([(3, 1, 4, 2)], full=[(3, 1, 4, 2), (4, 3, 2, 1)]), ids=str)
def test_windows_in_any_order_give_the_marts_of_a_full_refresh(
    warehouse: TestWarehouse, order: tuple[int, ...]
) -> None:
    events = traffic()
    for number in order:
        warehouse.load(day(number), events)
        warehouse.build()
    built = warehouse.marts()
    assert len(built["sessions"]) == 40
    assert len(built["session_timeline"]) == len(events)
    assert built == expected_marts(warehouse)


def test_on_a_lake_they_do_so_too(lake: TestWarehouse) -> None:
    events = traffic()
    for numbers in ((3, 1), (4, 2, 1)):
        for number in numbers:
            lake.load(day(number), events)
        lake.build()
    # Where DuckDB goes on when memory runs out, which it cannot make itself.
    assert (lake.path / "not" / "there").is_dir()
    built = lake.marts()
    assert len(built["session_timeline"]) == len(events)
    assert lake.marks() == dict.fromkeys(MARTS, 5)
    # Each model that is built window by window kept other writers away with each of its transactions.
    assert lake.execute(f"SELECT n_commits FROM main.{FENCE}") == [(2 * len(MARTS),)]
    assert built == expected_marts(lake)


def test_pending_windows_that_are_no_neighbours_are_built_together(warehouse: TestWarehouse) -> None:
    events = traffic()
    warehouse.load(day(2), events)
    warehouse.build()
    for number in (4, 1):
        warehouse.load(day(number), events)
    warehouse.build()
    warehouse.load(day(3), events)
    warehouse.build()
    assert warehouse.marks() == dict.fromkeys(MARTS, 4)
    assert warehouse.marts() == expected_marts(warehouse)


def test_a_window_loaded_again_with_other_rows_loses_what_vanished(warehouse: TestWarehouse) -> None:
    events = traffic()
    for number in (1, 2, 3, 4):
        warehouse.load(day(number), events)
    warehouse.build()
    chance = random.Random(3)
    changed = [row | {"PageDuration": 99_000, "EventTargetText": "Later"} for row in events if chance.random() < 0.5]
    for number in (3, 2):
        warehouse.load(day(number), changed)
    warehouse.build()
    built = warehouse.marts()
    in_first_and_last_day = [row for row in events if not day(2) <= row["EventStart"] < day(4)]
    in_between = [row for row in changed if day(2) <= row["EventStart"] < day(4)]
    assert ids(built["session_timeline"], "event_id") == sorted(ids(in_first_and_last_day + in_between, "_event_id"))
    assert built == expected_marts(warehouse)


def test_a_window_loaded_again_empty_leaves_nothing_of_its_sessions(warehouse: TestWarehouse) -> None:
    warehouse.load(day(1), [event("a", day(1)), event("b", day(2), session=8)])
    warehouse.load(day(2), [event("b", day(2), session=8)])
    warehouse.build()
    warehouse.load(day(2), [])
    warehouse.build()
    assert ids(warehouse.mart("sessions"), "session_key") == ["1:9"]
    assert ids(warehouse.mart("session_timeline"), "event_id") == ["a"]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=str)
def test_a_session_over_midnight_is_one_session(warehouse: TestWarehouse, order: tuple[int, ...]) -> None:
    events = [
        event("a", day(2) - MINUTE, PageId=5, PageDuration=60_000),
        event("b", day(2) + MINUTE, PageId=5, PageDuration=120_000),
    ]
    for number in order:
        warehouse.load(day(number), events)
        warehouse.build()
    [session] = warehouse.mart("sessions")
    assert (session["duration_s"], session["n_events"], session["n_pages"]) == (120.0, 2, 1)
    assert (session["first_window_start"], session["last_window_start"]) == (day(1), day(2))
    [page] = warehouse.mart("page_durations")
    assert page["duration_ms"] == 120_000
    assert [row["step_number"] for row in warehouse.mart("session_timeline")] == [1, 2]


def test_a_model_claims_no_more_than_the_models_it_reads_hold(warehouse: TestWarehouse) -> None:
    events = traffic()
    warehouse.load(day(1), events)
    warehouse.build()
    warehouse.load(day(2), events)
    # sessions tells the others where a session lives, so what it does not hold yet they leave pending.
    warehouse.build("--select", "page_durations")
    assert warehouse.marks() == dict.fromkeys(MARTS, 1)
    warehouse.build("--select", "+sessions")
    warehouse.build("--select", "page_durations")
    assert warehouse.marks() == {**dict.fromkeys(MARTS, 1), "sessions": 2, "page_durations": 2}
    warehouse.load(day(3), events)
    warehouse.build()
    assert warehouse.marks() == dict.fromkeys(MARTS, 3)
    assert warehouse.marts() == expected_marts(warehouse)


def test_a_model_built_before_the_one_it_reads_owes_everything(warehouse: TestWarehouse) -> None:
    events = traffic()
    for number in (1, 2):
        warehouse.load(day(number), events)
    warehouse.build("--select", "stg_fullstory__events", "page_durations")
    assert warehouse.marks() == dict.fromkeys(MARTS, 0)
    warehouse.build()
    assert warehouse.marks() == dict.fromkeys(MARTS, 2)
    assert warehouse.marts() == expected_marts(warehouse)


def test_what_was_made_of_windows_whose_time_is_up_goes(warehouse: TestWarehouse) -> None:
    for number in (1, 2, 3, 4):
        warehouse.load(day(number), traffic())
    warehouse.build()
    windows = [Window(aware(day(number)), aware(day(number + 1))) for number in (1, 2)]
    expire_windows(Warehouse(DatabaseFile(warehouse.path), SCHEMA), windows, aware(day(20)))
    warehouse.build()
    built = warehouse.marts()
    assert min(row["event_start_at"] for row in built["session_timeline"]) >= day(3)
    assert built == expected_marts(warehouse)


def test_a_build_with_nothing_pending_changes_nothing(warehouse: TestWarehouse) -> None:
    events = traffic()
    warehouse.load(day(1), events)
    warehouse.build()
    rowids = f"SELECT rowid, event_id FROM {SCHEMA}.session_timeline ORDER BY rowid"
    before = (warehouse.marts(), warehouse.execute(f"FROM {SCHEMA}._builds ORDER BY ALL"), warehouse.execute(rowids))
    warehouse.build()
    after = (warehouse.marts(), warehouse.execute(f"FROM {SCHEMA}._builds ORDER BY ALL"), warehouse.execute(rowids))
    assert after == before


def test_a_build_before_the_first_load_makes_empty_tables(warehouse: TestWarehouse) -> None:
    warehouse.build()
    assert warehouse.marts() == {name: [] for name in MARTS | VIEWS}
    warehouse.load(day(1), traffic())
    warehouse.build()
    assert warehouse.marts() == expected_marts(warehouse)


@pytest.mark.parametrize("is_first_build", [True, False])
def test_a_mark_that_cannot_be_written_takes_the_rows_back(warehouse: TestWarehouse, is_first_build: bool) -> None:
    events = traffic()
    if not is_first_build:
        warehouse.load(day(1), events)
        warehouse.build()
    before = None if is_first_build else warehouse.marts()
    warehouse.load(day(2), events)
    # A table that refuses the next mark of one model stands for whatever may end a build after its rows.
    marks = f"{SCHEMA}._builds"
    warehouse.execute(f"CREATE TABLE {SCHEMA}.kept AS FROM {marks}")
    warehouse.execute(f"DROP TABLE {marks}")
    refused = 1 if is_first_build else 2
    warehouse.execute(
        f"CREATE TABLE {marks} (model VARCHAR, load_id BIGINT, built_at TIMESTAMP, CHECK (load_id < {refused}))"
    )
    warehouse.execute(f"INSERT INTO {marks} FROM {SCHEMA}.kept")
    assert not warehouse.dbt("run").success
    if is_first_build:
        [(n_tables,)] = warehouse.execute("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'sessions'")
        assert n_tables == 0
    else:
        assert warehouse.marts() == before
        assert warehouse.marks() == dict.fromkeys(MARTS, 1)
    warehouse.execute(f"DROP TABLE {marks}")
    warehouse.execute(f"ALTER TABLE {SCHEMA}.kept RENAME TO _builds")
    warehouse.build()
    assert warehouse.marts() == expected_marts(warehouse)


def test_missing_tables_are_named_in_one_sentence(warehouse: TestWarehouse) -> None:
    warehouse.execute(f"DROP TABLE {SCHEMA}._loads")
    result = warehouse.dbt("run")
    assert not result.success
    assert f"Table {SCHEMA}._loads is missing in the warehouse" in str(result.exception)


def test_the_replay_link_needs_the_organisation(warehouse: TestWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse.load(day(1), [event("a", day(1))])
    warehouse.build()
    assert ids(warehouse.mart("sessions"), "replay_url") == [None]
    monkeypatch.setenv("FULLSTORY_ORG_ID", "O'1")
    monkeypatch.setenv("FULLSTORY_APP_URL", "https://app.eu1.fullstory.com/")
    warehouse.build("--full-refresh")
    link = "https://app.eu1.fullstory.com/ui/O'1/session/1:9"
    assert ids(warehouse.mart("sessions"), "replay_url") == [link]
    assert ids(warehouse.mart("session_timeline"), "replay_url") == [link]


def test_what_the_vars_say_of_a_site_applies_to_what_is_loaded_already(warehouse: TestWarehouse) -> None:
    page = {"PageUrl": "https://shop.example/u/ann/settings", "PageId": 1}
    variables = {"evt_order.total_real": 12.5, "evt_text": "x"}
    ordered = {"EventCustomName": "Ordered", "CustomVars": json.dumps(variables)}
    warehouse.load(
        day(1),
        [
            event("a", day(1), kind="navigate", **page),
            event("b", day(1) + MINUTE, kind="custom", **page, **ordered),
            event("c", day(1) + 2 * MINUTE, kind="custom", **page, **ordered | {"CustomVars": None}),
        ],
    )
    warehouse.build()
    assert [row["page"] for row in warehouse.mart("page_durations")] == ["/u/ann/settings"]
    site = {
        "page_rules": [{"page": "Settings", "host": "^shop[.]", "path": "^/u/[^/]+/settings$"}],
        "conversion_events": ["Ordered"],
        "custom_event_columns": [{"name": "total", "variable": "evt_order.total_real", "type": "double"}],
        "funnels": [
            {
                "name": "order",
                "steps": [{"name": "Set", "page": "Settings"}, {"name": "Done", "custom_event": "Ordered"}],
            }
        ],
    }
    warehouse.build("--full-refresh", "--vars", json.dumps(site))
    assert [row["page"] for row in warehouse.mart("page_durations")] == ["Settings"]
    assert [row["total"] for row in warehouse.mart("custom_events")] == [12.5, None]
    assert [(row["is_converted"], row["n_conversions"]) for row in warehouse.mart("sessions")] == [(True, 2)]
    assert [(row["step_name"], row["n_reached"]) for row in warehouse.mart("funnels")] == [("Set", 1), ("Done", 1)]


def test_all_dbt_tests_pass_and_docs_need_no_network(warehouse: TestWarehouse) -> None:
    events = traffic()
    for number in (1, 2):
        warehouse.load(day(number), events)
    # Unit tests speak of the SQL and not of the data: they run in `make dbt`.
    without = ("--exclude-resource-type", "unit_test")
    assert warehouse.dbt("build", *without).success
    warehouse.load(day(3), events)
    result = warehouse.dbt("build", *without)
    assert result.success, [(r.node.name, r.message) for r in result.result if r.status not in ("pass", "success")]
    assert warehouse.dbt("docs", "generate").success


def test_adding_a_window_reads_the_windows_of_its_sessions_only(warehouse: TestWarehouse) -> None:
    # DuckDB skips by row groups of 122,880 rows, so the windows have to be as large for the skipping to show.
    n_windows, n_rows = 10, 122_880
    for number in range(1, n_windows + 1):
        warehouse.load(day(number), [])
    with warehouse.connect() as connection:
        connection.execute(
            f"""
            INSERT INTO {SCHEMA}.events BY NAME
            SELECT
                1 + i // 200 AS "UserId",
                1 + (w * {n_rows} + i) // 200 AS "SessionId",
                TIMESTAMP '{day(1)}' + to_days(w) + to_milliseconds(i) AS "EventStart",
                'click' AS "EventType",
                (w * {n_rows} + i)::VARCHAR AS _event_id,
                TIMESTAMP '{day(1)}' + to_days(w) AS _window_start,
                TIMESTAMP '{day(2)}' + to_days(w) AS _window_end,
                TIMESTAMP '{day(2)}' AS _loaded_at,
                w + 1 AS _load_id
            FROM range({n_windows}) AS windows (w), range({n_rows}) AS rows (i)
            ORDER BY w, i
            """
        )
    warehouse.build("--select", "stg_fullstory__events", "sessions")
    # One session goes on into the new window.
    after = day(n_windows + 1)
    warehouse.load(after, [event("new", after, user=1 + 614, session=n_windows * n_rows // 200)])
    result = warehouse.dbt("compile", "--select", "sessions")
    sql = result.result[0].node.compiled_code
    with warehouse.connect() as connection:
        [(_, plan)] = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {sql}").fetchall()
    scanned = rows_scanned(json.loads(plan), "events")
    # The row group of the last window and the one with the new row, once to find the sessions, once to read them.
    assert 0 < scanned <= 4 * n_rows


def rows_scanned(node: dict[str, Any], table: str) -> int:
    """Rows that the scans of a table took up, skipped row groups left out."""
    name = str(node.get("extra_info", {}).get("Table", ""))
    own = node["operator_rows_scanned"] if name.endswith(f".{table}") else 0
    return own + sum(rows_scanned(child, table) for child in node.get("children", []))


def test_a_model_that_was_never_built_owes_everything(warehouse: TestWarehouse) -> None:
    warehouse.load(day(1), [event("a", day(1) + MINUTE)])
    warehouse.build("--select", "+sessions")
    # The loader takes the smallest mark of all: one that is not there would look like nothing owed.
    assert warehouse.marks() == {**dict.fromkeys(MARTS, 0), "sessions": 1}
    warehouse.build()
    assert set(warehouse.marks().values()) == {1}


def test_the_tests_of_a_build_look_at_what_its_windows_touch(warehouse: TestWarehouse) -> None:
    def build() -> bool:
        return warehouse.dbt("build", "--exclude-resource-type", "unit_test").success

    page = {"PageId": 1, "PageStart": day(1), "PageDuration": -1}
    warehouse.load(day(1), [event("a", day(1) + MINUTE, **page)])
    assert not build(), "a first build looks at everything"
    warehouse.load(day(2), [event("b", day(2) + MINUTE, session=10, **page | {"PageDuration": 1})])
    assert build()
    assert not warehouse.dbt("test", "--exclude-resource-type", "unit_test").success

    # The session of the first day goes on: its steps are looked at as a whole, and are numbered from one.
    warehouse.load(day(3), [event("c", day(3) + MINUTE)])
    assert build()
    warehouse.load(day(1), [event("a", day(1) + MINUTE, **page | {"PageDuration": 1})])
    assert build()
    assert warehouse.dbt("test", "--exclude-resource-type", "unit_test").success
