"""Names on their way to SQL, and the tables."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullstory_dagster.fields import EVENT_COLUMNS
from fullstory_dagster.store.tables import create_tables, quote, quote_text, table


@given(
    name=st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
)
def test_any_name_and_any_text_survive_the_way_through_sql(name: str) -> None:
    with duckdb.connect() as connection:
        result = connection.execute(f"SELECT {quote_text(name)} AS {quote(name)}")
        assert result.description[0][0] == name
        assert result.fetchone() == (name,)


@pytest.mark.parametrize("name", ['x"; DROP TABLE t; --', '"', '""', "x.y"])
def test_a_name_is_one_identifier(name: str) -> None:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (a INT)")
        connection.execute(f"CREATE TABLE {quote(name)} ({quote(name)} INT)")
        tables = connection.execute("SELECT table_name FROM information_schema.tables").fetchall()
        assert sorted(tables) == sorted([("t",), (name,)])
    assert table("s.x", 'e"') == '"s.x"."e"""'


def test_tables_are_created_once_with_the_columns_of_the_field_list() -> None:
    with duckdb.connect() as connection:
        for _ in range(2):
            create_tables(connection, "raw")
        columns = connection.execute(
            "SELECT column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_schema = 'raw' AND table_name = 'events' ORDER BY ordinal_position"
        ).fetchall()
        assert [(name, kind) for name, kind, _ in columns] == [(f.name, f.duckdb_type) for f in EVENT_COLUMNS]
        assert {name for name, _, nullable in columns if nullable == "NO"} == {
            *("UserId", "SessionId", "EventStart", "EventType"),
            *("_event_id", "_window_start", "_window_end", "_loaded_at", "_load_id"),
        }
        # A lakehouse has neither keys nor unique constraints: what we rely on must not either.
        kinds = connection.execute("SELECT DISTINCT constraint_type FROM duckdb_constraints()").fetchall()
        assert kinds == [("NOT NULL",)]


@pytest.mark.parametrize(("storage_version", "packed"), [("v1.0.0", "FSST"), ("v1.4.0", "ZSTD"), ("latest", "ZSTD")])
def test_custom_variables_are_packed_as_well_as_the_file_s_format_allows(
    tmp_path: Path, storage_version: str, packed: str
) -> None:
    config = {"storage_compatibility_version": storage_version}
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), config=config) as connection:
        for _ in range(2):
            create_tables(connection, "raw")
        text = "'{\"evt_text_str\":\"' || md5(n::VARCHAR) || '\"}'"
        values = {
            "UserId": "n",
            "SessionId": "n",
            "EventType": "'click'",
            "CustomVars": text,
            "_event_id": "md5(n::VARCHAR)",
        }
        times = dict.fromkeys(("EventStart", "_window_start", "_window_end", "_loaded_at"), "TIMESTAMP '2026-06-01'")
        columns = ", ".join(f"{value} AS {name}" for name, value in (values | times | {"_load_id": "1"}).items())
        connection.execute(f"INSERT INTO raw.events BY NAME SELECT {columns} FROM range(50000) r(n)")
        connection.execute("CHECKPOINT")
        packings = connection.execute(
            "SELECT DISTINCT compression FROM pragma_storage_info('raw.events') "
            "WHERE column_name = 'CustomVars' AND segment_type <> 'VALIDITY'"
        ).fetchall()
    assert packings == [(packed,)]
