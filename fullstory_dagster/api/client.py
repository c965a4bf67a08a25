"""``FullStoryClient``: both export APIs, from a window to a whole bundle in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import BinaryIO, Literal
from urllib.parse import quote

import requests

from fullstory_dagster.api.answers import (
    FetchedBundle,
    ListedBundle,
    Location,
    bundles_of,
    id_of,
    location_of,
    not_fullstorys,
)
from fullstory_dagster.api.bundle_check import BundleFormat, check_bundle
from fullstory_dagster.api.clock import Clock, SystemClock
from fullstory_dagster.api.coverage import cover_window
from fullstory_dagster.api.download import Download
from fullstory_dagster.api.rate_limit import RateLimiter
from fullstory_dagster.api.redaction import quote_body
from fullstory_dagster.api.retry import Remedy, Retrier, RetryPolicy
from fullstory_dagster.api.transport import Answer, Call, Timeouts, Transport
from fullstory_dagster.errors import ExportFailedError, ExportTimeoutError, WindowUnavailableError
from fullstory_dagster.windows import Window

_ALL_TIME = {"start": "", "end": ""}
_FIRST_POLL_S = 0.5
"""What the segment export takes as a time range without bounds."""


def base_url_of_key(api_key: str) -> str:
    """FullStory's address for the data centre that a key names in its prefix.

    Source: authentication page (data centres), read 2026-11.
    """
    return "https://api.eu1.fullstory.com" if api_key.startswith("eu1.") else "https://api.fullstory.com"


class FullStoryClient:
    """Asks FullStory for events, as often as the table of failures allows.

    Safe between threads: nothing in it changes after construction but the pool of connections, which all threads share.
    The key goes to ``base_url`` and nowhere else; no redirect is followed.

    Args:
        api_key: as FullStory issued it; it is sent as ``Basic`` without further encoding.
        base_url: see ``base_url_of_key``; https, or plain http to this machine.
        limiter: the account's rate limit.
        timeouts: how long anything may take.
        retry: how often anything is tried again.
        clock: time.
        session: whose adapters send the requests; its headers, cookies and auth are not used.
        max_unpacked_bytes: a bundle that is larger, packed or unpacked, is refused; no bound when None.
        max_unpacked_ratio: a bundle that unpacks to more than this many times its size is refused; no bound when None.

    Raises:
        SettingsError: the key or the URL cannot be used.

    Source: authentication page and segment export reference, read 2026-11.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        limiter: RateLimiter,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        clock: Clock | None = None,
        session: requests.Session | None = None,
        max_unpacked_bytes: int | None = None,
        max_unpacked_ratio: float | None = None,
    ) -> None:
        self._api_key = api_key
        self._timeouts = timeouts if timeouts is not None else Timeouts()
        self._clock = clock if clock is not None else SystemClock()
        self._max_unpacked_bytes = max_unpacked_bytes
        self._max_unpacked_ratio = max_unpacked_ratio
        policy = retry if retry is not None else RetryPolicy()
        self._retrier = Retrier(policy, self._clock)
        self._transport = Transport(
            api_key=api_key,
            base_url=base_url,
            limiter=limiter,
            timeouts=self._timeouts,
            policy=policy,
            clock=self._clock,
            session=session,
        )

    def __repr__(self) -> str:
        return f"FullStoryClient(base_url={self._transport.base_url!r}, api_key='***')"

    def __enter__(self) -> FullStoryClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a session that was passed in stays open."""
        self._transport.close()

    def check_key(self, api: Literal["segment", "bundle"] = "segment") -> None:
        """Make one cheap request that needs the key, for the API that will be used.

        Raises:
            AuthenticationError: the key is wrong, or its plan lacks this API.
            FullStoryError: FullStory could not be asked; by the table of failures.
        """
        if api == "segment":
            what = "the list of export operations"
            self._answer(
                Call(what, "GET", "/operations/v1", "operation", "FULLSTORY_API_URL", {"type": "SEARCH_EXPORT"})
            )
        else:
            self._list_page(self._clock.now())

    # --- segment export ---

    def start_export(
        self,
        window: Window,
        *,
        segment_id: str,
        fields: Sequence[str] = (),
        format: BundleFormat = "FORMAT_NDJSON",
    ) -> str:
        """Ask for the events of a window; the export then runs at FullStory.

        If the connection breaks before the answer, the request is sent again and FullStory may run the export twice;
        the first one is never looked at.

        Args:
            window: compared with EventStart, the end excluded.
            segment_id: whose events; ``everyone`` is built in.
            fields: names, ``user_*``, ``evt_*`` and ``page_*`` among them; all when empty. One named twice counts once,
                because FullStory refuses it.
            format: of the file.

        Returns:
            str: operation_id.

        Raises:
            FullStoryError: by the table of failures.

        Source: segment export reference (create export), read 2026-11.
        """
        operation_id, _ = self._start_export(window, segment_id=segment_id, fields=fields, format=format)
        return operation_id

    def _start_export(
        self, window: Window, *, segment_id: str, fields: Sequence[str], format: BundleFormat
    ) -> tuple[str, datetime]:
        what = f"an export of {window}"
        body = {
            "segmentId": segment_id,
            "type": "TYPE_EVENT",
            "format": format,
            "timeRange": {"start": _rfc_3339(window.start), "end": _rfc_3339(window.end)},
            "segmentTimeRange": _ALL_TIME,
            "timezone": "UTC",
            "fields": list(dict.fromkeys(fields)),
            "eventDetails": {"scope": "SCOPE_EVENTS"},
        }
        call = Call(what, "POST", "/segments/v1/exports", "export_start", "FULLSTORY_SEGMENT_ID", json=body)
        answer = self._dated_answer(call)
        return id_of(answer.content, "operationId", what), answer.asked_at

    def wait_for_export(self, operation_id: str) -> str:
        """Poll an operation until it has ended; any state but COMPLETED and FAILED is still going.

        Returns:
            str: export_id.

        Raises:
            ExportFailedError: FullStory gave up.
            ExportTimeoutError: not ready within ``export_s``.
            FullStoryError: by the table of failures.

        Source: operations reference (get operation), read 2026-11; states beyond those two are a guess.
        """
        what = f"the state of export operation {operation_id}"
        call = Call(what, "GET", f"/operations/v1/{quote(operation_id, safe='')}", "operation", "FULLSTORY_EXPORT_API")
        deadline = self._clock.monotonic() + self._timeouts.export_s
        # A quiet hour's export is ready in a second, a busy day's takes minutes: the first questions come sooner.
        pause_s = min(_FIRST_POLL_S, self._timeouts.poll_s)
        while True:
            operation = self._answer(call)
            state = operation.get("state")
            if state == "COMPLETED":
                results = operation.get("results")
                if not isinstance(results, dict):
                    raise not_fullstorys(what, "is COMPLETED without results")
                return id_of(results, "searchExportId", what)
            if state == "FAILED":
                details = quote_body(str(operation.get("errorDetails") or "no details"), self._api_key)
                raise ExportFailedError(
                    f"FullStory gave up on export operation {operation_id}: {details}; try again later."
                )
            if self._clock.monotonic() + pause_s > deadline:
                told = quote_body(str(state), self._api_key)
                raise ExportTimeoutError(
                    f"Export operation {operation_id} was still {told} after {self._timeouts.export_s:g} s; "
                    "try again later, or choose a shorter FULLSTORY_BUNDLE_HOURS."
                )
            self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, self._timeouts.poll_s)

    def export_location(self, export_id: str) -> Location:
        """A signed location of a finished export; every call brings a fresh one.

        Raises:
            FullStoryError: by the table of failures.

        Source: segment export reference (export results), read 2026-11.
        """
        what = f"the location of export {export_id}"
        target = f"/search/v1/exports/{quote(export_id, safe='')}/results"
        return location_of(self._answer(Call(what, "GET", target, "results", "FULLSTORY_EXPORT_API")), what)

    def fetch_segment_export(
        self,
        window: Window,
        *,
        segment_id: str,
        fields: Sequence[str] = (),
        into: BinaryIO,
        format: BundleFormat = "FORMAT_NDJSON",
    ) -> FetchedBundle:
        """Export a window and bring it home whole: start, wait, locate, download, check.

        Args:
            window: compared with EventStart, the end excluded.
            segment_id: whose events.
            fields: see ``start_export``.
            into: binary file, open for reading and writing, seekable; overwritten from its first byte. After an
                error its content means nothing.
            format: of the file inside the gzip.

        Raises:
            FullStoryError: by the table of failures, after its remedies.
        """
        download = self._download(into)

        def from_the_start() -> FetchedBundle:
            operation_id, requested_at = self._start_export(window, segment_id=segment_id, fields=fields, format=format)
            export_id = self.wait_for_export(operation_id)
            what = f"export {export_id} of {window}"

            def from_a_location() -> None:
                location = self.export_location(export_id)
                self._transfer(download, Call(what, "GET", location.url, None))

            return self._checked(
                download,
                lambda: self._retrier.run(from_a_location, Remedy.FRESH_LOCATION),
                into=into,
                format=format,
                what=what,
                export_id=export_id,
                requested_at=lambda: requested_at,
            )

        return self._retrier.run(from_the_start, Remedy.NEW_OPERATION)

    # --- legacy bundles ---

    def list_bundles(self, start: datetime, end: datetime) -> list[ListedBundle]:
        """The completed bundles that touch ``[start, end)``, oldest first, however many pages they fill.

        Args:
            start: aware instant.
            end: aware instant, excluded.

        Raises:
            RequestRefusedError: a page answers another question than it was asked.
            FullStoryError: by the table of failures.

        Source: data export reference (list: 20 bundles whose Stop is after ``start``), read 2026-11.
        """
        found: dict[str, ListedBundle] = {}
        cursor = start
        while True:
            page = self._list_page(cursor)
            fresh = [bundle for bundle in page if bundle.id not in found]
            if page and page[0].stop.timestamp() < int(cursor.timestamp()):
                raise not_fullstorys("the list of bundles", "does not go on where it was asked to")
            found.update((bundle.id, bundle) for bundle in fresh)
            reached = max((bundle.stop for bundle in page), default=cursor)
            # Until a page brings nothing new: how many bundles fill one is FullStory's to change.
            if not fresh or fresh[-1].start >= end or reached <= cursor:
                return sorted(b for b in found.values() if b.start < end and b.stop > start)
            cursor = reached

    def oldest_bundle(self) -> ListedBundle | None:
        """The first bundle FullStory still lists; None when there is none at all.

        Raises:
            FullStoryError: by the table of failures.
        """
        page = self._list_page(datetime.fromtimestamp(0, timezone.utc))
        return page[0] if page else None

    def bundles_of_window(self, window: Window) -> list[ListedBundle]:
        """The bundles that tile a window, oldest first; see ``cover_window``.

        Raises:
            WindowUnavailableError: they do not tile it yet, or the account has none so far.
            WindowNotOfferedError: the window begins before the account's first bundle.
            FullStoryError: by the table of failures.
        """
        bundles = self.list_bundles(window.start, window.end)
        if bundles and bundles[0].start <= window.start:
            return cover_window(window, bundles, older_exist=True)
        oldest = self.oldest_bundle()
        if oldest is None:
            raise WindowUnavailableError(
                f"FullStory lists no bundle at all yet, so {window} cannot be had; "
                "a bundle is listed 24 h after its last event."
            )
        return cover_window(window, [oldest, *bundles], older_exist=False)

    def download_bundle(self, bundle: ListedBundle, *, into: BinaryIO) -> FetchedBundle:
        """Bring a listed bundle home whole; waits its turn in the account's two downloads a minute.

        Args:
            bundle: one of ``list_bundles``.
            into: binary file, open for reading and writing, seekable; overwritten from its first byte. After an
                error its content means nothing.

        Raises:
            FullStoryError: by the table of failures, after its remedies.

        Source: data export reference (get: gzip of one JSON array, no longer packed behind some proxies), read 2026-11.
        """
        what = str(bundle)
        call = Call(what, "GET", "/api/v1/export/get", "get", "FULLSTORY_EXPORT_API", {"id": bundle.id})
        download = self._download(into)
        return self._checked(
            download,
            lambda: self._transfer(download, call),
            into=into,
            format="FORMAT_JSON",
            what=what,
            export_id=bundle.id,
            requested_at=lambda: download.asked_at or self._clock.now(),
        )

    # --- what both share ---

    def _answer(self, call: Call) -> dict[str, object]:
        return self._dated_answer(call).content

    def _dated_answer(self, call: Call) -> Answer:
        return self._retrier.run(lambda: self._transport.answer(call), Remedy.SEND_AGAIN)

    def _list_page(self, start: datetime) -> list[ListedBundle]:
        what = "the list of bundles"
        params = {"start": str(int(start.timestamp()))}
        return bundles_of(
            self._answer(Call(what, "GET", "/api/v1/export/list", "list", "FULLSTORY_EXPORT_API", params)), what
        )

    def _download(self, into: BinaryIO) -> Download:
        return Download(
            self._transport, into, timeouts=self._timeouts, clock=self._clock, max_bytes=self._max_unpacked_bytes
        )

    def _transfer(self, download: Download, call: Call) -> None:
        self._retrier.run(lambda: download.attempt(call), Remedy.SEND_AGAIN, give_up_at=lambda: download.deadline)

    def _checked(
        self,
        download: Download,
        transfer: Callable[[], None],
        *,
        into: BinaryIO,
        format: BundleFormat,
        what: str,
        export_id: str,
        requested_at: Callable[[], datetime],
    ) -> FetchedBundle:
        def whole() -> FetchedBundle:
            download.restart()
            transfer()
            checked = check_bundle(
                into,
                format=format,
                what=what,
                max_unpacked_bytes=self._max_unpacked_bytes,
                max_unpacked_ratio=self._max_unpacked_ratio,
            )
            return FetchedBundle(
                export_id=export_id,
                bytes=checked.bytes,
                sha256=checked.sha256,
                requested_at=requested_at(),
                received_at=self._clock.now(),
                n_attempts=download.n_attempts,
            )

        return self._retrier.run(whole, Remedy.DOWNLOAD_AGAIN)


def _rfc_3339(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
