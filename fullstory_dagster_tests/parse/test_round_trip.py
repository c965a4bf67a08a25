"""Arbitrary rows: what goes in as JSON comes out of columns and CustomVars, or the row is rejected with its text."""

from __future__ import annotations

import json
import math
from collections import Counter
from contextlib import suppress
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fullstory_dagster.errors import BundleFormatError
from fullstory_dagster.fields import FIELDS, FIELDS_BY_NAME, LEGACY_NAMES
from fullstory_dagster.parse.bundle import BundleParser
from fullstory_dagster_tests.counts import count
from fullstory_dagster_tests.sample_events import DAY, event

texts = st.text(max_size=12)  # lone surrogates among them are left out by hypothesis and tested by themselves
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.integers(-(2**64), 2**64).map(str)
    | st.sampled_from(
        ["12", "1.50", "2026-06-01T12:00:00.123Z", "2026-06-01T14:00:00+02:00", "2026-02-30T00:00:00Z", "NaN", "{}"]
    )
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
names = (
    st.sampled_from([field.name for field in FIELDS] + list(LEGACY_NAMES))
    | st.sampled_from(["evt_a_str", "evt_A_str", "evt_order.id", "evt_order_id", "user_x_int", "page_x", "useremail"])
    | st.sampled_from(["_event_id", "CustomVars", "_window_start", "'; DROP TABLE events; --", ""])
    | texts
)
arbitrary_rows = st.dictionaries(names, values, max_size=10)
events = arbitrary_rows.map(lambda fields: event() | fields)


def same(got: Any, sent: Any) -> bool:
    """Equal as JSON: True is not 1, and 1 is not 1.0 where their texts differ."""
    return json.dumps(got, sort_keys=True) == json.dumps(sent, sort_keys=True)


def is_lossless_reading(column: str, got: Any, sent: Any) -> bool:
    """The readings that the design allows a column."""
    kind = FIELDS_BY_NAME[column].type
    if kind == "int64":
        # What was sent is the text of the number: a float beyond 2^53 is not what it says.
        said = Decimal(repr(sent)) if isinstance(sent, float) else sent
        return not isinstance(sent, bool) and (
            got == said or (isinstance(sent, str) and str(got) == sent.replace("-0", "0"))
        )
    if kind == "float64":
        return not isinstance(sent, bool) and got == float(sent) and math.isfinite(got)
    if kind == "string":
        return isinstance(got, str) and got == (sent if isinstance(sent, str) else json.dumps(sent))
    at = got.isoformat(timespec="milliseconds")
    return isinstance(sent, str) and (sent.startswith(at) or sent == "2026-06-01T14:00:00+02:00")


def check(row: dict[str, Any], *, indent: int | None, is_ascii: bool) -> None:
    content = json.dumps([row], indent=indent, ensure_ascii=is_ascii).encode()
    parser = BundleParser(DAY)
    (batch,) = parser.parse([content])
    counts = parser.counts
    assert counts.rows_in == 1 == counts.rows_kept + counts.rows_rejected + counts.rows_outside
    if counts.rows_rejected:
        check_rejected(row, batch.rejects["raw_text"].item())
    elif counts.rows_kept:
        check_kept(row, batch.rows.row(0, named=True))


def check_rejected(row: dict[str, Any], raw_text: str) -> None:
    """The reject keeps the row, and the row was one to reject."""
    assert same(json.loads(raw_text), row)
    required = [row.get(field.name) for field in FIELDS if field.is_required]
    assert any(
        value in (None, "") or not isinstance(value, int | str) or value != event()[name]
        for name, value in zip(("UserId", "SessionId", "EventStart", "EventType"), required, strict=True)
    )


def check_kept(row: dict[str, Any], kept: dict[str, Any]) -> None:
    """Every value of the row is in its column or in CustomVars, and nothing else is."""
    custom = json.loads(kept.pop("CustomVars") or "{}")
    assert len(kept.pop("_event_id")) == 32
    for name, sent in row.items():
        column = LEGACY_NAMES.get(name, name)
        if name in custom:
            assert same(custom[name], sent), name
        elif sent is None and name in FIELDS_BY_NAME:
            assert kept[name] is None or name in LEGACY_NAMES.values()
        else:
            assert is_lossless_reading(column, kept[column], sent), name
    invented = [name for name, value in kept.items() if value is not None and name not in row]
    assert all(old in row for name in invented for old, column in LEGACY_NAMES.items() if column == name)
    assert set(invented) <= set(LEGACY_NAMES.values())
    assert custom.keys() <= row.keys()


@pytest.mark.slow
@pytest.mark.soak
@settings(max_examples=count(400, full=5_000), suppress_health_check=[HealthCheck.too_slow])
@given(row=events, indent=st.sampled_from([None, 1]), is_ascii=st.booleans())
@example(row=event(PageDuration=1.0, PageId="12", EventCumulativeLayoutShift=2**53 + 1), indent=None, is_ascii=True)
@example(row=event(PageAgent="old", PageUserAgent=["new"]), indent=None, is_ascii=True)
@example(row=event(UserId="12", EventType=1.5, EventStart="2026-06-01T14:00:00+02:00"), indent=1, is_ascii=False)
def test_every_value_of_an_event_is_found_again(
    examples: Counter[str], row: dict[str, Any], indent: int | None, is_ascii: bool
) -> None:
    check(row, indent=indent, is_ascii=is_ascii)
    examples["arbitrary events, into columns and CustomVars and out again"] += 1


@settings(max_examples=150)
@given(row=arbitrary_rows)
def test_a_row_that_is_no_event_is_rejected_with_its_text(row: dict[str, Any]) -> None:
    check(row, indent=None, is_ascii=True)


@settings(max_examples=150)
@given(value=values)
def test_whatever_stands_where_a_row_should_is_counted(value: Any) -> None:
    parser = BundleParser(DAY)
    (batch,) = parser.parse([json.dumps([value]).encode()])
    assert parser.counts.rows_rejected == 1
    assert same(json.loads(batch.rejects["raw_text"].item()), value)


@pytest.mark.slow
@settings(max_examples=150)
@given(text=st.text(alphabet='"\\/ud8cDC0{}[]:,.e-+ \t\n1é\x00', max_size=24))
def test_duckdb_takes_for_json_whatever_the_parser_keeps(text: str) -> None:
    # The parser and DuckDB each have their own idea of JSON; a row between the two would fail the INSERT of its window.
    content = b"[" + json.dumps(event()).encode()[:-1] + b',"evt_x":' + text.encode() + b"}]"
    batches = []
    with suppress(BundleFormatError):  # the text may close the row and the array before their time
        batches.extend(BundleParser(DAY).parse([content]))
    with duckdb.connect() as connection:
        for batch in batches:
            for kept in batch.rows["CustomVars"]:
                connection.execute("SELECT ?::JSON", [kept])
