"""Raw rows of erased people: found whatever the row looks like, and taken out without touching the others."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from fullstory_dagster.forgotten import Forgotten, Given, Matcher, Names
from fullstory_dagster.parse.erasure import count_erased, is_erased, without_rows
from fullstory_dagster.parse.framing import frame_rows
from fullstory_dagster.parse.rows import read_row
from fullstory_dagster_tests.sample_events import event

AT = datetime(2026, 6, 6, tzinfo=timezone.utc)
NOON = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
DEVICE, INDV_ID, KEY, EMAIL = 77001, 77002, "ann-1", "Ann@One.test"
NAMES = Names(Given("app_key", KEY), frozenset({KEY}), frozenset({INDV_ID}), frozenset({EMAIL}), frozenset({DEVICE}))


@pytest.fixture
def matcher() -> Matcher:
    return Matcher(Forgotten().with_person(NAMES, AT, always=False))


def text(**fields: object) -> bytes:
    return json.dumps(event(**fields)).encode()


THEIRS = {
    "device": text(UserId=DEVICE),
    "app key": text(UserAppKey=KEY),
    "IndvId": text(IndvId=INDV_ID),
    "e-mail in another case": text(UserEmail="ann@ONE.test"),
    "device as text": text(UserId=str(DEVICE)),
    "device as a float": text(UserId=float(DEVICE)),
    "time finer than milliseconds": text(UserId=DEVICE, EventStart="2026-06-01T12:00:00.1234Z"),
    "time with an offset": text(UserId=DEVICE, EventStart="2026-06-06T01:00:00+02:00"),
    "value that misfits": text(UserId=DEVICE, PageDuration="long"),
    "name that stands twice": b'{"UserId": 1, "UserId": 77001, "SessionId": 2, "EventType": "click",'
    b' "EventStart": "2026-06-01T12:00:00.000Z"}',
    "reject with a device": text(UserId=DEVICE, EventType=""),
    "reject with half a surrogate pair": text(UserId=DEVICE, PageUrl="x")[:-1] + b', "a": "\\ud800"}',
    "reject that is no UTF-8": text(UserId=DEVICE)[:-1] + b', "a": "\xff"}',
    "reject that was cut": text(UserId=DEVICE, UserEmail=EMAIL)[:40],
    "reject without a device, with the e-mail": b'{"note": "ask ann@one.test."}',
    "reject without a device, with the app key": b'[1, "ann-1"]',
    "reject without a device, with its number": b"77001",
    "reject that begins inside a text": b'rest of a text", "k": "ann-1", "EventStart',
    "reject with an escaped e-mail": rb'{"note": "ann\u0040one.test"}',
}
OTHERS = {
    "other device": text(UserId=5),
    "other app key on the device": text(UserId=DEVICE, UserAppKey="bob"),
    "e-mail in a text of somebody else's": text(UserId=5, EventTargetText=EMAIL, evt_to_str=EMAIL),
    "reject of somebody else that mentions the e-mail": text(UserId=5, EventType="", evt_to_str=EMAIL),
    "longer number": text(UserId=770010, SessionId=177001),
    "reject without a device and with a longer number": b"[770010, 177001, 1.77001]",
    "reject without a device and with a longer key": b'["ann-12"]',
    "event of the day of the erasure": text(UserId=DEVICE, EventStart="2026-06-06T00:00:00.000Z"),
    "nothing at all": b"{}",
}


@pytest.mark.parametrize("name", THEIRS)
def test_a_row_of_theirs_is_found(matcher: Matcher, name: str) -> None:
    assert is_erased(matcher, THEIRS[name], NOON)


@pytest.mark.parametrize("name", OTHERS)
def test_a_row_of_somebody_else_stays(matcher: Matcher, name: str) -> None:
    assert not is_erased(matcher, OTHERS[name], NOON)


def test_a_row_that_tells_no_time_goes_by_its_window(matcher: Matcher) -> None:
    assert not is_erased(matcher, THEIRS["reject with a device"].replace(b"2026", b"x"), AT)


@pytest.mark.parametrize("form", ["array", "ndjson", "array with a BOM", "one byte at a time"])
def test_all_other_rows_keep_their_text_to_the_byte(matcher: Matcher, form: str) -> None:
    spaced = b'{ "UserId" : 5, "a": 1.50, "b" : "\\u00e9\xc3\xa9" }'
    rows = [THEIRS["device"], spaced, OTHERS["other device"], THEIRS["app key"], b'{"UserId":5,"c":[1,{"d":2}]}']
    separator = b"\n" if form == "ndjson" else b" ,\r\n "
    content = separator.join(rows) if form == "ndjson" else b"[" + separator.join(rows) + b"]"
    if form == "array with a BOM":
        content = b"\xef\xbb\xbf" + content
    chunks = [content[at : at + 1] for at in range(len(content))] if form == "one byte at a time" else [content]

    assert count_erased(chunks, matcher, NOON) == 2
    left = b"".join(without_rows(chunks, lambda row: is_erased(matcher, row, NOON)))

    assert list(frame_rows([left])) == [rows[1], rows[2], rows[4]]
    assert left.startswith(b"[") == (form != "ndjson")


@pytest.mark.parametrize(("content", "left"), [(b"", b""), (b"[]", b"[]"), (b"[" + THEIRS["device"] + b"]", b"[]")])
def test_a_bundle_may_be_left_without_rows(matcher: Matcher, content: bytes, left: bytes) -> None:
    assert b"".join(without_rows([content], lambda row: is_erased(matcher, row, NOON))) == left


def test_what_happened_on_a_shared_device_to_somebody_else_is_remembered_by_its_id(matcher: Matcher) -> None:
    row = OTHERS["other app key on the device"]
    assert count_erased([b"[" + b",".join([row, row, THEIRS["device"]]) + b"]"], matcher, NOON) == 1
    assert len(matcher.others) == 2
    assert read_row(row).event_id in matcher.others
