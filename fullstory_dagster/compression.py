"""Bounded, exact unpacking of gzip streams, and packing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from isal import isal_zlib

from fullstory_dagster.errors import BundleFormatError, BundleIncompleteError, BundleTooLargeError

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_LAYERS = 3
"""A bundle is packed once; a proxy or a mirror may have packed it again."""

_INPUT_BYTES = 1 << 14
_OUTPUT_BYTES = 1 << 20
_PACK_LEVEL = 2

_ANY_RATIO_BYTES = 64 << 20
"""Up to this much may come out of whatever is packed: a small file of equal rows packs very well."""


class _Bound:
    """How much may be unpacked; a layer inside another is held to the same bound as the last one."""

    def __init__(self, what: str, max_bytes: int | None, max_ratio: float | None) -> None:
        self._what = what
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._n_packed = 0

    def count_packed(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Pass the outermost layer on."""
        for chunk in chunks:
            self._n_packed += len(chunk)
            yield chunk

    def hold(self, chunks: Iterator[bytes], *, is_packed: bool) -> Iterator[bytes]:
        """Pass a layer on until it is longer than allowed."""
        total = 0
        for chunk in chunks:
            total += len(chunk)
            if self._max_bytes is not None and total > self._max_bytes:
                raise BundleTooLargeError(
                    f"{self._what} unpacks to more than {self._max_bytes:,} bytes and was refused; if it is no "
                    "mistake, raise FULLSTORY_MAX_BUNDLE_GB or choose a shorter FULLSTORY_BUNDLE_HOURS.",
                    setting="FULLSTORY_MAX_BUNDLE_GB",
                )
            if (
                is_packed
                and self._max_ratio is not None
                and total > max(_ANY_RATIO_BYTES, self._max_ratio * self._n_packed)
            ):
                raise BundleTooLargeError(
                    f"{self._what} unpacks to more than {self._max_ratio:g} times its size and was refused; if it is "
                    "no mistake, raise FULLSTORY_MAX_BUNDLE_RATIO.",
                    setting="FULLSTORY_MAX_BUNDLE_RATIO",
                )
            yield chunk


def gunzip(
    chunks: Iterable[bytes],
    *,
    max_bytes: int | None = None,
    max_ratio: float | None = None,
    what: str = "The bundle",
) -> Iterator[bytes]:
    """Unpack a gzip stream, whatever the number of layers, none included.

    Args:
        chunks: the packed bytes, cut anywhere; concatenated gzip members are one stream.
        max_bytes: more unpacked bytes than this are refused.
        max_ratio: more unpacked bytes than this many times the packed ones read so far are refused, once they are more
            than 64 MiB. Packed bytes are those of the outermost layer.
        what: what is unpacked, for messages.

    Yields:
        bytes: unpacked, at most 1 MiB each.

    Raises:
        BundleIncompleteError: the stream ends before its trailer.
        BundleFormatError: the gzip data is corrupt, or packed too often.
        BundleTooLargeError: more than ``max_bytes`` or ``max_ratio`` came out; nothing is read after that.
    """
    bound = _Bound(what, max_bytes, max_ratio)
    yield from _peeled(bound.count_packed(chunks), _MAX_LAYERS, bound, is_packed=False)


def _peeled(chunks: Iterator[bytes], layers_left: int, bound: _Bound, *, is_packed: bool) -> Iterator[bytes]:
    head = b""
    while len(head) < 2:
        chunk = next(chunks, None)
        if chunk is None:
            break
        head += chunk
    rest = _prepended(head, chunks)
    if not head.startswith(_GZIP_MAGIC):
        # What was packed has been held to the bound on its way here.
        yield from rest if is_packed else bound.hold(rest, is_packed=False)
        return
    if layers_left == 0:
        raise BundleFormatError(f"The bundle is packed with gzip more than {_MAX_LAYERS} times over.")
    yield from _peeled(bound.hold(_inflated(rest), is_packed=True), layers_left - 1, bound, is_packed=True)


def _prepended(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks


def _sliced(chunks: Iterable[bytes]) -> Iterator[bytes]:
    # The decompressor copies what it has left over, once a gzip member: of a large piece with thousands of them that
    # would be the work of minutes.
    for chunk in chunks:
        for at in range(0, len(chunk), _INPUT_BYTES):
            yield chunk[at : at + _INPUT_BYTES]


def _inflated(chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflate = isal_zlib.decompressobj(wbits=31)
    consumed = 0
    for pending in _sliced(chunks):
        consumed += len(pending)
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


def pack(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The gzip stream of some bytes; the same bytes give the same stream."""
    deflate = isal_zlib.compressobj(_PACK_LEVEL, isal_zlib.DEFLATED, 31)
    for chunk in chunks:
        if packed := deflate.compress(chunk):
            yield packed
    yield deflate.flush()
