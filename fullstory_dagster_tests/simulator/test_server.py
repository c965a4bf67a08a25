"""Both export APIs over real HTTP, against a simulator in a process of its own."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.fields import FIELDS
from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

from .http_client import (
    api,
    call,
    export,
    export_request,
    location,
)

# Two days, nine hours of nothing between them, and texts that must come out as they went in.
EVENTS = """[
{"UserId":9007199254740993,"SessionId":1,"EventStart":"2026-06-01T23:59:59.999Z","EventType":"click","evt_price_real":1.50},
{"UserId":9007199254740993,"SessionId":1,"EventStart":"2026-06-02T00:00:00Z","EventType":"custom","evt_order.total_real":49.90,
 "evt_order_total_real":1E2,"evt_sizes_strs":["S",
 "M"],"page_tea_str":"gr\\u00fcn","user_plan_str":null,"EventTargetText":"a, \\"b\\"\\nc"},
{"UserId":5,"SessionId":2,"EventStart":"2026-06-02T09:00:00.1Z","EventType":"click"}
]"""

JUNE_2 = {"start": "2026-06-02T00:00:00Z", "end": "2026-06-03T00:00:00Z"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("data") / "events.json"
    data.write_text(EVENTS)
    config = SimulatorConfig(data=data, export_s=0.05, bundle_hours=6)
    with SimulatorProcess(config) as simulator:
        yield simulator


@pytest.fixture
def simulator(started: SimulatorProcess) -> SimulatorProcess:
    started.clear()
    return started


@pytest.mark.parametrize("header", [None, "Basic wrong", "Basic c2ltdWxhdG9yLWtleTo=", "simulator-key"])
def test_a_wrong_key_is_answered_401_with_a_json_error(simulator: SimulatorProcess, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for path in ("/operations/v1?type=SEARCH_EXPORT", "/operations/v1/1", "/search/v1/exports/1/results"):
        answer = call(simulator.url + path, headers=headers)
        assert answer.status == 401
        assert set(answer.json()) == {"code", "message"}
    legacy = call(f"{simulator.url}/api/v1/export/list?start=0", headers=headers)
    assert legacy.status == 401
    assert set(legacy.json()) == {"error"}


def test_bearer_is_taken_by_the_segment_export_only(simulator: SimulatorProcess) -> None:
    headers = {"Authorization": f"Bearer {simulator.api_key}"}
    assert call(f"{simulator.url}/operations/v1", headers=headers).status == 200
    assert call(f"{simulator.url}/api/v1/export/list?start=0", headers=headers).status == 401


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"fields": ["EventType", "EventType"]}, "more than once"),
        ({"fields": ["EventTyp"]}, "EventTyp"),
        ({"format": "FORMAT_XML"}, "format"),
        ({"type": "TYPE_PAGE"}, "type"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timeRange": {"start": "yesterday", "end": ""}}, "timeRange.start"),
        ({"timeRange": {"start": JUNE_2["end"], "end": JUNE_2["start"]}}, "ends before"),
        ({"eventDetails": {"scope": "SCOPE_CLICKS"}}, "eventDetails"),
        ({"formats": "FORMAT_CSV"}, "formats"),
    ],
)
def test_a_request_that_makes_no_sense_is_answered_400(
    simulator: SimulatorProcess, change: dict[str, Any], word: str
) -> None:
    answer = api(simulator, "/segments/v1/exports", method="POST", document=export_request(**change))
    assert answer.status == 400
    assert word in answer.json()["message"]


def test_an_unknown_segment_or_operation_is_answered_404(simulator: SimulatorProcess) -> None:
    unknown = api(simulator, "/segments/v1/exports", method="POST", document=export_request(segmentId="buyers"))
    assert unknown.status == 404
    assert api(simulator, "/operations/v1/none").status == 404
    assert api(simulator, "/search/v1/exports/none/results").status == 404
    assert api(simulator, "/no/such/route").status == 404


def test_an_operation_is_pending_with_a_growing_percentage_and_then_complete(tmp_path: Path) -> None:
    data = tmp_path / "events.json"
    data.write_text(EVENTS)
    seen: list[dict[str, Any]] = []
    with SimulatorProcess(SimulatorConfig(data=data, export_s=0.6)) as simulator:
        begun = api(simulator, "/segments/v1/exports", method="POST", document=export_request()).json()
        assert list(begun) == ["operationId"]
        while not seen or seen[-1]["state"] != "COMPLETED":
            seen.append(api(simulator, f"/operations/v1/{begun['operationId']}").json())
        listed = api(simulator, "/operations/v1?type=SEARCH_EXPORT").json()["results"]
    percentages = [operation["estimatePctComplete"] for operation in seen]
    assert percentages == sorted(percentages)
    assert len(set(percentages)) > 3
    assert percentages[-1] == 100
    assert {operation["state"] for operation in seen} == {"PENDING", "COMPLETED"}
    assert "results" not in seen[0]
    assert seen[-1]["results"].keys() == {"searchExportId", "expires"}
    assert listed == [seen[-1]]


def test_the_time_range_takes_its_start_and_leaves_its_end(simulator: SimulatorProcess) -> None:
    starts = [
        json.loads(line)["EventStart"]
        for line in export(
            simulator, timeRange={"start": JUNE_2["start"], "end": "2026-06-02T09:00:00.100Z"}
        ).splitlines()
    ]
    assert starts == ["2026-06-02T00:00:00Z"]


def test_an_empty_bound_of_the_time_range_is_open(simulator: SimulatorProcess) -> None:
    assert len(export(simulator, timeRange={"start": "", "end": ""}).splitlines()) == 3
    assert len(export(simulator, timeRange={"start": JUNE_2["start"], "end": ""}).splitlines()) == 2


def test_values_of_a_file_come_out_with_their_own_text(simulator: SimulatorProcess) -> None:
    first, second, _ = export(simulator).splitlines()
    assert first == (
        b'{"UserId":9007199254740993,"SessionId":1,"EventStart":"2026-06-01T23:59:59.999Z",'
        b'"EventType":"click","evt_price_real":1.50}'
    )
    assert b'"evt_order.total_real":49.90,"evt_order_total_real":1E2,"evt_sizes_strs":["S","M"]' in second
    assert b'"gr\\u00fcn"' in second


def test_json_is_one_array_with_a_row_a_line(simulator: SimulatorProcess) -> None:
    content = export(simulator, format="FORMAT_JSON")
    assert content.startswith(b'[{"UserId"')
    assert content.endswith(b"}]")
    assert len(content.splitlines()) == len(json.loads(content)) == 3
    assert export(simulator, format="FORMAT_JSON", timeRange={"start": "", "end": "2026-01-01T00:00:00Z"}) == b"[]"


def test_csv_has_a_header_and_a_row_for_each_event(simulator: SimulatorProcess) -> None:
    text = export(simulator, format="FORMAT_CSV", timeRange=JUNE_2).decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 2
    header = list(rows[0])
    assert header[: len(FIELDS)] == [field.name for field in FIELDS]
    assert header[len(FIELDS) :] == sorted(header[len(FIELDS) :])
    assert rows[0]["evt_order.total_real"] == "49.90"
    assert rows[0]["EventTargetText"] == 'a, "b"\nc'
    assert rows[0]["page_tea_str"] == "grün"
    assert rows[0]["user_plan_str"] == ""
    assert json.loads(rows[0]["evt_sizes_strs"]) == ["S", "M"]


def test_only_the_fields_asked_for_are_exported(simulator: SimulatorProcess) -> None:
    fields = ["EventStart", "evt_*", "user_*"]
    _, row, _ = map(json.loads, export(simulator, fields=fields).splitlines())
    assert set(row) == {
        "EventStart", "evt_order.total_real", "evt_order_total_real", "evt_sizes_strs", "user_plan_str",
    }  # fmt: skip
    header = export(simulator, format="FORMAT_CSV", fields=["EventType", "UserId"]).splitlines()[0]
    assert header == b"EventType,UserId"


def test_the_location_is_on_another_host_and_refuses_the_key(simulator: SimulatorProcess) -> None:
    url = location(simulator)
    assert url.startswith(f"http://localhost:{simulator.port}/")
    assert call(url).status == 200
    refused = call(url, headers={"Authorization": f"Basic {simulator.api_key}"})
    assert refused.status == 400
    assert refused.headers["content-type"].startswith("application/xml")
    assert [
        r["headers"].get("authorization") for r in simulator.requests() if r["path"].startswith("/export-files/")
    ] == [
        None,
        f"Basic {simulator.api_key}",
    ]


def test_a_location_is_refused_once_expired_or_changed(simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "results", "expired_location": True}])
    expired, fresh = call(location(simulator)), location(simulator)
    assert expired.status == 403
    assert b"expired" in expired.body
    assert call(fresh).status == 200
    assert call(fresh[:-1] + ("0" if fresh[-1] != "0" else "1")).status == 403


def test_a_location_gives_ranges(simulator: SimulatorProcess) -> None:
    url = location(simulator)
    whole = call(url)
    part = call(url, headers={"Range": "bytes=10-"})
    assert part.status == 206
    assert part.body == whole.body[10:]
    assert part.headers["content-range"] == f"bytes 10-{len(whole.body) - 1}/{len(whole.body)}"
    assert call(url, headers={"Range": "bytes=0-4"}).body == whole.body[:5]
    assert call(url, headers={"Range": "bytes=-4"}).body == whole.body[-4:]
    assert call(url, headers={"Range": f"bytes={len(whole.body)}-"}).status == 416
    assert call(url, headers={"Range": "bytes=10-", "If-Range": '"another"'}).status == 200
    assert call(url, headers={"Range": "bytes=10-", "If-Range": whole.headers["etag"]}).status == 206


def test_the_same_export_has_the_same_bytes(simulator: SimulatorProcess) -> None:
    assert call(location(simulator)).body == call(location(simulator)).body


def test_bundles_cover_the_days_of_the_file_without_gap_or_overlap(simulator: SimulatorProcess) -> None:
    bundles = api(simulator, "/api/v1/export/list?start=0").json()["exports"]
    assert len(bundles) == 8
    assert all(earlier["Stop"] == later["Start"] for earlier, later in itertools.pairwise(bundles))
    assert datetime.fromtimestamp(bundles[0]["Start"], timezone.utc) == datetime(2026, 6, 1, tzinfo=timezone.utc)
    assert {bundle["Stop"] - bundle["Start"] for bundle in bundles} == {6 * 3600}
    after = api(simulator, f"/api/v1/export/list?start={bundles[5]['Stop']}").json()["exports"]
    assert after == bundles[6:]


def test_a_bundle_is_a_gzip_file_of_one_json_array(simulator: SimulatorProcess) -> None:
    bundles = api(simulator, "/api/v1/export/list?start=0").json()["exports"]
    answer = api(simulator, f"/api/v1/export/get?id={bundles[5]['Id']}")
    assert answer.headers["content-type"] == "application/gzip"
    assert "DataExport.json.gz" in answer.headers["content-disposition"]
    assert [row["UserId"] for row in json.loads(gzip.decompress(answer.body))] == [5]
    assert api(simulator, "/api/v1/export/get?id=nonsense").status == 404


def test_bundles_set_by_a_test_are_listed_and_cut_by_event_start(simulator: SimulatorProcess) -> None:
    noon_1, noon_2 = 1780315200, 1780401600
    simulator.set_bundles([{"Id": "odd", "Start": noon_1, "Stop": noon_2}])
    assert api(simulator, "/api/v1/export/list?start=0").json()["exports"] == [
        {"Id": "odd", "Start": noon_1, "Stop": noon_2}
    ]
    assert len(json.loads(gzip.decompress(api(simulator, "/api/v1/export/get?id=odd").body))) == 3
    with pytest.raises(ValueError, match="Id, Start and Stop"):
        simulator.set_bundles([{"Id": 1}])


def test_every_request_is_recorded_with_what_it_said(simulator: SimulatorProcess) -> None:
    api(simulator, "/api/v1/export/list?start=7")
    api(simulator, "/segments/v1/exports", method="POST", document=export_request())
    listed, started = simulator.requests()
    assert (listed["method"], listed["path"], listed["query"]) == ("GET", "/api/v1/export/list", {"start": "7"})
    assert listed["headers"]["authorization"] == "Basic simulator-key"
    assert json.loads(started["body"])["segmentId"] == "everyone"
    assert started["status"] == 200
    assert started["at"] >= listed["at"]


def test_downloads_of_bundles_are_limited_for_each_key(tmp_path: Path) -> None:
    data = tmp_path / "events.json"
    data.write_text(EVENTS)
    with SimulatorProcess(SimulatorConfig(data=data, rate_limit=2, rate_limit_s=30)) as simulator:
        bundle = api(simulator, "/api/v1/export/list?start=0").json()["exports"][0]
        path = f"/api/v1/export/get?id={bundle['Id']}"
        answers = [api(simulator, path) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert 28 <= int(answers[2].headers["retry-after"]) <= 30
        assert api(simulator, "/api/v1/export/list?start=0").status == 200


def test_traffic_lists_twenty_bundles_a_page_and_only_settled_ones() -> None:
    now = datetime(2026, 6, 30, 10, 30, tzinfo=timezone.utc)
    config = SimulatorConfig(days=7, now=now, bundle_hours=6, bundle_ids="text", scale=0.02)
    with SimulatorProcess(config) as simulator:
        listed: list[dict[str, Any]] = []
        pages = 0
        start = 0
        while page := api(simulator, f"/api/v1/export/list?start={start}").json()["exports"]:
            listed += page
            start = page[-1]["Stop"]
            pages += 1
            assert len(page) <= 20
    # Seven settled days of four bundles, and of the day after them what had ended 24 h before the present.
    assert len(listed) == 7 * 4 + 1
    assert pages == 2
    assert {type(bundle["Id"]) for bundle in listed} == {str}
    assert max(bundle["Stop"] for bundle in listed) + 24 * 3600 <= now.timestamp()
