"""Downloads of a segment export that break, drip, expire, lead astray or bring something else."""

from __future__ import annotations

import gzip
import hashlib
from typing import Any

import pytest

from fullstory_dagster.api import FullStoryClient, RetryPolicy, Timeouts
from fullstory_dagster.errors import (
    BundleFormatError,
    BundleIncompleteError,
    ConnectionFailedError,
    LocationExpiredError,
    RequestRefusedError,
)
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import EVENTS, MakeClient
from .fetching import count, fetch, rows_of


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


@pytest.mark.parametrize("fault", [BROKEN[0], BROKEN[-1]], ids=lambda fault: next(iter(fault)))
def test_a_bundle_that_stays_broken_is_exported_anew_and_then_given_up(
    client: FullStoryClient, simulator: SimulatorProcess, fault: dict[str, Any]
) -> None:
    simulator.set_faults([{"route": "location", **fault, "times": -1}])
    with pytest.raises((BundleIncompleteError, BundleFormatError)):
        fetch(client)
    assert (count(simulator, "export_start"), count(simulator, "location")) == (3, 6)
