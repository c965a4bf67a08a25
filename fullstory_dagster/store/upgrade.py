"""What an older version of this project left in a warehouse, brought up to date; a newer one's is refused.

Runs whenever the warehouse is opened for writing, in one transaction, and costs one look at the catalog when there is
nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fullstory_dagster import __version__
from fullstory_dagster.errors import StoreTooNewError, WarehouseMismatchError
from fullstory_dagster.fields import CUSTOM_VARS, EVENT_COLUMNS, Field
from fullstory_dagster.store.tables import (
    EVENTS,
    EVENTS_COMPAT,
    LOADS,
    SCHEMA_VERSION,
    TABLES,
    VERSION,
    columns_of,
    create_tables,
    quote,
    quote_text,
    table,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Promote = Callable[[str, Sequence[Field]], tuple[list[Any], str | None]]
"""Takes fields out of the text of CustomVars: their values in order, None for what is absent, and the text left."""

_BATCH_ROWS = 20_000


def refuse_newer(connection: DuckDBPyConnection, schema: str) -> None:
    """Stop at tables that a newer version of this project made.

    Raises:
        StoreTooNewError: the schema's version is higher than ours; it says which versions these are.
    """
    if not _present_columns(connection, schema)[SCHEMA_VERSION]:
        return
    found = connection.execute(
        f"SELECT version, project_version FROM {table(schema, SCHEMA_VERSION)} ORDER BY version DESC LIMIT 1"
    ).fetchone()
    if found and found[0] > VERSION:
        raise StoreTooNewError(
            f"The tables in schema {schema!r} have version {found[0]}, written by fullstory-dagster {found[1]}; this "
            f"is {__version__}, which knows version {VERSION}. Nothing was changed; upgrade, or restore a backup."
        )


def is_up_to_date(connection: DuckDBPyConnection, schema: str) -> bool:
    """Whether every table of ours is there with all of its columns."""
    present = _present_columns(connection, schema)
    return all(columns_of(name).keys() <= present[name] for name in TABLES)


def upgrade_tables(connection: DuckDBPyConnection, schema: str, promote: Promote | None) -> bool:
    """Make the tables what this version expects; whether anything had to be done.

    A column that is missing is added; a field among them is filled from CustomVars, where it was kept while it had no
    column, so that nothing needs to be downloaded, or parsed, again.

    Args:
        connection: may write; outside a transaction.
        schema: of the tables.
        promote: reads fields out of CustomVars; without one they stay there.

    Raises:
        StoreTooNewError: see :func:`refuse_newer`.
        WarehouseMismatchError: the load log speaks of loads, and the table they were loaded into is gone.
    """
    refuse_newer(connection, schema)
    if is_up_to_date(connection, schema):
        return False
    _refuse_torn(connection, schema)
    connection.execute("BEGIN TRANSACTION")
    try:
        before = _present_columns(connection, schema)
        create_tables(connection, schema)
        for name in TABLES:
            for column, column_type in columns_of(name).items():
                if before[name] and column not in before[name]:
                    # DuckDB adds no column with a constraint to a table that has rows.
                    bare = column_type.removesuffix(" NOT NULL")
                    connection.execute(f"ALTER TABLE {table(schema, name)} ADD COLUMN {quote(column)} {bare}")
        new_fields = [field for field in EVENT_COLUMNS if before[EVENTS] and field.name not in before[EVENTS]]
        if new_fields:
            # The view keeps the list of columns it was made with.
            connection.execute(f"DROP VIEW IF EXISTS {table(schema, EVENTS_COMPAT)}")
            create_tables(connection, schema)
            if promote:
                _fill(connection, schema, [field for field in new_fields if field.group != "system"], promote)
        connection.execute(
            f"INSERT INTO {table(schema, SCHEMA_VERSION)} "
            "SELECT $version, $by, make_timestamp(epoch_us(now())) "
            f"WHERE NOT EXISTS (FROM {table(schema, SCHEMA_VERSION)} WHERE version = $version)",
            {"version": VERSION, "by": __version__},
        )
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return True


def _refuse_torn(connection: DuckDBPyConnection, schema: str) -> None:
    present = _present_columns(connection, schema)
    if present[EVENTS] or not present[LOADS]:
        return
    if connection.execute(f"SELECT 1 FROM {table(schema, LOADS)} LIMIT 1").fetchone():
        # A fresh, empty table in its place would look like a warehouse in which nothing ever happened.
        raise WarehouseMismatchError(
            f"The load log in schema {schema!r} speaks of loads, but the table {EVENTS} beside it is gone; nothing was "
            "changed. Restore a backup, or move the file away and run 'fullstory-dagster reset'.",
            setting="FULLSTORY_WAREHOUSE",
        )


def _fill(connection: DuckDBPyConnection, schema: str, fields: Sequence[Field], promote: Promote) -> None:
    columns = ", ".join(f"{quote(field.name)} {field.duckdb_type}" for field in fields)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE promoted (row_id BIGINT, custom_vars JSON, {columns})")
    custom_vars = quote(CUSTOM_VARS.name)
    # In a name that JSON escapes the text would not be found; FullStory's names hold nothing to escape.
    holds = " OR ".join(f"contains({custom_vars}, {quote_text(chr(34) + field.name + chr(34))})" for field in fields)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE to_promote AS "
        f"SELECT rowid AS row_id, {custom_vars} AS custom_vars FROM {table(schema, EVENTS)} WHERE {holds}"
    )
    marks = ", ".join(f"unnest(?::{kind}[])" for kind in ("BIGINT", "JSON", *(field.duckdb_type for field in fields)))
    last_id = -1
    while batch := connection.execute(
        "SELECT row_id, custom_vars FROM to_promote WHERE row_id > ? ORDER BY row_id LIMIT ?", [last_id, _BATCH_ROWS]
    ).fetchall():
        last_id = batch[-1][0]
        promoted = [(row_id, promote(text, fields)) for row_id, text in batch]
        by_column = zip(*(values for _, (values, _) in promoted), strict=True)
        connection.execute(
            f"INSERT INTO promoted SELECT {marks}",
            [[row_id for row_id, _ in promoted], [rest for _, (_, rest) in promoted], *map(list, by_column)],
        )
    assignments = ", ".join(f"{quote(field.name)} = promoted.{quote(field.name)}" for field in fields)
    connection.execute(
        f"UPDATE {table(schema, EVENTS)} AS events SET {custom_vars} = promoted.custom_vars, {assignments} "
        "FROM promoted WHERE events.rowid = promoted.row_id"
    )
    connection.execute("DROP TABLE promoted; DROP TABLE to_promote")


def _present_columns(connection: DuckDBPyConnection, schema: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {name: set() for name in TABLES}
    for name, column in connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() "
        "WHERE database_name = current_database() AND schema_name = ? AND NOT internal",
        [schema],
    ).fetchall():
        if name in found:
            found[name].add(column)
    return found
