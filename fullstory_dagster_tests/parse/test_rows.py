"""One row: every typing rule of the design, and what is rejected."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from fullstory_dagster.fields import EVENT_COLUMNS, FIELDS
from fullstory_dagster.parse.rows import Row, RowRejectedError, read_row

REQUIRED = b'"UserId":5189870820212736,"SessionId":2,"EventStart":"2026-06-01T00:00:00.000Z","EventType":"click"'
NAMES = [field.name for field in FIELDS]


def row_with(members: bytes) -> Row:
    return read_row(b"{" + REQUIRED + b"," + members + b"}")


def column(row: Row, name: str) -> Any:
    return row.values[NAMES.index(name)]


def custom_vars(row: Row) -> str:
    return row.custom_vars or "{}"


KEPT_WHOLE = [
    # name, value as sent, value in the column
    ("PageDuration", b"12", 12),
    ("PageDuration", b'"12"', 12),
    ("PageDuration", b'"-12"', -12),
    ("PageDuration", b"1.0", 1),
    ("PageDuration", b"1e3", 1000),
    ("PageDuration", b"120e-1", 12),
    ("PageDuration", b"-0", 0),
    ("PageDuration", b"9223372036854775807", 2**63 - 1),
    ("PageDuration", b"-9223372036854775808", -(2**63)),
    ("PageDuration", b'"9223372036854775807"', 2**63 - 1),
    ("PageDuration", b"9223372036854775807.0", 2**63 - 1),
    ("PageId", b"9007199254740993", 2**53 + 1),
    ("PageDuration", b"null", None),
    ("PageName", b"null", None),
    ("PageName", b'""', ""),
    ("PageName", b"12", "12"),
    ("PageName", b"1.50", "1.50"),
    ("PageName", b"true", "true"),
    ("PageName", b'"a\\u0000b\\n\\ud83c\\udf88"', "a\0b\n🎈"),
    ("EventCumulativeLayoutShift", b"0.25", 0.25),
    ("EventCumulativeLayoutShift", b"1", 1.0),
    ("EventCumulativeLayoutShift", b'"0.25"', 0.25),
    ("UserCreated", b'"2026-06-01T12:00:00.123Z"', "2026-06-01T12:00:00.123Z"),
    ("UserCreated", b'"2026-06-01T12:00:00Z"', "2026-06-01T12:00:00.000Z"),
    ("UserCreated", b'"2026-06-01T12:00:00.5z"', "2026-06-01T12:00:00.500Z"),
    ("UserCreated", b'"2026-06-01 12:00:00.123456Z"', "2026-06-01T12:00:00.123456Z"),
    ("UserCreated", b'"2026-06-01T12:00:00.123456000Z"', "2026-06-01T12:00:00.123456Z"),
    ("UserCreated", b'"2026-06-01T14:00:00.123+02:00"', "2026-06-01T12:00:00.123Z"),
    ("UserCreated", b'"2026-05-31T18:30:00-0530"', "2026-06-01T00:00:00.000Z"),
    ("UserCreated", b'"2024-02-29T00:00:00.000Z"', "2024-02-29T00:00:00.000Z"),
]


@pytest.mark.parametrize(("name", "value", "expected"), KEPT_WHOLE)
def test_a_value_that_loses_nothing_is_in_its_column_and_nowhere_else(
    name: str, value: bytes, expected: object
) -> None:
    row = row_with(b'"%b":%b' % (name.encode(), value))
    got = column(row, name)
    assert (got, type(got)) == (expected, type(expected))
    assert row.custom_vars is None
    assert row.n_misfit == 0


MISFITS = [
    ("PageDuration", b"1.5"),
    ("PageDuration", b'"1.0"'),
    ("PageDuration", b'"1.5"'),
    ("PageDuration", b'"012"'),
    ("PageDuration", b'" 12"'),
    ("PageDuration", '"١٢"'.encode()),
    ("PageDuration", b'"twelve"'),
    ("PageDuration", b'""'),
    ("PageDuration", b"true"),
    ("PageDuration", b"9223372036854775808"),
    ("PageDuration", b"1" * 400),
    ("PageDuration", b"1e400"),
    ("PageDuration", b"1e-400"),
    ("PageDuration", b"1e999999999"),
    ("PageDuration", b"[1]"),
    ("PageDuration", b'{"a":1}'),
    ("PageName", b'["a", "b"]'),
    ("PageName", b'{ "a" : 1.50 }'),
    ("EventCumulativeLayoutShift", b"1e400"),
    ("EventCumulativeLayoutShift", b'"NaN"'),
    ("EventCumulativeLayoutShift", b'"1e3"'),
    ("EventCumulativeLayoutShift", b"false"),
    ("UserCreated", b'""'),
    ("UserCreated", b"1780272000"),
    ("UserCreated", b"true"),
    ("UserCreated", b'"2026-06-01"'),
    ("UserCreated", b'"2026-06-01T12:00:00"'),
    ("UserCreated", b'"2026-02-30T12:00:00.000Z"'),
    ("UserCreated", b'"2023-02-29T12:00:00.000Z"'),
    ("UserCreated", b'"2026-06-31T12:00:00.000Z"'),
    ("UserCreated", b'"2026-06-01T24:00:00.000Z"'),
    ("UserCreated", b'"2026-06-01T12:00:60.000Z"'),
    ("UserCreated", b'"2026-06-01T12:00:00.000+24:00"'),
    ("UserCreated", b'"2026-06-01T12:00:00.000+99:99"'),
    ("UserCreated", b'"0001-01-01T00:00:00.000+01:00"'),
]


@pytest.mark.parametrize(("name", "value"), MISFITS)
def test_a_value_that_does_not_fit_is_null_and_kept_as_sent(name: str, value: bytes) -> None:
    row = row_with(b'"%b":%b' % (name.encode(), value))
    assert column(row, name) is None
    assert custom_vars(row) == f'{{"{name}":{value.decode()}}}'
    assert row.n_misfit == 1


def test_a_time_finer_than_microseconds_is_cut_and_kept_as_sent() -> None:
    row = row_with(b'"PageStart":"2026-06-01T12:00:00.123456789Z"')
    assert column(row, "PageStart") == "2026-06-01T12:00:00.123456Z"
    assert custom_vars(row) == '{"PageStart":"2026-06-01T12:00:00.123456789Z"}'
    assert row.n_misfit == 1


VARIABLES = [
    b'"evt_price_real":1.50',
    b'"evt_big_int":123456789012345678901234567890',
    b'"evt_huge_real":1e400',
    b'"evt_order.order_id_str":"a","evt_order_id_str":"b"',
    b'"evt_Name_str":"b","evt_name_str":"a"',
    b'"evt_null_str":null',
    b'"evt_empty_str":""',
    b'"evt_flag_bool":false',
    b'"evt_list_strs":["a","b"]',
    b'"evt_tree":{"a":[1.0,{"b":null}]}',
    b'"evt_nul_str":"\\u0000"',
    b'"evt_line_str":"one\\ntwo\\r\\nthree"',
    b'"SomeNewField":1,"page_x_str":"\\ud83c\\udf88"',
    b'"EVENTTYPE":"x","eventStart":"y","userid":1',
    b'"CustomVars":{"a":1},"_event_id":"x","_load_id":null,"_window_start":1',
    b'"":"empty name","evt_x; drop table events --":"\'; DROP TABLE events; --"',
    b'"evt_a":1,"evt_a":2,"evt_a":1',
]


@pytest.mark.parametrize("members", VARIABLES)
def test_what_has_no_column_is_kept_name_and_text(members: bytes) -> None:
    row = row_with(members)
    assert custom_vars(row) == f"{{{members.decode()}}}"
    assert row.n_misfit == 0
    assert [value for value in row.values if value is not None] == [
        5189870820212736,
        2,
        "2026-06-01T00:00:00.000Z",
        "click",
    ]


def test_what_has_no_column_is_kept_in_the_order_of_names() -> None:
    row = row_with(b'"user_b":1,"evt_c":2,"user_b":3,"evt_a":4')
    assert custom_vars(row) == '{"evt_a":4,"evt_c":2,"user_b":1,"user_b":3}'


def test_an_absent_variable_and_a_null_one_are_told_apart() -> None:
    assert row_with(b'"PageName":"x"').custom_vars is None
    assert custom_vars(row_with(b'"evt_a":null')) == '{"evt_a":null}'


def test_every_column_of_ours_as_a_key_of_theirs_is_a_custom_variable() -> None:
    ours = sorted(field.name for field in EVENT_COLUMNS if field.name not in NAMES)
    members = ",".join(f'"{name}":"x"' for name in ours)
    assert custom_vars(row_with(members.encode())) == f"{{{members}}}"


def test_the_last_of_doubled_fields_counts_and_the_others_are_kept() -> None:
    row = row_with(b'"PageDuration":1,"PageName":"a","PageDuration":2,"PageName":null,"PageDuration":3')
    assert column(row, "PageDuration") == 3
    assert column(row, "PageName") is None
    assert custom_vars(row) == '{"PageDuration":1,"PageDuration":2,"PageName":"a"}'
    assert row.n_misfit == 3


@pytest.mark.parametrize("blank", [b" ", b"\n", b"\t", b"\r"])
def test_doubled_names_are_seen_whatever_blanks_stand_around_colons(blank: bytes) -> None:
    # One name with a blank before its colon once hid that another stood twice.
    row = row_with(b'"evt_a":1,"evt_a":2,"PageName"%b:"x"' % blank)
    assert custom_vars(row) == '{"evt_a":1,"evt_a":2}'
    row = row_with(b'"evt_a"%b:1,"evt_a":2' % blank)
    assert custom_vars(row) == '{"evt_a":1,"evt_a":2}'


def test_a_doubled_name_is_seen_through_its_escapes() -> None:
    assert custom_vars(row_with(b'"evt_a":1,"evt_\\u0061":2')) == '{"evt_a":1,"evt_a":2}'


@pytest.mark.parametrize(
    ("old", "modern"), [("EventTargetSelectorTok", "EventTargetSelector"), ("PageAgent", "PageUserAgent")]
)
def test_an_older_name_fills_the_modern_column(old: str, modern: str) -> None:
    for value in ("x", ""):
        row = row_with(f'"{old}":"{value}"'.encode())
        assert column(row, modern) == value
        assert row.custom_vars is None
    both = row_with(f'"{old}":"old","{modern}":"new"'.encode())
    assert column(both, modern) == "new"
    assert custom_vars(both) == f'{{"{old}":"old"}}'
    null = row_with(f'"{old}":"old","{modern}":null'.encode())
    assert column(null, modern) == "old"
    not_text = row_with(f'"{old}":null'.encode())
    assert column(not_text, modern) is None
    assert custom_vars(not_text) == f'{{"{old}":null}}'


def test_required_fields_take_every_lossless_reading() -> None:
    row = read_row(b'{"UserId":"1","SessionId":2.0,"EventStart":"2026-06-01T02:00:00+02:00","EventType":7}')
    assert [column(row, name) for name in ("UserId", "SessionId", "EventStart", "EventType")] == [
        1,
        2,
        "2026-06-01T00:00:00.000Z",
        "7",
    ]


def test_an_id_of_zero_is_an_id() -> None:
    assert column(read_row(REQUIRED.join((b"{", b"}")).replace(b"5189870820212736", b"0")), "UserId") == 0


REJECTED = [
    (b"", "not valid JSON"),
    (b"null", "not a JSON object"),
    (b"[1]", "not a JSON object"),
    (b'"text"', "not a JSON object"),
    (b"1", "not a JSON object"),
    (b"{", "not valid JSON"),
    (b"{'a':1}", "not valid JSON"),
    (b"{" + REQUIRED + b"}}", "not valid JSON"),
    (b"{" + REQUIRED + b',"evt_x":NaN}', "not valid JSON"),
    (b"{" + REQUIRED + b',"evt_x":-Infinity}', "not valid JSON"),
    (b"{" + REQUIRED + b',"evt_x":01}', "not valid JSON"),
    (b"{" + REQUIRED + b',"evt_x":"\\ud800"}', "surrogates, which come in pairs"),
    (b"{" + REQUIRED + b',"evt_x":"\\udc00\\ud800"}', "surrogates, which come in pairs"),
    (b"{" + REQUIRED + b',"evt_x":["\\uD83C x"]}', "surrogates, which come in pairs"),
    (b"{" + REQUIRED + b',"PageName":"\\ud800"}', "surrogates, which come in pairs"),
    (b"{" + REQUIRED + b',"\\ud800":1}', "not valid JSON"),
    (b"{" + REQUIRED + b',"evt_x":"\xff"}', "not UTF-8"),
    (b"{" + REQUIRED + b',"evt_x":"\xed\xa0\x80"}', "not UTF-8"),
    (b"{" + REQUIRED + b',"evt_x":"a\nb"}', "not valid JSON"),
    (b"{" + REQUIRED + b',"evt_x":"a\x00b"}', "not valid JSON"),
    (b"{" + REQUIRED + b',"evt_x":' + b"[" * 500 + b"]" * 500 + b"}", "more than 500 deep"),
    (b"{" + REQUIRED + b',"user_x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "more than 500 deep"),
    (REQUIRED.join((b"{", b"}")).replace(b'"UserId":5189870820212736,', b""), "UserId is missing"),
    (REQUIRED.join((b"{", b"}")).replace(b"5189870820212736", b"null"), "UserId is missing"),
    (REQUIRED.join((b"{", b"}")).replace(b"5189870820212736", b'"secret"'), "UserId is no int64"),
    (REQUIRED.join((b"{", b"}")).replace(b"5189870820212736", b"1.5"), "UserId is no int64"),
    (REQUIRED.join((b"{", b"}")).replace(b"5189870820212736", b"18446744073709551616"), "UserId is no int64"),
    (REQUIRED.join((b"{", b"}")).replace(b'"SessionId":2', b'"sessionid":2'), "SessionId is missing"),
    (REQUIRED.join((b"{", b"}")).replace(b'"SessionId":2', b'"SessionId":[2]'), "SessionId is no int64"),
    (REQUIRED.join((b"{", b"}")).replace(b"2026-06-01T", b"2026-06-31T"), "EventStart is no timestamp"),
    (REQUIRED.join((b"{", b"}")).replace(b'"click"', b'""'), "EventType is missing"),
    (REQUIRED.join((b"{", b"}")).replace(b'"click"', b'{"secret":1}'), "EventType is no string"),
    (b"{" + REQUIRED + b',"UserId":null}', "UserId is no int64"),
]


@pytest.mark.parametrize(("text", "reason"), REJECTED, ids=range(len(REJECTED)))
def test_a_row_that_cannot_be_an_event_is_rejected_with_the_reason(text: bytes, reason: str) -> None:
    with pytest.raises(RowRejectedError) as rejected:
        read_row(text)
    assert reason in str(rejected.value)
    # Reasons are kept where privacy settings keep no raw text.
    assert "secret" not in str(rejected.value)


@pytest.mark.parametrize("brackets", [b"[]", b"{}"])
def test_depth_up_to_the_bound_is_kept_whoever_calls(brackets: bytes) -> None:
    opening = b"[" if brackets == b"[]" else b'{"a":'
    value = opening * 499 + b"1" + brackets[1:] * 499

    def called_from(n_frames: int) -> Row:
        return called_from(n_frames - 1) if n_frames else row_with(b'"evt_x":' + value)

    for n_frames in (0, 300):
        assert custom_vars(called_from(n_frames)) == f'{{"evt_x":{value.decode()}}}'


def test_two_thousand_custom_variables_and_ten_megabytes_of_text_are_kept() -> None:
    variables = {f"evt_variable_{n}.x_str": "x" * n for n in range(2000)}
    row = row_with(json.dumps(variables, separators=(",", ":")).encode()[1:-1])
    assert json.loads(custom_vars(row)) == variables
    text = 'x\\n\\"é' * 2_000_000
    row = row_with(f'"EventTargetText":"{text}","evt_x":"{text}"'.encode())
    assert column(row, "EventTargetText") == json.loads(f'"{text}"')
    assert custom_vars(row) == f'{{"evt_x":"{text}"}}'


def test_duckdb_reads_every_kept_variable_as_json() -> None:
    # One value that DuckDB takes for no JSON would fail the INSERT of a whole window.
    with duckdb.connect() as connection:
        for members in VARIABLES + [b'"%b":%b' % (name.encode(), value) for name, value in MISFITS]:
            text = custom_vars(row_with(members))
            assert connection.execute("SELECT ?::JSON::VARCHAR", [text]).fetchone() == (text,)
