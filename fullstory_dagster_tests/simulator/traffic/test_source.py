"""The made-up week as a whole: the same every time, whole where windows cut it, and like a real site's."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest

from fullstory_dagster.fields import CUSTOM_VARIABLE_KINDS, FIELDS, FIELDS_BY_NAME
from fullstory_dagster.simulator.config import SimulatorConfig, parse_instant
from fullstory_dagster.simulator.formats import ALL_FIELDS, pack
from fullstory_dagster.simulator.traffic import ShopTraffic

Event = dict[str, Any]

MONDAY = datetime(2026, 6, 15, tzinfo=timezone.utc)
DAY = timedelta(days=1)
NOW = datetime(2026, 6, 30, 10, 0, tzinfo=timezone.utc)

# The funnel in its order, and the custom event that tells each step.
FUNNEL = ("Product Viewed", "Product Added", "Checkout Started", "Checkout Step Completed", "Order Completed")


def traffic(**changes: Any) -> ShopTraffic:
    options: dict[str, Any] = {"days": 20, "now": NOW} | changes
    return ShopTraffic(SimulatorConfig(**options))


def lines(source: ShopTraffic, start: datetime, end: datetime) -> list[bytes]:
    return [msgspec.json.encode(row) for row in source.events(start, end)]


def session_key(event: Event) -> tuple[int, int]:
    return event["UserId"], event["SessionId"]


def by_session(events: list[Event]) -> dict[tuple[int, int], list[Event]]:
    sessions: dict[tuple[int, int], list[Event]] = defaultdict(list)
    for event in events:
        sessions[session_key(event)].append(event)
    return sessions


def by_page(events: list[Event]) -> dict[tuple[int, int, int], list[Event]]:
    pages: dict[tuple[int, int, int], list[Event]] = defaultdict(list)
    for event in events:
        pages[(*session_key(event), event["PageId"])].append(event)
    return pages


@pytest.fixture(scope="module")
def week_lines() -> list[bytes]:
    return lines(traffic(), MONDAY, MONDAY + 7 * DAY)


@pytest.fixture(scope="module")
def week(week_lines: list[bytes]) -> list[Event]:
    return [json.loads(line) for line in week_lines]


@pytest.fixture(scope="module")
def whole_pages(week: list[Event]) -> dict[tuple[int, int, int], list[Event]]:
    """Page instances that no edge of the week cuts."""
    pages = by_page(week)
    return {key: events for key, events in pages.items() if len(events) == events[0]["PageNumEvents"]}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    def packed(seed: int) -> bytes:
        source = traffic(seed=seed, scale=0.2)
        return pack(lambda: source.events(MONDAY, MONDAY + DAY), "FORMAT_NDJSON", ALL_FIELDS)

    assert packed(1) == packed(1)
    assert packed(1) != packed(2)


def test_a_day_does_not_depend_on_how_much_was_asked_for(week_lines: list[bytes]) -> None:
    wednesday = lines(traffic(days=14), MONDAY + 2 * DAY, MONDAY + 3 * DAY)
    later_present = lines(traffic(days=14, now=NOW - 4 * DAY), MONDAY + 2 * DAY, MONDAY + 3 * DAY)
    start = week_lines.index(wednesday[0])
    assert week_lines[start : start + len(wednesday)] == wednesday == later_present


def test_windows_of_any_length_tile_a_day_in_order(week_lines: list[bytes]) -> None:
    source = traffic()
    six_hours = [line for n in range(4) for line in lines(source, MONDAY + n * DAY / 4, MONDAY + (n + 1) * DAY / 4)]
    assert week_lines[: len(six_hours)] == six_hours
    starts = [json.loads(line)["EventStart"] for line in six_hours]
    assert starts == sorted(starts)
    assert starts[0] >= "2026-06-15T00:00:00.000Z"
    assert starts[-1] < "2026-06-16T00:00:00.000Z"


def test_nothing_happens_before_the_first_day_or_after_the_present() -> None:
    source = traffic(days=2, scale=0.3)
    starts = [row["EventStart"] for row in source.events(NOW - 40 * DAY, NOW + 40 * DAY)]
    assert "2026-06-27T00:00:00.000Z" <= starts[0] < "2026-06-27T06:00:00.000Z"
    assert "2026-06-30T08:00:00.000Z" < starts[-1] < "2026-06-30T10:00:00.000Z"
    assert source.span().start == datetime(2026, 6, 27, tzinfo=timezone.utc)
    assert source.span().end == datetime(2026, 7, 1, tzinfo=timezone.utc)


def test_every_night_a_session_lasts_over_midnight_and_is_whole_on_both_sides(week: list[Event]) -> None:
    nights: Counter[date] = Counter()
    for events in by_session(week).values():
        first, last = (parse_instant(events[n]["EventStart"]) for n in (0, -1))
        if first.date() != last.date():
            nights[first.date()] += 1
            assert {event["SessionStart"] for event in events} == {events[0]["SessionStart"]}
    # The last night of the week goes over its edge.
    assert sorted(nights) == [(MONDAY + n * DAY).date() for n in range(6)]


def test_totals_of_a_page_instance_are_the_same_on_each_of_its_events(week: list[Event]) -> None:
    fields = ("PageStart", "PageDuration", "PageActiveDuration", "PageNumEvents", "PageNumDerivedEvents")
    for events in by_page(week).values():
        assert len({tuple(event[name] for name in fields) for event in events}) == 1
        assert 0 <= events[0]["PageActiveDuration"] <= events[0]["PageDuration"]


def test_nearly_all_page_instances_of_a_week_are_whole(
    week: list[Event], whole_pages: dict[tuple[int, int, int], list[Event]]
) -> None:
    assert len(by_page(week)) - len(whole_pages) < 10


def test_counts_of_a_page_instance_only_grow(week: list[Event]) -> None:
    for events in by_page(week).values():
        for name in ("PageNumInfos", "PageNumWarnings", "PageNumErrors"):
            counts = [event[name] for event in events]
            assert counts == sorted(counts)
    assert max(event["PageNumErrors"] for event in week) > 1


def test_offsets_agree_with_the_starts_they_count_from(week: list[Event]) -> None:
    millisecond = timedelta(milliseconds=1)
    for event in week[::7]:
        at = parse_instant(event["EventStart"])
        assert (at - parse_instant(event["PageStart"])) // millisecond == event["EventPageOffset"]
        assert (at - parse_instant(event["SessionStart"])) // millisecond == event["EventSessionOffset"]
        assert event["EventPageOffset"] <= event["PageDuration"]
        assert parse_instant(event["UserCreated"]) <= parse_instant(event["SessionStart"])


def test_ids_are_int64_beyond_what_a_float_holds(week: list[Event]) -> None:
    for name in ("UserId", "SessionId", "PageId", "IndvId"):
        ids = {event[name] for event in week}
        assert 2**53 < min(ids) <= max(ids) < 2**63
        assert any(int(float(number)) != number for number in ids)


def test_amounts_keep_their_cents_on_the_wire(week_lines: list[bytes]) -> None:
    text = b"\n".join(week_lines)
    assert b'"evt_price_real":24.50' in text
    assert b'"evt_order.prices_reals":[' in text


def test_events_that_differ_in_nothing_occur_and_so_do_null_empty_and_absent(week_lines: list[bytes]) -> None:
    assert max(Counter(week_lines).values()) == 2
    orders = [line for line in week_lines if b'"Order Completed"' in line]
    assert any(b'"evt_gift_note_str":null' in line for line in orders)
    assert any(b'"evt_gift_note_str":""' in line for line in orders)
    assert any(b"evt_gift_note_str" not in line for line in orders)


def test_every_field_is_used_and_every_other_name_is_a_custom_variable(week: list[Event]) -> None:
    names = set().union(*week)
    assert names >= {field.name for field in FIELDS}
    prefixes = tuple(kind.rstrip("*") for kind in CUSTOM_VARIABLE_KINDS)
    assert all(name.startswith(prefixes) for name in names - FIELDS_BY_NAME.keys())
    assert names >= {
        "evt_order.order_id_str",
        "evt_order_id_str",
        "evt_order.skus_strs",
        "user_plan_str",
        "page_release_str",
    }


def test_values_have_the_types_of_their_fields(week: list[Event]) -> None:
    python_types = {"int64": int, "float64": float, "string": str, "timestamp": str}
    for event in week[::11]:
        for name, value in event.items():
            if name in FIELDS_BY_NAME:
                assert type(value) is python_types[FIELDS_BY_NAME[name].type], name


def test_every_kind_of_event_occurs(week: list[Event]) -> None:
    kinds = {event["EventType"] for event in week}
    assert kinds >= {
        "abandon", "backgrounded", "change", "click", "console_message", "copy", "crashed", "cumulative_layout_shift",
        "custom", "custom_error", "exception", "first_input_delay", "highlight", "keyboard_close", "keyboard_open",
        "load", "low_memory", "navigate", "paste", "pinch_gesture", "request", "seen", "thrash", "uservar",
    }  # fmt: skip


def test_a_day_has_the_size_of_a_small_shop(week: list[Event]) -> None:
    for n in range(7):
        day = (MONDAY + n * DAY).date().isoformat()
        events = [event for event in week if event["EventStart"].startswith(day)]
        assert 5_000 < len(events) < 11_000
        assert 140 < len(by_session(events)) < 260


def test_evenings_are_busy_and_nights_are_not(week: list[Event]) -> None:
    hours = Counter(int(events[0]["EventStart"][11:13]) for events in by_session(week).values())
    assert sum(hours[hour] for hour in (18, 19, 20)) > 4 * sum(hours[hour] for hour in (1, 2, 3))


def test_the_funnel_loses_people_at_every_step_and_nobody_skips_one(week: list[Event]) -> None:
    reached: Counter[str] = Counter()
    for events in by_session(week).values():
        names = [event["EventCustomName"] for event in events if event["EventType"] == "custom"]
        steps = [step for step in FUNNEL if step in names]
        # Sessions that began before the week lack their first steps.
        if events[0]["EventSessionOffset"] < 1000:
            assert steps == list(FUNNEL[: len(steps)])
            firsts = [names.index(step) for step in steps]
            assert firsts == sorted(firsts)
        reached.update(steps)
    counts = [reached[step] for step in FUNNEL]
    assert counts == sorted(counts, reverse=True)
    assert len(set(counts)) == len(counts)
    assert 0.02 < counts[-1] / len(by_session(week)) < 0.09


def test_the_button_that_thursdays_release_broke_takes_no_order(week: list[Event]) -> None:
    clicks: Counter[bool] = Counter()
    for event in week:
        if event["EventType"] == "click" and event.get("EventTargetText") == "Place order":
            is_broken = "2026-06-18T13:10" <= event["EventStart"] < "2026-06-18T21:40"
            clicks[is_broken] += 1
            assert is_broken == (event.get("EventModError") == 3)
    assert clicks[True] > 5
    assert clicks[False] > 30
    errors = [event for event in week if "taxLines" in event.get("EventTargetText", "")]
    assert {event["EventType"] for event in errors} == {"exception"}
    assert all(event["EventWebSourceFileUrl"].startswith("https://shop.example.com/") for event in errors)


def test_the_sale_page_is_slow_from_wednesday_on(week: list[Event]) -> None:
    def median(page: str, first_day: int, last_day: int) -> int:
        days = {(MONDAY + n * DAY).date().isoformat() for n in range(first_day, last_day + 1)}
        paints = sorted(
            event["LoadLargestPaintTime"]
            for event in week
            if event["EventType"] == "load" and event["PageName"] == page and event["EventStart"][:10] in days
        )
        assert len(paints) > 20
        return int(paints[len(paints) // 2])

    assert median("Sale", 3, 6) > 2 * median("Sale", 0, 1)
    assert median("Collection", 3, 6) < 1.2 * median("Collection", 0, 1)


def test_rage_clicks_count_up_within_a_burst(week: list[Event]) -> None:
    bursts: list[list[int]] = []
    for events in by_page(week).values():
        for event in events:
            count = event.get("EventModFrustrated")
            if count == 1:
                bursts.append([1])
            elif count:
                bursts[-1].append(count)
    assert len(bursts) > 10
    assert all(burst == list(range(1, len(burst) + 1)) and len(burst) >= 3 for burst in bursts)


def test_single_page_navigation_keeps_the_page_instance(
    whole_pages: dict[tuple[int, int, int], list[Event]],
) -> None:
    n_urls = [len({event.get("PageUrl") for event in events}) for events in whole_pages.values()]
    assert 0.05 < sum(n > 1 for n in n_urls) / len(n_urls) < 0.4


def test_people_come_back_and_with_other_devices(week: list[Event]) -> None:
    sessions: dict[int, set[tuple[int, int]]] = defaultdict(set)
    devices: dict[int, set[int]] = defaultdict(set)
    for event in week:
        sessions[event["IndvId"]].add(session_key(event))
        devices[event["IndvId"]].add(event["UserId"])
    assert sum(len(keys) > 1 for keys in sessions.values()) > 50
    assert sum(len(ids) > 1 for ids in devices.values()) > 10


def test_an_identified_person_is_one_individual_and_a_nobody_has_no_key(week: list[Event]) -> None:
    individuals: dict[str, set[int]] = defaultdict(set)
    for event in week:
        if event.get("UserAppKey"):
            individuals[event["UserAppKey"]].add(event["IndvId"])
        else:
            assert event["IndvId"] == event["UserId"]
            assert not event.get("UserEmail")
    assert len(individuals) > 100
    assert {len(ids) for ids in individuals.values()} == {1}


def test_nobody_and_nothing_in_it_is_real(week: list[Event]) -> None:
    networks = ("192.0.2.", "198.51.100.", "203.0.113.")
    for event in week:
        assert event["PageIp"] == "" or event["PageIp"].startswith(networks)
        assert event.get("PageUrl", "https://shop.example.com/").startswith("https://shop.example.com/")
        assert event.get("UserEmail", "").endswith(("", "@example.com", "@example.org"))
        referrer = event.get("PageRefererUrl", "")
        assert referrer == "" or ".example." in referrer


def test_text_in_many_scripts_occurs(week: list[Event]) -> None:
    characters = {c for event in week for name in ("UserDisplayName", "EventTargetText") for c in event.get(name, "")}
    assert characters >= set("花瓶🌵üß羊Łğé")


def test_scale_multiplies_the_visits() -> None:
    small, large = (
        len(by_session([json.loads(line) for line in lines(traffic(scale=scale), MONDAY, MONDAY + DAY)]))
        for scale in (0.1, 0.5)
    )
    assert 4 * small < large < 6 * small
