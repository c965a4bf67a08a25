"""DAGSTER_HOME, so that nobody has to make one by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

from fullstory_dagster.settings import Settings

PROJECT_ROOT = Path(__file__).resolve().parents[2]
"""The clone: dagster.yaml, workspace.yaml and the dbt project lie here."""


def prepare_home(settings: Settings) -> Path:
    """Make the account's DAGSTER_HOME with the instance settings in it, pools included.

    A dagster.yaml that somebody edited there stays as it is.

    Returns:
        Path: the home, absolute and existing, as Dagster wants it.
    """
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(PROJECT_ROOT / "dagster.yaml", home / "dagster.yaml")
    return home
