"""Whose a row is: names, devices, and people who share one."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from fullstory_dagster.forgotten import (
    FOR_EVER,
    Carrier,
    Forgotten,
    Given,
    Kind,
    Matcher,
    NameCollector,
    Names,
    privacy_hash,
)

AT = datetime(2026, 6, 6, tzinfo=timezone.utc)
BEFORE = AT - timedelta(seconds=1)

ANONYMOUS = Carrier(1, 10, None, "")
IDENTIFIED = Carrier(1, 20, "ann", "Ann@One.test")
ANONYMOUS_BUT_KNOWN = Carrier(2, 20, "", None)
OTHER_ON_THE_DEVICE = Carrier(1, 30, "bob", "bob@two.test")
OTHER = Carrier(3, 30, "bob", "bob@two.test")
ALL = (ANONYMOUS, IDENTIFIED, ANONYMOUS_BUT_KNOWN, OTHER_ON_THE_DEVICE, OTHER)


def collected(kind: Kind, typed: str, *carriers: Carrier, hash_key: str = "") -> Names:
    collector = NameCollector(Given(kind, typed), hash_key)
    while True:
        collector.begin()
        for carrier in carriers:
            collector.look_at(carrier)
        if collector.is_settled:
            return collector.names()


def matcher_of(names: Names, *, always: bool = False, hash_key: str = "") -> Matcher:
    return Matcher(Forgotten().with_person(names, AT, always=always, privacy_hash_key=hash_key), hash_key)


def erased(matcher: Matcher, *carriers: Carrier) -> list[Carrier]:
    return [carrier for carrier in carriers if matcher.is_theirs(carrier, BEFORE)]


@pytest.mark.parametrize(
    ("kind", "typed"), [("email", "ann@one.TEST"), ("app_key", "ann"), ("indv_id", "20")], ids=lambda value: value
)
def test_a_person_is_all_their_devices_whatever_names_them_but_nobody_else_on_those(kind: Kind, typed: str) -> None:
    # Seen last what tells that the rows before are theirs.
    names = collected(kind, typed, ANONYMOUS_BUT_KNOWN, ANONYMOUS, OTHER_ON_THE_DEVICE, OTHER, IDENTIFIED)
    assert names.devices == {1, 2}
    assert erased(matcher_of(names), *ALL) == [ANONYMOUS, IDENTIFIED, ANONYMOUS_BUT_KNOWN]


def test_an_app_key_is_compared_to_the_letter() -> None:
    assert collected("app_key", "Ann", *ALL).is_nobody


def test_names_are_taken_from_rows_that_carry_what_was_given_and_not_from_those_one_step_further() -> None:
    # Ann's device was Bob's as well: erasing Ann does not erase Bob.
    names = collected("app_key", "ann", *ALL)
    assert names.app_keys == {"ann"}
    assert names.indv_ids == {20}


def test_a_shared_email_is_somebody_elses_beside_another_app_key() -> None:
    ann, bob = Carrier(1, 20, "ann", "office@one.test"), Carrier(3, 30, "bob", "office@one.test")
    unkeyed = Carrier(4, 40, "", "office@one.test")
    matcher = matcher_of(collected("app_key", "ann", ann, bob, unkeyed))
    assert erased(matcher, ann, bob, unkeyed) == [ann, unkeyed]


def test_an_email_that_was_asked_for_is_erased_under_every_app_key_the_later_ones_too() -> None:
    ann = Carrier(1, 20, "ann", "office@one.test")
    later = Carrier(9, 90, "new-key", "OFFICE@one.test")
    assert erased(matcher_of(collected("email", "office@one.test", ann)), ann, later) == [ann, later]


def test_events_from_the_erasure_on_are_kept_unless_always() -> None:
    names = collected("app_key", "ann", *ALL)
    assert matcher_of(names).until(IDENTIFIED) == AT
    assert not matcher_of(names).is_theirs(IDENTIFIED, AT)
    assert matcher_of(names, always=True).until(IDENTIFIED) == FOR_EVER


def test_a_row_that_carries_a_name_teaches_its_device() -> None:
    matcher = matcher_of(collected("app_key", "ann", IDENTIFIED))
    anonymous, identified = Carrier(8, 80), Carrier(8, 20)
    assert erased(matcher, anonymous, identified) == [identified]
    assert erased(matcher, anonymous, identified) == [anonymous, identified]
    (entry,) = matcher.forgotten.with_learnt(matcher.learnt).erasures
    assert len(entry.devices) == 2


@pytest.mark.parametrize("is_hashed_in_the_table", [True, False])
def test_names_that_are_stored_as_hashes_are_found_and_kept_out(is_hashed_in_the_table: bool) -> None:
    stored = Carrier(1, None, privacy_hash("k", "ann"), privacy_hash("k", "Ann@One.test"))
    known = stored if is_hashed_in_the_table else IDENTIFIED
    names = collected("email", "Ann@One.test", known, hash_key="k")
    assert not names.is_nobody
    matcher = matcher_of(names, hash_key="k")
    assert erased(matcher, stored, IDENTIFIED._replace(user_id=7), OTHER) == [stored, IDENTIFIED._replace(user_id=7)]


def test_the_list_holds_no_name_and_one_entry_a_person() -> None:
    names = collected("email", "ann@one.test", *ALL)
    first = Forgotten().with_person(names, AT, always=True)
    again = first.with_person(collected("email", "ANN@one.test"), AT + timedelta(days=1), always=False)
    (entry,) = again.erasures
    assert entry.always
    assert entry.at == AT + timedelta(days=1)
    assert entry.devices == first.erasures[0].devices
    assert entry.id == first.erasures[0].id
    assert again.with_finished(entry.id).with_person(names, AT, always=False).erasures[0].id != entry.id
    said = repr(again).lower()
    assert [name for name in ("ann", "one.test", "'20'") if name in said] == []


def test_two_lists_hash_the_same_name_differently() -> None:
    names = collected("app_key", "ann", IDENTIFIED)
    one, other = (Forgotten().with_person(names, AT, always=False).erasures[0].given for _ in range(2))
    assert one != other


def test_nobody_was_ever_erased() -> None:
    assert erased(Matcher(Forgotten()), *ALL) == []
    assert Forgotten().until is None
    assert Forgotten().of(Given("app_key", "ann")) is None
