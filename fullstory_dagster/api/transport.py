"""One HTTP request at a time: where the key may go, how long an answer may take, what a bad one means. No retries.

Requests are prepared one by one and handed to the session's adapter, past everything a session adds by itself: no
cookies, no ``.netrc`` entry in place of our key, no redirect followed, no urllib3 retry. Hence one session serves all
threads: only its connection pool is shared, and that is safe.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from fullstory_dagster.api.answers import not_fullstorys
from fullstory_dagster.api.clock import MAX_AHEAD, Clock, instant_of_date
from fullstory_dagster.api.rate_limit import Kind, RateLimiter
from fullstory_dagster.api.redaction import host_of, mask_queries_in_logs, quote_body, redact
from fullstory_dagster.api.retry import RetryPolicy, Side, error_of_status, retry_after_s
from fullstory_dagster.errors import (
    ClockAheadError,
    ConnectionFailedError,
    FullStoryError,
    RateLimitedError,
    RequestRefusedError,
    SettingsError,
)

_POOL_SIZE = 32
_READ_BYTES = 1 << 17
_ANSWER_LIMIT_BYTES = 16 << 20
_ERROR_BODY_LIMIT_BYTES = 1 << 16
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True)
class Timeouts:
    """How long anything may take, in seconds.

    Attributes:
        connect_s: to open a connection.
        read_s: between two pieces of an answer; silence.
        answer_s: for a whole JSON answer.
        stall_s: over how long the speed of a download is measured.
        min_bytes_per_s: a download slower than this over ``stall_s`` is given up and taken up again.
        download_s: for one download of a bundle with all its continuations.
        poll_s: at most between two questions whether an export is ready (FullStory's own client waits 5 s).
        export_s: from the start of an export until it is ready.
    """

    connect_s: float = 10.0
    read_s: float = 60.0
    answer_s: float = 120.0
    stall_s: float = 60.0
    min_bytes_per_s: float = 1024.0
    download_s: float = 3600.0
    poll_s: float = 5.0
    export_s: float = 3600.0


@dataclass(frozen=True)
class Call:
    """One request that can be sent any number of times.

    Attributes:
        what: what is asked for, as it stands in messages.
        method: HTTP method.
        target: path on the API host, or the whole URL of a signed location.
        kind: which of the account's limits it counts against; None for a location, which is another company's host.
        setting: the setting to look at when it is refused.
        params: query of the URL.
        json: body.
    """

    what: str
    method: str
    target: str = field(repr=False)
    kind: Kind | None
    setting: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    json: Mapping[str, Any] | None = None

    @property
    def side(self) -> Side:
        """Who answers it."""
        return "location" if self.kind is None else "api"


@dataclass(frozen=True)
class Answer:
    """A JSON object of FullStory's.

    Attributes:
        content: integers are exact.
        asked_at: when it was asked for, UTC: by this machine's clock or by FullStory's, whichever is earlier.
    """

    content: dict[str, Any]
    asked_at: datetime


class Transport:
    """Sends calls to FullStory with the key, and to signed locations without it; safe between threads.

    Args:
        api_key: as FullStory issued it.
        base_url: https, or plain http to this machine.
        limiter: asked before every call to FullStory, and told of every 429.
        timeouts: connect, read and answer bounds.
        policy: tells which Retry-After is too long.
        clock: time.
        session: whose adapters are used; a pooled one of our own by default.

    Raises:
        SettingsError: the key or the URL cannot be used.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        limiter: RateLimiter,
        timeouts: Timeouts,
        policy: RetryPolicy,
        clock: Clock,
        session: requests.Session | None = None,
    ) -> None:
        if not _KEY.fullmatch(api_key):
            # requests would quote a key it cannot send, in full.
            raise SettingsError(
                "FULLSTORY_API_KEY", "is empty or holds blanks, line breaks or other unprintable characters."
            )
        problem = _problem_of_url(base_url)
        if problem is not None or urlsplit(base_url).query or urlsplit(base_url).fragment:
            raise SettingsError("FULLSTORY_API_URL", f"{problem or 'has a query or a fragment'}.")
        self.base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._limiter = limiter
        self._timeouts = timeouts
        self._policy = policy
        self._clock = clock
        self._owns_session = session is None
        self._session = session if session is not None else _pooled_session()
        mask_queries_in_logs()

    def close(self) -> None:
        """Close the connections, unless the session was passed in."""
        if self._owns_session:
            self._session.close()

    def answer(self, call: Call) -> Answer:
        """Send a call and read its JSON object.

        Raises:
            FullStoryError: by the table of failures.
        """
        response, asked_at = self.open(call)
        try:
            body = b"".join(self._pieces(response, call, _ANSWER_LIMIT_BYTES))
        finally:
            response.close()
        if not body.strip():
            raise ConnectionFailedError(f"FullStory's answer to {call.what} was empty; try again later.")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            page = "is an HTML page" if _is_html(response) else "is no JSON object"
            raise not_fullstorys(call.what, page)
        return Answer(answer, asked_at)

    def open(self, call: Call, headers: Mapping[str, str] | None = None) -> tuple[requests.Response, datetime]:
        """Send a call and return the answer with its body unread, for the caller to close, and when it was asked for.

        Raises:
            ClockAheadError: FullStory's clock says that this machine's is ahead.
            FullStoryError: the status is none of success, or there is no answer; by the table of failures.
        """
        if call.kind is not None:
            self._limiter.acquire(call.kind)
        asked_at = self._clock.now()
        response = self._send(call, headers or {})
        if 200 <= response.status_code < 300:
            # A location is another company's host, and nothing is decided by its clock.
            told_at = instant_of_date(response.headers.get("Date")) if call.side == "api" else None
            if told_at is not None and told_at < asked_at:
                if asked_at - told_at > MAX_AHEAD:
                    response.close()
                    raise _clock_ahead(call, asked_at, told_at)
                asked_at = told_at
            return response, asked_at
        try:
            error = self._error_of(response, call)
        finally:
            response.close()
        if isinstance(error, RateLimitedError) and call.kind is not None:
            wait_s = self._policy.backoff_base_s if error.retry_after_s is None else error.retry_after_s
            if wait_s <= self._policy.max_retry_after_s:
                self._limiter.penalize(call.kind, wait_s)
        raise error

    def read_pieces(self, response: requests.Response, call: Call) -> Iterator[bytes]:
        """The body exactly as it was sent, in pieces as they arrive.

        Raises:
            ConnectionFailedError: it broke, fell silent, or ended before its announced length.
        """
        # read1 returns what has arrived; read would wait for a full buffer, and a drip of bytes would never time out.
        while piece := self._read(response, call, decode=False):
            yield piece

    def _send(self, call: Call, headers: Mapping[str, str]) -> requests.Response:
        is_api = call.side == "api"
        url = self.base_url + call.target if is_api else call.target
        if not is_api and (problem := _problem_of_url(url)) is not None:
            raise RequestRefusedError(f"The location of {call.what} {problem}, so it was not used.")
        all_headers = {"User-Agent": "fullstory-dagster", "Accept-Encoding": "identity", **headers}
        if is_api:
            all_headers["Authorization"] = f"Basic {self._api_key}"
            all_headers["Integration-Source"] = "fullstory-dagster"
        try:
            prepared = requests.Request(
                call.method, url, headers=all_headers, params=dict(call.params), json=call.json
            ).prepare()
            return self._session.get_adapter(url).send(
                prepared,
                timeout=(self._timeouts.connect_s, self._timeouts.read_s),
                **_surroundings(self._session, url),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            reason = self._reason_of(error)
        # Raised out here: the caught error quotes the URL, and a signed one opens the export to whoever reads it.
        raise ConnectionFailedError(
            f"No answer from {host_of(url)} when asked for {call.what}: {reason}; check the network, then try again."
        )

    def _read(self, response: requests.Response, call: Call, *, decode: bool) -> bytes:
        try:
            piece: bytes | None = response.raw.read1(_READ_BYTES, decode_content=decode)
            return piece or b""
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            reason = self._reason_of(error)
        raise ConnectionFailedError(f"The connection broke in the middle of {call.what}: {reason}; try again later.")

    def _pieces(self, response: requests.Response, call: Call, limit_bytes: int) -> Iterator[bytes]:
        until = self._clock.monotonic() + self._timeouts.answer_s
        n_bytes = 0
        while piece := self._read(response, call, decode=True):
            yield piece
            n_bytes += len(piece)
            if n_bytes > limit_bytes:
                raise not_fullstorys(call.what, f"is longer than {limit_bytes:,} bytes")
            if self._clock.monotonic() > until:
                raise ConnectionFailedError(
                    f"The answer to {call.what} was not complete after {self._timeouts.answer_s:g} s; try again later."
                )

    def _error_of(self, response: requests.Response, call: Call) -> FullStoryError:
        status, side = response.status_code, call.side
        if 300 <= status < 400:
            to_host = host_of(response.headers.get("Location", ""))
            return RequestRefusedError(
                redact(
                    f"The request for {call.what} was redirected to {to_host} (HTTP {status}) and not followed, so "
                    "that neither the key nor your events go astray; check FULLSTORY_API_URL.",
                    self._api_key,
                ),
                setting="FULLSTORY_API_URL",
            )
        error = error_of_status(
            status,
            side=side,
            what=call.what,
            setting=call.setting,
            # A storage host's error text may quote the signature it was given.
            quoted=self._quoted(response, call) if side == "api" else "",
            # A date is measured by the clock that wrote it.
            asked_wait_s=retry_after_s(
                response.headers.get("Retry-After"),
                instant_of_date(response.headers.get("Date")) or self._clock.now(),
            ),
            policy=self._policy,
        )
        return error if error is not None else not_fullstorys(call.what, f"has the status {status}")

    def _quoted(self, response: requests.Response, call: Call) -> str:
        """FullStory's own words: ``{"code", "message"}``, the older ``{"error"}``, or text."""
        body = b""
        try:
            for piece in self._pieces(response, call, _ERROR_BODY_LIMIT_BYTES):
                body += piece
        except FullStoryError:
            pass  # the status says enough
        text = body.decode("utf-8", "replace")
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict):
            words = [answer[key] for key in ("code", "message", "error") if isinstance(answer.get(key), str)]
            text = ": ".join(words) or text
        elif _is_html(response):
            text = ""
        return quote_body(text, self._api_key)

    def _reason_of(self, error: BaseException) -> str:
        """The innermost cause in a few words, without the URL that requests and urllib3 put into theirs."""
        seen: list[BaseException] = []
        pending: list[object] = [error]
        while pending:
            item = pending.pop(0)
            if isinstance(item, BaseException) and item not in seen:
                seen.append(item)
                pending += [getattr(item, "reason", None), item.__cause__, item.__context__, *item.args]
        if any(isinstance(e, requests.ConnectTimeout) for e in seen):
            return f"no connection within {self._timeouts.connect_s:g} s"
        if any(isinstance(e, (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError)) for e in seen):
            return f"silence for {self._timeouts.read_s:g} s"
        for item in seen:
            if isinstance(item, urllib3.exceptions.IncompleteRead):
                return "it ended before its announced length"
            if isinstance(item, OSError) and item.strerror:
                return redact(item.strerror, self._api_key)
        return redact(type(seen[-1]).__name__, self._api_key)


