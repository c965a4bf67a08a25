"""The connection itself: what is refused before it is sent, what breaks, and what nobody may read."""

from __future__ import annotations

import io
import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3

from fullstory_dagster import api
from fullstory_dagster.api import (
    FileLedger,
    FullStoryClient,
    Location,
    RateLimiter,
    RetryPolicy,
    Timeouts,
    base_url_of_key,
)
from fullstory_dagster.api.redaction import quote_body, redact
from fullstory_dagster.errors import ConnectionFailedError, FullStoryError, RequestRefusedError, SettingsError
from fullstory_dagster.simulator.process import SimulatorProcess

from .conftest import CANARY_KEY, DAY, MakeClient
from .scripted_adapter import ScriptedAdapter

URL = "https://api.fullstory.com"


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("eu1.abc", "https://api.eu1.fullstory.com"),
        ("na1.abc", "https://api.fullstory.com"),
        ("abc", "https://api.fullstory.com"),
    ],
)
def test_the_data_centre_is_read_off_the_key(key: str, url: str) -> None:
    assert base_url_of_key(key) == url


@pytest.mark.parametrize("key", ["", " ", "two words", "line\nbreak", "tab\t", "clé"])
def test_a_key_that_cannot_be_sent_is_refused_without_being_quoted(make_client: MakeClient, key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_client(api_key=key)
    assert caught.value.setting == "FULLSTORY_API_KEY"
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.fullstory.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "https://user:secret@api.fullstory.com",
        "https://api.fullstory.com?x=1",
        "https://api.fullstory.com#x",
        "ftp://api.fullstory.com",
        "api.fullstory.com",
        "https://",
        "https://api.fullstory.com:port",
        "",
    ],
)
def test_an_address_that_is_not_https_is_refused(make_client: MakeClient, url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_client(base_url=url)
    assert caught.value.setting == "FULLSTORY_API_URL"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost:1/", "http://[::1]:1", "https://x.example.com/"]
)
def test_https_and_this_machine_are_allowed(make_client: MakeClient, url: str) -> None:
    make_client(base_url=url)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_refused_connection_is_tried_again_and_given_up(make_client: MakeClient) -> None:
    client = make_client(
        base_url=f"http://127.0.0.1:{free_port()}", retry=RetryPolicy(max_requests=3, backoff_base_s=0.001)
    )
    with pytest.raises(ConnectionFailedError, match=r"127\.0\.0\.1 .*Connection refused.*\(3 requests were tried\)\.$"):
        client.check_key()


def test_silence_ends_at_its_timeout(make_client: MakeClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = make_client(
            base_url=f"http://127.0.0.1:{server.getsockname()[1]}",
            timeouts=Timeouts(read_s=0.1),
            retry=RetryPolicy(max_requests=1),
        )
        began = time.monotonic()
        with pytest.raises(ConnectionFailedError, match=r"silence for 0\.1 s"):
            client.check_key()
        assert time.monotonic() - began < 2


def scripted(directory: Path, *answers: Any) -> FullStoryClient:
    return FullStoryClient(
        api_key=CANARY_KEY,
        base_url=URL,
        limiter=RateLimiter(FileLedger(directory), base_url=URL, api_key=CANARY_KEY),
        retry=RetryPolicy(max_requests=1),
        session=ScriptedAdapter(*answers).session(),
    )


@pytest.mark.parametrize("body", [b"[]", b"{", b'"text"', b"[" * 100_000, b'{"n":' + b"9" * 10_000 + b"}"])
def test_an_answer_that_is_no_json_object_is_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(RequestRefusedError, match="is no JSON object"):
        scripted(tmp_path, (200, {}, body)).check_key()


def test_an_answer_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestRefusedError, match="is longer than 16,777,216 bytes"):
        scripted(tmp_path, (200, {}, b" " * (17 << 20))).check_key()


