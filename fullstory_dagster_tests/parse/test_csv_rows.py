"""CSV to rows of texts."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from fullstory_dagster.errors import BundleFormatError
from fullstory_dagster.parse.csv_rows import frame_csv_rows

SIZES = [1, 2, 3, 7, 1 << 20]


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def rows(content: str | bytes, size: int = 1 << 20) -> list[object]:
    packed = content if isinstance(content, bytes) else content.encode()
    return [json.loads(row) for row in frame_csv_rows(pieces(packed, size))]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_cells_are_texts_and_empty_ones_are_absent(size: int, line_end: str) -> None:
    content = line_end.join(["UserId,PageUrl,evt_price_real", "12,,1.50", ",é🎈,"]) + line_end
    assert rows(content, size) == [{"UserId": "12", "evt_price_real": "1.50"}, {"PageUrl": "é🎈"}]


@pytest.mark.parametrize("size", SIZES)
def test_quotes_commas_and_line_breaks_inside_a_cell_are_kept(size: int) -> None:
    content = 'a,b\n"x,""y""","one\ntwo\r\nthree"\n" ",\u2028\x0b\n'
    assert rows(content, size) == [{"a": 'x,"y"', "b": "one\ntwo\r\nthree"}, {"a": " ", "b": "\u2028\x0b"}]


def test_a_record_of_another_length_is_a_list_for_the_parser_to_reject() -> None:
    assert rows("a,b\n1,2\n1\n1,2,3\n3,4\n") == [{"a": "1", "b": "2"}, ["1"], ["1", "2", "3"], {"a": "3", "b": "4"}]


@pytest.mark.parametrize("size", SIZES)
def test_a_byte_order_mark_and_blank_lines_are_nothing(size: int) -> None:
    assert rows(b"\xef\xbb\xbfa,b\n1,2\n\n", size) == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize("content", ["", "a,b\n", "a,b"])
def test_an_export_without_events_has_no_rows(content: str) -> None:
    assert rows(content) == []


def test_a_header_that_names_a_field_twice_is_refused() -> None:
    with pytest.raises(BundleFormatError, match="names a field twice"):
        rows("a,b,a\n1,2,3\n")


@pytest.mark.parametrize("content", [b'a,b\n1,"2', b'a,b\n1,"2"x\n', b"a,b\n1,\xff\n"])
def test_what_is_no_csv_is_refused_with_its_line(content: bytes) -> None:
    with pytest.raises(BundleFormatError, match="no CSV after line"):
        rows(content, 3)


def test_a_cell_may_be_long() -> None:
    assert rows("a\n" + "x" * 3_000_000 + "\n", 65536) == [{"a": "x" * 3_000_000}]
