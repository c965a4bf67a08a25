"""A window's bundle to batches, rejects and counts."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import textwrap
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fullstory_dagster.errors import BundleFormatError
from fullstory_dagster.parse import bundle as bundle_module
from fullstory_dagster.parse.bundle import BATCH_SCHEMA, REJECT_SCHEMA, BundleParser, ParsedBatch
from fullstory_dagster_tests.sample_events import DAY, event


def parse(parser: BundleParser, content: bytes, size: int = 1 << 20, **options: Any) -> list[ParsedBatch]:
    return list(parser.parse([content[at : at + size] for at in range(0, len(content), size)], **options))


def test_rows_keep_their_order_types_and_times() -> None:
    starts = [
        "2026-06-01T12:00:00.5Z",
        "2026-06-01T00:00:00Z",
        "2026-06-01T01:00:00.123456+01:00",
        "2026-06-01T23:59:59.999Z",
    ]
    (batch,) = parse(
        BundleParser(DAY), json.dumps([event(EventStart=start, PageId=2**60 + 1) for start in starts]).encode()
    )
    assert batch.rows.schema == BATCH_SCHEMA
    assert batch.rejects.schema == REJECT_SCHEMA
    assert batch.rows["EventStart"].to_list() == [
        datetime(2026, 6, 1, 12, 0, 0, 500_000),  # noqa: DTZ001 (UTC without zone, as in the column)
        datetime(2026, 6, 1),  # noqa: DTZ001
        datetime(2026, 6, 1, 0, 0, 0, 123_456),  # noqa: DTZ001
        datetime(2026, 6, 1, 23, 59, 59, 999_000),  # noqa: DTZ001
    ]
    assert batch.rows["PageId"].to_list() == [2**60 + 1] * 4


@pytest.mark.parametrize("year", [1, 999, 1600, 1969, 9999])
def test_times_far_from_now_are_read(year: int) -> None:
    (batch,) = parse(BundleParser(DAY), json.dumps([event(UserCreated=f"{year:04d}-02-28T23:59:59.999Z")]).encode())
    assert batch.rows["UserCreated"].item() == datetime(year, 2, 28, 23, 59, 59, 999_000)  # noqa: DTZ001


def test_a_window_takes_its_first_instant_and_leaves_its_last() -> None:
    starts = [
        "2026-05-31T23:59:59.999Z",
        "2026-06-01T00:00:00.000Z",
        "2026-06-01T23:59:59.999Z",
        "2026-06-02T00:00:00.000Z",
    ]
    parser = BundleParser(DAY)
    (batch,) = parse(parser, json.dumps([event(EventStart=start) for start in starts]).encode())
    assert len(batch.rows) == 2
    assert parser.counts.rows_outside == 2
    assert parser.counts.min_event_start_at == datetime(2026, 6, 1)  # noqa: DTZ001
    assert parser.counts.max_event_start_at == datetime(2026, 6, 1, 23, 59, 59, 999_000)  # noqa: DTZ001


@pytest.mark.parametrize("form", ["array", "lines", "csv"])
def test_every_row_is_kept_rejected_or_outside(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_module, "_BATCH_ROWS", 3)
    monkeypatch.setattr(bundle_module, "_FEW_ROWS", 3)
    rows: list[dict[str, Any]] = [
        event(EventStart="2026-06-03T00:00:00.000Z")
        if n % 5 == 0
        else event(UserId="x")
        if n % 3 == 0
        else event(PageId=n)
        for n in range(50)
    ]
    parser = BundleParser(DAY)
    if form == "csv":
        names = ["UserId", "SessionId", "EventStart", "EventType", "PageId"]
        lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
        batches = parse(parser, "\n".join(lines).encode(), bundle_format="csv")
    else:
        content = json.dumps(rows) if form == "array" else "\n".join(map(json.dumps, rows))
        batches = parse(parser, content.encode(), 10)
    counts = parser.counts
    assert (counts.rows_in, counts.rows_kept, counts.rows_rejected, counts.rows_outside) == (50, 27, 13, 10)
    assert sum(len(batch.rows) for batch in batches) == 27
    assert max(len(batch.rows) for batch in batches) <= 3
    rejects = pl.concat([batch.rejects for batch in batches])
    assert rejects["position"].to_list() == [n for n in range(50) if n % 3 == 0 and n % 5]


def test_a_reject_keeps_its_text_its_hash_and_its_place_in_the_window() -> None:
    parser = BundleParser(DAY)
    parse(parser, json.dumps([event()] * 3).encode())
    (batch,) = parse(parser, b'[{"a":1}, "x\\u0000\xff"]')
    assert batch.rejects.rows() == [
        (3, "UserId is missing", '{"a":1}', hashlib.sha256(b'{"a":1}').hexdigest()),
        (4, "the text is not UTF-8", '"x\\u0000\\xff"', hashlib.sha256(b'"x\\u0000\xff"').hexdigest()),
    ]


def test_misfits_are_counted_for_rows_that_are_kept() -> None:
    parser = BundleParser(DAY)
    rows = [
        event(PageDuration=1.5, LoadEventTime="x"),
        event(),
        event(PageDuration="x", EventStart="2026-06-05T00:00:00Z"),
    ]
    parse(parser, json.dumps(rows).encode())
    assert parser.counts.values_misfit == 2


@pytest.mark.parametrize("content", [b"[]", b"", b"\n"])
def test_an_empty_bundle_gives_nothing(content: bytes) -> None:
    parser = BundleParser(DAY)
    assert parse(parser, content) == []
    assert (parser.counts.rows_in, parser.counts.min_event_start_at) == (0, None)


def test_a_batch_of_rejects_only_has_an_empty_frame_of_rows() -> None:
    (batch,) = parse(BundleParser(DAY), b"[1]")
    assert (len(batch.rows), batch.rows.schema, len(batch.rejects)) == (0, BATCH_SCHEMA, 1)


def test_a_bundle_that_breaks_off_raises_after_the_rows_before() -> None:
    parser = BundleParser(DAY)
    with pytest.raises(BundleFormatError, match="ends inside its JSON array"):
        parse(parser, json.dumps([event()] * 3).encode()[:-5])
    assert parser.counts.rows_in == 2


def test_a_variable_whose_type_changes_is_kept_as_it_was_each_time() -> None:
    values = [1, "1", 1.5, True, None, [1], {"a": 1}]
    (batch,) = parse(BundleParser(DAY), json.dumps([event(evt_x=value) for value in values]).encode())
    assert [json.loads(text)["evt_x"] for text in batch.rows["CustomVars"]] == values


@pytest.mark.slow
@pytest.mark.parametrize("is_broken", [False, True], ids=["events", "rejects"])
def test_memory_does_not_grow_with_the_bundle(is_broken: bool) -> None:
    # A process of its own, because the peak of this one is whatever other tests made of it.
    script = f"""
        import json
        from benchmarks.process import peak_mb
        from fullstory_dagster_tests.sample_events import DAY, event
        from fullstory_dagster.parse import framing
        from fullstory_dagster.parse.bundle import BundleParser

        framing._PIECE_BYTES = 1 << 20  # the first of the bundles fills every thread with pieces
        row = event(PageUrl="https://shop.test/" + "x" * 300, evt_items_strs=["abc"] * 20, page_x_real=1.5)
        if {is_broken}:
            del row["UserId"]
        line = json.dumps(row).encode() + b"\\n"

        def bundle(n_bytes):
            for _ in range(n_bytes // (len(line) * 1000)):
                yield line * 1000

        def peak_mib(n_bytes):
            parser = BundleParser(DAY)
            for _ in parser.parse(bundle(n_bytes)):
                pass
            assert parser.counts.rows_in == n_bytes // (len(line) * 1000) * 1000
            return peak_mb()

        few = peak_mib(20 << 20)
        print(peak_mib(60 << 20) - few)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "POLARS_MAX_THREADS": "2"},
    )
    # Forty more mebibytes of bundle; a parser that held them would take several times that.
    assert float(ran.stdout) < 40, ran.stdout


def test_the_second_half_of_a_day_is_a_window_too() -> None:
    half = type(DAY)(DAY.start + timedelta(hours=12), DAY.end)
    parser = BundleParser(half)
    parse(parser, json.dumps([event(EventStart="2026-06-01T11:59:59.999Z"), event()]).encode())
    assert (parser.counts.rows_kept, parser.counts.rows_outside) == (1, 1)
