"""The tables of the warehouse: what they are called, their columns, and how names reach SQL.

What an older version of this project made is brought up to date by :mod:`fullstory_dagster.store.upgrade`.

The tables keep to what a lakehouse can do too: no keys, constraints, sequences or enums. Uniqueness is the loader's
business, which is the only writer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fullstory_dagster.fields import CUSTOM_VARS, EVENT_COLUMNS, LEGACY_NAMES, Field

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EVENTS = "events"
EVENTS_COMPAT = "events_compat"
LOADS = "_loads"
REJECTED = "_rejected"
BUILDS = "_builds"
SCHEMA_VERSION = "_schema_version"

_PACKS_WITH_ZSTD = """
    SELECT type = 'duckdb' AND tags['storage_version'] >= 'v1.4' FROM duckdb_databases()
    WHERE database_name = current_database()
"""
"""Lakes choose by themselves, and a file in an older format knows no zstd."""

VERSION = 1
"""Of the tables and what they mean. A column more is no new version: older code leaves it empty and loses nothing."""

LOAD_COLUMNS: dict[str, str] = {
    "load_id": "BIGINT NOT NULL",  # 1, 2, 3, … in the order of commits: a later load has the higher id
    "window_start": "TIMESTAMP NOT NULL",
    "window_end": "TIMESTAMP NOT NULL",
    "api": "VARCHAR NOT NULL",  # segment or bundle
    "export_id": "VARCHAR",  # several bundles: their ids, separated by commas
    "bundle_bytes": "BIGINT",
    "bundle_sha256": "VARCHAR",
    "rows_in": "BIGINT NOT NULL",  # = kept + rejected + outside + duplicate + forgotten + expired
    "rows_kept": "BIGINT NOT NULL",
    "rows_rejected": "BIGINT NOT NULL",
    "rows_outside": "BIGINT NOT NULL",
    "rows_duplicate": "BIGINT NOT NULL",
    "rows_forgotten": "BIGINT NOT NULL",
    "rows_expired": "BIGINT NOT NULL",  # deleted when their time was up
    "values_misfit": "BIGINT NOT NULL",  # values that did not fit their column and went to CustomVars
    "min_event_start_at": "TIMESTAMP",
    "max_event_start_at": "TIMESTAMP",
    "requested_at": "TIMESTAMP",
    "received_at": "TIMESTAMP",
    "loaded_at": "TIMESTAMP NOT NULL",
    "fetch_s": "DOUBLE",
    "parse_s": "DOUBLE",
    "append_s": "DOUBLE",
    "settings": "JSON",  # the settings that shaped the rows
    "dagster_run_id": "VARCHAR",
}

REJECTED_COLUMNS: dict[str, str] = {
    "window_start": "TIMESTAMP NOT NULL",
    "load_id": "BIGINT NOT NULL",
    "export_id": "VARCHAR",
    "position": "BIGINT NOT NULL",  # 0 is the first row of the window's bundle
    "reason": "VARCHAR NOT NULL",
    "raw_text": "VARCHAR",  # NULL while a privacy setting is on
    "raw_sha256": "VARCHAR NOT NULL",
}

BUILD_COLUMNS: dict[str, str] = {
    "model": "VARCHAR NOT NULL",
    "load_id": "BIGINT NOT NULL",  # the model holds every load up to this one
    "built_at": "TIMESTAMP NOT NULL",
}

VERSION_COLUMNS: dict[str, str] = {
    "version": "BIGINT NOT NULL",  # the highest one is in force
    "project_version": "VARCHAR NOT NULL",
    "since": "TIMESTAMP NOT NULL",
}


def quote(identifier: str) -> str:
    """The only way an identifier reaches SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def quote_text(text: str) -> str:
    """A string literal, for the few statements that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def table(schema: str, name: str) -> str:
    """Schema and table, quoted."""
    return f"{quote(schema)}.{quote(name)}"


def columns_of(name: str) -> dict[str, str]:
    """Columns of one of our tables and their DuckDB types, in order."""
    return {
        EVENTS: {field.name: _event_column_type(field) for field in EVENT_COLUMNS},
        LOADS: LOAD_COLUMNS,
        REJECTED: REJECTED_COLUMNS,
        BUILDS: BUILD_COLUMNS,
        SCHEMA_VERSION: VERSION_COLUMNS,
    }[name]


TABLES = (EVENTS, LOADS, REJECTED, BUILDS, SCHEMA_VERSION)


def create_tables(connection: DuckDBPyConnection, schema: str) -> None:
    """Create the schema, its tables and the compatibility view where they are missing."""
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
    packs_with_zstd = connection.execute(_PACKS_WITH_ZSTD).fetchone() == (True,)
    for name in TABLES:
        columns = dict(columns_of(name))
        if name == EVENTS and packs_with_zstd:
            # Next to all of them differ, but for the same names again and again: with fifty a row they take a third of
            # the room, and a quarter less time.
            columns[CUSTOM_VARS.name] += " USING COMPRESSION zstd"
        body = ", ".join(f"{quote(column)} {column_type}" for column, column_type in columns.items())
        connection.execute(f"CREATE TABLE IF NOT EXISTS {table(schema, name)} ({body})")
    legacy = ", ".join(f"{quote(column)} AS {quote(old)}" for old, column in LEGACY_NAMES.items())
    connection.execute(
        f"CREATE VIEW IF NOT EXISTS {table(schema, EVENTS_COMPAT)} AS SELECT *, {legacy} FROM {table(schema, EVENTS)}"
    )


def _event_column_type(field: Field) -> str:
    # A row that DuckDB got from somewhere else than an export would have no export id; every other mark is ours.
    is_given = field.is_required or (field.group == "system" and field.name != "_export_id")
    return field.duckdb_type + (" NOT NULL" if is_given else "")
