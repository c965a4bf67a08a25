"""The one list of columns."""

from __future__ import annotations

import pytest

from fullstory_dagster.fields import DUCKDB_TYPES, EVENT_COLUMNS, FIELDS, FIELDS_BY_NAME, LEGACY_NAMES


def test_no_two_columns_are_the_same_to_duckdb() -> None:
    # DuckDB's names know no case.
    names = [field.name.lower() for field in EVENT_COLUMNS]
    assert len(set(names)) == len(names)


def test_older_spellings_stand_for_text_columns_and_are_none_themselves() -> None:
    assert not LEGACY_NAMES.keys() & FIELDS_BY_NAME.keys()
    assert all(FIELDS_BY_NAME[column].type == "string" for column in LEGACY_NAMES.values())


def test_a_row_is_rejected_only_for_what_tells_events_apart() -> None:
    assert [field.name for field in FIELDS if field.is_required] == ["UserId", "SessionId", "EventStart", "EventType"]


def test_ids_are_whole_numbers_of_64_bits() -> None:
    for name in ("IndvId", "UserId", "SessionId", "PageId"):
        assert FIELDS_BY_NAME[name].duckdb_type == "BIGINT"


@pytest.mark.parametrize("field", EVENT_COLUMNS, ids=lambda field: field.name)
def test_every_column_is_described_in_a_sentence(field) -> None:  # type: ignore[no-untyped-def]
    assert field.description.endswith(".")
    assert field.type in DUCKDB_TYPES


def test_what_tells_who_somebody_is_is_marked_personal() -> None:
    personal = {field.name for field in EVENT_COLUMNS if field.is_personal}
    assert personal >= {
        "UserEmail",
        "UserAppKey",
        "UserDisplayName",
        "PageIp",
        "PageUrl",
        "EventTargetText",
        "CustomVars",
    }