def test_a_network_error_is_told_without_its_url(tmp_path: Path) -> None:
    """requests and urllib3 quote the whole URL, and a signed one is as good as a key."""
    answer = {
        "location": "https://storage.example.com/file?signature=s3cr3t",
        "expires": "2026-06-03T12:00:00.123456789Z",
    }
    inner = urllib3.exceptions.NewConnectionError(None, "to /file?signature=s3cr3t")  # type: ignore[arg-type]
    broken = requests.ConnectionError(urllib3.exceptions.MaxRetryError(None, "/file?signature=s3cr3t", inner))  # type: ignore[arg-type]
    adapter = ScriptedAdapter(broken)
    client = scripted(tmp_path, (200, {}, str(answer).replace("'", '"').encode()))
    location = client.export_location("1")
    assert location.expires_at is not None
    assert location.expires_at.isoformat() == "2026-06-03T12:00:00.123456+00:00"
    assert "s3cr3t" not in repr(location)
    assert location == Location(answer["location"], location.expires_at)
    operation = [
        (200, {}, b'{"operationId": 1}'),
        (200, {}, b'{"state": "COMPLETED", "results": {"searchExportId": "2"}}'),
        (200, {}, str(answer).replace("'", '"').encode()),
        broken,
    ]
    client = scripted(tmp_path, *operation)
    with pytest.raises(ConnectionFailedError, match=r"No answer from storage\.example\.com") as caught:
        client.fetch_segment_export(DAY, segment_id="everyone", into=io.BytesIO())
    assert "s3cr3t" not in "".join(traceback.format_exception(caught.value))
    assert adapter.sent == []


def test_the_key_is_masked_in_every_spelling() -> None:
    text = redact(f"{CANARY_KEY} na1.Y2FuYXJ5%2Fkey%2Bthat%3Dmust.never.be.seen", CANARY_KEY)
    assert text == "*** ***"
    assert quote_body(f"{'x' * 190}{CANARY_KEY}", CANARY_KEY) == "x" * 190 + "***"


def test_a_client_does_not_show_its_key(client: FullStoryClient) -> None:
    assert CANARY_KEY not in repr(client)
    assert "***" in repr(client)


FAULTS: list[dict[str, Any]] = [
    {"status": 401, "body": {"message": f"key {CANARY_KEY} unknown"}},
    {"status": 404, "body": f"no {CANARY_KEY}"},
    {"status": 429, "retry_after": "9999"},
    {"status": 500, "body": {"error": CANARY_KEY}},
    {"status": 302, "headers": {"Location": f"https://example.com/?key={CANARY_KEY}"}},
    {"reset_after_bytes": 5},
    {"short_body_bytes": 5},
    {"html": True},
    {"empty_body": True},
    {"redirect": f"https://example.com/{CANARY_KEY}"},
    {"drip_bytes_per_s": 20},
]


@pytest.mark.parametrize("route", ["export_start", "operation", "results", "location", "list", "get"])
def test_the_key_is_in_no_exception_and_in_no_log(
    make_client: MakeClient, simulator: SimulatorProcess, caplog: pytest.LogCaptureFixture, route: str
) -> None:
    caplog.set_level(logging.DEBUG)
    client = make_client(
        timeouts=Timeouts(read_s=1, answer_s=0.1, download_s=0.1, poll_s=0.01, export_s=1),
        retry=RetryPolicy(max_requests=1, max_downloads=1, max_locations=1, max_operations=1),
    )
    bundle = client.oldest_bundle()
    assert bundle is not None
    calls: dict[str, Callable[[], object]] = {
        "list": client.oldest_bundle,
        "get": lambda: client.download_bundle(bundle, into=io.BytesIO()),
    }
    for fault in FAULTS:
        simulator.set_faults([{"route": route, **fault, "times": -1}])
        with pytest.raises(FullStoryError) as caught:
            calls.get(route, lambda: client.fetch_segment_export(DAY, segment_id="everyone", into=io.BytesIO()))()
        told = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(vars(caught.value))
        assert CANARY_KEY not in told, fault
    assert CANARY_KEY not in caplog.text


def test_one_client_serves_many_threads(client: FullStoryClient) -> None:
    digests: list[str] = []

    def fetch() -> None:
        digests.append(client.fetch_segment_export(DAY, segment_id="everyone", into=io.BytesIO()).sha256)

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(digests) == 8
    assert len(set(digests)) == 1


def test_a_session_that_was_passed_in_stays_open(simulator: SimulatorProcess, tmp_path: Path) -> None:
    closed = []

    class Session(requests.Session):
        def close(self) -> None:
            closed.append(True)
            super().close()

    with Session() as session:
        limiter = RateLimiter(FileLedger(tmp_path), base_url=simulator.url, api_key=CANARY_KEY)
        with FullStoryClient(api_key=CANARY_KEY, base_url=simulator.url, limiter=limiter, session=session) as client:
            client.check_key()
        assert not closed


def test_the_client_knows_neither_the_orchestrator_nor_the_warehouse() -> None:
    code = (
        "import sys, fullstory_dagster.api; "
        "print(sorted({'dagster', 'duckdb', 'polars', 'starlette'} & {name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_every_public_name_exists() -> None:
    assert sorted(api.__all__) == sorted(set(api.__all__))
    for name in api.__all__:
        assert hasattr(api, name)
