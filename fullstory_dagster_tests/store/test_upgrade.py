"""Warehouses that another version of this project made."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from fullstory_dagster import __version__
from fullstory_dagster.errors import StoreTooNewError, WarehouseMismatchError
from fullstory_dagster.fields import EVENT_COLUMNS, FIELDS
from fullstory_dagster.parse.promotion import promote_fields
from fullstory_dagster.store.file import DatabaseFile
from fullstory_dagster.store.tables import TABLES, VERSION, columns_of
from fullstory_dagster_tests.sample_events import DAY, event

from .conftest import Loader


@pytest.fixture
def loader(any_loader: Loader) -> Loader:
    """Every test here is one of a file and of a lake."""
    return any_loader


NEW = ("PageDuration", "PageName", "PageStart", "EventCumulativeLayoutShift")
"""Fields that the version of these tests' warehouses had no column for."""

ROWS = [
    event(PageId=1, PageDuration=7, PageName="café", PageStart="2026-06-01T11:59:00.250Z", evt_real=1.5),
    event(PageId=2, PageDuration="no number", EventCumulativeLayoutShift=0.25, evt_text_str='says "PageName": no'),
    event(PageId=3, PageDuration=None, PageName=""),
    event(PageId=4, evt_pageduration_int=3, pagename="another case"),
    event(PageId=5),
]
RAW = [json.dumps(row).replace("1.5", "1.50") for row in ROWS]


@pytest.fixture
def older(loader: Loader) -> Loader:
    """A warehouse of a version that did not know four of the fields, and had no mark of its version."""
    loader.warehouse.promote = promote_fields
    loader.load(f"[{','.join(RAW)}]".encode())
    with loader.warehouse.writing() as connection:
        rows = [(row["PageId"], {name: row[name] for name in row if name in NEW}) for row in ROWS]
        for page_id, unknown in rows:
            (custom_vars,) = connection.execute(
                'SELECT CustomVars FROM "fullstory"."events" WHERE PageId = ?', [page_id]
            ).fetchone() or ("",)
            left = {name: value for name, value in json.loads(custom_vars or "{}").items() if name not in NEW}
            # As that version would have kept them: in front, the others' text untouched.
            text = json.dumps(unknown | left).replace("1.5", "1.50")
            connection.execute(
                'UPDATE "fullstory"."events" SET CustomVars = ? WHERE PageId = ?',
                [None if text == "{}" else text, page_id],
            )
        connection.execute('DROP VIEW "fullstory"."events_compat"')
        for name in NEW:
            connection.execute(f'ALTER TABLE "fullstory"."events" DROP COLUMN "{name}"')
        connection.execute(
            'CREATE VIEW "fullstory"."events_compat" AS '
            'SELECT *, "EventTargetSelector" AS "EventTargetSelectorTok" FROM "fullstory"."events"'
        )
        connection.execute('DROP TABLE "fullstory"."_schema_version"')
        connection.execute('ALTER TABLE "fullstory"."_loads" DROP COLUMN rows_forgotten')
        connection.execute('ALTER TABLE "fullstory"."_loads" DROP COLUMN rows_expired')
    return loader


def rows_of(loader: Loader, columns: str = "*", table: str = "events") -> list[dict[str, Any]]:
    return loader.warehouse.query(f'SELECT {columns} FROM "fullstory"."{table}" ORDER BY PageId')


