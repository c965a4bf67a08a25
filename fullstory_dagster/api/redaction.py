"""Keeping the key, and what a signed URL carries, out of everything a person or a log may read."""

from __future__ import annotations

import base64
from urllib.parse import quote, urlsplit

MASK = "***"
_QUOTED_CHARS = 200


def redact(text: str, api_key: str) -> str:
    """``text`` with the key masked, as it is, percent-encoded and in base64."""
    packed = base64.b64encode(api_key.encode()).decode()
    for spelling in (api_key, quote(api_key, safe=""), packed, packed.rstrip("=")):
        text = text.replace(spelling, MASK)
    return text


def quote_body(body: str, api_key: str) -> str:
    """At most 200 characters of an error body, on one line, the key masked before anything is cut off."""
    line = " ".join(redact(body, api_key).split())
    return line if len(line) <= _QUOTED_CHARS else line[: _QUOTED_CHARS - 1] + "…"


def host_of(url: str) -> str:
    """The host of a URL: all that a message may say of a signed location, whose query opens the export to anyone."""
    try:
        return urlsplit(url).hostname or "an unnamed host"
    except ValueError:
        return "an unreadable host"
