"""What a person sees in Dagster's UI, in a real browser, on what the command line loaded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import N_LOADED, N_WINDOWS

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def loaded_windows(page: Page) -> list[str]:
    """Names of the windows in the list of partitions that are loaded, oldest first."""
    named = page.get_by_text(re.compile(r"^\d{4}-\d\d-\d\d$")).all_inner_texts()
    return sorted(set(named))[:N_LOADED]


def test_lineage_leads_from_page_durations_back_to_raw_bundles(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/page_durations?view=lineage&lineageScope=upstream&lineageDepth=5")
    for name in ("raw_bundles", "parsed_events", "events", "sessions"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    page.screenshot(path=screenshots / "lineage.png")


def test_windows_that_the_command_line_loaded_are_green_partitions(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/events?view=partitions")
    expect(page.get_by_text(f"Materialized ({N_LOADED})")).to_be_visible(timeout=90_000)
    expect(page.get_by_text(f"Missing ({N_WINDOWS - N_LOADED})")).to_be_visible()
    page.screenshot(path=screenshots / "partitions.png")


def test_checks_of_a_model_that_the_command_line_built_are_green(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/sessions?view=checks")
    # While the daemon builds the models, as it does after each load of its own, they are in progress.
    expect(page.get_by_text("Succeeded")).to_have_count(4, timeout=90_000)
    expect(
        page.get_by_text("No two rows share a session_key.").or_(page.get_by_text("within its bounds"))
    ).to_be_visible()
    page.screenshot(path=screenshots / "checks_of_a_model.png")


def test_a_window_materialized_by_a_click_shows_its_counts_and_a_preview(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/events?view=partitions")
    expect(page.get_by_text(f"Materialized ({N_LOADED})")).to_be_visible(timeout=90_000)
    window = loaded_windows(page)[0]
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


def test_a_backfill_and_the_sensor_fill_every_window_and_the_report_follows(page: Page, screenshots: Path) -> None:
    page.goto("/assets/fullstory/events?view=partitions")
    expect(page.get_by_text(f"Materialized ({N_LOADED})")).to_be_visible(timeout=90_000)
    windows = loaded_windows(page)
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Launch")).to_be_visible()
    dialog.get_by_role("textbox").first.fill(f"[{windows[0]}...{windows[-1]}]")
    page.keyboard.press("Enter")
    page.wait_for_timeout(1_000)
    page.screenshot(path=screenshots / "backfill.png")
    dialog.get_by_role("button", name="Launch").click()
    # Leaving at once would take the request back.
    expect(dialog).to_be_hidden(timeout=30_000)

    page.goto("/locations/fullstory/sensors/new_windows")
    switch = page.locator("label", has=page.locator("input[type=checkbox]")).first
    expect(switch).to_be_visible()
    switch.click()
    expect(page.locator("input[type=checkbox]").first).to_be_checked()
    page.screenshot(path=screenshots / "sensor.png")

    until_shown(page, "/assets/fullstory/events?view=partitions", f"Materialized ({N_WINDOWS})")
    expect(page.get_by_text("Missing (0)")).to_be_visible()
    page.screenshot(path=screenshots / "all_windows.png")
    until_shown(page, "/runs?view=backfills", re.compile(r"^Success$"))
    expect(page.get_by_text(f"{N_LOADED} partitions").first).to_be_visible()
    page.screenshot(path=screenshots / "backfills.png")

    until_shown(page, "/assets/fullstory/experience_report", "How much came in?")
    named = page.locator("tr", has=page.get_by_text("How much came in?", exact=True)).first
    named.get_by_text("Markdown").click()
    picture = page.get_by_role("dialog").locator("img").first
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.complete && image.naturalWidth > 200")
    page.screenshot(path=screenshots / "report_asset.png")


def until_shown(page: Page, url: str, text: str | re.Pattern[str]) -> None:
    """Look at a page again and again until a text is there: three minutes of a daemon's pauses at most."""
    page.goto(url)
    for _ in range(36):
        page.wait_for_timeout(5_000)
        if page.get_by_text(text).first.is_visible():
            return
        page.reload()
    expect(page.get_by_text(text).first).to_be_visible()
