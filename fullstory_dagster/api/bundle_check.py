"""Proof that a downloaded file is a whole bundle: its gzip trailer and the end of its JSON were seen."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from fullstory_dagster.api.answers import html_for_a_bundle
from fullstory_dagster.compression import gunzip
from fullstory_dagster.errors import BundleFormatError, BundleIncompleteError

BundleFormat = Literal["FORMAT_NDJSON", "FORMAT_JSON", "FORMAT_CSV"]

_READ_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANKS = b" \t\r\n"


@dataclass(frozen=True)
class CheckedBundle:
    """A whole bundle.

    Attributes:
        bytes: size of the file.
        sha256: hex digest of the file.
    """

    bytes: int
    sha256: str


def check_bundle(
    file: BinaryIO,
    *,
    format: BundleFormat,
    what: str,
    max_unpacked_bytes: int | None = None,
    max_unpacked_ratio: float | None = None,
) -> CheckedBundle:
    """Read a written bundle once, in constant memory: hash it, unpack it and look at both of its ends.

    Accepted: gzip once (what FullStory sends), gzip over gzip (a proxy packed it again), no gzip (a proxy unpacked it).
    A JSON array ends in ``]``; NDJSON, whose last line may lack its line break, in ``}``; CSV has no end of its own,
    so there the gzip trailer is all there is to see. An NDJSON or CSV export without events unpacks to nothing. Whether
    the rows between the two ends can be read is the parser's to say.

    Args:
        file: the download; read from its first byte.
        format: what was asked for.
        what: what was downloaded, for messages.
        max_unpacked_bytes: more than this is refused; no bound when None.
        max_unpacked_ratio: more than this many times the file's size is refused; no bound when None.

    Raises:
        BundleIncompleteError: empty, or the gzip trailer or the end of the JSON is missing.
        BundleFormatError: corrupt gzip, or not the format asked for.
        BundleTooLargeError: it unpacks to more than the bounds allow.
        RequestRefusedError: an HTML page; somebody other than FullStory answered.
    """
    digest = hashlib.sha256()
    n_bytes = 0
    is_packed = False

    def packed() -> Iterator[bytes]:
        nonlocal n_bytes, is_packed
        file.seek(0)
        while chunk := file.read(_READ_BYTES):
            is_packed = is_packed or (n_bytes == 0 and chunk.startswith(_GZIP_MAGIC))
            n_bytes += len(chunk)
            digest.update(chunk)
            yield chunk

    first, last = _ends(
        gunzip(packed(), max_bytes=max_unpacked_bytes, max_ratio=max_unpacked_ratio, what=f"The download of {what}")
    )
    if n_bytes < len(_GZIP_MAGIC) or not first:
        # One byte can be the beginning of anything, gzip included.
        if not is_packed or format == "FORMAT_JSON":
            raise BundleIncompleteError(f"The download of {what} holds nothing; try again later.")
    elif first == b"<":
        raise html_for_a_bundle(what)
    elif format != "FORMAT_CSV":
        end = {b"[": b"]", b"{": b"}" if format == "FORMAT_NDJSON" else None}.get(first)
        if end is None:
            raise BundleFormatError(
                f"The download of {what} does not begin like {format.removeprefix('FORMAT_')}.", byte_offset=0
            )
        if last != end:
            raise BundleIncompleteError(f"The JSON of {what} ends in the middle; try again later.")
    return CheckedBundle(n_bytes, digest.hexdigest())


def _ends(chunks: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The first and the last byte that is not blank; both empty if there is none."""
    first = last = b""
    head = b""
    is_head_read = False
    for chunk in chunks:
        if not is_head_read:
            head += chunk
            if len(head) < len(_BYTE_ORDER_MARK):
                continue
            chunk, is_head_read = head.removeprefix(_BYTE_ORDER_MARK), True
        first = first or chunk.lstrip(_BLANKS)[:1]
        last = chunk.rstrip(_BLANKS)[-1:] or last
    if not is_head_read:
        solid = head.strip(_BLANKS)
        first, last = solid[:1], solid[-1:]
    return first, last
