"""What a person sees in Dagster's UI, in a real browser, on what the command line loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_lineage_leads_from_page_durations_back_to_raw_bundles(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/page_durations?view=lineage&lineageScope=upstream&lineageDepth=5")
    for name in ("raw_bundles", "parsed_events", "events", "sessions"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    page.screenshot(path=screenshots / "lineage.png")


def test_windows_that_the_command_line_loaded_are_green_partitions(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/events?view=partitions")
    expect(page.get_by_text("Materialized (2)")).to_be_visible(timeout=90_000)
    expect(page.get_by_text("Missing (0)")).to_be_visible()
    page.screenshot(path=screenshots / "partitions.png")


def test_a_window_materialized_by_a_click_shows_its_counts_and_a_preview(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/events?view=partitions")
    expect(page.get_by_text("Materialized (2)")).to_be_visible(timeout=90_000)
    window = page.get_by_text(re.compile(r"^\d{4}-\d\d-\d\d$")).first.inner_text()
    page.goto(f"/assets/fullstory/events?view=partitions&partition={window}")
    load_id = page.locator("tr", has=page.get_by_text("load id", exact=True)).first
    expect(load_id).to_be_visible()
    # A busy machine lets the daemon load the window once more by itself: what the click does is told by the next load.
    before = load_id.inner_text()

    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Launch 1 run").click()
    for _ in range(30):
        page.wait_for_timeout(2_000)
        page.reload()
        expect(page.get_by_text("rows in", exact=True)).to_be_visible()
        if page.get_by_text("preview", exact=True).is_visible() and load_id.inner_text() != before:
            break
    assert load_id.inner_text() != before
    expect(page.get_by_text("preview", exact=True)).to_be_visible()
    expect(page.get_by_text("last event (UTC)", exact=True)).to_be_visible()
    page.screenshot(path=screenshots / "window.png", full_page=True)


def test_checks_of_events_are_listed_by_what_they_promise(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/events?view=checks")
    expect(page.get_by_text("every_row_is_accounted_for").first).to_be_visible()
    expect(page.get_by_text("no_event_stands_twice").first).to_be_visible()
    page.screenshot(path=screenshots / "checks.png")