def test_a_field_that_got_a_column_fills_it_from_what_was_kept(older: Loader, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("fresh")
    fresh = Loader(folder, partial(DatabaseFile, folder / "warehouse.duckdb"))
    fresh.load(f"[{','.join(RAW)}]".encode())
    names = ", ".join(f'"{field.name}"' for field in FIELDS)
    assert rows_of(older, names) == rows_of(fresh, names)
    customs = [
        (row["CustomVars"], other["CustomVars"]) for row, other in zip(rows_of(older), rows_of(fresh), strict=True)
    ]
    assert [json.loads(old or "{}") for old, _ in customs] == [json.loads(new or "{}") for _, new in customs]
    assert '"evt_real":1.50' in customs[0][0].replace(" ", "")
    # The one that did not fit its column stays where it was.
    assert json.loads(customs[1][0])["PageDuration"] == "no number"
    assert rows_of(older)[0]["PageStart"] == datetime(2026, 6, 1, 11, 59, 0, 250000)  # noqa: DTZ001


def test_an_older_warehouse_is_brought_up_to_date_by_the_next_load(older: Loader) -> None:
    load = older.load([event(PageId=9, PageDuration=1)], DAY)
    assert load.rows_kept == 1
    for name in TABLES:
        found = older.warehouse.query(
            "SELECT column_name FROM duckdb_columns() WHERE schema_name = 'fullstory' AND table_name = $name",
            {"name": name},
        )
        assert {row["column_name"] for row in found} == columns_of(name).keys(), name
    assert [row["PageDuration"] for row in rows_of(older, "PageDuration, PageId")] == [1]
    assert older.warehouse.current_loads()[DAY].rows_forgotten == 0


def test_an_older_warehouse_can_be_read_at_once(older: Loader) -> None:
    assert older.warehouse.current_loads()[DAY].rows_kept == len(ROWS)


def test_the_view_for_older_names_has_the_new_columns(older: Loader) -> None:
    older.load([event(PageId=9, PageDuration=1, PageAgent="agent")], DAY)
    (row,) = rows_of(older, table="events_compat")
    assert (row["PageDuration"], row["PageAgent"]) == (1, "agent")
    assert row.keys() >= {field.name for field in EVENT_COLUMNS}


def test_a_failure_in_the_middle_leaves_the_older_warehouse(older: Loader) -> None:
    def fail(text: str, fields: object) -> tuple[list[Any], str | None]:
        raise RuntimeError

    older.warehouse.promote = fail
    with pytest.raises(RuntimeError):
        older.load([event()])
    older.warehouse.promote = promote_fields
    assert [row["PageDuration"] for row in rows_of(older)] == [7, None, None, None, None]


def test_without_a_reader_new_columns_are_empty_and_nothing_is_lost(older: Loader) -> None:
    older.warehouse.promote = None
    first = rows_of(older)[0]
    assert first["PageDuration"] is None
    assert json.loads(first["CustomVars"])["PageDuration"] == 7


def test_the_version_is_written_down_once(loader: Loader) -> None:
    loader.load([event()])
    loader.load([event()])
    versions = loader.warehouse.query('SELECT version, project_version FROM "fullstory"."_schema_version"')
    assert versions == [{"version": VERSION, "project_version": __version__}]


def test_a_newer_warehouse_is_refused_with_both_versions(loader: Loader) -> None:
    loader.load([event(PageId=1)])
    with loader.warehouse.writing() as connection:
        connection.execute(
            f"INSERT INTO \"fullstory\".\"_schema_version\" VALUES ({VERSION + 1}, '9.9.9', TIMESTAMP '2027-01-01')"
        )
    loader.keep([event(PageId=2)])
    loader.parse()
    for use in (loader.append, loader.warehouse.current_loads, loader.warehouse.built_up_to):
        with pytest.raises(StoreTooNewError, match=rf"version {VERSION + 1}, written by .* 9\.9\.9.*upgrade"):
            use()


def test_a_table_of_events_that_is_gone_is_not_made_anew_beside_a_log_of_loads(loader: Loader) -> None:
    loader.load([event()])
    with loader.warehouse.writing() as connection:
        connection.execute('ALTER TABLE "fullstory"."events" RENAME TO "not_events"')
    for use in (loader.append, loader.warehouse.current_loads):
        with pytest.raises(WarehouseMismatchError, match="speaks of loads, but the table events beside it is gone"):
            use()


def test_a_newer_bundle_or_parse_is_refused_by_the_window_s_name(loader: Loader) -> None:
    loader.load([event()])
    for folder, use in (("bundles", loader.bundles.get), ("parses", loader.dataset.get)):
        (described,) = (loader.objects.root / folder).rglob("*.json")
        described.write_text(json.dumps(json.loads(described.read_text()) | {"version": 2}))
        with pytest.raises(StoreTooNewError, match=r"2026-06-01 00:00 .* newer version"):
            use(DAY)


def test_a_long_history_is_filled_in_pieces(loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fullstory_dagster.store.upgrade._BATCH_ROWS", 7)
    loader.load([event(PageId=n, PageNam=f"name {n}") for n in range(50)])
    with loader.warehouse.writing() as connection:
        connection.execute(
            'UPDATE "fullstory"."events" SET CustomVars = replace(CustomVars, \'"PageNam"\', \'"PageName"\')'
        )
        connection.execute('DROP VIEW "fullstory"."events_compat"')
        connection.execute('ALTER TABLE "fullstory"."events" DROP COLUMN "PageName"')
    warehouse = loader.reopened(promote=promote_fields)
    rows = warehouse.query('SELECT PageId, PageName, CustomVars FROM "fullstory"."events" ORDER BY PageId')
    assert [(row["PageName"], row["CustomVars"]) for row in rows] == [(f"name {n}", None) for n in range(50)]
