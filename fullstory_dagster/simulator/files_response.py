"""Answers that carry a file: sent in pieces, and in part when a range of it was asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from starlette.responses import Response, StreamingResponse

_PIECE_BYTES = 64 << 10
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def file_response(content: bytes, headers: dict[str, str], range_header: str | None, if_range: str | None) -> Response:
    """A file, whole (200) or one range of it (206, or 416 when it lies outside).

    Several ranges in one request are answered with the whole file, which HTTP allows.
    """
    etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
    headers = {"Accept-Ranges": "bytes", "ETag": etag, **headers}
    match = _RANGE.fullmatch(range_header or "")
    first, last = match.groups() if match else ("", "")
    if (not first and not last) or (if_range is not None and if_range != etag):
        return _streamed(content, 200, headers)
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(int(last) + 1 if first and last else len(content), len(content))
    if start >= stop:
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return _streamed(content[start:stop], 206, headers)


def _streamed(content: bytes, status: int, headers: dict[str, str]) -> Response:
    def pieces() -> Iterator[bytes]:
        for offset in range(0, len(content), _PIECE_BYTES):
            yield content[offset : offset + _PIECE_BYTES]

    return StreamingResponse(
        pieces(),
        status_code=status,
        headers={**headers, "Content-Length": str(len(content))},
        media_type="application/gzip",
    )
