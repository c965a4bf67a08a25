"""What privacy settings leave of a row."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import polars as pl
import pytest

from fullstory_dagster.parse.bundle import BATCH_SCHEMA, BundleParser, ParsedBatch
from fullstory_dagster.parse.privacy import PrivacyPolicy, truncated_ip
from fullstory_dagster.windows import Window
from fullstory_dagster_tests.sample_events import DAY, event

KEY = "pepper"


def hashed(text: str) -> str:
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def parsed(policy: PrivacyPolicy, *rows: dict[str, Any], window: Window = DAY) -> ParsedBatch:
    (batch,) = BundleParser(window, policy).parse([json.dumps(list(rows)).encode()])
    return batch


def one(policy: PrivacyPolicy, **fields: Any) -> dict[str, Any]:
    return parsed(policy, event(**fields)).rows.row(0, named=True)


def test_without_settings_nothing_is_changed() -> None:
    assert not PrivacyPolicy().is_on
    row = one(PrivacyPolicy(hash_key=KEY), UserEmail="a@b.test", PageIp="1.2.3.4", user_x_str="y")
    assert (row["UserEmail"], row["PageIp"], row["CustomVars"]) == ("a@b.test", "1.2.3.4", '{"user_x_str":"y"}')


def test_an_excluded_column_stays_and_is_empty() -> None:
    policy = PrivacyPolicy(exclude=frozenset({"UserEmail", "PageDuration", "UserCreated", "user_x_str"}))
    batch = parsed(
        policy,
        event(
            UserEmail="a@b.test", PageDuration=5, UserCreated="2026-01-01T00:00:00.000Z", user_x_str="y", user_y_str="z"
        ),
    )
    row = batch.rows.row(0, named=True)
    assert batch.rows.schema == BATCH_SCHEMA
    assert (row["UserEmail"], row["PageDuration"], row["UserCreated"]) == (None, None, None)
    assert row["CustomVars"] == '{"user_y_str":"z"}'


def test_hashes_are_keyed_the_same_every_time_and_leave_nothing_empty() -> None:
    policy = PrivacyPolicy(hash=frozenset({"UserEmail", "user_x_str"}), hash_key=KEY)
    row = one(policy, UserEmail="a@b.test", user_x_str="y", evt_other_str="clear")
    assert row["UserEmail"] == hashed("a@b.test")
    assert json.loads(row["CustomVars"]) == {"user_x_str": hashed("y"), "evt_other_str": "clear"}
    assert one(policy, UserEmail="")["UserEmail"] == ""
    assert one(policy, UserEmail=None)["UserEmail"] is None
    assert one(policy, user_x_str=None)["CustomVars"] == '{"user_x_str":""}'


@pytest.mark.parametrize(
    "fields",
    [
        {"PageUserAgent": "clear-text"},
        {"PageAgent": "clear-text"},
        {"PageAgent": "clear-text", "PageUserAgent": "clear-text"},
        {"PageUserAgent": ["clear-text"]},
        {"PageAgent": {"a": "clear-text"}},
        {"pageuseragent": "clear-text"},
        {"PAGEAGENT": "clear-text"},
    ],
    ids=["modern", "older", "both", "misfit", "older misfit", "other case", "older in another case"],
)
@pytest.mark.parametrize("setting", ["exclude", "hash"])
def test_what_is_said_of_a_column_holds_for_every_spelling_of_it(setting: str, fields: dict[str, Any]) -> None:
    policy = PrivacyPolicy(hash_key=KEY, **{setting: frozenset({"PageUserAgent"})})
    row = one(policy, **fields)
    assert "clear-text" not in str(row)
    if setting == "exclude":
        assert (row["PageUserAgent"], row["CustomVars"]) == (None, None)


@pytest.mark.parametrize(
    "fields", [{"PageIp": "203.0.113.77"}, {"PageIp": ["203.0.113.77"]}, {"pageip": "203.0.113.77"}], ids=str
)
def test_addresses_are_cut_in_every_spelling(fields: dict[str, Any]) -> None:
    assert "113.77" not in str(one(PrivacyPolicy(truncate_ip=True), **fields))


@pytest.mark.parametrize(
    ("address", "cut"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::ffff:203.0.113.77", "::"),
        ("", ""),
        ("203.0.113.77, 198.51.100.1", ""),
        ("unknown", ""),
    ],
)
def test_an_address_loses_what_tells_a_household(address: str, cut: str) -> None:
    assert truncated_ip(address) == cut


def test_an_excluded_or_hashed_address_is_not_cut_as_well() -> None:
    both = PrivacyPolicy(hash=frozenset({"PageIp"}), hash_key=KEY, truncate_ip=True)
    assert one(both, PageIp="203.0.113.77")["PageIp"] == hashed("203.0.113.77")
    excluded = PrivacyPolicy(exclude=frozenset({"PageIp"}), truncate_ip=True)
    assert one(excluded, PageIp="203.0.113.77")["PageIp"] is None


def test_ids_are_those_of_what_was_sent() -> None:
    fields = {"EventTargetText": "clear-text", "evt_x_str": "clear-text"}
    everything = PrivacyPolicy(exclude=frozenset({"EventTargetText", "evt_x_str"}))
    assert one(everything, **fields)["_event_id"] == one(PrivacyPolicy(), **fields)["_event_id"]


@pytest.mark.parametrize(
    "policy",
    [
        PrivacyPolicy(exclude=frozenset({"user_x_str"})),
        PrivacyPolicy(hash=frozenset({"UserEmail"})),
        PrivacyPolicy(truncate_ip=True),
    ],
)
def test_rejects_keep_no_text_of_theirs_while_any_setting_is_on(policy: PrivacyPolicy) -> None:
    bad = [event(UserId="clear-text"), event(EventType=["clear-text"]), "clear-text"]
    (batch,) = BundleParser(DAY, policy).parse([json.dumps(bad).encode()])
    assert batch.rejects["raw_text"].to_list() == [None] * 3
    assert batch.rejects["raw_sha256"].to_list() == [
        hashlib.sha256(json.dumps(row).encode()).hexdigest() for row in bad
    ]
    assert "clear-text" not in str(batch.rejects.rows())


def test_rows_without_custom_variables_have_none_after_either() -> None:
    batch = parsed(PrivacyPolicy(exclude=frozenset({"UserEmail"})), event(), event(evt_a_int=1))
    assert batch.rows["CustomVars"].to_list() == [None, '{"evt_a_int":1}']
    assert batch.rows.schema["CustomVars"] == pl.String
