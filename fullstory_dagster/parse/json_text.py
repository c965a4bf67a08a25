"""The text of JSON values, kept as it was sent: `1.50` stays `1.50`, and a name that stands twice is seen twice."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

import msgspec

# No part of a string can be matched in two ways. Where Python has possessive repeats (3.11), the regex engine is told
# so: it then keeps no way back for each escape, which is 100 bytes apiece in a long text.
POSSESSIVE = b"+" if sys.version_info >= (3, 11) else b""
STRING = rb'"[^"\\]*%b(?:\\.[^"\\]*%b)*%b"' % (POSSESSIVE, POSSESSIVE, POSSESSIVE)

_TOKEN = re.compile(STRING + rb"|[{}\[\],:]", re.DOTALL)
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_encoded_names: dict[str, bytes] = {}

Item = tuple[str, bytes]


def object_items(text: bytes) -> list[Item]:
    """Names and raw values of a valid JSON object, in order, doubled names included."""
    items: list[Item] = []
    depth = 0
    name = b""
    value_start = 0
    for token in _TOKEN.finditer(text):
        byte = token.group()[:1]
        if byte in b"{[":
            depth += 1
        elif depth == 1 and byte == b'"' and not value_start:
            name = token.group()
        elif depth == 1 and byte == b":":
            value_start = token.end()
        elif depth == 1 and byte in b",}" and value_start:
            items.append((_decode_text(name), text[value_start : token.start()].strip()))
            value_start = 0
        if byte in b"}]":
            depth -= 1
    return items


def depth(text: bytes) -> int:
    """How many lists and objects stand in one another at the deepest place."""
    deepest = now = 0
    for token in _TOKEN.finditer(text):
        byte = token.group()[:1]
        if byte in b"{[":
            now += 1
            deepest = max(deepest, now)
        elif byte in b"}]":
            now -= 1
    return deepest


def object_text(items: Iterable[Item]) -> str | None:
    """The JSON object of raw values; None for no items, as an event without custom variables has none."""
    body = b",".join([_name(name) + b":" + value for name, value in items])
    return f"{{{body.decode()}}}" if body else None


def scalar_text(value: bytes) -> str:
    """A raw value as text: what a string says, a number or a list as it was written, null as nothing."""
    if value[:1] == b'"':
        return _decode_text(value)
    if value == b"null":
        return ""
    return (msgspec.json.format(value, indent=-1) if value[:1] in b"{[" else value).decode()


def _name(name: str) -> bytes:
    encoded = _encoded_names.get(name)
    if encoded is None:
        encoded = _encode(name)
        if len(_encoded_names) < 10_000:
            _encoded_names[name] = encoded
    return encoded
