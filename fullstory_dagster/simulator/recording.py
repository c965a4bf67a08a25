"""The log of requests that tests make their assertions on. Ours, not FullStory's."""

from __future__ import annotations

import time
from collections import deque
from typing import Any
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTROL_PREFIX = "/simulator/"

_KEPT_REQUESTS = 20_000
_KEPT_BODY_BYTES = 64 << 10


class RecordingMiddleware:
    """Writes down every request but those of the control routes.

    Attributes:
        requests: oldest first; each has ``method``, ``path``, ``query`` (name to value), ``headers`` (lower-case name
            to value, nothing masked), ``body`` (text), ``at`` (Unix time, s) and ``status`` (None until answered).
    """

    def __init__(self, app: ASGIApp, requests: deque[dict[str, Any]]) -> None:
        self._app = app
        self.requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record a request and what it was answered."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL_PREFIX):
            await self._app(scope, receive, send)
            return
        record: dict[str, Any] = {
            "method": scope["method"],
            "path": scope["path"],
            "query": dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True)),
            "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]},
            "body": "",
            "at": time.time(),
            "status": None,
        }
        self.requests.append(record)

        async def listen() -> Message:
            message = await receive()
            if message["type"] == "http.request" and len(record["body"]) < _KEPT_BODY_BYTES:
                record["body"] += message.get("body", b"").decode("utf-8", "replace")
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                record["status"] = message["status"]
            await send(message)

        await self._app(scope, listen, answer)


def new_log() -> deque[dict[str, Any]]:
    """An empty log; the oldest requests leave it first."""
    return deque(maxlen=_KEPT_REQUESTS)
