"""How results look to people and to programs."""

from __future__ import annotations

import io
from datetime import datetime, timedelta, timezone

import pytest
from rich.console import Console

from fullstory_dagster.console import (
    print_rows,
    print_status,
    print_summary,
    status_object,
    summary_object,
    window_progress,
)
from fullstory_dagster.errors import RequestRefusedError, WindowUnavailableError
from fullstory_dagster.ingest.side_by_side import Outcome
from fullstory_dagster.ingest.status import Status, WindowStatus
from fullstory_dagster.ingest.sync import SyncSummary
from fullstory_dagster.store.attempts import FailedAttempt
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.sample_loads import load

START = datetime(2026, 6, 1, tzinfo=timezone.utc)
DAY = timedelta(days=1)


def day(number: int) -> Window:
    return Window(START + (number - 1) * DAY, START + number * DAY)


def load_of(window: Window, rows: int = 1200, rejected: int = 0) -> Load:
    return load(
        window.start.day,
        bundle_bytes=1_500_000,
        rows_in=rows + rejected,
        rows_kept=rows,
        rows_rejected=rejected,
        rows_outside=0,
        loaded_at=window.settled_at.replace(tzinfo=None),
        settings={},
    )


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200, highlight=False)


def said(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_progress_is_a_line_a_window_off_a_terminal(console: Console) -> None:
    with window_progress(console, "Loading") as report:
        report(Outcome(day(1), result=load_of(day(1), rejected=2)), 1, 3)
        report(Outcome(day(2), error=RequestRefusedError("FullStory said [/no].")), 2, 3)
        report(Outcome(day(3), error=WindowUnavailableError("Later.")), 3, 3)
    assert said(console) == [
        "[1/3] 2026-06-01 00:00 to 2026-06-02 00:00 UTC: 1,200 rows, 2 rejected",
        "[2/3] 2026-06-02 00:00 to 2026-06-03 00:00 UTC: FAILED",
        "[3/3] 2026-06-03 00:00 to 2026-06-04 00:00 UTC: skipped",
    ]


def test_a_summary_names_what_failed_and_groups_what_was_skipped(console: Console) -> None:
    summary = SyncSummary(
        loaded=[load_of(day(1)), load_of(day(5))],
        skipped={day(2): "already loaded", day(3): "already loaded"},
        failed={day(4): "FullStory said [/no] to [b]this."},
        seconds=2.34,
    )
    print_summary(console, summary, "dbt: 1 failed: model x: [/oops].")
    assert said(console) == [
        "2 windows loaded, 2,400 rows, 2 skipped, 1 failed, 2.3 s.",
        "  skipped 2026-06-02 00:00 to 2026-06-04 00:00 UTC: already loaded",
        "  failed 2026-06-04 00:00 to 2026-06-05 00:00 UTC: FullStory said [/no] to [b]this.",
        "dbt: 1 failed: model x: [/oops].",
    ]


def test_a_reason_with_brackets_is_printed_as_it_is(console: Console) -> None:
    print_summary(console, SyncSummary(skipped={day(1): "see [/etc/x] and [b]"}), None)
    assert said(console)[1].endswith("see [/etc/x] and [b]")


def test_what_could_not_be_deleted_is_said_below_the_windows(console: Console) -> None:
    print_summary(console, SyncSummary(not_deleted="What was to be deleted by now is not: [403]."), None)
    assert said(console)[1].strip() == "What was to be deleted by now is not: [403]."


def test_what_visitors_typed_is_no_markup(console: Console) -> None:
    print_rows(
        console,
        "Timeline",
        [{"step": 1, "what happened": "typed [/b] into [bold]name"}, {"step": 2, "what happened": None}],
    )
    assert "typed [/b] into [bold]name" in said(console)[2]


def test_no_rows_are_a_title_and_no_error(console: Console) -> None:
    print_rows(console, "Timeline", [])
    assert len(said(console)) <= 1


def test_a_program_gets_windows_in_order_with_times_in_rfc_3339() -> None:
    summary = SyncSummary(loaded=[load_of(day(2)), load_of(day(1))], failed={day(3): "No."}, seconds=1.23456)
    assert summary_object(summary, None) == {
        "loaded": [
            {"window": {"start": "2026-06-01T00:00:00Z", "end": "2026-06-02T00:00:00Z"}, "rows": 1200, "rejected": 0},
            {"window": {"start": "2026-06-02T00:00:00Z", "end": "2026-06-03T00:00:00Z"}, "rows": 1200, "rejected": 0},
        ],
        "skipped": [],
        "failed": [{"window": {"start": "2026-06-03T00:00:00Z", "end": "2026-06-04T00:00:00Z"}, "reason": "No."}],
        "expired": [],
        "not_deleted": None,
        "rows": 2400,
        "seconds": 1.235,
        "dbt": None,
    }


@pytest.fixture
def status() -> Status:
    attempt = FailedAttempt(day(3), "fetch", "FullStory said [/no].", "RequestRefusedError", False, 2, START + 5 * DAY)
    return Status(
        windows=[
            WindowStatus(day(1), "loaded", day(1).settled_at, load_of(day(1))),
            WindowStatus(day(2), "loaded", day(2).settled_at, load_of(day(2))),
            WindowStatus(day(3), "failed", day(3).settled_at, None, attempt),
            WindowStatus(day(4), "missing", day(4).settled_at),
        ],
        n_pending_loads=2,
        snapshot_made_at=START + 4 * DAY,
        other_settings={"segment_id": [day(1)]},
        read_at=START + 6 * DAY + timedelta(hours=2.5),
    )


def test_a_status_says_what_is_there_and_what_needs_somebody(console: Console, status: Status) -> None:
    print_status(console, status)
    lines = said(console)
    assert lines[0].split() == ["windows", "state", "which"]
    assert [line.split()[:2] for line in lines[1:4]] == [["2", "loaded"], ["1", "missing"], ["1", "failed"]]
    assert lines[1].endswith("2026-06-01 00:00 to 2026-06-03 00:00 UTC")
    assert lines[4:] == [
        "2026-06-03 00:00 to 2026-06-04 00:00 UTC: failed. FullStory said [/no]. (2 tries, the last at 2026-06-06 "
        "00:00 UTC) Nothing of it is in the warehouse; it is not tried again by itself: mend that, then run "
        "'fullstory-dagster sync' or materialize it. (50.5 h late)",
        "2026-06-04 00:00 to 2026-06-05 00:00 UTC: missing. Available since 2026-06-06 00:00 UTC and not loaded: late. "
        "Is 'fullstory-dagster dev' running, and the sensor new_windows on? Its last tick gives its reason; or run "
        "'fullstory-dagster sync'. (26.5 h late)",
        "2,400 rows from 3.0 MB of bundles, 0 rejected; last load 2026-06-04 00:00 UTC.",
        "The newest 2: 1,200 rows, 1.5 MB each; fetched in 1.0 s, parsed in 0.5 s, appended in 0.2 s, there "
        "24.0 h after their end. A year of them is 438,000 rows and 547.5 MB of bundles (segment export of everyone, "
        "all fields).",
        "dbt still owes 2 loads: the next sync or build picks them up.",
        "Read snapshot of 2026-06-05 00:00 UTC.",
        "Loaded under another setting of segment_id: 2026-06-01 00:00 to 2026-06-02 00:00 UTC.",
    ]


def test_a_summary_names_windows_whose_time_was_up(console: Console) -> None:
    print_summary(console, SyncSummary(expired=[day(1), day(2)]), None)
    assert said(console)[1] == "  deleted 2026-06-01 00:00 to 2026-06-03 00:00 UTC: FULLSTORY_KEEP_EVENTS_DAYS"


def test_a_status_of_nothing_says_what_to_do(console: Console) -> None:
    print_status(console, Status([], None, None, {}, START))
    assert said(console)[-1] == "Nothing is loaded yet: run 'fullstory-dagster sync'."


def test_a_program_gets_the_status_whole(status: Status) -> None:
    found = status_object(status)
    assert found["counts"]["loaded"] == 2
    assert found["counts"]["missing"] == found["counts"]["failed"] == 1
    assert [entry["state"] for entry in found["windows"]] == ["loaded", "loaded", "failed", "missing"]
    assert found["windows"][2]["error"] == "FullStory said [/no]."
    assert found["windows"][2]["attempts"] == 2
    assert [entry["late_hours"] for entry in found["windows"]] == [None, None, 50.5, 26.5]
    assert found["windows"][3]["available_at"] == "2026-06-06T00:00:00Z"
    assert [(gap["state"], gap["late_hours"], gap["expected"]) for gap in found["gaps"]] == [
        ("failed", 50.5, False),
        ("missing", 26.5, False),
    ]
    assert found["complete"] is False
    assert (found["rows"], found["bytes"], found["pending_loads"]) == (2400, 3_000_000, 2)
    assert (found["recent"]["windows"], found["recent"]["rows_a_year"]) == (2, 438_000)
    assert found["last_load_at"] == "2026-06-04T00:00:00Z"
    assert found["snapshot_made_at"] == "2026-06-05T00:00:00Z"
    assert list(found["loaded_under_other_settings"]) == ["segment_id"]
