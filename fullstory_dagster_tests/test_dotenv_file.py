"""The `.env` that init writes."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fullstory_dagster.dotenv_file import export_cloud_variables, write_dotenv
from fullstory_dagster.settings import SETTINGS, Settings, read_settings

START = datetime(2026, 6, 1, tzinfo=timezone.utc)


def test_a_new_file_is_read_back_as_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(start=START, api_key="na1.a#b$c=d\"e'f\\g/")
    added = write_dotenv(tmp_path / ".env", settings)
    assert added == ["FULLSTORY_API_KEY", "FULLSTORY_START_DATE"]
    assert read_settings({}) == settings


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    write_dotenv(tmp_path / ".env", Settings(start=START, api_key="k"))
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600


def test_a_new_file_explains_every_setting(tmp_path: Path) -> None:
    write_dotenv(tmp_path / ".env", Settings(start=START, api_key="k"))
    text = (tmp_path / ".env").read_text()
    for setting in SETTINGS:
        assert f"# {setting.meaning.replace('`', '')}\n# Default: {setting.default.replace('`', '')}\n" in text
        assert f"\n#{setting.name}=\n" in text


def test_what_a_file_holds_is_kept(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nFULLSTORY_API_KEY=old\nOTHER=1\n")
    assert write_dotenv(path, Settings(start=START, api_key="new")) == ["FULLSTORY_START_DATE"]
    assert path.read_text() == "# mine\nFULLSTORY_API_KEY=old\nOTHER=1\nFULLSTORY_START_DATE=2026-06-01\n"
    assert write_dotenv(path, Settings(start=START, api_key="new")) == []


@pytest.mark.parametrize("hour", [0, 12])
def test_a_start_within_the_day_keeps_its_hour(tmp_path: Path, hour: int) -> None:
    settings = Settings(start=START.replace(hour=hour), bundle_hours=12, api_key="k")
    write_dotenv(tmp_path / ".env", settings)
    assert read_settings({"FULLSTORY_BUNDLE_HOURS": "12"}).start == settings.start


def test_what_it_says_to_the_clouds_is_in_the_environment_unless_that_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".env"
    path.write_text("AWS_REGION=eu-west-1\nAWS_ACCESS_KEY_ID=file\nAZURE_STORAGE_ACCOUNT_NAME=\nOTHER_KEY=x\n")
    monkeypatch.setattr(os, "environ", {"AWS_ACCESS_KEY_ID": "environment"})
    export_cloud_variables(path)
    export_cloud_variables(tmp_path / "none")
    assert os.environ == {"AWS_ACCESS_KEY_ID": "environment", "AWS_REGION": "eu-west-1"}
