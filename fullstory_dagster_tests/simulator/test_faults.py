"""Each fault over real HTTP: what a client of FullStory would meet."""

from __future__ import annotations

import gzip
import http.client
import json
import time
import urllib.error
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fullstory_dagster.simulator.config import SimulatorConfig
from fullstory_dagster.simulator.process import SimulatorProcess

from .http_client import Answer, api, call, export_request, location

# Long enough for several pieces of a body, and hard to pack.
EVENTS = [
    {
        "UserId": 2**60 + n,
        "SessionId": n * 7919 % 104729,
        "EventStart": "2026-06-01T10:00:00Z",
        "EventType": "click",
        "EventTargetText": f"{n * 2654435761 % 2**32:x}{n * 40503 % 65537:x}",
    }
    for n in range(8000)
]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatorProcess]:
    data = tmp_path_factory.mktemp("data") / "events.json"
    data.write_text(json.dumps(EVENTS))
    with SimulatorProcess(SimulatorConfig(data=data, export_s=0)) as simulator:
        yield simulator


@pytest.fixture
def simulator(started: SimulatorProcess) -> SimulatorProcess:
    started.clear()
    return started


def bundle(simulator: SimulatorProcess) -> Answer:
    listed = api(simulator, "/api/v1/export/list?start=0").json()["exports"]
    return api(simulator, f"/api/v1/export/get?id={listed[0]['Id']}")


def test_a_status_comes_with_its_retry_after_and_so_many_times(simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "list", "status": 429, "retry_after": "Wed, 21 Oct 2026 07:28:00 GMT", "times": 2}])
    answers = [api(simulator, "/api/v1/export/list?start=0") for _ in range(3)]
    assert [answer.status for answer in answers] == [429, 429, 200]
    assert answers[0].headers["retry-after"] == "Wed, 21 Oct 2026 07:28:00 GMT"
    assert [request["status"] for request in simulator.requests()] == [429, 429, 200]


def test_a_fault_waits_for_those_it_skips_and_can_last_for_ever(simulator: SimulatorProcess) -> None:
    simulator.set_faults(
        [{"route": "list", "status": 503, "skip": 1, "times": -1, "body": "gone", "headers": {"X-A": "b"}}]
    )
    answers = [api(simulator, "/api/v1/export/list?start=0") for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 503, 503, 503]
    assert answers[1].body == b"gone"
    assert answers[1].headers["x-a"] == "b"
    simulator.set_faults([])
    assert api(simulator, "/api/v1/export/list?start=0").status == 200


def test_a_connection_is_reset_in_the_middle_of_a_body(simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "location", "reset_after_bytes": 70_000}])
    url = location(simulator)
    with pytest.raises(ConnectionResetError):
        call(url)
    assert len(call(url).body) > 70_000


def test_a_connection_is_reset_before_any_byte_of_the_body(simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "export_start", "reset_after_bytes": 0}])
    with pytest.raises((ConnectionResetError, urllib.error.URLError)):
        api(simulator, "/segments/v1/exports", method="POST", document=export_request())


def test_a_body_ends_before_the_length_it_announced(simulator: SimulatorProcess) -> None:
    whole = bundle(simulator).body
    simulator.set_faults([{"route": "get", "short_body_bytes": 65_536}])
    with pytest.raises(http.client.IncompleteRead) as failure:
        bundle(simulator)
    assert failure.value.partial == whole[:65_536]
    assert failure.value.expected == len(whole) - 65_536


@pytest.mark.parametrize("route", ["get", "location"])
def test_a_gzip_file_is_cut_or_corrupt_though_its_length_is_right(simulator: SimulatorProcess, route: str) -> None:
    def download() -> Answer:
        return bundle(simulator) if route == "get" else call(location(simulator))

    whole = download().body
    simulator.set_faults([{"route": route, "truncate_gzip_bytes": 1000}, {"route": route, "corrupt_gzip": True}])
    assert download().body == whole[:1000]
    corrupt = download().body
    assert len(corrupt) == len(whole)
    with pytest.raises((zlib.error, gzip.BadGzipFile)):
        gzip.decompress(corrupt)
    assert download().body == whole


