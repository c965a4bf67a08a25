"""Settings: read once, checked at once, one sentence for whatever is wrong."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pytest

from fullstory_dagster.errors import SettingsError
from fullstory_dagster.settings import SETTINGS, Settings, read_settings, settings_exist
from fullstory_dagster.windows import WindowGrid

CANARY = "na1.canary-key-that-must-not-be-seen"
ENOUGH = {"FULLSTORY_API_KEY": CANARY, "FULLSTORY_START_DATE": "2026-06-01"}
START = datetime(2026, 6, 1, tzinfo=timezone.utc)


def read(**given: str) -> Settings:
    return read_settings({**ENOUGH, **{f"FULLSTORY_{name}": value for name, value in given.items()}})


def refusal(**given: str) -> SettingsError:
    with pytest.raises(SettingsError) as refused:
        read(**given)
    return refused.value


def test_two_settings_are_enough(tmp_path: Path) -> None:
    settings = read()
    assert settings.start == START
    assert settings.grid == WindowGrid(first=START, hours=24, delay_hours=24)
    assert settings.data_dir == tmp_path / "data"
    assert settings.store_dir == tmp_path / "data"
    assert settings.warehouse == tmp_path / "data" / "warehouse.duckdb"
    assert settings.dagster_home == tmp_path / "data" / "dagster"
    assert settings.schema == "fullstory"
    assert settings.export_api == "segment"


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    mounted = tmp_path / "key"
    mounted.write_text("na1.abc\n")
    given = {name: value for name, value in ENOUGH.items() if name != "FULLSTORY_API_KEY"}
    assert read_settings(given | {"FULLSTORY_API_KEY_FILE": str(mounted)}).api_key == "na1.abc"
    assert settings_exist({"FULLSTORY_API_KEY_FILE": str(mounted)})
    # What is set itself counts.
    assert read(API_KEY="na1.xyz", API_KEY_FILE=str(mounted)).api_key == "na1.xyz"
    mounted.unlink()
    with pytest.raises(SettingsError, match=r"FULLSTORY_API_KEY_FILE names .*key, which cannot be read: No such file"):
        read_settings(given | {"FULLSTORY_API_KEY_FILE": str(mounted)})


WRONG = [
    ("API_KEY", "two words", "printable ASCII"),
    ("API_KEY", "schlüssel", "printable ASCII"),
    ("API_KEY", "'quoted'", "quotes"),
    ("API_URL", "api.fullstory.com", "https URL"),
    ("API_URL", "ftp://api.fullstory.com", "https URL"),
    ("API_URL", "http://api.fullstory.com", "plain http is allowed for this machine only"),
    ("API_URL", "https://[::1", "https URL"),
    ("API_URL", "https://api.fullstory.com:notaport", "https URL"),
    ("EXPORT_API", "Segment", "segment, bundle"),
    ("SEGMENT_ID", "my segment", "segment's id"),
    ("FIELDS", "UserId,SessionId,EventStart,EventType,Nonsense", "Nonsense"),
    ("FIELDS", "UserId,UserId,SessionId,EventStart,EventType", "UserId twice"),
    ("FIELDS", "UserId,SessionId,EventStart", "leaves out EventType"),
    ("START_DATE", "June 1", "2026-06-01"),
    ("START_DATE", "2026-02-30", "2026-06-01"),
    ("START_DATE", "2026-06-01T00:00:00", "UTC time"),
    ("START_DATE", "2026-06-01T00:00:00+02:00", "UTC time"),
    ("START_DATE", "1999-01-01", "2026-06-01"),
    ("BUNDLE_HOURS", "5", "1, 2, 3, 4, 6, 8, 12, 24"),
    ("BUNDLE_HOURS", "6.0", "1, 2, 3, 4, 6, 8, 12, 24"),
    ("DELAY_HOURS", "-1", "from 0 to 720"),
    ("DELAY_HOURS", "721", "from 0 to 720"),
    ("SCHEDULE", "daily", "cron line of five fields"),
    ("SCHEDULE", "99 3 * * *", "cron line of five fields"),
    ("SCHEDULE", "15 3 * * funday", "cron line of five fields"),
    ("SCHEDULE", "15 3 * *", "cron line of five fields"),
    ("SCHEDULE", "*/0 3 * * *", "cron line of five fields"),
    ("SCHEDULE", "every 5h at 03:15", "1, 2, 3, 4, 6, 8, 12, 24 hours"),
    ("SCHEDULE", "every 6h at 24:00", "every 6h at 03:15"),
    ("SCHEDULE_TIMEZONE", "Mars/Olympus", "Europe/Berlin"),
    ("SCHEDULE_TIMEZONE", "../../etc/passwd", "Europe/Berlin"),
    ("STORE_URL", "https://bucket.s3.amazonaws.com/prefix", "must be a folder, or s3://bucket/prefix, gs://"),
    ("STORE_URL", "s3://", "s3://bucket/prefix"),
    ("STORE_URL", "s3://bucket/pre fix", "letters, digits and ._-=+"),
    ("STORE_URL", "s3://bucket/../prefix", "letters, digits and ._-=+"),
    ("STORE_URL", "gs://bucket//prefix", "letters, digits and ._-=+"),
    ("SNAPSHOT_MINUTES", "often", "whole number of minutes"),
    ("WAREHOUSE", "md:events?motherduck_token=sesame", "belongs into motherduck_token"),
    ("WAREHOUSE", "ducklake:catalog.ducklake", "the lake's catalog in PostgreSQL"),
    ("WAREHOUSE", "ducklake:postgres:dbname=x password", "libpq's key=value pairs"),
    ("WAREHOUSE", "ducklake:postgres:postgresql://db:port/lake", "postgresql://user@host:5432/lake"),
    ("WAREHOUSE", "s3://bucket/warehouse.duckdb", "ducklake:postgres:… or md:…"),
    ("WAREHOUSE", "events.sqlite", "ends in .duckdb"),
    ("SCHEMA", "full story", "letters, digits and underscores"),
    ("SCHEMA", "1st", "letters, digits and underscores"),
    ("SCHEMA", "Temp", "DuckDB's own names"),
    ("EXCLUDE_COLUMNS", "UserMail", "UserMail"),
    ("EXCLUDE_COLUMNS", "EventType", "every row must keep"),
    ("HASH_COLUMNS", "PageDuration", "only text can be hashed"),
    ("HASH_COLUMNS", "UserId", "every row must keep"),
    ("HASH_KEY", "two words", "printable ASCII"),
    ("ALERT_URLS", "hooks.slack.com/services/T", "separated by blanks"),
    ("TRUNCATE_IP", "maybe", "1 or 0"),
    ("KEEP_BUNDLES_DAYS", "0", "from 1 to 36500"),
    ("KEEP_EVENTS_DAYS", "6", "from 7 to 36500"),
    ("KEEP_RUNS_DAYS", "0", "from 1 to 36500"),
    ("MIN_ROWS_PCT", "101", "from 0 to 100"),
    ("MAX_BUNDLE_GB", "0", "from 1 to 10000"),
    ("MAX_BUNDLE_RATIO", "5", "from 10 to 2000"),
    ("ORG_ID", "o-1ABC/na1", "organisation's id"),
    ("JOBS", "0", "from 1 to 64"),
    ("DOWNLOADS_PER_MINUTE", "two", "whole number of downloads"),
    ("LOCK_TIMEOUT_S", "1e3", "whole number of seconds"),
    ("DUCKDB_MEMORY_LIMIT", "2", "2GB"),
    ("DUCKDB_THREADS", "0", "from 1 to 256"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_stops_with_one_sentence(name: str, value: str, allowed: str) -> None:
    error = refusal(**{name: value})
    sentence = str(error)
    is_secret = next(setting.is_secret for setting in SETTINGS if setting.name == f"FULLSTORY_{name}")
    assert error.setting == f"FULLSTORY_{name}"
    assert sentence.startswith(f"FULLSTORY_{name} is ")
    assert (repr(value) in sentence) is not is_secret
    assert allowed in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_every_setting_but_the_path_of_the_data_has_a_wrong_value_above() -> None:
    # Any text is a path.
    covered = {f"FULLSTORY_{name}" for name, _, _ in WRONG} | {"FULLSTORY_DATA_DIR"}
    assert covered == {setting.name for setting in SETTINGS}


def test_every_setting_is_an_attribute_with_the_default_of_its_list() -> None:
    attributes = {field.name for field in dataclasses.fields(Settings)}
    assert {setting.attribute for setting in SETTINGS} <= attributes
    defaults = Settings(start=START)
    for setting in SETTINGS:
        if setting.default.isdecimal():
            assert getattr(defaults, setting.attribute) == int(setting.default), setting.name


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("API_URL", "http://127.0.0.1:8000/", "api_url", "http://127.0.0.1:8000"),
        ("API_URL", "http://localhost:8000", "api_url", "http://localhost:8000"),
        ("FIELDS", "UserId, SessionId,EventStart,EventType,evt_*", "fields", None),
        ("SCHEDULE", "every 6h at 03:15", "schedule", "every 6h at 03:15"),
        ("SCHEDULE", "*/15 3,15 1-7 jan-mar/2 MON-fri", "schedule", "*/15 3,15 1-7 jan-mar/2 MON-fri"),
        ("TRUNCATE_IP", "Yes", "truncate_ip", True),
        ("BUNDLE_HOURS", " 6 ", "bundle_hours", 6),
        ("EXCLUDE_COLUMNS", "PageUrl,user_plan_str", "exclude_columns", ("PageUrl", "user_plan_str")),
        ("KEEP_BUNDLES_DAYS", "", "keep_bundles_days", None),
        ("DUCKDB_MEMORY_LIMIT", "1.5 GiB", "duckdb_memory_limit", "1.5 GiB"),
        ("ORG_ID", "o-1ABC-na1", "org_id", "o-1ABC-na1"),
    ],
)
def test_a_good_value_is_read(name: str, text: str, attribute: str, value: object) -> None:
    got = getattr(read(**{name: text}), attribute)
    assert got == (
        value if value is not None or not text else ("UserId", "SessionId", "EventStart", "EventType", "evt_*")
    )


@pytest.mark.parametrize("text", ["2026-06-01T06:00:00Z", "2026-06-01T06:00:00+00:00", "2026-06-01T06:00Z"])
def test_a_start_date_may_be_a_utc_time_on_the_grid(text: str) -> None:
    assert read(START_DATE=text, BUNDLE_HOURS="6").start == datetime(2026, 6, 1, 6, tzinfo=timezone.utc)


def test_a_start_off_the_grid_is_refused() -> None:
    error = refusal(START_DATE="2026-06-01T05:00:00Z", BUNDLE_HOURS="6")
    assert error.setting == "FULLSTORY_START_DATE"
    assert "2026-06-01T05:00:00Z" in str(error)
    assert "multiples of 6 h from midnight UTC" in str(error)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("STORE_URL", "s3://AKIA:canary/canary@bucket/prefix"),
        ("STORE_URL", "gs://bucket/prefix?token=canary"),
        ("STORE_URL", "az://container/prefix#canary"),
        ("STORE_URL", "abfss://container:canary@account.dfs.core.windows.net/prefix"),
        ("STORE_URL", "https://account.blob.core.windows.net/container?sv=2024&sig=canary"),
        ("API_URL", "https://user:can/ary@api.fullstory.com"),
        ("API_URL", "https://api.fullstory.com?key=canary"),
    ],
)
def test_what_may_be_a_secret_in_a_url_is_refused_and_not_shown(name: str, url: str) -> None:
    sentence = str(refusal(**{name: url}))
    assert "***" in sentence
    assert "can" not in sentence


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://my.bucket-1/a/b=c",
        "gs://bucket_1/prefix",
        "az://container/prefix",
        "abfss://container@account.dfs.core.windows.net/prefix",
    ],
)
def test_the_store_may_be_a_place_in_a_cloud(url: str, tmp_path: Path) -> None:
    settings = read(STORE_URL=f"{url}/")
    assert settings.store == url
    # Locks and scratch files are not there.
    assert settings.store_dir == tmp_path / "data"


def test_a_password_in_the_url_is_refused_and_not_shown() -> None:
    sentence = str(refusal(API_URL="https://me:geheim@api.fullstory.com"))
    assert "must not hold a user name or password" in sentence
    assert "geheim" not in sentence


def test_without_a_key_the_sentence_says_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"FULLSTORY_API_KEY is not set.*init.*demo"):
        read_settings({})
    with pytest.raises(SettingsError, match=r"FULLSTORY_API_KEY is not set"):
        Settings(start=START).require_api_key()
    assert read().require_api_key() == CANARY


def test_without_a_start_date_the_sentence_says_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"FULLSTORY_START_DATE is not set.*init"):
        read_settings({"FULLSTORY_API_KEY": CANARY})
    assert read_settings({"FULLSTORY_API_KEY": CANARY}, default_start=START).start == START


def test_hashing_needs_a_key() -> None:
    error = refusal(HASH_COLUMNS="UserEmail")
    assert error.setting == "FULLSTORY_HASH_KEY"
    assert read(HASH_COLUMNS="UserEmail", HASH_KEY="pepper").hash_columns == ("UserEmail",)


def test_a_column_is_excluded_or_hashed_but_not_both() -> None:
    error = refusal(HASH_COLUMNS="UserEmail,PageUrl", EXCLUDE_COLUMNS="PageUrl", HASH_KEY="pepper")
    assert error.setting == "FULLSTORY_HASH_COLUMNS"
    assert "PageUrl" in str(error)
    assert "UserEmail" not in str(error)


@pytest.mark.parametrize("file", ["fullstory.duckdb", "FullStory.db", "fullstory.v2.duckdb"])
def test_a_schema_called_like_the_catalog_is_refused(file: str, tmp_path: Path) -> None:
    # What the sentence says of DuckDB is so: the catalog's name is the file's, up to the first dot.
    with duckdb.connect(tmp_path / file) as connection:
        assert connection.execute("SELECT lower(current_database())").fetchone() == ("fullstory",)
    error = refusal(WAREHOUSE=file)
    assert error.setting == "FULLSTORY_SCHEMA"
    assert "ambiguous" in str(error)
    assert file in str(error)
    assert read(WAREHOUSE=file, SCHEMA="raw").warehouse.name == file


def test_secrets_stand_in_no_repr_and_not_in_the_load_log() -> None:
    settings = read(HASH_COLUMNS="UserEmail", HASH_KEY="canary-pepper")
    assert CANARY not in repr(settings)
    assert "canary-pepper" not in repr(settings)
    assert CANARY not in str(settings.shaping)
    assert "canary-pepper" not in str(settings.shaping)


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FULLSTORY_JOBS=7\nFULLSTORY_SCHEMA=from_file\nFULLSTORY_API_KEY=from$file\n")
    settings = read_settings({"FULLSTORY_START_DATE": "2026-06-01", "FULLSTORY_SCHEMA": "from_environment"})
    assert (settings.jobs, settings.schema, settings.api_key) == (7, "from_environment", "from$file")


def test_an_empty_variable_leaves_the_word_to_the_file(tmp_path: Path) -> None:
    other = tmp_path / "other.env"
    other.write_text("FULLSTORY_JOBS=7\n")
    assert read_settings({**ENOUGH, "FULLSTORY_JOBS": ""}, other).jobs == 7


@pytest.mark.parametrize(
    ("name", "meant"),
    [("FULLSTORY_BUNDLE_HOUR", "FULLSTORY_BUNDLE_HOURS"), ("FULLSTORY_APIKEY", "FULLSTORY_API_KEY")],
)
def test_a_name_that_is_nearly_a_setting_is_refused(name: str, meant: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{name} is no setting; {meant} may be meant"):
        read_settings({**ENOUGH, name: "6"})
    (tmp_path / ".env").write_text(f"{name}=6\n")
    with pytest.raises(SettingsError, match=f"{meant} may be meant"):
        read_settings(ENOUGH)


def test_names_of_other_tools_are_passed_over() -> None:
    assert read_settings({**ENOUGH, "FULLSTORY_MCP_SERVER_PORT": "1", "FULLSTORY_APP_URL": "x"}).jobs == 4


@pytest.mark.parametrize(
    ("key", "url", "app"),
    [
        ("na1.k", "", "https://app.fullstory.com"),
        ("k", "", "https://app.fullstory.com"),
        ("eu1.k", "", "https://app.eu1.fullstory.com"),
        ("k", "https://api.eu1.fullstory.com", "https://app.eu1.fullstory.com"),
    ],
)
def test_the_replay_app_is_that_of_the_keys_data_centre(key: str, url: str, app: str) -> None:
    assert read(API_KEY=key, API_URL=url).app_url == app


def test_the_load_log_names_what_shapes_rows_and_nothing_the_other_api_does_not_know() -> None:
    fields = "UserId,SessionId,EventStart,EventType"
    assert read(FIELDS=fields).shaping["fields"] == fields.split(",")
    bundle = read(FIELDS=fields, EXPORT_API="bundle", EXCLUDE_COLUMNS="PageUrl,PageIp").shaping
    assert (bundle["segment_id"], bundle["fields"]) == (None, [])
    assert bundle["exclude_columns"] == ["PageIp", "PageUrl"]


def test_changed_settings_are_checked_again() -> None:
    with pytest.raises(SettingsError, match="FULLSTORY_HASH_KEY"):
        read().with_changes(hash_columns=("UserEmail",))


def test_an_account_is_connected_when_there_is_a_key(tmp_path: Path) -> None:
    assert not settings_exist({})
    assert settings_exist({"FULLSTORY_API_KEY": "k"})
    (tmp_path / ".env").write_text("FULLSTORY_API_KEY=k\n")
    assert settings_exist({})


def test_a_dotenv_in_another_encoding_is_named(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text("FULLSTORY_API_KEY=k\n", encoding="utf-16")
    with pytest.raises(SettingsError, match="is not UTF-8 text"):
        read_settings({}, dotenv)
