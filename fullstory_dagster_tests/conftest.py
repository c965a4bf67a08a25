"""What every test starts from: an environment without settings, a folder without `.env`, the same examples always."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# The same examples on every machine and in every run; a number of a test's own says how many.
hypothesis.settings.register_profile("reproducible", derandomize=True, deadline=None)
hypothesis.settings.load_profile("reproducible")

_ASKS_FOR_TESTS = ("FULLSTORY_REAL_", "FULLSTORY_CONTRACT_", "FULLSTORY_TESTS_")
"""Variables that say which tests to run; they are no settings."""


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("FULLSTORY_", "DAGSTER_")) and not name.startswith(_ASKS_FOR_TESTS):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
