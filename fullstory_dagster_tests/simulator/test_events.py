"""Events of a file: their order, their days, and rows that are broken."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import msgspec
import pytest

from fullstory_dagster.simulator.events import FileSource

LONG_AGO, FAR_OFF = datetime(1990, 1, 1, tzinfo=timezone.utc), datetime(2990, 1, 1, tzinfo=timezone.utc)


def source(tmp_path: Path, content: str) -> FileSource:
    path = tmp_path / "events.json"
    path.write_text(content)
    return FileSource(path)


def test_events_come_by_their_start_and_equal_ones_in_the_files_order(tmp_path: Path) -> None:
    events = source(
        tmp_path,
        '{"n":1,"EventStart":"2026-06-02T10:00:00Z"}\n\n'
        '{"n":2,"EventStart":"2026-06-01T10:00:00.000Z"}\n'
        '{"n":3,"EventStart":"2026-06-01T12:00:00+02:00"}\n',
    )
    assert [row["n"] for row in events.events(LONG_AGO, FAR_OFF) if isinstance(row, dict)] == [
        msgspec.Raw(b"2"),
        msgspec.Raw(b"3"),
        msgspec.Raw(b"1"),
    ]


def test_the_span_is_the_whole_days_of_the_file(tmp_path: Path) -> None:
    span = source(tmp_path, '[{"EventStart":"2026-06-01T23:59:59.999Z"},{"EventStart":"2026-06-03T00:00:00Z"}]').span()
    assert span is not None
    assert str(span) == "2026-06-01 00:00 to 2026-06-04 00:00 UTC"
    assert source(tmp_path, "[]").span() is None


def test_a_row_without_a_readable_start_stays_with_the_row_before_it(tmp_path: Path) -> None:
    events = source(
        tmp_path,
        '["first",{"n":1,"EventStart":"2026-06-01T10:00:00Z"},{"n":2,"EventStart":"soon"},{"n":3},null,'
        '{"n":4,"EventStart":"2026-06-05T10:00:00Z"}]',
    )
    june_1 = list(events.events(LONG_AGO, datetime(2026, 6, 2, tzinfo=timezone.utc)))
    assert len(june_1) == 5
    assert [row for row in june_1 if isinstance(row, msgspec.Raw)] == [msgspec.Raw(b'"first"'), msgspec.Raw(b"null")]


@pytest.mark.parametrize("content", ['[{"a":1}', '{"a":1}\n{"b"', "plain words"])
def test_a_file_that_is_neither_array_nor_ndjson_is_named(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r"events\.json is neither"):
        source(tmp_path, content)
