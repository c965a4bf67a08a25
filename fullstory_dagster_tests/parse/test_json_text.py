"""The text of JSON values, as it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullstory_dagster.parse.json_text import depth, object_items, object_text, scalar_text

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=6,
)


@given(document=st.dictionaries(st.text(), values, max_size=6), indent=st.sampled_from([None, 1]), ascii=st.booleans())
def test_an_object_comes_apart_and_together_again(document: dict[str, Any], indent: int | None, ascii: bool) -> None:
    items = object_items(json.dumps(document, indent=indent, ensure_ascii=ascii).encode())
    assert [(name, json.loads(value)) for name, value in items] == list(document.items())
    text = object_text(items)
    assert (json.loads(text) if text else {}) == document


def test_values_keep_their_text_and_doubled_names_are_seen_twice() -> None:
    text = b'{ "a" : 1.50 , "a":[1, 2.0],\n"b" :{"a":": , }"}, "\\u0061":null }'
    assert object_items(text) == [("a", b"1.50"), ("a", b"[1, 2.0]"), ("b", b'{"a":": , }"}'), ("a", b"null")]


def test_no_items_are_no_object() -> None:
    assert object_text([]) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'"a\\u00e9\\n"', "aé\n"),
        (b"1.50", "1.50"),
        (b"true", "true"),
        (b"null", ""),
        (b'""', ""),
        (b'[1, "a"]', '[1,"a"]'),
        (b'{ "a" : 1 }', '{"a":1}'),
    ],
)
def test_a_value_as_text(value: bytes, text: str) -> None:
    assert scalar_text(value) == text


@pytest.mark.parametrize(("text", "levels"), [(b"1", 0), (b'{"a":"[[["}', 1), (b"[[],[[]]]", 3), (b'{"a":[{}]}', 3)])
def test_depth_counts_brackets_outside_texts(text: bytes, levels: int) -> None:
    assert depth(text) == levels
