"""How a warehouse is named, and what of it is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from fullstory_dagster.errors import SettingsError
from fullstory_dagster.settings import Settings, read_settings
from fullstory_dagster.warehouse_location import LakeCatalog, MotherDuckDatabase, read_location

GIVEN = {"FULLSTORY_API_KEY": "na1.abc", "FULLSTORY_START_DATE": "2026-06-01"}


def read(warehouse: str, **others: str) -> Settings:
    return read_settings(GIVEN | {"FULLSTORY_WAREHOUSE": warehouse} | others, dotenv=Path("nothing"))


@pytest.mark.parametrize(
    ("text", "parameters", "conninfo"),
    [
        ("dbname=lake host=db", {"dbname": "lake", "host": "db"}, "dbname=lake host=db"),
        (" dbname = lake  port=5433 ", {"dbname": "lake", "port": "5433"}, "dbname=lake port=5433"),
        (r"dbname='my lake' user=o\'neil", {"dbname": "my lake", "user": "o'neil"}, r"dbname='my lake' user='o\'neil'"),
        ("service=lake", {"service": "lake"}, "service=lake"),
        ("", {}, ""),
        (
            "dbname=lake password='open \\'sesame\\''",
            {"dbname": "lake", "password": "open 'sesame'"},
            "dbname=lake",
        ),
        (
            "postgresql://me:open%20%27sesame%27@db:5433/lake?sslmode=verify-full",
            {
                "host": "db",
                "port": "5433",
                "user": "me",
                "password": "open 'sesame'",
                "dbname": "lake",
                "sslmode": "verify-full",
            },
            "host=db port=5433 user=me dbname=lake sslmode=verify-full",
        ),
    ],
)
def test_a_lake_is_named_in_libpq_s_ways(text: str, parameters: dict[str, str], conninfo: str) -> None:
    location = read(f"ducklake:postgres:{text}").warehouse
    assert isinstance(location, LakeCatalog)
    assert location.parameters == parameters
    assert location.conninfo == conninfo
    assert location.password == parameters.get("password")


def test_libpq_reads_what_we_write() -> None:
    from psycopg.conninfo import conninfo_to_dict

    given = {"dbname": "a b", "user": "o'neil", "host": "/var/run/x", "options": r"-c a\ b"}
    text = LakeCatalog(given).conninfo
    assert conninfo_to_dict(text) == given
    again = read_location(f"ducklake:postgres:{text}")
    assert isinstance(again, LakeCatalog)
    assert again.parameters == given


def test_neither_settings_nor_errors_show_a_password() -> None:
    text = "ducklake:postgres:host=db dbname=lake user=me password=sesame sslpassword=sesame passfile=sesame"
    settings = read(text)
    assert str(settings.warehouse) == "ducklake:postgres:host=db dbname=lake user=me"
    assert "sesame" not in repr(settings)
    for wrong in (f"{text} password", text.replace("postgres:", ""), "postgresql://me:sesame@db/lake"):
        with pytest.raises(SettingsError, match="FULLSTORY_WAREHOUSE is set, but") as refused:
            read(wrong)
        assert "sesame" not in str(refused.value)


def test_the_whole_setting_may_lie_in_a_file(tmp_path: Path) -> None:
    mounted = tmp_path / "warehouse"
    mounted.write_text("ducklake:postgres:dbname=lake password=sesame\n")
    settings = read_settings(GIVEN | {"FULLSTORY_WAREHOUSE_FILE": str(mounted)}, dotenv=Path("nothing"))
    assert isinstance(settings.warehouse, LakeCatalog)
    assert settings.warehouse.password == "sesame"  # noqa: S105


def test_motherduck_is_named_by_its_database() -> None:
    assert read("md:events").warehouse == read("motherduck:events").warehouse == MotherDuckDatabase("events")
    assert str(read("md:events").warehouse) == "md:events"


@pytest.mark.parametrize(
    ("warehouse", "schema"),
    [("ducklake:postgres:", "lake"), ("md:Events", "events"), ("/data/full.v2.duckdb", "full")],
)
def test_a_schema_that_is_called_like_the_catalog_is_refused(warehouse: str, schema: str) -> None:
    with pytest.raises(SettingsError, match=rf"FULLSTORY_SCHEMA is '{schema}', which is also what DuckDB calls"):
        read(warehouse, FULLSTORY_SCHEMA=schema)


def test_the_files_of_a_lake_lie_in_the_store(tmp_path: Path) -> None:
    settings = read("ducklake:postgres:dbname=lake", FULLSTORY_STORE_URL=str(tmp_path))
    assert settings.lake_files == f"{tmp_path}/lake/"
