"""Events that share an id are told apart, the same way in whatever order and pieces they come."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fullstory_dagster.parse import twins as module
from fullstory_dagster.parse.bundle import BATCH_SCHEMA
from fullstory_dagster.parse.identity import twin_id
from fullstory_dagster.parse.rows import read_row
from fullstory_dagster.parse.twins import TwinNumbering, number_twins

PLAIN = {"UserId": 5189870820212736, "SessionId": 1, "EventStart": "2026-06-01T00:00:00.000Z", "EventType": "load"}
MIDNIGHT = datetime(2026, 6, 1)  # noqa: DTZ001 (UTC without zone, as in the column)


def batch(columns: dict[str, list[str | None]]) -> pl.DataFrame:
    """Rows of which only some columns hold anything."""
    return pl.concat([pl.DataFrame(schema=BATCH_SCHEMA), pl.DataFrame(columns)], how="diagonal_relaxed")


def twins(contents: list[str | None]) -> dict[str | None, str]:
    """Ids of rows that share one, by what else they hold."""
    rows = batch({"_event_id": ["same"] * len(contents) + ["other"], "CustomVars": [*contents, "{}"]})
    renamed = number_twins(rows.with_row_index("_row"))
    ids = rows["_event_id"].to_list()
    for row, new_id in renamed.iter_rows():
        ids[row] = new_id
    assert ids[-1] == "other"
    assert len(set(ids)) == len(ids)
    return dict(zip(contents, ids[:-1], strict=True))


def test_twins_are_numbered_the_same_in_whatever_order_they_come() -> None:
    contents = ['{"user_a":1}', '{"user_a":2}', None, '{"user_b":1}']
    expected = twins(contents)
    assert set(expected.values()) == {"same", *(twin_id("same", n) for n in (1, 2, 3))}
    shuffled = list(contents)
    for seed in range(5):
        random.Random(seed).shuffle(shuffled)
        assert twins(list(shuffled)) == expected


def test_twins_are_numbered_the_same_in_whatever_order_their_variables_stand() -> None:
    def kept(*variables: str) -> list[str | None]:
        return [read_row(f"{json.dumps(PLAIN)[:-1]},{each}}}".encode()).custom_vars for each in variables]

    written = twins(kept('"user_a":1,"user_b":"y"', '"user_a":2,"user_b":"x"'))
    rewritten = twins(kept('"user_b":"y","user_a":1', '"user_b":"x","user_a":2'))
    assert list(written.values()) == list(rewritten.values())


def test_the_name_of_an_export_does_not_number_twins() -> None:
    contents: list[str | None] = ['{"user_a":1}', '{"user_a":2}']
    numbered = [
        number_twins(
            batch({"_event_id": ["same"] * 2, "CustomVars": contents, "_export_id": exports}).with_row_index("_row")
        )
        for exports in (["a", "b"], ["b", "a"])
    ]
    assert numbered[0].equals(numbered[1])


def test_twins_that_agree_in_everything_all_get_an_id() -> None:
    rows = batch({"_event_id": ["same"] * 3})
    renamed = number_twins(rows.with_row_index("_row"))
    assert sorted(renamed.rows()) == [(1, twin_id("same", 1)), (2, twin_id("same", 2))]


def test_without_twins_nothing_is_renamed() -> None:
    assert number_twins(batch({"_event_id": ["a", "b"]}).with_row_index("_row")).is_empty()


def numbered_whole(rows: pl.DataFrame) -> list[str]:
    new_ids = number_twins(rows.with_row_index("_row"))
    ids = rows["_event_id"]
    return ids.scatter(new_ids["_row"], new_ids["_event_id"]).to_list()


def numbered_in_pieces(rows: pl.DataFrame, sizes: list[int]) -> tuple[list[str], bool]:
    """The ids, and whether all of the rows had to be written again for them."""
    numbering, batches, at = TwinNumbering(), [], 0
    for size in [*sizes, rows.height]:
        batches.append(rows.slice(at, size))
        at += size
    written = pl.concat([rows.clear(), *numbering.number(batches)])
    renumbered = numbering.renumber(written.lazy())
    if renumbered is None:
        assert written.drop("_event_id").equals(rows.drop("_event_id"))
        return written["_event_id"].to_list(), False
    final = pl.concat(list(renumbered))
    assert final.drop("_event_id").equals(rows.drop("_event_id"))
    return final["_event_id"].to_list(), True


events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), max_size=30)


@given(events, st.lists(st.integers(0, 8), max_size=8))
def test_in_whatever_pieces_they_come_twins_get_the_ids_of_the_whole_window(
    said: list[tuple[int, int, int]], sizes: list[int]
) -> None:
    # An id says when its event was, but nothing here may depend on it.
    rows = pl.DataFrame(
        [(str(name), MIDNIGHT + timedelta(seconds=second), f"{rest}") for name, second, rest in said],
        schema={"_event_id": pl.String, "EventStart": pl.Datetime("us"), "CustomVars": pl.String},
        orient="row",
    )
    rows = pl.concat([pl.DataFrame(schema=BATCH_SCHEMA), rows], how="diagonal_relaxed")
    assert numbered_in_pieces(rows, sizes)[0] == numbered_whole(rows)


def test_twins_that_a_piece_ends_between_are_numbered_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[str | None] = ["a", "b", "b", "b", "c"]
    starts = [MIDNIGHT + timedelta(seconds=n) for n in (0, 1, 1, 1, 2)]
    rows = batch({"_event_id": ids}).with_columns(EventStart=pl.Series(starts))
    found, is_written_again = numbered_in_pieces(rows, [2, 1, 1])
    assert (found, is_written_again) == (["a", "b", twin_id("b", 1), twin_id("b", 2), "c"], False)
    # More of one instant than is held back.
    monkeypatch.setattr(module, "_MAX_HELD", 1)
    monkeypatch.setattr(module, "_SLICE_ROWS", 2)
    assert numbered_in_pieces(rows, [2, 1, 1]) == (found, True)
