"""Typed Parquet, a window at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from fullstory_dagster.errors import BundleFormatError, BundleMissingError
from fullstory_dagster.store.dataset import ParsedWindow
from fullstory_dagster.store.objects import LocalStore, ObjectStore
from fullstory_dagster.store.parquet_file import sink_parquet
from fullstory_dagster_tests.sample_events import DAY, event

from .conftest import SHAPING, Loader, OpenDatabase


@pytest.fixture
def loader(tmp_path: Path, open_database_of: Callable[[str], OpenDatabase], objects: ObjectStore) -> Loader:
    return Loader(tmp_path, open_database_of("file"), objects)


def events_of(loader: Loader, parsed: ParsedWindow) -> pl.DataFrame:
    with loader.dataset.at_hand(parsed) as at_hand:
        return pl.read_parquet(at_hand.events_location)


def rejects_of(loader: Loader, parsed: ParsedWindow) -> pl.DataFrame:
    with loader.dataset.at_hand(parsed) as at_hand:
        return pl.read_parquet(at_hand.rejects_location)


def keys(loader: Loader) -> list[str]:
    return [key for prefix in ("events/", "parses/", ".scratch/") for key in loader.objects.keys(prefix)]


def test_a_window_is_read_back_with_its_counts(loader: Loader) -> None:
    rows = [event(EventStart="2026-06-01T01:00:00.000Z"), event(), event(PageDuration="x"), {"a": 1}]
    rows.append(event(EventStart="2026-06-02T00:00:00.000Z"))
    bundle = loader.keep(rows)
    parsed = loader.parse()
    assert loader.dataset.get(DAY) == parsed == loader.dataset.require(DAY)
    counts = (parsed.rows_in, parsed.rows_kept, parsed.rows_rejected, parsed.rows_outside, parsed.values_misfit)
    assert counts == (5, 3, 1, 1, 1)
    assert parsed.min_event_start_at == datetime(2026, 6, 1, 1)  # noqa: DTZ001 (UTC without zone, as in the column)
    assert parsed.max_event_start_at == datetime(2026, 6, 1, 12)  # noqa: DTZ001
    assert (parsed.bundle_sha256, parsed.shaping, parsed.parse_s) == (bundle.sha256, SHAPING, 0.5)
    assert events_of(loader, parsed).height == 3
    with loader.dataset.at_hand(parsed) as at_hand:
        assert loader.dataset.size(DAY) == Path(at_hand.events_location).stat().st_size
    (reject,) = rejects_of(loader, parsed).to_dicts()
    assert (reject["position"], reject["raw_text"], reject["export_id"]) == (3, '{"a": 1}', "e1")


def test_parsing_again_replaces_what_was_there(loader: Loader) -> None:
    loader.keep([event(), {"a": 1}])
    first = loader.parse()
    loader.keep([event(), event(PageId=2)])
    second = loader.parse()
    assert second.parse_id != first.parse_id
    assert loader.dataset.require(DAY).rows_kept == 2
    assert sorted(keys(loader)) == [
        "events/window_start=20260601T0000Z/events.parquet",
        f"parses/window_start=20260601T0000Z/{second.parse_id}-rejects.parquet",
        f"parses/window_start=20260601T0000Z/{second.parse_id}.json",
    ]


@pytest.mark.parametrize("content", [b"", b"[]"])
def test_a_window_without_events_is_a_file_without_rows(loader: Loader, content: bytes) -> None:
    loader.keep(content)
    parsed = loader.parse()
    frame = events_of(loader, parsed)
    assert (frame.height, frame.schema["EventStart"], frame.schema["UserId"]) == (0, pl.Datetime("us"), pl.Int64)
    assert (parsed.rows_in, parsed.min_event_start_at, parsed.max_event_start_at) == (0, None, None)
    assert rejects_of(loader, parsed).height == 0


def test_a_window_of_rejects_only_keeps_all_of_them(loader: Loader) -> None:
    odd = ['"\\u0000"', '"\x00"', '{"a":"\\ud800"}', "é🎈\u2028", "x" * 100_000, '{"quote":"\\""}', "null"]
    loader.keep("\n".join(['{"b":1}', *odd]).encode())
    parsed = loader.parse()
    assert (parsed.rows_kept, parsed.rows_rejected) == (0, 8)
    assert rejects_of(loader, parsed)["raw_text"].to_list() == ['{"b":1}', *odd]


def test_twins_get_ids_of_their_own_whatever_their_order(loader: Loader) -> None:
    rows = [event(user_x_int=n % 3, PageDuration=n % 2) for n in range(12)] + [event(PageId=1)]
    loader.keep(rows)
    columns = ["_event_id", "CustomVars", "PageDuration", "PageId"]
    first = events_of(loader, loader.parse())
    loader.keep(rows[::-1])
    second = events_of(loader, loader.parse())
    assert first["_event_id"].n_unique() == 13
    assert set(first.select(columns).rows()) == set(second.select(columns).rows())
    assert first["PageId"].to_list() == second["PageId"].to_list()[::-1]


def test_the_rows_of_a_session_lie_together_in_the_order_they_came(loader: Loader) -> None:
    sent = [(1, 7, "b"), (2, 8, "a"), (1, 7, "a"), (2, 8, "b"), (1, 6, "c")]
    loader.keep([event(UserId=user, SessionId=session, PageName=page) for user, session, page in sent])
    kept = events_of(loader, loader.parse()).select("UserId", "SessionId", "PageName").rows()
    assert kept == [(1, 6, "c"), (1, 7, "b"), (1, 7, "a"), (2, 8, "a"), (2, 8, "b")]


@pytest.mark.parametrize(
    "rows",
    [[], [event()], [event(evt_a_int=1), event(evt_a_int=1, evt_b_strs=["é"])], [event(), event(PageId=2), event()]],
    ids=["no rows", "no variables", "variables", "twins apart"],
)
def test_duckdb_takes_custom_vars_for_json_and_polars_for_text(loader: Loader, rows: list[dict[str, Any]]) -> None:
    loader.keep(rows)
    parsed = loader.parse()
    assert events_of(loader, parsed).schema["CustomVars"] == pl.String
    with loader.dataset.at_hand(parsed) as at_hand, duckdb.connect() as connection:
        connection.read_parquet(at_hand.events_location).create_view("kept")
        types = connection.execute("SELECT column_name, column_type FROM (DESCRIBE kept)").fetchall()
        assert [name for name, column_type in types if column_type == "JSON"] == ["CustomVars"]
        said = connection.execute("SELECT CustomVars->>'evt_b_strs' FROM kept WHERE CustomVars IS NOT NULL").fetchall()
        assert said == [(None if "evt_b_strs" not in row else '["é"]',) for row in rows if "evt_a_int" in row]


def test_a_footer_that_is_written_otherwise_is_left_as_it_is(tmp_path: Path) -> None:
    kept = tmp_path / "events.parquet"
    rows = pl.DataFrame({"a": [1], "CustomVars": ["{}"]})
    for column in ("a", "b"):
        sink_parquet(rows.lazy(), str(kept), "p", json_column=column)
        assert pl.read_parquet(kept).equals(rows)


def test_a_bundle_that_breaks_off_leaves_the_parse_before_it(loader: Loader) -> None:
    loader.keep([event()])
    before = loader.parse()
    kept = keys(loader)
    loader.keep(json.dumps([event()] * 3).encode()[:-1])
    with pytest.raises(BundleFormatError, match="ends inside its JSON array"):
        loader.parse()
    assert loader.dataset.get(DAY) == before
    assert keys(loader) == kept


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_failure_at_any_step_of_publishing_leaves_the_parse_before_it(
    loader: Loader, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    loader.keep([event()])
    before = loader.parse()
    loader.keep([event(), event(PageId=2)])
    publish, n_published = loader.objects.publish, 0

    def failing(key: str, source: Path) -> None:
        nonlocal n_published
        n_published += 1
        if n_published == nth:
            raise OSError(28, "No space left on device")
        publish(key, source)

    with monkeypatch.context() as patched:
        patched.setattr(loader.objects, "publish", failing)
        with pytest.raises(OSError, match="No space"):
            loader.parse()
    assert loader.dataset.get(DAY) == before
    assert events_of(loader, before).height == 1
    assert rejects_of(loader, before).height == 0
    # The next parse clears away what the failed one had published.
    loader.parse()
    assert len(keys(loader)) == 3


def test_a_window_that_was_not_parsed_is_missed_by_name(loader: Loader) -> None:
    assert loader.dataset.get(DAY) is None
    assert loader.dataset.size(DAY) == 0
    with pytest.raises(BundleMissingError, match=r"2026-06-01 00:00 to .*parsed_events"):
        loader.dataset.require(DAY)


def test_a_deleted_window_leaves_nothing(loader: Loader) -> None:
    loader.keep([event()])
    loader.parse()
    loader.dataset.delete(DAY)
    assert loader.dataset.get(DAY) is None
    assert keys(loader) == []


def test_engines_read_the_folder_of_events_as_a_hive_dataset(
    tmp_path: Path, open_database_of: Callable[[str], OpenDatabase], folder: LocalStore
) -> None:
    loader = Loader(tmp_path, open_database_of("file"), folder)
    loader.keep([event(), {"a": 1}])
    loader.parse()
    events = folder.root / "events"
    assert {path.name for path in events.rglob("*") if path.is_file()} == {"events.parquet"}
    rows = duckdb.sql(
        f"SELECT UserId, window_start FROM read_parquet('{events}/**/*.parquet', hive_partitioning = true)"
    )
    assert rows.fetchall() == [(5189870820212736, "20260601T0000Z")]
    assert pl.scan_parquet(events, hive_partitioning=True).collect().height == 1


def test_polars_reads_the_events_of_a_bucket_as_a_hive_dataset(loader: Loader, objects: ObjectStore) -> None:
    loader.keep([event(), {"a": 1}])
    loader.parse()
    # Credentials, region and endpoint are where it looks for them itself.
    rows = pl.scan_parquet(f"{objects.location('events')}/", hive_partitioning=True)
    assert rows.select("UserId", "window_start").collect().rows() == [(5189870820212736, "20260601T0000Z")]
