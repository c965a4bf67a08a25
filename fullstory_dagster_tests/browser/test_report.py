"""The experience report in a real browser: alone, readable, and alive, at two widths, by day and by night."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Page, expect, sync_playwright

pytestmark = [pytest.mark.browser, pytest.mark.slow]
MIN_TEXT_PX = 11
MAX_BYTES = 1_500_000


@dataclass
class Shown:
    """The report in a page, and what the page complained of or asked the network for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report that the demo draws of nine days."""
    folder = tmp_path_factory.mktemp("report")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FULLSTORY_", "DAGSTER_"))}
    command = [sys.executable, "-m", "fullstory_dagster.cli", "demo", "--days", "9"]
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return folder / "data" / "demo" / "report" / "experience_report.html"


@pytest.fixture(
    params=[(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")], ids=lambda each: f"{each[0]}-{each[1]}"
)
def shown(request: pytest.FixtureRequest, chromium: str, report: Path, screenshots: Path) -> Iterator[Shown]:
    width: int
    scheme: Literal["light", "dark"]
    width, scheme = request.param
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown = Shown(page)
        page.on("console", lambda message: shown.complaints.append(message.text))
        page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        page.on("request", lambda request: shown.requests.append(request.url))
        page.goto(report.as_uri())
        page.screenshot(path=screenshots / f"report-{width}-{scheme}.png", full_page=True)
        yield shown
        browser.close()


def test_it_asks_nobody_for_anything_and_complains_of_nothing(shown: Shown, report: Path) -> None:
    assert shown.complaints == []
    assert [url for url in shown.requests if not url.startswith("data:")] == [report.as_uri()]
    assert report.stat().st_size < MAX_BYTES


def test_nothing_is_wider_than_the_screen_and_no_text_is_too_small(shown: Shown) -> None:
    wide = shown.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide == 0
    smallest = shown.page.evaluate(
        """() => Math.min(...[...document.querySelectorAll("p, h1, h2, span, small, button, svg text")]
            .filter((element) => element.getBoundingClientRect().height > 0 && element.textContent.trim())
            .map((element) => {
                const box = element.closest("svg");
                const scale = box ? box.getBoundingClientRect().width / box.viewBox.baseVal.width : 1;
                return parseFloat(getComputedStyle(element).fontSize) * scale;
            }))"""
    )
    assert smallest >= MIN_TEXT_PX


def test_text_stands_out_from_what_is_behind_it(shown: Shown) -> None:
    ratio = shown.page.evaluate(
        """() => {
            const light = (colour) => {
                const [r, g, b] = colour.match(/[0-9.]+/g).map((part) => part / 255)
                    .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const behind = light(getComputedStyle(document.querySelector("figure")).backgroundColor);
            return Math.min(...[...document.querySelectorAll("figure p, figure h2, figure svg text")].map((element) => {
                const style = getComputedStyle(element);
                const front = light(element.tagName === "text" ? style.fill : style.color);
                return (Math.max(front, behind) + 0.05) / (Math.min(front, behind) + 0.05);
            }));
        }"""
    )
    assert ratio >= 4.5


def test_a_picked_session_shows_its_steps_as_dots_and_sentences(shown: Shown) -> None:
    page = shown.page
    for reason in ("most frustrating", "longest", "converting"):
        page.get_by_role("button", name=reason).click()
        sessions = page.locator("#list button")
        assert sessions.count() > 1
        sessions.nth(1).click()
        expect(sessions.nth(1)).to_have_attribute("aria-current", "true")
        assert page.locator("#lanes circle").count() == page.locator("#steps button").count() > 2
    expect(page.get_by_role("link", name="Watch the replay in FullStory")).to_have_attribute(
        "href", re.compile(r"^https://app\.fullstory\.com/ui/demo/session/")
    )
    page.locator("#lanes circle").nth(2).dispatch_event("click")
    expect(page.locator("#steps button").nth(2)).to_have_attribute("aria-current", "true")
    page.locator("#steps button").nth(0).click()
    expect(page.locator("#lanes circle").nth(0)).to_have_attribute("aria-current", "true")
    assert shown.complaints == []