def test_the_gzip_layer_is_missing_or_doubled_or_the_json_is_cut(simulator: SimulatorProcess) -> None:
    text = gzip.decompress(bundle(simulator).body)
    forms: list[dict[str, Any]] = [{"plain_json": True}, {"gzip_twice": True}, {"cut_json": True}, {"cut_json": 90}]
    simulator.set_faults([{"route": "get", **form} for form in forms])
    assert bundle(simulator).body == text
    assert gzip.decompress(gzip.decompress(bundle(simulator).body)) == text
    assert gzip.decompress(bundle(simulator).body) == text[: len(text) // 2]
    assert gzip.decompress(bundle(simulator).body) == text[:90]


def test_an_answer_is_a_page_or_nothing_or_a_redirect(simulator: SimulatorProcess) -> None:
    elsewhere = "http://localhost:9/elsewhere"
    simulator.set_faults([
        {"route": "list", "html": True},
        {"route": "list", "empty_body": True},
        {"route": "list", "redirect": elsewhere},
    ])  # fmt: skip
    page, nothing, moved = (api(simulator, "/api/v1/export/list?start=0") for _ in range(3))
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert (nothing.status, nothing.body) == (200, b"")
    assert (moved.status, moved.headers["location"]) == (302, elsewhere)


def test_a_body_comes_slowly(simulator: SimulatorProcess) -> None:
    url = location(simulator)
    whole = call(url).body
    simulator.set_faults([{"route": "location", "drip_bytes_per_s": len(whole) * 4}])
    began = time.monotonic()
    assert call(url).body == whole
    assert time.monotonic() - began > 0.2


def test_an_operation_fails_or_never_ends(simulator: SimulatorProcess) -> None:
    simulator.set_faults([
        {"route": "operation", "operation_state": "RUNNING"},
        {"route": "operation", "operation_state": "FAILED", "error_details": "too many events"},
    ])  # fmt: skip
    begun = api(simulator, "/segments/v1/exports", method="POST", document=export_request()).json()
    running, failed, real = (api(simulator, f"/operations/v1/{begun['operationId']}").json() for _ in range(3))
    assert (running["state"], running["errorDetails"]) == ("RUNNING", "")
    assert running["estimatePctComplete"] < 100
    assert (failed["state"], failed["errorDetails"]) == ("FAILED", "too many events")
    assert "results" not in failed
    assert real["state"] in ("PENDING", "COMPLETED")


def test_a_location_is_expired_or_leads_elsewhere(simulator: SimulatorProcess) -> None:
    simulator.set_faults([
        {"route": "results", "expired_location": True},
        {"route": "results", "location": "http://localhost:9/elsewhere"},
        {"route": "location", "expired_location": True, "skip": 1},
    ])  # fmt: skip
    assert call(location(simulator)).status == 403
    assert location(simulator) == "http://localhost:9/elsewhere"
    url = location(simulator)
    assert [call(url).status, call(url).status] == [403, 200]


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"route": "lists", "status": 500}, "route"),
        ({"route": "list"}, "exactly one form"),
        ({"route": "list", "status": 500, "html": True}, "exactly one form"),
        ({"route": "list", "html": True, "retry_after": "1"}, "retry_after"),
        ({"route": "list", "operation_state": "FAILED"}, "operation_state"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused_with_a_sentence(
    simulator: SimulatorProcess, fault: dict[str, Any], word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        simulator.set_faults([fault])


def test_a_wrong_key_stays_a_wrong_key_under_a_fault_that_rewrites(simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "get", "plain_json": True}])
    assert call(f"{simulator.url}/api/v1/export/get?id=1").status == 401


def test_the_data_file_may_be_ndjson_and_packed(tmp_path: Path) -> None:
    data = tmp_path / "events.ndjson.gz"
    data.write_bytes(gzip.compress(b"\n".join(json.dumps(event).encode() for event in EVENTS[:3]) + b"\n17\n"))
    with SimulatorProcess(SimulatorConfig(data=data)) as other:
        # A line that is no object is served as it stands: clients have to cope with it.
        assert json.loads(gzip.decompress(bundle(other).body)) == [*EVENTS[:3], 17]
