"""When a file counts as a whole bundle."""

from __future__ import annotations

import gzip
import hashlib
import io

import pytest

from fullstory_dagster.api.bundle_check import BundleFormat, CheckedBundle, check_bundle
from fullstory_dagster.errors import BundleFormatError, BundleIncompleteError, BundleTooLargeError, RequestRefusedError

ARRAY = b'[{"UserId":1},\n{"UserId":2,"evt_tags_strs":["a","b"]}]\n'
LINES = b'{"UserId":1}\n{"UserId":2}\n'
CSV = b"UserId,EventStart\n1,2026-06-01T00:00:00Z\n"


def packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def check(
    content: bytes, format: BundleFormat = "FORMAT_NDJSON", max_unpacked_bytes: int | None = None
) -> CheckedBundle:
    return check_bundle(io.BytesIO(content), format=format, what="bundle 1", max_unpacked_bytes=max_unpacked_bytes)


WHOLE: dict[str, tuple[bytes, BundleFormat]] = {
    "array": (packed(ARRAY), "FORMAT_JSON"),
    "lines": (packed(LINES), "FORMAT_NDJSON"),
    "lines without the last break": (packed(LINES.rstrip()), "FORMAT_NDJSON"),
    "array where lines are due": (packed(ARRAY), "FORMAT_NDJSON"),
    "array after a byte order mark": (packed(b"\xef\xbb\xbf" + ARRAY), "FORMAT_JSON"),
    "empty array": (packed(b" \r\n[ ] \r\n"), "FORMAT_JSON"),
    "table": (packed(CSV), "FORMAT_CSV"),
    "no line at all": (packed(b""), "FORMAT_NDJSON"),
    "no table at all": (packed(b""), "FORMAT_CSV"),
    "gzip twice": (packed(packed(ARRAY)), "FORMAT_JSON"),
    "plain array": (ARRAY, "FORMAT_JSON"),
    "plain lines": (LINES, "FORMAT_NDJSON"),
    "two gzip members": (packed(LINES[:13]) + packed(LINES[13:]), "FORMAT_NDJSON"),
    "many pieces": (packed(b"[" + b" " * 3_000_000 + b"]"), "FORMAT_JSON"),
}

CUT: dict[str, tuple[bytes, BundleFormat]] = {
    "no byte": (b"", "FORMAT_NDJSON"),
    "no byte of a table": (b"", "FORMAT_CSV"),
    "blanks": (b" \n", "FORMAT_NDJSON"),
    "no array in the gzip": (packed(b""), "FORMAT_JSON"),
    "trailer lacks a byte": (packed(ARRAY)[:-1], "FORMAT_JSON"),
    "no trailer": (packed(ARRAY)[:-8], "FORMAT_JSON"),
    "table without the trailer's end": (packed(CSV)[:-4], "FORMAT_CSV"),
    "one byte of gzip": (packed(ARRAY)[:1], "FORMAT_CSV"),
    "inner trailer lacks a byte": (packed(packed(ARRAY)[:-1]), "FORMAT_JSON"),
    "array without its bracket": (packed(ARRAY[:-2]), "FORMAT_JSON"),
    "array cut in a row": (packed(ARRAY[:20]), "FORMAT_JSON"),
    "lines cut in a row": (packed(LINES[:-3]), "FORMAT_NDJSON"),
    "plain array cut in a row": (ARRAY[:20], "FORMAT_JSON"),
    "bracket alone": (b"[", "FORMAT_JSON"),
    "brace alone": (b"{", "FORMAT_NDJSON"),
}

FOREIGN: dict[str, tuple[bytes, BundleFormat]] = {
    "bytes after the gzip": (packed(ARRAY) + b"and then some more", "FORMAT_JSON"),
    "no JSON": (packed(b"not JSON"), "FORMAT_NDJSON"),
    "table where lines are due": (packed(CSV), "FORMAT_NDJSON"),
    "an error object in place of an array": (b'{"error":"not ready"}', "FORMAT_JSON"),
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_bundle_is_taken_with_its_size_and_digest(case: str) -> None:
    content, format = WHOLE[case]
    assert check(content, format) == CheckedBundle(len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("case", CUT)
def test_a_bundle_that_ends_too_early_is_incomplete(case: str) -> None:
    with pytest.raises(BundleIncompleteError):
        check(*CUT[case])


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_bundle_of_the_format_is_refused(case: str) -> None:
    with pytest.raises(BundleFormatError):
        check(*FOREIGN[case])


def test_a_corrupt_bundle_is_refused_wherever_the_damage_is() -> None:
    content = packed(ARRAY)
    for position in range(10, len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        with pytest.raises((BundleFormatError, BundleIncompleteError)):
            check(bytes(damaged), "FORMAT_JSON")


def test_a_bundle_cut_anywhere_is_refused() -> None:
    for content in (packed(ARRAY), ARRAY.rstrip()):
        for length in range(len(content)):
            if content[:length].endswith(b"]"):
                continue  # the end of an inner list; the parser finds that row unfinished
            with pytest.raises((BundleFormatError, BundleIncompleteError)):
                check(content[:length], "FORMAT_JSON")


@pytest.mark.parametrize("format", ["FORMAT_JSON", "FORMAT_NDJSON", "FORMAT_CSV"])
def test_an_html_page_is_no_bundle(format: BundleFormat) -> None:
    with pytest.raises(RequestRefusedError, match="HTML page"):
        check(packed(b"<!doctype html><title>Sign in</title>"), format)


def test_a_bundle_that_unpacks_to_too_much_is_refused() -> None:
    with pytest.raises(BundleTooLargeError, match="The download of bundle 1 unpacks to more than 1,000,000 bytes"):
        check(packed(b"[" + b" " * 2_000_000 + b"]"), "FORMAT_JSON", max_unpacked_bytes=1_000_000)