def _clock_ahead(call: Call, now: datetime, told_at: datetime) -> ClockAheadError:
    # The request was sent before FullStory wrote its date, so the difference is not the answer's time on the way.
    return ClockAheadError(
        f"This machine's clock ({now:%Y-%m-%d %H:%M} UTC) is ahead of FullStory's ({told_at:%Y-%m-%d %H:%M} UTC), so "
        f"{call.what} was not used: events that can still change would count as settled; set the clock and run again."
    )


def _pooled_session() -> requests.Session:
    session = requests.Session()
    adapter = HTTPAdapter(pool_connections=4, pool_maxsize=_POOL_SIZE, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def _surroundings(session: requests.Session, url: str) -> dict[str, Any]:
    """The machine's proxies and certificates, as every HTTP program on it uses them; nothing of it for loopback."""
    if _is_loopback(urlsplit(url).hostname):
        return {"stream": True, "verify": True, "cert": None, "proxies": {}}
    return dict(session.merge_environment_settings(url, {}, True, None, None))


def _is_html(response: requests.Response) -> bool:
    return "html" in response.headers.get("Content-Type", "").lower()


def _is_loopback(host: str | None) -> bool:
    if host is None:
        return False
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _problem_of_url(url: str) -> str | None:
    """Why a URL may not be used; None when it may."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if not host or not url.isascii() or not url.isprintable() or " " in url:
        return "is not a URL"
    if parts.username is not None or parts.password is not None:
        return "carries a user name or a password"
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        return "is not https (plain http is for this machine alone)"
    return None
