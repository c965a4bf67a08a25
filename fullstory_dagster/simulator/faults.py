"""Faults on demand: what can go wrong with an answer, when it does, and the middleware that makes it so.

None of this is FullStory's: it is how tests of retries, resumption and polling get the answers they are about.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fullstory_dagster.simulator.connections import BreakableProtocol
from fullstory_dagster.simulator.locations import EXPIRES_PARAMETER

ROUTES = ("export_start", "operation", "results", "location", "list", "get")

_HTML = b"<!doctype html><html><head><title>Sign in</title></head><body><h1>Welcome back</h1></body></html>"
_DRIP_STEP_S = 0.05


def route_of(method: str, path: str) -> str | None:
    """The name faults use for a route, or None for one that has no faults."""
    if path == "/segments/v1/exports" and method == "POST":
        return "export_start"
    if path.startswith("/operations/v1/"):
        return "operation"
    if path.startswith("/search/v1/exports/"):
        return "results"
    if path.startswith("/export-files/"):
        return "location"
    return {"/api/v1/export/list": "list", "/api/v1/export/get": "get"}.get(path)


# What a fault's form does. Answers take the place of the real one; rewrites change its whole body; streams change how
# the body is sent. The value is the one given in the fault, e.g. the number of bytes.


def _status(value: int, options: Mapping[str, Any]) -> Response:
    body = options.get("body", {"code": "simulated_fault", "message": f"a fault of status {value} was asked for"})
    content = body if isinstance(body, str) else json.dumps(body)
    media_type = "text/plain" if isinstance(body, str) else "application/json"
    response = Response(content, status_code=value, media_type=media_type)
    if "retry_after" in options:
        response.headers["Retry-After"] = str(options["retry_after"])
    for name, text in options.get("headers", {}).items():
        response.headers[name] = text
    return response


_ANSWERS: dict[str, Callable[[Any, Mapping[str, Any]], Response]] = {
    "status": _status,
    "html": lambda _value, _options: Response(_HTML, media_type="text/html"),
    "empty_body": lambda _value, _options: Response(b"", media_type="application/octet-stream"),
    "redirect": lambda value, _options: Response(status_code=302, headers={"Location": value}),
}


def _corrupt(body: bytes) -> bytes:
    """Invert 16 bytes in the middle: past the gzip header, before its trailer."""
    middle = len(body) // 2
    return body[:middle] + bytes(byte ^ 0xFF for byte in body[middle : middle + 16]) + body[middle + 16 :]


def _cut_json(body: bytes, value: Any) -> bytes:
    text = gzip.decompress(body)
    # True is half of it; a number is that many bytes.
    return gzip.compress(text[: len(text) // 2 if value is True else int(value)], mtime=0)


def _operation_state(body: bytes, value: Any, options: Mapping[str, Any]) -> bytes:
    document = json.loads(body)
    document["state"] = value
    if value != "COMPLETED":
        document.pop("results", None)
        document.pop("finishedAt", None)
        document["estimatePctComplete"] = min(document["estimatePctComplete"], 99)
    if value == "FAILED":
        document["errorDetails"] = options.get("error_details", "the export could not be made")
    return json.dumps(document).encode()


def _expired(query: str) -> str:
    return urlencode(dict(parse_qsl(query)) | {EXPIRES_PARAMETER: "1.000"})


def _expire(body: bytes) -> bytes:
    document = json.loads(body)
    location = urlsplit(document["location"])
    document["location"] = location._replace(query=_expired(location.query)).geturl()
    return json.dumps(document).encode()


def _relocate(body: bytes, value: Any) -> bytes:
    return json.dumps(json.loads(body) | {"location": value}).encode()


def _bomb(value: Any) -> bytes:
    """An array of that many MiB of blanks, in about a thousandth of it."""
    packed = gzip.compress(b" " * (1 << 20), mtime=0)
    return gzip.compress(b"[", mtime=0) + packed * int(value) + gzip.compress(b"]", mtime=0)


_REWRITES: dict[str, Callable[[bytes, Any, Mapping[str, Any]], bytes]] = {
    "truncate_gzip_bytes": lambda body, value, _options: body[: int(value)],
    "corrupt_gzip": lambda body, _value, _options: _corrupt(body),
    "cut_json": lambda body, value, _options: _cut_json(body, value),
    "plain_json": lambda body, _value, _options: gzip.decompress(body),
    "bomb_mib": lambda _body, value, _options: _bomb(value),
    "gzip_twice": lambda body, _value, _options: gzip.compress(body, mtime=0),
    "operation_state": _operation_state,
    "expired_location": lambda body, _value, _options: _expire(body),
    "location": lambda body, value, _options: _relocate(body, value),
}

_STREAMS = ("reset_after_bytes", "short_body_bytes", "drip_bytes_per_s")

FORMS = (*_ANSWERS, *_REWRITES, *_STREAMS)

_ONLY_FOR = {"operation_state": ("operation",), "expired_location": ("results", "location"), "location": ("results",)}
_OPTIONS = {"status": {"retry_after", "body", "headers"}, "operation_state": {"error_details"}}


@dataclass
class Fault:
    """One fault and how often it still happens.

    Attributes:
        form: one of ``FORMS``.
        times: how many answers it spoils yet; -1 is all of them.
        skip: how many answers pass before the first.
    """

    route: str
    form: str
    value: Any
    options: Mapping[str, Any]
    times: int = 1
    skip: int = 0

    @classmethod
    def of(cls, document: object) -> Fault:
        """Read a fault as ``POST /simulator/faults`` takes it.

        Raises:
            ValueError: the sentence says what is wrong with it.
        """
        if not isinstance(document, dict) or document.get("route") not in ROUTES:
            raise ValueError(f"a fault is an object with a route out of {', '.join(ROUTES)}; got {document!r}")
        forms = [form for form in FORMS if form in document]
        if len(forms) != 1:
            raise ValueError(f"a fault has exactly one form out of {', '.join(FORMS)}; got {document!r}")
        form, route = forms[0], document["route"]
        if route not in _ONLY_FOR.get(form, ROUTES):
            raise ValueError(f"{form} is a fault of {' and '.join(_ONLY_FOR[form])}, not of {route}")
        options = {name: value for name, value in document.items() if name not in ("route", "times", "skip", form)}
        if unknown := sorted(options.keys() - _OPTIONS.get(form, set())):
            raise ValueError(f"{form} has no option {unknown[0]!r}")
        return cls(route, form, document[form], options, document.get("times", 1), document.get("skip", 0))

    def happens(self) -> bool:
        """Count one answer; whether it is to be spoiled."""
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times == 0:
            return False
        self.times -= self.times > 0
        return True


class FaultMiddleware:
    """Spoils answers of the routes that faults were asked for; the first fault that happens is the one.

    Attributes:
        faults: the faults in force, in the order they were given.
    """

    def __init__(self, app: ASGIApp, faults: list[Fault]) -> None:
        self._app = app
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or spoil the answer."""
        route = route_of(scope["method"], scope["path"]) if scope["type"] == "http" else None
        fault = next((f for f in self.faults if f.route == route and f.happens()), None)
        if fault is None:
            await self._app(scope, receive, send)
        elif fault.form in _ANSWERS:
            await _ANSWERS[fault.form](fault.value, fault.options)(scope, receive, send)
        elif fault.form == "expired_location" and route == "location":
            query = _expired(scope["query_string"].decode()).encode()
            await self._app({**scope, "query_string": query}, receive, send)
        elif fault.form in _REWRITES:
            await self._rewritten(fault, scope, receive, send)
        else:
            await self._app(scope, receive, _SpoiledSend(fault, scope, send))

    async def _rewritten(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the real answer with another body. A range is ignored: it would be one of the real body."""
        whole = {**scope, "headers": [(name, value) for name, value in scope["headers"] if name != b"range"]}
        start: Message = {}
        body = bytearray()

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))

        await self._app(whole, receive, keep)
        content = bytes(body)
        # An error of the simulator itself (401, 404) has nothing to rewrite.
        if start["status"] == 200:
            content = _REWRITES[fault.form](content, fault.value, fault.options)
            MutableHeaders(scope=start)["Content-Length"] = str(len(content))
        await send(start)
        await send({"type": "http.response.body", "body": content})


class _SpoiledSend:
    """An ASGI ``send`` that lets a body out slowly, or only the first part of it."""

    def __init__(self, fault: Fault, scope: Scope, send: Send) -> None:
        self._fault = fault
        self._peer = (scope["client"][0], scope["client"][1])
        self._send = send
        self._left = 0 if fault.form == "drip_bytes_per_s" else int(fault.value)
        self._is_broken = False

    async def __call__(self, message: Message) -> None:
        if self._is_broken:
            return
        if message["type"] != "http.response.body":
            await self._send(message)
        elif self._fault.form == "drip_bytes_per_s":
            await self._drip(message)
        else:
            await self._cut(message)

    async def _drip(self, message: Message) -> None:
        body, step = message.get("body", b""), max(1, int(self._fault.value * _DRIP_STEP_S))
        for offset in range(0, len(body), step):
            await self._send({**message, "body": body[offset : offset + step], "more_body": True})
            await asyncio.sleep(_DRIP_STEP_S)
        if not message.get("more_body"):
            await self._send({**message, "body": b""})

    async def _cut(self, message: Message) -> None:
        body = message.get("body", b"")[: self._left]
        self._left -= len(body)
        if self._left > 0 and message.get("more_body"):
            await self._send({**message, "body": body})
            return
        # Headers leave together with the first byte of a body, or with its empty first piece.
        await self._send({**message, "body": body, "more_body": True})
        self._is_broken = True
        await BreakableProtocol.break_off(self._peer, reset=self._fault.form == "reset_after_bytes")
