"""When a broken download may go on, and when it has to begin again."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from fullstory_dagster.api import FetchedBundle, FileLedger, FullStoryClient, ListedBundle, RateLimiter, RetryPolicy
from fullstory_dagster.errors import BundleTooLargeError, RequestRefusedError

from .fake_clock import EPOCH, FakeClock
from .scripted_adapter import ScriptedAdapter

URL = "https://api.fullstory.com"
CONTENT = gzip.compress(b'[{"UserId":1},{"UserId":2}]', mtime=0)
HALF = len(CONTENT) // 2
LENGTH = {"Content-Length": str(len(CONTENT))}
BUNDLE = ListedBundle(EPOCH, EPOCH + timedelta(hours=24), "42")


def download(adapter: ScriptedAdapter, directory: Path, max_bytes: int | None = None) -> tuple[FetchedBundle, bytes]:
    file, clock = io.BytesIO(), FakeClock()
    with FullStoryClient(
        api_key="k",
        base_url=URL,
        limiter=RateLimiter(FileLedger(directory, clock), base_url=URL, api_key="k", limits={}, clock=clock),
        retry=RetryPolicy(max_requests=3),
        clock=clock,
        session=adapter.session(),
        max_unpacked_bytes=max_bytes,
    ) as client:
        fetched = client.download_bundle(BUNDLE, into=file)
    return fetched, file.getvalue()


def part(etag: str = '"a"', start: int = HALF, total: int = len(CONTENT)) -> tuple[int, Mapping[str, str], bytes]:
    headers = {"ETag": etag, "Content-Range": f"bytes {start}-{len(CONTENT) - 1}/{total}"}
    return 206, headers, CONTENT[start:]


BROKEN = (200, {"ETag": '"a"', **LENGTH}, CONTENT[:HALF])
WHOLE = (200, {"ETag": '"a"', **LENGTH}, CONTENT)


def test_it_goes_on_with_the_same_file(tmp_path: Path) -> None:
    adapter = ScriptedAdapter(BROKEN, part())
    fetched, content = download(adapter, tmp_path)
    assert content == CONTENT
    assert fetched.n_attempts == 2
    assert adapter.sent[1].headers["Range"] == f"bytes={HALF}-"
    assert adapter.sent[1].headers["If-Range"] == '"a"'


@pytest.mark.parametrize(
    "other",
    [part(etag='"b"'), part(start=HALF - 1), part(start=HALF + 1), part(total=10**6), (206, {"ETag": '"a"'}, b"x")],
    ids=["another file", "too early", "too late", "another length", "no range"],
)
def test_a_part_that_does_not_fit_is_thrown_away_with_what_was_there(
    tmp_path: Path, other: tuple[int, Mapping[str, str], bytes]
) -> None:
    adapter = ScriptedAdapter(BROKEN, other, WHOLE)
    fetched, content = download(adapter, tmp_path)
    assert content == CONTENT
    assert fetched.n_attempts == 3
    assert "Range" not in adapter.sent[2].headers


@pytest.mark.parametrize(
    "headers",
    [LENGTH, {"ETag": 'W/"a"', **LENGTH}, {"ETag": "a", **LENGTH}],
    ids=["no ETag", "weak ETag", "unquoted ETag"],
)
def test_without_proof_that_it_is_the_same_file_it_begins_again(tmp_path: Path, headers: Mapping[str, str]) -> None:
    adapter = ScriptedAdapter((200, headers, CONTENT[:HALF]), WHOLE)
    assert download(adapter, tmp_path)[1] == CONTENT
    assert "Range" not in adapter.sent[1].headers


def test_the_whole_file_in_place_of_the_rest_is_taken(tmp_path: Path) -> None:
    adapter = ScriptedAdapter(BROKEN, WHOLE)
    assert download(adapter, tmp_path)[1] == CONTENT
    assert "Range" in adapter.sent[1].headers


def test_a_transfer_encoding_is_kept_as_it_came(tmp_path: Path) -> None:
    adapter = ScriptedAdapter((200, {"Content-Encoding": "gzip", **LENGTH}, CONTENT))
    assert download(adapter, tmp_path)[1] == CONTENT
    assert adapter.sent[0].headers["Accept-Encoding"] == "gzip"


def test_an_encoding_that_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestRefusedError, match="encoding br"):
        download(ScriptedAdapter((200, {"Content-Encoding": "br"}, b"x")), tmp_path)


def test_a_body_without_a_length_that_ends_early_is_downloaded_again(tmp_path: Path) -> None:
    fetched, content = download(ScriptedAdapter((200, {}, CONTENT[:HALF]), (200, {}, CONTENT)), tmp_path)
    assert content == CONTENT
    assert fetched.n_attempts == 2


def test_the_download_request_is_the_documented_one(tmp_path: Path) -> None:
    adapter = ScriptedAdapter(WHOLE)
    download(adapter, tmp_path)
    assert adapter.sent[0].url == f"{URL}/api/v1/export/get?id=42"
    assert adapter.sent[0].headers["Authorization"] == "Basic k"


@pytest.mark.parametrize("headers", [LENGTH, {}], ids=["announced", "not announced"])
def test_a_file_larger_than_any_bundle_may_be_is_refused_at_once(tmp_path: Path, headers: Mapping[str, str]) -> None:
    adapter = ScriptedAdapter((200, headers, CONTENT))
    with pytest.raises(BundleTooLargeError, match=r"bundle 42 .* more than 20 bytes .* FULLSTORY_MAX_BUNDLE_GB"):
        download(adapter, tmp_path, max_bytes=20)
    assert len(adapter.sent) == 1
