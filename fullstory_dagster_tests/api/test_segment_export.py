"""The segment export against the simulator, over real HTTP: from a window to a whole file, whatever comes between."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from typing import Any

import pytest

from fullstory_dagster.api import FetchedBundle, FullStoryClient, RetryPolicy, Timeouts
from fullstory_dagster.errors import (
    AuthenticationError,
    BundleFormatError,
    BundleIncompleteError,
    ConnectionFailedError,
    ExportFailedError,
    ExportTimeoutError,
    LocationExpiredError,
    RateLimitedError,
    RequestRefusedError,
    ServerError,
)
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import CANARY_KEY, DAY, EVENTS, MakeClient

ROUTES = {"POST /segments/v1/exports": "export_start", "/operations/": "operation", "/results": "results"}


def fetch(client: FullStoryClient, **options: Any) -> tuple[FetchedBundle, bytes]:
    file = io.BytesIO()
    fetched = client.fetch_segment_export(DAY, segment_id="everyone", into=file, **options)
    return fetched, file.getvalue()


def rows_of(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(content).splitlines()]


def routes(simulator: SimulatorProcess) -> list[str]:
    """The routes asked, in order, each run of one route once with its length."""
    names = []
    for request in simulator.requests():
        asked = f"{request['method']} {request['path']}"
        names.append(next((name for part, name in ROUTES.items() if part in asked), "location"))
    return names


def count(simulator: SimulatorProcess, route: str) -> int:
    return routes(simulator).count(route)


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


@pytest.mark.parametrize("route", ["export_start", "operation", "results", "location"])
@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
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


@pytest.mark.parametrize("retry_after", ["1", "date"])
@pytest.mark.parametrize("route", ["export_start", "location"])
def test_a_rate_limit_is_waited_for_as_long_as_it_asks(
    client: FullStoryClient, simulator: SimulatorProcess, route: str, retry_after: str
) -> None:
    # The date form is measured in whole seconds; the past asks for no wait.
    header = "Wed, 03 Jun 2026 12:00:00 GMT" if retry_after == "date" else retry_after
    simulator.set_faults([{"route": route, "status": 429, "retry_after": header}])
    fetch(client)
    first, second = [r["at"] for r, name in zip(simulator.requests(), routes(simulator), strict=True) if name == route]
    assert second - first >= (1.0 if retry_after == "1" else 0.0)
    assert second - first < 2.0


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


@pytest.mark.parametrize("form", ["reset_after_bytes", "short_body_bytes"])
def test_a_download_that_breaks_goes_on_where_it_broke(
    client: FullStoryClient, simulator: SimulatorProcess, form: str
) -> None:
    undisturbed, content = fetch(client)
    simulator.clear()
    simulator.set_faults([{"route": "location", form: 20_000, "times": 1}])
    fetched, resumed = fetch(client)
    assert rows_of(resumed) == rows_of(content)
    assert fetched.sha256 == hashlib.sha256(resumed).hexdigest() == undisturbed.sha256
    assert fetched.n_attempts == 2
    first, second = [r for r in simulator.requests() if r["path"].startswith("/export-files/")]
    assert "range" not in first["headers"]
    if form == "reset_after_bytes" and second["status"] == 200:
        return  # a reset may throw away what had arrived; then there is nothing to go on from
    start = int(second["headers"]["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 20_000
    assert second["status"] == 206


def test_a_download_whose_server_ignores_ranges_begins_again(
    client: FullStoryClient, simulator: SimulatorProcess
) -> None:
    undisturbed, _ = fetch(client)
    simulator.clear()
    # gzip_twice answers 200 with another file, whatever the range.
    simulator.set_faults([{"route": "location", "short_body_bytes": 20_000}, {"route": "location", "gzip_twice": True}])
    fetched, content = fetch(client)
    assert hashlib.sha256(gzip.decompress(content)).hexdigest() == undisturbed.sha256
    assert fetched.n_attempts == 2


def test_a_download_that_always_breaks_is_given_up(make_client: MakeClient, simulator: SimulatorProcess) -> None:
    client = make_client(retry=RetryPolicy(max_requests=4, backoff_base_s=0.001))
    simulator.set_faults([{"route": "location", "reset_after_bytes": 0, "times": -1}])
    with pytest.raises(ConnectionFailedError):
        fetch(client)
    assert count(simulator, "location") == 4
    assert count(simulator, "export_start") == 1


def test_a_drip_under_the_least_speed_is_given_up(make_client: MakeClient, simulator: SimulatorProcess) -> None:
    client = make_client(
        timeouts=Timeouts(read_s=2, poll_s=0.01, stall_s=0.3, min_bytes_per_s=50_000),
        retry=RetryPolicy(max_requests=2, backoff_base_s=0.001),
    )
    simulator.set_faults([{"route": "location", "drip_bytes_per_s": 1000, "times": -1}])
    with pytest.raises(ConnectionFailedError, match="bytes a second, less than the 50,000"):
        fetch(client)
    assert count(simulator, "location") == 2


def test_a_drip_over_the_least_speed_arrives(make_client: MakeClient, simulator: SimulatorProcess) -> None:
    client = make_client(timeouts=Timeouts(read_s=2, poll_s=0.01, stall_s=0.2, min_bytes_per_s=10_000))
    simulator.set_faults([{"route": "location", "drip_bytes_per_s": 200_000, "times": -1}])
    fetched, content = fetch(client)
    assert len(rows_of(content)) == len(EVENTS)
    assert fetched.n_attempts == 1


def test_a_download_past_its_deadline_is_given_up(make_client: MakeClient, simulator: SimulatorProcess) -> None:
    client = make_client(timeouts=Timeouts(read_s=2, poll_s=0.01, download_s=0.3))
    simulator.set_faults([{"route": "location", "drip_bytes_per_s": 1000, "times": -1}])
    with pytest.raises(ConnectionFailedError, match=r"not complete after 0\.3 s"):
        fetch(client)
    assert count(simulator, "location") == 1


def test_a_json_answer_that_drips_is_given_up(make_client: MakeClient, simulator: SimulatorProcess) -> None:
    client = make_client(timeouts=Timeouts(read_s=2, answer_s=0.2), retry=RetryPolicy(max_requests=1))
    simulator.set_faults([{"route": "export_start", "drip_bytes_per_s": 20, "times": -1}])
    with pytest.raises(ConnectionFailedError, match=r"not complete after 0\.2 s"):
        fetch(client)


def test_an_expired_location_is_asked_for_again(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "results", "expired_location": True}])
    fetch(client)
    assert (count(simulator, "results"), count(simulator, "location"), count(simulator, "export_start")) == (2, 2, 1)


@pytest.mark.parametrize("status", [400, 403, 410])
def test_every_way_of_saying_expired_gets_a_fresh_location(
    client: FullStoryClient, simulator: SimulatorProcess, status: int
) -> None:
    simulator.set_faults([{"route": "location", "status": status}])
    fetch(client)
    assert count(simulator, "results") == 2


def test_a_location_that_expires_in_the_middle_is_renewed_and_the_download_goes_on(
    client: FullStoryClient, simulator: SimulatorProcess
) -> None:
    simulator.set_faults(
        [{"route": "location", "short_body_bytes": 20_000}, {"route": "location", "expired_location": True}]
    )
    fetched, content = fetch(client)
    assert fetched.n_attempts == 3
    assert simulator.requests()[-1]["status"] == 206
    assert len(rows_of(content)) == len(EVENTS)


def test_locations_that_are_always_expired_are_given_up(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "results", "expired_location": True, "times": -1}])
    with pytest.raises(LocationExpiredError, match=r"\(3 locations were tried\)"):
        fetch(client)
    assert (count(simulator, "location"), count(simulator, "export_start")) == (3, 1)


@pytest.mark.parametrize(
    "location",
    [
        "http://storage.example.com/file?signature=s3cr3t",
        "ftp://127.0.0.1/file?signature=s3cr3t",
        "file:///etc/passwd?signature=s3cr3t",
        "https://user:s3cr3t@storage.example.com/file",
        "//127.0.0.1/s3cr3t",
        "https://[s3cr3t",
    ],
)
def test_a_location_that_is_not_https_is_refused_and_not_quoted(
    client: FullStoryClient, simulator: SimulatorProcess, location: str
) -> None:
    simulator.set_faults([{"route": "results", "location": location}])
    with pytest.raises(RequestRefusedError) as caught:
        fetch(client)
    assert "s3cr3t" not in str(caught.value)
    assert count(simulator, "location") == 0


@pytest.mark.parametrize("route", ["export_start", "operation", "results", "location"])
def test_a_redirect_is_not_followed(client: FullStoryClient, simulator: SimulatorProcess, route: str) -> None:
    simulator.set_faults([{"route": route, "redirect": f"{simulator.url}/stolen?token=s3cr3t", "times": -1}])
    with pytest.raises(RequestRefusedError, match=r"redirected to 127\.0\.0\.1") as caught:
        fetch(client)
    assert "s3cr3t" not in str(caught.value)
    assert not [r for r in simulator.requests() if r["path"] == "/stolen"]
    assert count(simulator, route) == 1


@pytest.mark.parametrize("route", ["export_start", "operation", "results", "location"])
def test_an_html_page_is_refused_at_once(client: FullStoryClient, simulator: SimulatorProcess, route: str) -> None:
    simulator.set_faults([{"route": route, "html": True, "times": -1}])
    with pytest.raises(RequestRefusedError, match="HTML page") as caught:
        fetch(client)
    assert caught.value.setting == "FULLSTORY_API_URL"
    assert count(simulator, route) == 1


def test_an_empty_answer_is_asked_again(client: FullStoryClient, simulator: SimulatorProcess) -> None:
    simulator.set_faults([{"route": "operation", "empty_body": True}])
    fetch(client)


@pytest.mark.parametrize(("form", "n_layers"), [("plain_json", 0), ("gzip_twice", 2)])
def test_a_proxy_may_have_changed_the_packing(
    client: FullStoryClient, simulator: SimulatorProcess, form: str, n_layers: int
) -> None:
    simulator.set_faults([{"route": "location", form: True}])
    fetched, content = fetch(client)
    assert fetched.sha256 == hashlib.sha256(content).hexdigest()
    for _ in range(n_layers):
        content = gzip.decompress(content)
    assert len(content.splitlines()) == len(EVENTS)


BROKEN = [{"truncate_gzip_bytes": 20_000}, {"cut_json": True}, {"empty_body": True}, {"corrupt_gzip": True}]


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: next(iter(fault)))
def test_a_bundle_that_arrives_broken_is_downloaded_again(
    client: FullStoryClient, simulator: SimulatorProcess, fault: dict[str, Any]
) -> None:
    simulator.set_faults([{"route": "location", **fault}])
    fetched, content = fetch(client)
    assert len(rows_of(content)) == len(EVENTS)
    assert fetched.n_attempts == 2
    assert count(simulator, "export_start") == 1


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: next(iter(fault)))
def test_a_bundle_that_stays_broken_is_exported_anew_and_then_given_up(
    client: FullStoryClient, simulator: SimulatorProcess, fault: dict[str, Any]
) -> None:
    simulator.set_faults([{"route": "location", **fault, "times": -1}])
    with pytest.raises((BundleIncompleteError, BundleFormatError)):
        fetch(client)
    assert (count(simulator, "export_start"), count(simulator, "location")) == (3, 6)


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
    with pytest.raises(ExportTimeoutError, match=r"still RUNNING after 0 s"):
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
