"""The segment export against the simulator, over real HTTP: how it is asked for, refused, limited and polled."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import time
from email.utils import formatdate
from typing import Any

import pytest

from fullstory_dagster.api import FullStoryClient, RetryPolicy, Timeouts
from fullstory_dagster.errors import (
    AuthenticationError,
    ExportFailedError,
    ExportTimeoutError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
)
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import CANARY_KEY, DAY, EVENTS, MakeClient
from .fetching import count, fetch, routes, rows_of


def test_a_window_arrives_whole_and_exact(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    fetched, content = fetch(client)
    rows = rows_of(content)
    assert len(rows) == len(EVENTS)
    assert {row["UserId"] for row in rows} == {event["UserId"] for event in EVENTS}
    assert (fetched.bytes, fetched.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert fetched.n_attempts == 1
    assert fetched.requested_at.tzinfo is not None
    assert fetched.requested_at <= fetched.received_at
    export_id = next(r["path"] for r in simulator.requests() if r["path"].endswith("/results")).split("/")[-2]
    assert fetched.export_id == export_id


def test_the_export_is_asked_for_as_documented(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    client.start_export(DAY, segment_id="everyone", fields=["UserId", "evt_*", "UserId"])
    (request,) = simulator.requests()
    assert request["headers"]["authorization"] == f"Basic {CANARY_KEY}"
    assert json.loads(request["body"]) == {
        "segmentId": "everyone",
        "type": "TYPE_EVENT",
        "format": "FORMAT_NDJSON",
        "timeRange": {"start": "2026-06-01T00:00:00Z", "end": "2026-06-02T00:00:00Z"},
        "segmentTimeRange": {"start": "", "end": ""},
        "timezone": "UTC",
        "fields": ["UserId", "evt_*"],
        "eventDetails": {"scope": "SCOPE_EVENTS"},
    }


@pytest.mark.parametrize("format", ["FORMAT_JSON", "FORMAT_CSV"])
def test_the_other_formats_arrive_too(client: FullStoryClient, format: str) -> None:
    _, content = fetch(client, format=format)
    assert gzip.decompress(content)


def test_the_key_is_never_sent_to_the_location_host(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    fetch(client)
    (request,) = [r for r in simulator.requests() if r["path"].startswith("/export-files/")]
    assert "authorization" not in request["headers"]
    assert CANARY_KEY not in json.dumps(request)


def test_a_netrc_entry_of_the_host_does_not_take_the_place_of_the_key(
    client: FullStoryClient, simulator: SimulatorProcess, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\nmachine localhost login a password b\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    fetch(client)
    sent = {r["path"].split("/")[1]: r["headers"].get("authorization") for r in simulator.requests()}
    assert sent.pop("export-files") is None
    assert set(sent.values()) == {f"Basic {CANARY_KEY}"}


@pytest.mark.parametrize(
    ("route", "status"),
    [("export_start", 500), ("operation", 502), ("results", 503), ("location", 504), ("location", 408)],
)
def test_a_server_failure_is_asked_again(
    client: FullStoryClient, simulator: SimulatorProcess, route: str, status: int
) -> None:
    simulator.set_faults([{"route": route, "status": status, "times": 2}])
    assert len(rows_of(fetch(client)[1])) == len(EVENTS)
    assert count(simulator, route) == 3
    assert count(simulator, "export_start") in (1, 3)


def test_a_server_that_stays_down_is_given_up_after_the_bound(
    make_client: MakeClient, simulator: SimulatorProcess
) -> None:
    client = make_client(retry=RetryPolicy(max_requests=3, backoff_base_s=0.001))
    simulator.set_faults([{"route": "operation", "status": 503, "times": -1}])
    with pytest.raises(ServerError, match=r"HTTP 503.*\(3 requests were tried\)\.$"):
        fetch(client)
    assert routes(simulator) == ["export_start"] + ["operation"] * 3


def times_of(simulator: SimulatorProcess, route: str) -> list[float]:
    return [r["at"] for r, name in zip(simulator.requests(), routes(simulator), strict=True) if name == route]


@pytest.mark.parametrize("route", ["export_start", "location"])
def test_a_rate_limit_in_seconds_is_waited_for(
    client: FullStoryClient, simulator: SimulatorProcess, route: str
) -> None:
    simulator.set_faults([{"route": route, "status": 429, "retry_after": "1"}])
    fetch(client)
    first, second = times_of(simulator, route)
    assert second - first >= 1.0


def test_a_rate_limit_with_a_date_is_waited_for(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    until = math.ceil(time.time())
    simulator.set_faults([{"route": "operation", "status": 429, "retry_after": formatdate(until, usegmt=True)}])
    fetch(client)
    assert times_of(simulator, "operation")[1] >= until


def test_a_rate_limit_that_asks_for_too_long_fails_at_once(
    client: FullStoryClient, simulator: SimulatorProcess
) -> None:
    simulator.set_faults([{"route": "export_start", "status": 429, "retry_after": "86400", "times": -1}])
    with pytest.raises(RateLimitedError, match="86,400 s, longer than the 300 s"):
        fetch(client)
    assert routes(simulator) == ["export_start"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (403, AuthenticationError),
        (404, RequestRefusedError),
        (405, RequestRefusedError),
        (413, RequestRefusedError),
    ],
)
def test_a_refusal_is_sent_once(
    client: FullStoryClient, simulator: SimulatorProcess, status: int, kind: type[Exception]
) -> None:
    simulator.set_faults([{"route": "export_start", "status": status, "times": -1}])
    with pytest.raises(kind, match=f"HTTP {status}: simulated_fault: a fault of status {status} was asked for"):
        fetch(client)
    assert routes(simulator) == ["export_start"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": "no such thing"}, "HTTP 404: no such thing"),
        ("plain  words\nover lines", "HTTP 404: plain words over lines"),
        ("x" * 5000, "x…"),
        ({"message": f"key {CANARY_KEY} is odd"}, r"key \*\*\* is odd"),
    ],
)
def test_an_error_is_quoted_briefly_and_without_the_key(
    client: FullStoryClient, simulator: SimulatorProcess, body: object, said: str
) -> None:
    simulator.set_faults([{"route": "results", "status": 404, "body": body}])
    with pytest.raises(RequestRefusedError, match=said) as caught:
        fetch(client)
    assert len(str(caught.value)) < 400
    assert CANARY_KEY not in str(caught.value)


def test_a_failed_operation_is_started_anew(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "operation", "operation_state": "FAILED"}])
    before = fetch(client)[0]
    assert count(simulator, "export_start") == 2
    assert before.n_attempts == 1


def test_an_operation_that_always_fails_is_given_up_with_its_details(
    client: FullStoryClient, simulator: SimulatorProcess
) -> None:
    simulator.set_faults(
        [
            {
                "route": "operation",
                "operation_state": "FAILED",
                "error_details": f"too big for {CANARY_KEY}",
                "times": -1,
            }
        ]
    )
    with pytest.raises(ExportFailedError, match=r"too big for \*\*\*.*\(3 operations were tried\)\.$"):
        fetch(client)
    assert count(simulator, "export_start") == 3


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "REHEATING"])
def test_any_other_state_is_still_going(client: FullStoryClient, simulator: SimulatorProcess, state: str) -> None:
    simulator.set_faults([{"route": "operation", "operation_state": state, "times": 3}])
    fetch(client)
    assert count(simulator, "operation") >= 4


def test_polling_ends_at_its_deadline(make_client: MakeClient, simulator: SimulatorProcess) -> None:
    client = make_client(timeouts=Timeouts(poll_s=0.05, export_s=0.2))
    simulator.set_faults([{"route": "operation", "operation_state": "RUNNING", "times": -1}])
    with pytest.raises(ExportTimeoutError, match=r"still RUNNING after 0\.2 s"):
        fetch(client)
    assert count(simulator, "export_start") == 1
    assert 2 <= count(simulator, "operation") <= 5


def test_a_wrong_key_fails_at_once_and_names_its_setting(make_client: MakeClient, simulator: SimulatorProcess) -> None:
    client = make_client(api_key="wrong-key")
    for ask in (client.check_key, lambda: client.check_key("bundle"), lambda: fetch(client)):
        simulator.clear()
        with pytest.raises(AuthenticationError, match="check FULLSTORY_API_KEY") as caught:
            ask()
        assert caught.value.setting == "FULLSTORY_API_KEY"
        assert len(simulator.requests()) == 1


def test_a_right_key_passes_the_check_of_both_apis(client: FullStoryClient) -> None:
    client.check_key()
    client.check_key("bundle")


def test_a_full_disk_is_no_broken_connection(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    class FullDisk(io.BytesIO):
        def write(self, _content: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        client.fetch_segment_export(DAY, segment_id="everyone", into=FullDisk())
    assert count(simulator, "location") == 1


def test_what_the_file_held_before_is_gone(client: FullStoryClient) -> None:
    file = io.BytesIO(b"x" * 1_000_000)
    file.seek(500)
    fetched = client.fetch_segment_export(DAY, segment_id="everyone", into=file)
    assert len(file.getvalue()) == fetched.bytes
