"""Where one row ends and the next begins, however the bytes are cut."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullstory_dagster.errors import BundleFormatError
from fullstory_dagster.parse.framing import frame_rows

SIZES = [1, 2, 3, 5, 17, 64, 1 << 20]


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


def rows(content: bytes, size: int = 1 << 20) -> list[bytes]:
    return list(frame_rows(pieces(content, size)))


TRICKY = [
    {"a": 1},
    {},
    {"text": 'a },{ b ] [ \\ " \\" \\\\', "b": "\\"},
    {"nested": {"list": [1, [2, {"c": "]}"}]], "empty": []}, "after": "x"},
    {"{": "}", "[": "]", '\\"': ":"},
    {"unicode": "é 🎈 \u2028"},
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("is_ascii", [True, False])
def test_an_array_is_cut_into_its_elements(size: int, indent: int | None, is_ascii: bool) -> None:
    content = json.dumps(TRICKY, indent=indent, ensure_ascii=is_ascii).encode()
    assert [json.loads(row) for row in rows(content, size)] == TRICKY


@pytest.mark.parametrize("size", SIZES)
def test_ndjson_is_cut_into_its_lines(size: int) -> None:
    content = "".join(json.dumps(row) + "\n" for row in TRICKY).encode()
    assert [json.loads(row) for row in rows(content, size)] == TRICKY
    assert [json.loads(row) for row in rows(content.rstrip(b"\n"), size)] == TRICKY


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b'["a,b", "c]d", "e\\",f" , 1 ,null,\ttrue\r\n,{"a":1}]',
            [b'"a,b"', b'"c]d"', b'"e\\",f"', b"1", b"null", b"true", b'{"a":1}'],
        ),
        (b'[[1,[2]],{"a":1}]', [b"[1,[2]]", b'{"a":1}']),
        (b'[not json at all,{"a":1}]', [b"not json at all", b'{"a":1}']),
        (b'[{"a" 1},{"a":1}]', [b'{"a" 1}', b'{"a":1}']),
    ],
    ids=["scalars", "lists", "no JSON", "a row that is no JSON"],
)
def test_elements_that_are_no_rows_are_cut_out_whole(content: bytes, expected: list[bytes], size: int) -> None:
    # A text with a comma in it was once cut at the comma when a piece ended inside the text.
    assert rows(content, size) == expected


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("content", [b"[]", b" [ \r\n ] \n", b"\xef\xbb\xbf[]", b"", b"\n\r\n", b"\xef\xbb\xbf"])
def test_an_empty_bundle_has_no_rows(content: bytes, size: int) -> None:
    assert rows(content, size) == []


@pytest.mark.parametrize("size", SIZES)
def test_a_byte_order_mark_is_skipped(size: int) -> None:
    assert rows(b'\xef\xbb\xbf[{"a":1}]', size) == [b'{"a":1}']
    assert rows(b'\xef\xbb\xbf{"a":1}\n{"b":2}', size) == [b'{"a":1}', b'{"b":2}']
    assert rows(b'\xef\xbb\xbf \n {"a":1}', size) == [b'{"a":1}']


@pytest.mark.parametrize("size", SIZES)
def test_line_ends_of_windows_and_blank_lines_are_nothing(size: int) -> None:
    assert rows(b'{"a":1}\r\n\r\n{"b":2}\r\n \t\r\n', size) == [b'{"a":1}', b'{"b":2}']
    assert rows(b'[\r\n{"a":1}\r\n,\r\n{"b":2}\r\n]\r\n', size) == [b'{"a":1}', b'{"b":2}']


def test_a_line_that_is_no_object_is_a_row_for_the_parser_to_reject() -> None:
    assert rows(b'{"a":1}\nnull\n[1]\n{"b":') == [b'{"a":1}', b"null", b"[1]", b'{"b":']


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "cut", [b'[{"a":1}', b'[{"a":1},', b'[{"a":"x', b'[{"a":[1', b"[", b'["text', b"[12", b'[{"a":1},{"b":"\\']
)
def test_an_array_that_is_cut_is_refused_at_its_end(cut: bytes, size: int) -> None:
    with pytest.raises(BundleFormatError, match="ends inside its JSON array") as refused:
        rows(cut, size)
    assert refused.value.byte_offset == len(cut)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rest", [b"]", b'{"b":2}', b"[]", b"x"])
def test_what_stands_after_the_array_is_refused(rest: bytes, size: int) -> None:
    with pytest.raises(BundleFormatError, match="goes on after the end") as refused:
        rows(b'[{"a":1}]\n' + rest, size)
    assert refused.value.byte_offset == len(b'[{"a":1}]')


@pytest.mark.parametrize(
    ("content", "offset"),
    [(b'[{"a":1}{"b":2}]', 8), (b'[,{"a":1}]', 1), (b'[{"a":1},,{"b":2}]', 9), (b'[{"a":1}}]', 8)],
)
def test_elements_without_one_comma_between_them_are_refused(content: bytes, offset: int) -> None:
    with pytest.raises(BundleFormatError, match="should be") as refused:
        rows(content, 3)
    assert refused.value.byte_offset == offset


@pytest.mark.parametrize(
    "content", [b"<!doctype html><html>", b'"text"', b"UserId,SessionId\n1,2\n", b"\x1f\x8b", b"null"]
)
def test_what_is_neither_array_nor_ndjson_is_refused_with_its_first_byte(content: bytes) -> None:
    with pytest.raises(BundleFormatError, match="neither a JSON array nor NDJSON") as refused:
        rows(content)
    assert f"first byte is {content[:1]!r}." in str(refused.value)
    assert refused.value.byte_offset == 0


def test_rows_come_before_the_end_is_known_to_be_broken() -> None:
    framed = frame_rows([b'[{"a":1},{"b":2}', b"oops"])
    assert next(framed) == b'{"a":1}'
    assert next(framed) == b'{"b":2}'
    with pytest.raises(BundleFormatError):
        next(framed)


@pytest.mark.parametrize("is_array", [True, False])
def test_a_row_of_many_pieces_costs_a_few_readings_of_it(is_array: bool) -> None:
    row = b'{"text":"' + b"x\\n" * 2_000_000 + b'"}'
    started = time.process_time()
    assert rows(b"[" + row + b"]" if is_array else row + b"\n", 4096) == [row]
    # A quadratic reading of 1,500 pieces takes a minute.
    assert time.process_time() - started < 5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(values=st.lists(json_values, max_size=6), size=st.integers(1, 40), indent=st.sampled_from([None, 0, 1]))
def test_any_array_comes_apart_into_its_values(values: list[object], size: int, indent: int | None) -> None:
    content = json.dumps(values, indent=indent).encode()
    assert [json.loads(row) for row in rows(content, size)] == values


@pytest.mark.parametrize(
    "content",
    [b"ann@one.test,1,2", b'[{"a": 1} ann@one.test]', b"[,ann@one.test]", b'[{"a": 1}] ann@one.test', b"[ann@one.test"],
    ids=["no JSON", "no comma", "no row", "more than the array", "cut"],
)
def test_a_refusal_quotes_nothing_that_a_person_may_have_typed(content: bytes) -> None:
    # The sentence goes into the attempt log, which nobody searches when a person is erased.
    with pytest.raises(BundleFormatError) as refused:
        list(frame_rows([content]))
    assert not re.search("ann|one.test", str(refused.value))
