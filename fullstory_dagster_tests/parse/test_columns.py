"""Many rows at once: the same result as one value at a time, or none at all."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fullstory_dagster.fields import FIELDS
from fullstory_dagster.parse.bundle import BundleParser, read_one_by_one
from fullstory_dagster.parse.columns import ColumnReader
from fullstory_dagster_tests.counts import count
from fullstory_dagster_tests.sample_events import DAY, event

from .test_round_trip import names, values


def compact(row: dict[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False)


def read(*texts: str, reader: ColumnReader | None = None) -> pl.DataFrame | None:
    return (reader or ColumnReader()).read("\n".join(texts).encode("utf-8", "surrogatepass"))


def one_by_one(*texts: str) -> pl.DataFrame:
    rows, rejects = read_one_by_one([text.encode("utf-8", "surrogatepass") for text in texts], 0, keep_text=True)
    assert not rejects, "what is read at once holds no reject"
    assert rows["_n_misfit"].sum() == 0, "what is read at once holds no misfit"
    return rows.drop("_n_misfit")


def check(*texts: str) -> bool:
    """Whether the rows were read at once; if so, as they are one by one."""
    got = read(*texts)
    if got is None:
        return False
    expected = one_by_one(*texts)
    assert got.columns == expected.columns
    assert got.schema == expected.schema
    assert got.equals(expected)
    return True


PLAIN = [
    event(),
    event(PageName="", PageUrl='https://x.test/?a="b":c', EventTargetText='says "x": "y", {"a":null}', PageDuration=7),
    event(EventCumulativeLayoutShift=0.1, PageStart="2026-06-01T11:59:59.001Z", IndvId=2**62, ReqStatus=-1),
    event(PageName=None, PageDuration=None, evt_null_str=None, page_x_str="y", user_list_strs=["a", {"b": None}]),
    event(evt_a_str="x", evt_A_str="y", evt_n_int=0, **{"evt_order.id": 1.5, "evt_order_id": True, "évt": "é🎈"}),
    event(PageAgent="old", EventTargetSelectorTok="div .form%2Dcontrol"),
    event(EventTargetSelector="a%20b%zz", EventTargetText="line\nbreak\ttab\\ \u0000 \u2028"),
    event(evt_text_str='a, b: "c" \\', evt_empty_str="", evt_list_strs=["a, b", ""], evt_o={"é": [None, {"b": "ü"}]}),
    event(EventTargetText=":", PageName=":x", evt_colon_str=":y", evt_list_strs=[":", '":', ": "]),
]


@pytest.mark.parametrize("row", PLAIN, ids=range(len(PLAIN)))
def test_a_plain_row_is_read_at_once_as_it_is_one_by_one(row: dict[str, Any]) -> None:
    # A text that begins with a colon may be left to the other reader; nothing else of these.
    assert check(compact(row)) or row is PLAIN[-1]


def test_blanks_in_a_variable_are_no_part_of_the_identity() -> None:
    spaced = compact(event())[:-1] + ',"evt_list_strs":[ "a, b" ,"c"],"evt_o":{"a": 1, "b":[ ]}}'
    plain = compact(event(evt_list_strs=["a, b", "c"], evt_o={"a": 1, "b": []}))
    assert check(spaced, plain)
    got = read(spaced, plain)
    assert got is not None
    assert got["_event_id"].n_unique() == 1


def test_plain_rows_are_read_together() -> None:
    assert check(*(compact(row) for row in PLAIN[:-1] * 3))


ODD = {
    "a number as text": compact(event(PageDuration="12")),
    "a whole number with a point": compact(event(PageDuration=1.0)),
    "a number that is none": compact(event(PageDuration=True)),
    "a number where text is due": compact(event(PageName=1.5)),
    "true where text is due": compact(event(PageName=True)),
    "a list where text is due": compact(event(PageName=["a"])),
    "an object where text is due": compact(event(PageName={"a": 1})),
    "a number that is too large": compact(event(PageDuration=2**63)),
    "1e400": compact(event(evt_x=1)).replace('"evt_x":1', '"evt_x":1e400'),
    "a column twice": compact(event(PageName="b"))[:-1] + ',"PageName":"c"}',
    "a variable twice": compact(event(evt_x=1))[:-1] + ',"evt_x":2}',
    "a null and a value of one column": compact(event(PageName=None))[:-1] + ',"PageName":"c"}',
    "two nulls of one column": compact(event(PageName=None))[:-1] + ',"PageName":null}',
    "half a surrogate pair": compact(event())[:-1] + ',"evt_x":"\\ud800"}',
    "half a surrogate pair in a column": compact(event())[:-1] + ',"PageName":"\\ud83d"}',
    "no user": compact({k: v for k, v in event().items() if k != "UserId"}),
    "an empty type": compact(event(EventType="")),
    "a time in another zone": compact(event(EventStart="2026-06-01T14:00:00.000+02:00")),
    "a time to the second": compact(event(EventStart="2026-06-01T12:00:00Z")),
    "a finer time": compact(event(EventStart="2026-06-01T12:00:00.000001Z")),
    "a day that is none": compact(event(PageStart="2026-02-30T12:00:00.000Z")),
    "a 61st second": compact(event(PageStart="2026-02-20T12:00:60.000Z")),
    "an older and a modern name": compact(event(PageAgent="old", PageUserAgent="new")),
    "an older name with null": compact(event(PageAgent=None)),
    "an older name with a number": compact(event(PageAgent=5)),
    "deep nesting": compact(event())[:-1] + ',"evt_x":' + "[" * 600 + "]" * 600 + "}",
    "no object": "[1]",
    "a number": "17",
    "null": "null",
    "cut": compact(event())[:-1],
    "two rows on a line": compact(event()) + compact(event()),
    "a name that ends in a backslash": compact(event(**{"evt\\": 1})),
    "a blank before a colon": compact(event()).replace('"UserId":', '"UserId" :'),
    "a tab before a colon": compact(event()).replace('"UserId":', '"UserId"\t:'),
    "two blanks before a colon": compact(event()).replace('"UserId":', '"UserId"  :'),
    "blanks before a colon that a text makes up for": compact(event(evt_x=":")).replace('"evt_x":', '"evt_x"  :'),
    "NaN": compact(event())[:-1] + ',"evt_x":NaN}',
    "a control character": compact(event())[:-1] + ',"evt_x":"\x01"}',
    "a leading zero": compact(event())[:-1] + ',"evt_x":01}',
    "nothing": "",
}


@pytest.mark.parametrize("name", ODD)
def test_a_row_that_is_not_plain_is_left_to_the_other_reader(name: str) -> None:
    assert read(ODD[name]) is None
    assert read(compact(event()), ODD[name], compact(event())) is None


@pytest.mark.parametrize("name", ["a number where text is due", "a column twice", "a variable twice", "NaN"])
@pytest.mark.parametrize("other", [PLAIN[-1], PLAIN[1], PLAIN[3], PLAIN[6]])
def test_what_is_odd_is_not_made_up_for_by_other_rows(name: str, other: dict[str, Any]) -> None:
    # Texts full of what the counting looks for stand beside it.
    for n in range(4):
        assert read(*[compact(other)] * n, ODD[name]) is None


@pytest.mark.slow
@pytest.mark.soak
@settings(max_examples=count(600, full=10_000), suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(st.dictionaries(names, values, max_size=6).map(lambda more: event() | more), max_size=4))
@example(rows=[event(PageName=":x"), event(PageDuration=None)])
def test_any_rows_read_at_once_are_as_they_are_one_by_one(examples: Counter[str], rows: list[dict[str, Any]]) -> None:
    check(*map(compact, rows))
    examples["arbitrary rows, read at once as one by one"] += 1


fragments = st.sampled_from(
    ['"', '":', '":"', '":null', '\\"', "\\\\", ":", ",", "null", "[", "]", "{", "}", " ", "a", "\\u0041", "1", "1.50"]
)


@pytest.mark.slow
@pytest.mark.soak
@settings(max_examples=count(1500, full=30_000))
@given(texts=st.lists(st.lists(fragments, max_size=8).map("".join), min_size=1, max_size=3), is_name=st.booleans())
def test_no_text_deceives_the_counting(examples: Counter[str], texts: list[str], is_name: bool) -> None:
    # Spliced in as it is: it may close the text it stands in, double a name, or be no JSON at all.
    plain = compact(event(PageName="a"))
    rows = [plain[:-1] + (f',"{text}":1}}' if is_name else f',"evt_x":"{text}"}}') for text in texts]
    got = read(plain, *rows)
    if got is not None:
        assert got.equals(one_by_one(plain, *rows))
    examples["texts that look like JSON, read at once as one by one or not at all"] += 1


damage = st.one_of(
    st.binary(min_size=1, max_size=2).filter(lambda damage: b"\n" not in damage),
    st.sampled_from(rb'null \u0000 \ud800 \u00 \x41 1e5 -0 01 1. .5 +1 NaN "" , "a":1, {} [] } /**/'.split()),
    st.sampled_from([b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"]),
)


@pytest.mark.slow
@pytest.mark.soak
@settings(max_examples=count(1500, full=30_000))
@given(at=st.integers(min_value=0), damage=damage, n_replaced=st.integers(0, 6))
@example(at=0, damage=b"\x1f\x8b", n_replaced=0)
@example(at=0, damage=b"\x28\xb5\x2f\xfd", n_replaced=0)
def test_no_damage_to_a_row_without_variables_goes_unseen(
    examples: Counter[str], at: int, damage: bytes, n_replaced: int
) -> None:
    # There polars is the only one who reads the row.
    plain = compact(event(PageName='a "b" é', EventCumulativeLayoutShift=0.1, ReqStatus=-1)).encode()
    at %= len(plain)
    text = plain[:at] + damage + plain[at + n_replaced :]
    got = ColumnReader().read(text)
    if got is not None:
        rows, rejects = read_one_by_one([text], 0, keep_text=True)
        assert not rejects
        assert got.equals(rows.drop("_n_misfit"))
    examples["damaged rows without variables, read at once as one by one or not at all"] += 1


def test_names_are_learnt_as_they_come_and_kept_in_their_order() -> None:
    reader = ColumnReader()
    for row in (event(evt_b=1), event(evt_a=2, evt_b=3), event(evt_c=4, evt_a=5)):
        assert read(compact(row), reader=reader) is not None
    assert reader.names == ["evt_a", "evt_b", "evt_c"]
    got = read(compact(event(evt_c=1, evt_a=2)), reader=reader)
    assert got is not None
    assert got["CustomVars"].item() == '{"evt_a":2,"evt_c":1}'


def test_two_thousand_names_are_read_at_once_and_endlessly_many_are_not() -> None:
    rows = [compact(event(**{f"evt_{n}_{k}": k for k in range(500)})) for n in range(20)]
    assert check(*rows[:4])
    assert read(*rows) is None


def shuffled(rows: list[str], seed: int) -> list[str]:
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    return rows


@pytest.mark.parametrize("form", ["lines", "array", "array on lines", "array with blanks"])
def test_odd_rows_among_plain_ones_cost_no_row_and_no_order(form: str) -> None:
    odd = [text for name, text in ODD.items() if name not in ("nothing", "two rows on a line", "cut")]
    texts = shuffled([*odd, *(compact(event(PageId=n)) for n in range(3000))], 1)
    content = {
        "lines": "\n".join(texts),
        "array": f"[{','.join(texts)}]",
        "array on lines": "[" + ",\n".join(texts) + "]\n",
        "array with blanks": "[ " + " ,\n ".join(texts) + " ]",
    }[form].encode()
    parser = BundleParser(DAY)
    batches = list(parser.parse(content[at : at + 50_000] for at in range(0, len(content), 50_000)))
    rows = pl.concat([batch.rows for batch in batches])
    rejects = pl.concat([batch.rejects for batch in batches])
    expected, expected_rejects = read_one_by_one([text.encode() for text in texts], 0, keep_text=True)
    assert rows.equals(expected.drop("_n_misfit"))
    assert rejects.rows() == expected_rejects
    assert parser.counts.values_misfit == expected["_n_misfit"].sum()
    assert parser.counts.rows_in == len(texts)


def test_every_field_is_read_at_once() -> None:
    values = {
        "int64": 2**60 + 1,
        "float64": 0.30000000000000004,
        "string": "text",
        "timestamp": "2026-06-01T12:00:00.123Z",
    }
    assert check(compact({field.name: values[field.type] for field in FIELDS}))
