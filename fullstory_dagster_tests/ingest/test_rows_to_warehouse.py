"""Hard rows all the way: from the bundle over Parquet into DuckDB, each kept exactly or rejected with its text."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fullstory_dagster.errors import BundleFormatError
from fullstory_dagster.fields import FIELDS
from fullstory_dagster.ingest.ingestion import Ingestion
from fullstory_dagster.ingest.opening import open_ingestion
from fullstory_dagster.settings import Settings
from fullstory_dagster.store.bundles import StoredBundle
from fullstory_dagster.store.warehouse import Load
from fullstory_dagster_tests.counts import count
from fullstory_dagster_tests.parse.test_round_trip import arbitrary_rows, check_kept, check_rejected, events, same
from fullstory_dagster_tests.sample_events import DAY, event

pytestmark = pytest.mark.slow

COLUMNS = ", ".join(f'"{field.name}"' for field in FIELDS) + ", CustomVars, _event_id"


class Account:
    """Takes the bytes of a bundle into a warehouse."""

    def __init__(self, folder: Path) -> None:
        self.ingestion: Ingestion = open_ingestion(Settings(start=DAY.start, data_dir=folder, min_rows_pct=0))

    def load(self, content: bytes) -> Load:
        store = self.ingestion.bundles
        packed = gzip.compress(content, mtime=0)
        with store.receive() as scratch:
            scratch.write_bytes(packed)
            file = store.publish_file(
                DAY, scratch, export_id="e1", size=len(packed), sha256=hashlib.sha256(packed).hexdigest()
            )
        at = DAY.settled_at + timedelta(hours=1)
        shaping = self.ingestion.settings.export_shaping
        store.publish(StoredBundle(DAY, "segment", (file,), at, at, 0.0, shaping))
        self.ingestion.parse(DAY)
        load = self.ingestion.append(DAY)
        assert load.is_whole
        assert len(self.events()) == load.rows_kept
        assert len(self.rejects()) == load.rows_rejected
        return load

    def events(self, columns: str = COLUMNS) -> list[dict[str, Any]]:
        return self.ingestion.warehouse.query(
            f"SELECT {columns} FROM fullstory.events ORDER BY CAST(CustomVars->>'evt_n_int' AS INT), EventStart"
        )

    def rejects(self) -> list[dict[str, Any]]:
        return self.ingestion.warehouse.query("SELECT * FROM fullstory._rejected ORDER BY position")


@pytest.fixture
def account(tmp_path: Path) -> Account:
    return Account(tmp_path / "data")


def array(*rows: str) -> bytes:
    return ("[" + ",".join(rows) + "]").encode()


def lines(*rows: str) -> bytes:
    return "\n".join(rows).encode()


def row(extra: str = "", **fields: Any) -> str:
    """An event as text, with ``extra`` members as they are."""
    text = json.dumps(event(**fields), ensure_ascii=False)
    return f"{text[:-1]},{extra}}}" if extra else text


# Each value is sent under a variable's name and comes back as the very text that was sent.
VALUES = [
    *("1.50", "1e400", "-0", "-0.0", "1E+2", "123456789012345678901234567890", "0.1000000000000000055511151231257827"),
    *('"<nil>"', '"NaN"', "null", "true", '""', '"line\\nbreak\\r\\n\\ttab"', '"\\u0000NUL"', '"\\ud83d\\ude00"'),
    *("[" * 300 + "]" * 300, '{"a":{"b":[1.50,{"c":null}]}}', '"; DROP TABLE events; --"', '"<script>"', '"🎈é"'),
]


@pytest.mark.parametrize("form", [array, lines])
def test_the_text_of_every_value_without_a_column_arrives_as_it_was_sent(account: Account, form: Any) -> None:
    load = account.load(form(*(row(f'"evt_n_int":{n},"evt_x":{value}') for n, value in enumerate(VALUES))))
    assert (load.rows_in, load.rows_kept, load.values_misfit) == (len(VALUES), len(VALUES), 0)
    got = [kept["CustomVars"] for kept in account.events()]
    assert got == [f'{{"evt_n_int":{n},"evt_x":{value}}}' for n, value in enumerate(VALUES)]


NAMES = [
    *("evt_order.id", "evt_order_id", "evt_Order.id", "evt order id", "EVT_ORDER.ID", "évt", "é\u0301vt"),
    *("useremail", "userid", "_event_id", "_load_id", "_window_start", "_loaded_at", "CustomVars", "customvars"),
    *('x"; DROP TABLE fullstory.events; --', "'; DELETE FROM events; --", "", " ", "$.a", "a.b[0]", "\t", "\\", '"'),
]


def test_no_two_names_are_taken_for_one_and_none_for_ours(account: Account) -> None:
    members = ",".join(f"{json.dumps(name)}:{n}" for n, name in enumerate(NAMES))
    load = account.load(array(row(members)))
    (kept,) = account.events()
    assert json.loads(kept["CustomVars"]) == {name: n for n, name in enumerate(NAMES)}
    assert kept["_event_id"] != "3"
    assert (load.rows_kept, kept["UserId"], kept["UserEmail"]) == (1, event()["UserId"], None)


REJECTS = {
    "a number": "17",
    "null": "null",
    "a list": "[1,[2]]",
    "text": '"just text"',
    "an object without the fields": '{"a":1}',
    "an id that is no number": row(UserId="me"),
    "an id that is too large": row(SessionId=2**63),
    "a time that is none": row(EventStart="yesterday"),
    "NaN": row('"evt_x":NaN'),
    "Infinity": row('"evt_x":-Infinity'),
    "half a surrogate pair in a value": row('"evt_x":"\\ud800"'),
    "half a surrogate pair in a name": row('"evt_\\udc00":1'),
    "half a surrogate pair in a column": row('"PageName":"\\ud83d"'),
    "nesting without end": row('"evt_x":' + "[" * 2000 + "]" * 2000),
    "JSON cut inside the row": row()[:-1] + ',"a":}',
    "a control character": row('"evt_x":"\x01"'),
}


@pytest.mark.parametrize("form", [array, lines])
def test_a_row_that_cannot_be_an_event_costs_itself_alone_and_keeps_its_text(account: Account, form: Any) -> None:
    texts = list(REJECTS.values())
    good = [row(f'"evt_n_int":{n}') for n in range(len(texts) + 1)]
    # One between every two good ones, so that the first and the last row of the bundle are good ones.
    mixed = [text for pair in zip(good, [*texts, ""], strict=True) for text in pair if text]
    load = account.load(form(*mixed))
    assert (load.rows_in, load.rows_kept, load.rows_rejected) == (len(mixed), len(good), len(texts))
    assert [json.loads(kept["CustomVars"])["evt_n_int"] for kept in account.events()] == list(range(len(good)))
    rejects = account.rejects()
    assert [reject["raw_text"] for reject in rejects] == texts
    assert [reject["position"] for reject in rejects] == [2 * n + 1 for n in range(len(texts))]
    assert [reject["raw_sha256"] for reject in rejects] == [hashlib.sha256(t.encode()).hexdigest() for t in texts]
    assert all(reject["reason"] for reject in rejects)


def test_text_that_is_not_utf_8_is_kept_readable(account: Account) -> None:
    content = array(row()).replace(b"click", b"cl\xffck") + b"\n"
    account.load(content)
    (reject,) = account.rejects()
    assert "cl\\xffck" in reject["raw_text"]
    assert reject["reason"] == "the text is not UTF-8"


MISFITS = {"PageDuration": '"soon"', "PageId": "1.5", "EventModDead": "true", "PageStart": '"noon"', "ReqStatus": "{}"}
READINGS = {"PageDuration": ('"12"', 12), "PageId": ("3.0", 3), "EventModDead": ("1e0", 1), "PageName": ("5", "5")}


def test_a_value_of_another_type_is_read_without_loss_or_kept_as_sent(account: Account) -> None:
    load = account.load(
        array(
            row('"evt_n_int":0,' + ",".join(f'"{name}":{text}' for name, text in MISFITS.items())),
            row('"evt_n_int":1,' + ",".join(f'"{name}":{text}' for name, (text, _) in READINGS.items())),
            row('"evt_n_int":2,"EventCumulativeLayoutShift":1e400,"PageClusterId":9223372036854775808'),
        )
    )
    misfit, read, huge = account.events()
    assert [misfit[name] for name in MISFITS] == [None] * len(MISFITS)
    assert all(f'"{name}":{text}' in misfit["CustomVars"] for name, text in MISFITS.items())
    assert {name: read[name] for name in READINGS} == {name: value for name, (_, value) in READINGS.items()}
    assert '"EventCumulativeLayoutShift":1e400,"PageClusterId":9223372036854775808' in huge["CustomVars"]
    assert load.values_misfit == len(MISFITS) + 2


def test_every_millisecond_and_every_line_break_arrives(account: Account) -> None:
    text = "first line\nsecond line\r\n\tindented\u2028end"
    account.load(array(*(row(EventStart=f"2026-06-01T23:59:59.{ms:03d}Z", EventTargetText=text) for ms in range(1000))))
    kept = account.events("EventStart, EventTargetText, CustomVars")
    assert [at["EventStart"].microsecond // 1000 for at in kept] == list(range(1000))
    assert {at["EventTargetText"] for at in kept} == {text}


def test_doubled_keys_keep_every_value(account: Account) -> None:
    load = account.load(array(row('"evt_a":1,"evt_a":2,"PageName":"first","PageName":"last"')))
    (kept,) = account.events()
    assert kept["PageName"] == "last"
    assert kept["CustomVars"] == '{"PageName":"first","evt_a":1,"evt_a":2}'
    assert load.values_misfit == 1


def test_a_variable_whose_type_changes_in_the_middle_of_the_file_stays_what_it_was(account: Account) -> None:
    values = ["1", '"1"', "1.0", "true", "null", "[1]", '{"a":1}', "1"] * 3000
    account.load(lines(*(row(f'"evt_n_int":{n},"evt_x":{value}') for n, value in enumerate(values))))
    got = account.events("CustomVars->'evt_x' AS x, CustomVars")
    assert [str(kept["x"]) for kept in got] == values


def test_two_thousand_variables_and_ten_megabytes_in_one_row(account: Account) -> None:
    big = "x" * 10_000_000
    members = ",".join(f'"evt_{n}_int":{n}' for n in range(2000))
    account.load(
        array(row(members), row('"evt_n_int":1', EventTargetText=big), row('"evt_n_int":2,"evt_b":"' + big + '"'))
    )
    in_column, in_variable, many = account.events("EventTargetText, CustomVars")
    assert in_column["EventTargetText"] == big
    assert json.loads(in_variable["CustomVars"])["evt_b"] == big
    assert json.loads(many["CustomVars"]) == {f"evt_{n}_int": n for n in range(2000)}


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + array(row(), row(PageId=2)),
        b"\xef\xbb\xbf" + lines(row(), row(PageId=2)),
        lines(row(), row(PageId=2)).replace(b"\n", b"\r\n") + b"\r\n",
        array(row(), row(PageId=2)).replace(b"},{", b"}\r\n,\r\n{") + b"\r\n",
        lines(row(), "", "   ", row(PageId=2), ""),
    ],
    ids=["BOM before an array", "BOM before lines", "CRLF lines", "CRLF in an array", "blank lines"],
)
def test_what_stands_around_rows_is_nothing(account: Account, content: bytes) -> None:
    load = account.load(content)
    assert (load.rows_in, load.rows_kept) == (2, 2)


@pytest.mark.parametrize("content", [b"", b"[]", b" [ ] \n", b"\xef\xbb\xbf[]"])
def test_an_empty_window_is_loaded_and_empty(account: Account, content: bytes) -> None:
    load = account.load(content)
    assert (load.rows_in, load.rows_kept, account.events()) == (0, 0, [])


def test_an_array_with_something_behind_it_fails_the_window_and_keeps_what_was_there(account: Account) -> None:
    account.load(array(row()))
    for rest in (b"garbage", array(row()), b"]"):
        with pytest.raises(BundleFormatError, match="goes on after the end"):
            account.load(array(row(), row(PageId=2)) + rest)
        assert len(account.events()) == 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Account:
    return Account(tmp_path_factory.mktemp("shared") / "data")


def _numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [sent | {"evt_n_int": n} for n, sent in enumerate(rows)]


@pytest.mark.soak
@settings(
    max_examples=count(40, full=1000), suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(events | arbitrary_rows, min_size=1, max_size=25).map(_numbered),
    is_array=st.booleans(),
    is_ascii=st.booleans(),
)
def test_any_rows_come_out_of_the_warehouse_as_they_went_into_the_bundle(
    shared: Account, examples: Counter[str], rows: list[dict[str, Any]], is_array: bool, is_ascii: bool
) -> None:
    texts = [json.dumps(sent, ensure_ascii=is_ascii) for sent in rows]
    load = shared.load((array if is_array else lines)(*texts))
    assert load.rows_in == len(rows)
    rejects = shared.rejects()
    for reject in rejects:
        check_rejected(rows[reject["position"]], reject["raw_text"])
    found = {reject["position"] for reject in rejects}
    for kept in shared.events():
        number = json.loads(kept["CustomVars"])["evt_n_int"]
        found.add(number)
        check_kept(rows[number], kept)
    left = [sent for n, sent in enumerate(rows) if n not in found]
    assert len(left) == load.rows_outside + load.rows_duplicate
    assert all(not same(sent["EventStart"], event()["EventStart"]) for sent in left)
    examples["bundles of 1 to 25 arbitrary rows, into DuckDB and out again"] += 1
