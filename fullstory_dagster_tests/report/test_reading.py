"""What the report reads: marts that dbt built, and sentences where there is nothing."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import pytest

from fullstory_dagster.report.reading import NothingToReportError, read_report
from fullstory_dagster_tests.dbt_project.warehouse import TestWarehouse, event

from .conftest import opened

pytestmark = pytest.mark.slow
NEWEST = datetime(2026, 6, 14)  # noqa: DTZ001 - the warehouse's timestamps are UTC without zone


def visit(session: int, start: datetime, **fields: object) -> list[dict[str, object]]:
    """A page for two minutes, and a click that burst at half past."""
    page = {
        "session": session,
        "user": session,
        "PageId": 1,
        "PageUrl": "https://shop.example/cart",
        "PageDevice": "Mobile",
        "PageBrowser": "Firefox",
        "PageActiveDuration": 3_600_000,
        "SessionStart": start,
    }
    click = {"EventModFrustrated": 3, "EventTargetText": "Pay", **fields}
    return [
        event(f"{session}-1", start, kind="navigate", **page),
        event(f"{session}-2", start + timedelta(seconds=30), **{**page, **click}),
        event(f"{session}-3", start + timedelta(seconds=120), kind="custom", EventCustomName="Order Completed", **page),
    ]


@pytest.fixture(scope="module")
def built(made: TestWarehouse) -> TestWarehouse:
    """One session on the newest day, one four weeks before it, which is a day too old."""
    for session, start in ((1, NEWEST), (2, NEWEST - timedelta(days=28))):
        made.load(start, visit(session, start + timedelta(hours=5)))
    made.build()
    return made


def test_only_the_four_weeks_up_to_the_newest_session_are_counted(built: TestWarehouse) -> None:
    data = read_report(opened(built))
    assert (data.first_date, data.last_date) == (date(2026, 5, 18), date(2026, 6, 14))
    assert [(row["metric_date"], row["n_sessions"]) for row in data.days] == [(date(2026, 6, 14), 1)]
    assert data.pages == [{"page": "/cart", "n_views": 1, "active_h": 1.0}]
    assert {row["label"]: row["n_sessions"] for row in data.durations if row["n_sessions"]} == {"1 to 3 min": 1}
    assert data.frustration == [{"place": "/cart", "kind": "rage_click", "n_signals": 1}]
    assert data.elements == [{"place": "Pay", "kind": "rage_click", "n_signals": 1}]
    assert data.devices == [{"device": "Mobile", "n_sessions": 1}]
    assert data.browsers == [{"browser": "Firefox", "n_sessions": 1}]


def test_every_hour_of_the_latest_week_has_a_row(built: TestWarehouse) -> None:
    hours = read_report(opened(built)).hours
    assert len(hours) == 7 * 24
    assert [row["hour_at"] for row in hours if row["n_sessions"]] == [NEWEST + timedelta(hours=5)]
    assert hours[-1]["hour_at"] == NEWEST + timedelta(hours=23)


def test_a_session_to_watch_comes_once_with_all_its_reasons_and_its_steps(built: TestWarehouse) -> None:
    [session] = read_report(opened(built)).sessions
    assert session["session_key"] == "1:1"
    assert session["reasons"] == ["converting", "frustrating", "longest"]
    assert [(step["at_s"], step["page"], step["kind"]) for step in session["steps"]] == [
        (0.0, "/cart", "page"),
        (30.0, "/cart", "frustration"),
        (120.0, "/cart", "custom event"),
    ]


def test_without_models_it_says_which_are_missing(tmp_path_factory: pytest.TempPathFactory) -> None:
    bare = TestWarehouse(tmp_path_factory.mktemp("bare") / "warehouse.duckdb")
    with pytest.raises(NothingToReportError, match=r"^The models daily_metrics, .* are not built, .* sync' first, or"):
        read_report(opened(bare))


def test_without_a_warehouse_it_says_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(NothingToReportError, match="are not built"):
        read_report(opened(tmp_path_factory.mktemp("none") / "warehouse.duckdb"))


def test_a_session_whose_timeline_is_not_built_yet_is_shown_without_steps(built: TestWarehouse) -> None:
    built.execute("delete from fullstory.session_timeline")
    assert [session["steps"] for session in read_report(opened(built)).sessions] == [[]]


def test_without_a_session_it_says_so(built: TestWarehouse) -> None:
    built.execute("delete from fullstory.sessions")
    with pytest.raises(NothingToReportError, match=r"^The sessions table is empty"):
        read_report(opened(built))
