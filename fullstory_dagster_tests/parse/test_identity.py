"""``_event_id``: frozen, the same in every export of an event, different for different events."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from fullstory_dagster.parse.csv_rows import frame_csv_rows
from fullstory_dagster.parse.framing import frame_rows
from fullstory_dagster.parse.identity import event_id, twin_id
from fullstory_dagster.parse.rows import read_row

PLAIN = {"UserId": 5189870820212736, "SessionId": 1, "EventStart": "2026-06-01T00:00:00.000Z", "EventType": "load"}
CLICK = PLAIN | {
    "PageId": 4564805825019904,
    "EventStart": "2026-06-01T06:20:26.900Z",
    "EventType": "click",
    "EventTargetText": "Kauf „jetzt“ 🎈",
    "EventTargetSelector": "html>body>button#buy",
}
ORDER = PLAIN | {
    "UserId": 9223372036854775807,
    "EventType": "custom",
    "EventCustomName": "Order Completed",
    "evt_order.total_real": 12.50,
    "evt_order.order_id_str": "A-1",
    "evt_order_id_str": "A-2",
    "evt_is_gift_bool": True,
    "evt_items_strs": ["a", "b"],
}
REQUEST = PLAIN | {"EventType": "request", "ReqUrl": "https://x.test/", "ReqMethod": "GET", "ReqStatus": 500}


def id_of(row: dict[str, Any]) -> str:
    return read_row(json.dumps(row).encode()).event_id


# Never change a line of this table, and never let a change of the code ask for it: warehouses hold these ids, and what
# recognises an event that comes again is nothing but its id. An identity that must differ takes a new version number
# beside the old one, and a migration.
GOLDEN = {
    "plain": (PLAIN, "855876fe4a7828fae519d371adb72d8c"),
    "click": (CLICK, "f5025096c5328c5ca74d42f86188ce7f"),
    "order": (ORDER, "5eaa3420a42a6164a9ef3fc5bbfe681d"),
    "request": (REQUEST, "3a0fb0990782f815f66c29f56bb6297e"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_ids_are_frozen(name: str) -> None:
    row, frozen = GOLDEN[name]
    assert id_of(row) == frozen


def test_ids_of_twins_are_frozen() -> None:
    assert twin_id("0123456789abcdef0123456789abcdef", 1) == "d4ca124d1755d340938eccc92ac36517"
    assert twin_id("0123456789abcdef0123456789abcdef", 2) == "f2c3b3d837279907eff4ca196f488681"


def test_an_id_is_the_md5_of_netstrings_of_version_values_and_sorted_variables() -> None:
    text = (
        "1:1,16:5189870820212736,1:1,0:,13:1780272000000,6:custom,0:,1:n,0:,0:,0:,0:,0:,7:evt_a_s,2:é,5:evt_b,4:true,"
    ).replace(",", "")
    row = PLAIN | {"EventType": "custom", "EventCustomName": "n", "evt_b": True, "evt_a_s": "é"}
    assert id_of(row) == hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_no_two_lists_of_parts_say_the_same() -> None:
    parts = [[("a", "bc")], [("ab", "c")], [("a", "b"), ("c", "")], [("a", "b")], []]
    assert len({event_id(["x"] * 12, variables) for variables in parts}) == len(parts)
    assert event_id(["ab", ""] + [""] * 10, []) != event_id(["a", "b"] + [""] * 10, [])


@pytest.mark.parametrize(
    "changes",
    [
        {
            "PageDuration": 99,
            "PageActiveDuration": 7,
            "PageNumEvents": 4,
            "LoadEventTime": 5,
            "PageMaxScrollDepthPercent": 1,
        },
        {"IndvId": 5, "UserAppKey": "k", "UserEmail": "a@b.test", "UserDisplayName": "A"},
        {"user_plan_str": "pro", "page_kind_str": "shop"},
        {"PageUrl": "https://x.test/#later", "PageIp": "", "EventDuration": 3, "EventModFrustrated": 2},
        {"SomeNewField": 1},
        {"evt_empty_str": "", "evt_null_str": None, "EventSubType": ""},
        {"EventCustomName": None, "ReqUrl": None},
    ],
    ids=["page and load totals", "identify", "user and page variables", "url and counts", "new", "nothing", "null"],
)
def test_what_settles_later_does_not_change_the_id(changes: dict[str, Any]) -> None:
    assert id_of(CLICK | changes) == id_of(CLICK)


@pytest.mark.parametrize(
    "changes",
    [
        {"UserId": 2},
        {"SessionId": 2},
        {"PageId": 2},
        {"PageId": None},
        {"EventStart": "2026-06-01T06:20:26.901Z"},
        {"EventType": "change"},
        {"EventSubType": "x"},
        {"EventCustomName": "x"},
        {"EventTargetText": "x"},
        {"EventTargetSelector": "x"},
        {"ReqUrl": "x"},
        {"ReqMethod": "POST"},
        {"ReqStatus": 0},
        {"evt_a_int": 0},
        {"evt_a_str": "0", "evt_b_str": ""},
        {"evt_order_id": "1"},
        {"evt_order.id": "1"},
        {"evt_Order_id": "1"},
        {"evt_a_bool": False},
    ],
    ids=str,
)
def test_what_happened_and_its_variables_make_another_event(changes: dict[str, Any]) -> None:
    variants = [{}, {"evt_a_str": "1"}, {"evt_a_int": 1}, changes]
    assert len({id_of(CLICK | variant) for variant in variants}) == len(variants)


def test_the_selector_counts_under_either_name() -> None:
    legacy = {name: value for name, value in CLICK.items() if name != "EventTargetSelector"}
    assert id_of(legacy | {"EventTargetSelectorTok": CLICK["EventTargetSelector"]}) == id_of(CLICK)
    dashed = CLICK | {"EventTargetSelector": "html>body>x-button#buy"}
    assert id_of(legacy | {"EventTargetSelectorTok": "html>body>x%2Dbutton%23buy"}) == id_of(dashed)


def test_a_value_that_does_not_fit_its_column_still_tells_events_apart() -> None:
    assert len({id_of(CLICK | {"PageId": value}) for value in ("a", "b", 1.5, None)}) == 4


def test_the_id_does_not_depend_on_the_spelling_of_numbers_times_and_texts() -> None:
    spelled = (
        b'{ "EventType" : "\\u0063lick", "UserId" : "5189870820212736", "SessionId": 1.0, "PageId": 4564805825019904,\n'
        b'"EventStart": "2026-06-01T08:20:26.900000+02:00", "EventTargetSelector":"html>body>button#buy",'
        b'"EventTargetText":"Kauf \\u201ejetzt\\u201c \\ud83c\\udf88"}'
    )
    assert read_row(spelled).event_id == id_of(CLICK)


def test_all_three_formats_give_the_same_ids() -> None:
    events = [PLAIN, CLICK, ORDER, REQUEST]
    array = list(frame_rows([json.dumps(events, indent=1).encode()]))
    lines = list(frame_rows([b"\n".join(json.dumps(event).encode() for event in events)]))
    names = sorted({name for event in events for name in event})

    def cell(value: object) -> str:
        text = "" if value is None else value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        return '"' + text.replace('"', '""') + '"'

    table = [",".join(map(cell, names))] + [",".join(cell(event.get(name)) for name in names) for event in events]
    records = list(frame_csv_rows(["\n".join(table).encode()]))
    expected = [id_of(event) for event in events]
    for framed in (array, lines, records):
        assert [read_row(text).event_id for text in framed] == expected
