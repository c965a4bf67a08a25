"""Pieces that are read side by side come out in order, and what is odd about one is the business of no other."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullstory_dagster.errors import BundleFormatError
from fullstory_dagster.parse import framing
from fullstory_dagster.parse.bundle import BundleParser, read_one_by_one
from fullstory_dagster.parse.framing import open_pieces
from fullstory_dagster.parse.read_ahead import ReadAhead
from fullstory_dagster.windows import Window

DAY = Window(datetime(2026, 6, 1, tzinfo=timezone.utc), datetime(2026, 6, 2, tzinfo=timezone.utc))


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows a piece."""
    monkeypatch.setattr(framing, "_PIECE_BYTES", 600)


def row(n: int, text: str) -> dict[str, Any]:
    return {
        "UserId": n,
        "SessionId": 1,
        "EventStart": f"2026-06-01T00:00:{n % 60:02}.000Z",
        "EventType": "click",
        "EventTargetText": text,
    }


def chunks(content: bytes, size: int = 97) -> list[bytes]:
    return [content[at : at + size] for at in range(0, len(content), size)]


def parsed(content: bytes) -> tuple[pl.DataFrame, list[tuple[int, str]]]:
    batches = list(BundleParser(DAY).parse(chunks(content)))
    rejects = pl.concat([batch.rejects for batch in batches])
    return pl.concat([batch.rows for batch in batches]), rejects.select("position", "raw_text").rows()


# Rows that are cut in the wrong place where an array is taken for lines, and some that are no rows.
texts = st.sampled_from(["plain", "x" * 300, "a},{b", "a},\n{b", '"},\n{"', "\\", "ä"])
things = st.lists(st.one_of(texts, st.sampled_from([None, 7, {"a": [1]}])), min_size=1, max_size=40)


@given(things, st.sampled_from([",", ",\n", " ,"]), st.booleans())
def test_rows_come_in_order_and_each_once_wherever_an_odd_one_stands(
    said: list[Any], comma: str, is_array: bool
) -> None:
    rows = [row(n, text) if isinstance(text, str) else text for n, text in enumerate(["first", *said])]
    each = [json.dumps(r, separators=(",", ":"), ensure_ascii=False) for r in rows]
    content = f"[{comma.join(each)}]" if is_array else "\n".join(each)
    found, rejects = parsed(content.encode())
    expected, rejected = read_one_by_one([text.encode() for text in each], 0, keep_text=True)
    assert found.equals(expected.drop("_n_misfit"))
    assert rejects == [(position, text) for position, _, text, _ in rejected]


def test_a_bundle_that_breaks_off_gives_what_came_before_and_ends_its_threads() -> None:
    whole = json.dumps([row(n, "plain") for n in range(60)], separators=(",", ":")).encode()
    given = BundleParser(DAY).parse(chunks(whole[:-1]))
    heights: list[int] = []
    with pytest.raises(BundleFormatError, match="ends inside its JSON array"):
        heights.extend(batch.rows.height for batch in given)
    assert sum(heights) > 40
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_what_was_read_ahead_is_given_back_for_the_rows_of_an_odd_piece() -> None:
    # Some piece ends inside a text.
    rows = [row(n, "a},{b" * 9) for n in range(30)]
    content = json.dumps(rows, separators=(",", ":")).encode()
    found: list[int] = []
    with ReadAhead(open_pieces(chunks(content))) as reading:
        n_odd = 0
        while (given := reading.next_piece()) is not None:
            piece, read = given
            if read is None:
                n_odd += 1
                found += [json.loads(text)["UserId"] for text in reading.exact_rows(piece)]
            else:
                found += read["UserId"].to_list()
    assert found == list(range(30))
    assert n_odd >= 1
