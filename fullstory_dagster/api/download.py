"""A download that survives a broken connection: into a file, in constant memory, continued or begun anew."""

from __future__ import annotations

import re
from datetime import datetime
from typing import BinaryIO

import requests

from fullstory_dagster.api.answers import html_for_a_bundle
from fullstory_dagster.api.clock import Clock
from fullstory_dagster.api.transport import Call, Timeouts, Transport
from fullstory_dagster.errors import BundleTooLargeError, ConnectionFailedError, RequestRefusedError

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Download:
    """The bytes of one bundle, as sent, over as many requests as it takes.

    A broken download goes on with a Range request only if the server named the file's strong ETag and its length, and
    answers with 206, the same ETag and the range asked for; anything else starts again from the first byte. The bytes
    are never decoded: gzip is offered as a transfer encoding so that a store which keeps the file packed sends it
    packed, and the reader of the file takes more than one layer.

    Args:
        transport: sends the requests.
        into: binary file, open for reading and writing, seekable; overwritten from its first byte.
        timeouts: least speed and deadline.
        clock: time.
        max_bytes: a file that is, or says it is, larger is refused before it fills the disk; no bound when None.
    """

    def __init__(
        self,
        transport: Transport,
        into: BinaryIO,
        *,
        timeouts: Timeouts,
        clock: Clock,
        max_bytes: int | None = None,
    ) -> None:
        self._transport = transport
        self._into = into
        self._timeouts = timeouts
        self._clock = clock
        self._max_bytes = max_bytes
        self._deadline: float | None = None
        self._n_written = 0
        self._etag: str | None = None
        self._n_announced: int | None = None
        self.n_attempts = 0
        self.asked_at: datetime | None = None

    @property
    def deadline(self) -> float:
        """Monotonic instant at which this download is given up; the wait for a turn before the first answer is free."""
        return self._deadline if self._deadline is not None else self._clock.monotonic() + self._timeouts.download_s

    def restart(self) -> None:
        """Forget what was written; the next attempt begins at the first byte, with a deadline of its own."""
        self._rewind()
        self._deadline = None

    def attempt(self, call: Call) -> None:
        """Send one request and write what it brings; returns when the body is complete as far as HTTP can tell.

        Raises:
            ConnectionFailedError: it broke, was too slow, or came too late; the next attempt goes on from there.
            RequestRefusedError: an HTML page, or a transfer encoding that was not asked for.
            BundleTooLargeError: no bundle may be as large as it is.
            FullStoryError: by the table of failures.
        """
        headers = {"Accept-Encoding": "gzip"}
        if self._n_written and self._etag is not None and self._n_announced is not None:
            headers |= {"Range": f"bytes={self._n_written}-", "If-Range": self._etag}
        self.n_attempts += 1
        response, asked_at = self._transport.open(call, headers)
        self.asked_at = min(self.asked_at or asked_at, asked_at)
        try:
            if self._deadline is None:
                self._deadline = self._clock.monotonic() + self._timeouts.download_s
            _refuse_foreign(response, call)
            if not self._continues(response, call):
                self._rewind()
                self._etag, self._n_announced = _identity_of(response)
                self._refuse_too_large(self._n_announced or 0, call)
            self._copy(response, call)
        finally:
            response.close()

    def _continues(self, response: requests.Response, call: Call) -> bool:
        if response.status_code != 206:
            return False
        given = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        wanted = (self._n_written, (self._n_announced or 0) - 1, self._n_announced)
        if (
            given is not None
            and tuple(map(int, given.groups())) == wanted
            and response.headers.get("ETag") == self._etag
        ):
            return True
        # A part that is not the one asked for cannot stand at the start of the file either.
        self._rewind()
        raise ConnectionFailedError(
            f"The server continued the broken download of {call.what} at the wrong place; try again later."
        )

    def _copy(self, response: requests.Response, call: Call) -> None:
        measured_from, n_measured = self._clock.monotonic(), 0
        for piece in self._transport.read_pieces(response, call):
            self._refuse_too_large(self._n_written + len(piece), call)
            # Not guarded: a full disk is no broken connection.
            self._into.write(piece)
            self._n_written += len(piece)
            n_measured += len(piece)
            now = self._clock.monotonic()
            if now >= self.deadline:
                raise ConnectionFailedError(
                    f"The download of {call.what} was not complete after {self._timeouts.download_s:g} s; "
                    "a shorter FULLSTORY_BUNDLE_HOURS makes smaller bundles."
                )
            if now - measured_from >= self._timeouts.stall_s:
                bytes_per_s = n_measured / (now - measured_from)
                if bytes_per_s < self._timeouts.min_bytes_per_s:
                    raise ConnectionFailedError(
                        f"The download of {call.what} brought {bytes_per_s:,.0f} bytes a second, less than the "
                        f"{self._timeouts.min_bytes_per_s:,.0f} it has to; try again later."
                    )
                measured_from, n_measured = now, 0

    def _refuse_too_large(self, n_bytes: int, call: Call) -> None:
        if self._max_bytes is not None and n_bytes > self._max_bytes:
            raise BundleTooLargeError(
                f"The download of {call.what} has more than {self._max_bytes:,} bytes and was refused; if it is no "
                "mistake, raise FULLSTORY_MAX_BUNDLE_GB or choose a shorter FULLSTORY_BUNDLE_HOURS.",
                setting="FULLSTORY_MAX_BUNDLE_GB",
            )

    def _rewind(self) -> None:
        self._into.seek(0)
        self._into.truncate()
        self._n_written = 0
        self._etag = self._n_announced = None


def _identity_of(response: requests.Response) -> tuple[str | None, int | None]:
    """Strong ETag and length of the whole file, where the server names them."""
    etag = response.headers.get("ETag", "")
    length = response.headers.get("Content-Length", "")
    is_strong = len(etag) > 2 and etag.startswith('"') and etag.endswith('"')
    return (etag if is_strong else None, int(length) if length.isdecimal() else None)


def _refuse_foreign(response: requests.Response, call: Call) -> None:
    if "html" in response.headers.get("Content-Type", "").lower():
        raise html_for_a_bundle(call.what)
    encodings = {part.strip().lower() for part in response.headers.get("Content-Encoding", "").split(",")}
    if foreign := encodings - {"", "identity", "gzip", "x-gzip"}:
        raise RequestRefusedError(
            f"The download of {call.what} came in the encoding {', '.join(sorted(foreign))[:50]}, which was not asked "
            "for; look for a proxy that changes answers."
        )
