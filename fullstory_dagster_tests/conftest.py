"""What every test starts from: no settings in the environment, and no `.env` in the working directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        # FULLSTORY_REAL_EXPORT and the like ask for tests; they are no settings.
        if name.startswith(("FULLSTORY_", "DAGSTER_")) and not name.startswith("FULLSTORY_REAL_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
