"""A Dagster UI on the demo's data, and a browser to look at it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess
from fullstory_dagster_tests.running_dev import running_dev, surroundings

REQUIRED = os.environ.get("FULLSTORY_TESTS_REQUIRE_SYSTEM_PACKAGES") == "1"
ROOT = Path(__file__).resolve().parents[2]
N_WINDOWS, N_LOADED = 5, 3


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        message = "no Chromium on this machine; install Debian's package chromium to run this test"
        pytest.fail(message) if REQUIRED else pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures are kept; CI names a folder to keep them as artefacts."""
    folder = os.environ.get("FULLSTORY_TESTS_SCREENSHOTS")
    path = Path(folder) if folder else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(SimulatorConfig(days=N_WINDOWS + 1, export_s=0, scale=0.3)) as running:
        yield running


@pytest.fixture(scope="module")
def dagster_ui(chromium: str, simulator: SimulatorProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``fullstory-dagster dev`` on a fresh account: five windows, the first three loaded by the command line.

    There is a schedule, for next January, so that the sensor does nothing before it is turned on.
    """
    folder = tmp_path_factory.mktemp("ui")
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - timedelta(days=N_WINDOWS + 1)
    settings = {
        "FULLSTORY_API_KEY": simulator.api_key,
        "FULLSTORY_API_URL": simulator.url,
        "FULLSTORY_START_DATE": f"{start:%Y-%m-%d}",
        "FULLSTORY_SCHEDULE": "0 0 1 1 *",
    }
    # With a Dagster home there already, a sync tells it what it loads.
    (folder / "data" / "dagster").mkdir(parents=True)
    shutil.copy(ROOT / "dagster.yaml", folder / "data" / "dagster")
    end = f"{start + timedelta(days=N_LOADED):%Y-%m-%d}"
    command = [sys.executable, "-m", "fullstory_dagster.cli", "sync", "--to", end]
    subprocess.run(command, cwd=folder, env=surroundings(settings), check=True, stdout=subprocess.DEVNULL)
    with running_dev(folder, settings) as url:
        yield url


@pytest.fixture
def page(chromium: str, dagster_ui: str) -> Iterator[Page]:
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1400, "height": 900}, base_url=dagster_ui)
        page.set_default_timeout(30_000)
        expect.set_options(timeout=30_000)
        yield page
        browser.close()
