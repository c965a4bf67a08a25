"""Bounded, exact unpacking of gzip streams."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isal import isal_zlib

from fullstory_dagster.errors import BundleFormatError, BundleIncompleteError

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_LAYERS = 3
"""A bundle is packed once; a proxy or a mirror may have packed it again."""


_OUTPUT_BYTES = 1 << 20


def gunzip(chunks: Iterable[bytes], *, max_bytes: int | None = None) -> Iterator[bytes]:
    """Unpack a gzip stream, whatever the number of layers, none included.

    Args:
        chunks: the packed bytes, cut anywhere; concatenated gzip members are one stream.
        max_bytes: more unpacked bytes than this are refused.

    Yields:
        bytes: unpacked, at most 1 MiB each.

    Raises:
        BundleIncompleteError: the stream ends before its trailer.
        BundleFormatError: the gzip data is corrupt, packed too often, or larger than ``max_bytes``.
    """
    stream = _peeled(iter(chunks), _MAX_LAYERS)
    total = 0
    for chunk in stream:
        total += len(chunk)
        if max_bytes is not None and total > max_bytes:
            raise BundleFormatError(f"The bundle unpacks to more than {max_bytes:,} bytes, the limit for its size.")
        yield chunk


def _peeled(chunks: Iterator[bytes], layers_left: int) -> Iterator[bytes]:
    head = b""
    while len(head) < 2:
        chunk = next(chunks, None)
        if chunk is None:
            break
        head += chunk
    rest = _prepended(head, chunks)
    if not head.startswith(_GZIP_MAGIC):
        yield from rest
        return
    if layers_left == 0:
        raise BundleFormatError(f"The bundle is packed with gzip more than {_MAX_LAYERS} times over.")
    yield from _peeled(_inflated(rest), layers_left - 1)


def _prepended(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflate = isal_zlib.decompressobj(wbits=31)
    consumed = 0
    for chunk in chunks:
        consumed += len(chunk)
        pending = chunk
        while pending:
            if inflate.eof:
                # Zero padding after the last member is what `gzip` itself tolerates.
                pending = pending.lstrip(b"\0")
                if not pending:
                    break
                inflate = isal_zlib.decompressobj(wbits=31)
            try:
                unpacked = inflate.decompress(pending, _OUTPUT_BYTES)
            except isal_zlib.error as error:  # type: ignore[misc]
                raise BundleFormatError(
                    f"The bundle's gzip data is corrupt within its first {consumed:,} packed bytes: {error}.",
                    byte_offset=consumed,
                ) from error
            if unpacked:
                yield unpacked
            pending = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
    if not inflate.eof:
        raise BundleIncompleteError(
            f"The bundle ends inside its gzip stream after {consumed:,} packed bytes: the trailer is missing."
        )
