"""The bytes of an export file, without a server."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from fullstory_dagster.simulator.events import Row
from fullstory_dagster.simulator.formats import ALL_FIELDS, FieldChoice, Format, pack

ROWS: list[Row] = [
    {"UserId": 2**60, "EventType": "click", "evt_price_real": msgspec.Raw(b"49.90"), "user_plan_str": ""},
    {
        "UserId": 2**60 + 1,
        "EventType": "custom",
        "evt_is_gift_bool": True,
        "evt_note_str": None,
        "page_tags_strs": ["a", "b"],
    },
]


def unpacked(file_format: Format, choice: FieldChoice = ALL_FIELDS, rows: list[Any] = ROWS) -> bytes:
    def again() -> Iterator[Row | msgspec.Raw]:
        return iter(rows)

    return gzip.decompress(pack(again, file_format, choice))


def test_an_array_and_ndjson_have_a_row_a_line_and_no_blanks() -> None:
    first = b'{"UserId":1152921504606846976,"EventType":"click","evt_price_real":49.90,"user_plan_str":""}'
    array, lines = unpacked("FORMAT_JSON"), unpacked("FORMAT_NDJSON")
    assert array.startswith(b"[" + first + b",\n{")
    assert array.endswith(b'"page_tags_strs":["a","b"]}]')
    assert lines == array[1:-1].replace(b",\n", b"\n") + b"\n"


def test_no_rows_are_an_empty_array_an_empty_file_or_a_header() -> None:
    assert unpacked("FORMAT_JSON", rows=[]) == b"[]"
    assert unpacked("FORMAT_NDJSON", rows=[]) == b""
    assert unpacked("FORMAT_CSV", FieldChoice(("UserId", "EventType")), rows=[]) == b"UserId,EventType\n"


def test_more_rows_than_one_write_takes_are_all_there() -> None:
    rows = [{"UserId": number} for number in range(1201)]
    assert msgspec.json.decode(unpacked("FORMAT_JSON", rows=rows)) == rows
    assert len(unpacked("FORMAT_NDJSON", rows=rows).splitlines()) == 1201


def test_a_csv_cell_is_text_as_it_is_and_everything_else_as_json() -> None:
    choice = FieldChoice(("UserId", "evt_*", "page_*", "user_*"))
    assert unpacked("FORMAT_CSV", choice).decode().splitlines() == [
        "UserId,evt_is_gift_bool,evt_note_str,evt_price_real,page_tags_strs,user_plan_str",
        "1152921504606846976,,,49.90,,",
        '1152921504606846977,true,,,"[""a"",""b""]",',
    ]


def test_the_same_rows_are_the_same_bytes_whenever_they_are_packed() -> None:
    packed = pack(lambda: iter(ROWS), "FORMAT_JSON", ALL_FIELDS)
    assert packed == pack(lambda: iter(ROWS), "FORMAT_JSON", ALL_FIELDS)
    assert packed[4:8] == b"\0\0\0\0", "the gzip header names no time"


def test_a_row_that_is_no_object_is_kept_in_json_and_has_no_place_in_csv() -> None:
    rows = [msgspec.Raw(b"17"), {"UserId": 1}]
    assert unpacked("FORMAT_NDJSON", rows=rows) == b'17\n{"UserId":1}\n'
    assert unpacked("FORMAT_CSV", FieldChoice(("UserId",)), rows=rows) == b"UserId\n1\n"


@pytest.mark.parametrize(
    ("names", "word"), [(("EventType", "EventType"), "more than once"), (("Eventtype",), "unknown")]
)
def test_a_choice_of_fields_that_makes_no_sense_is_refused(names: tuple[str, ...], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        FieldChoice(names)
