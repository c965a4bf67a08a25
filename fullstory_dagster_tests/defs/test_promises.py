"""A check of a model says in a sentence what it promises."""

from __future__ import annotations

from typing import Any

import pytest

from fullstory_dagster.defs.dbt.promises import promise_of


def test_of(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"description": "", "test_metadata": {"name": kind, "kwargs": {"model": "…"} | arguments}}


test_of.__test__ = False  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        (test_of("unique", column_name="key"), "No two rows share a key."),
        (test_of("not_null", column_name="key"), "Every row has a key."),
        (test_of("accepted_values", column_name="kind", values=["a", "b"]), "kind is one of a, b."),
        (
            test_of("relationships", column_name="session_key", to="ref('sessions')", field="session_key"),
            "Every session_key there is stands in sessions as well, as session_key.",
        ),
        (
            test_of("are_in_range", columns={"n": [1, None], "latitude": [-90, 90]}),
            "Every value there is lies within its bounds: n at least 1, latitude at least -90 and at most 90.",
        ),
        (test_of("starts_before", column_name="a", end_column="b"), "a is never after b."),
        (
            test_of("is_numbered_from_one", column_name="n", group_column="g"),
            "n is 1, 2, 3, … in each g, without a gap or a repeat.",
        ),
        ({"description": "Somebody's own words.", "test_metadata": None}, "Somebody's own words."),
    ],
)
def test_a_test_of_dbt_is_said_in_a_sentence(test: dict[str, Any], sentence: str) -> None:
    assert promise_of(test) == sentence


def test_a_test_that_nobody_knows_has_none() -> None:
    assert promise_of(test_of("somebody_s_own")) is None
    assert promise_of({"name": "a_singular_test"}) is None
